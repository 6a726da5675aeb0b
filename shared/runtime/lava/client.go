package lava

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/runtime"
)

// Bounds of one request.
const (
	answerTime = 30 * time.Second
	maxAnswer  = 64 << 20 // bytes of an answer that is held
	maxWords   = 500      // bytes of what the lab says
)

// client speaks to the REST API of one lab.
type client struct {
	name   string // of the runtime
	base   string // .../api/v0.2/
	tokens runtime.Tokens
	http   *http.Client
}

func newClient(name, address string, tokens runtime.Tokens, transport http.RoundTripper) (*client, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil {
		return nil, errs.New(errs.Invalid, "lava.New(%s): url: must be the http(s) URL of the lab", name)
	}
	if strings.ContainsFunc(tokens.Runtime, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errs.New(errs.Invalid, "lava.New(%s): runtime_token: must be the secret of a token of LAVA", name)
	}
	return &client{
		name: name, base: strings.TrimRight(address, "/") + "/api/v0.2/", tokens: tokens,
		http: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}, nil
}

// fail describes what went wrong with a request, without any secret.
func (c *client) fail(kind *errs.Kind, call, format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	return runtime.Without(errs.New(kind, "lab %s: %s: %s", c.name, call, text), c.tokens.Runtime, c.tokens.Callback)
}

// send makes a request and returns an answer that is good; the caller closes its
// body. NotFound for 404, Invalid for what the lab refuses for good; else
// Temporary.
func (c *client) send(ctx context.Context, method, path string, query url.Values, body any) (*http.Response, error) {
	call := method + " " + path
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, c.fail(errs.Invalid, call, "%s", err)
		}
		content = bytes.NewReader(text)
	}
	address := c.base + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, method, address, content)
	if err != nil {
		return nil, c.fail(errs.Invalid, call, "%s", err)
	}
	request.Header.Set("Accept", "application/json")
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if c.tokens.Runtime != "" {
		request.Header.Set("Authorization", "Token "+c.tokens.Runtime)
	}
	response, err := c.http.Do(request)
	if err != nil {
		var of *url.Error
		if errors.As(err, &of) {
			err = of.Err // which is all but the address
		}
		return nil, c.fail(errs.Temporary, call, "%s", err)
	}
	if response.StatusCode >= 200 && response.StatusCode < 300 {
		return response, nil
	}
	defer response.Body.Close()
	return nil, c.refusal(call, response)
}

// refusal is the error of an answer that is not good.
func (c *client) refusal(call string, response *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(response.Body, 64<<10)) // as far as it comes
	words := wordsOf(response.Header.Get("Content-Type"), text)
	status := response.StatusCode
	switch {
	case status >= 300 && status < 400:
		return c.fail(errs.Temporary, call, "status %d, a redirect to %.200s: is the url of the runtime right?", status, response.Header.Get("Location"))
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return c.fail(errs.Temporary, call, "status %d: %s: is the token of the runtime right?", status, words)
	case status == http.StatusNotFound:
		return c.fail(errs.NotFound, call, "status %d: %s", status, words)
	case status == http.StatusBadRequest, status == http.StatusRequestEntityTooLarge,
		status == http.StatusInternalServerError && strings.Contains(words, "does not exist in the database"): // an unknown tag
		return c.fail(errs.Invalid, call, "status %d: %s", status, words)
	}
	return c.fail(errs.Temporary, call, "status %d: %s", status, words)
}

// do makes a request whose answer is JSON.
func (c *client) do(ctx context.Context, method, path string, query url.Values, body, into any) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	response, err := c.send(ctx, method, path, query, body)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	call := method + " " + path
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	kind := response.Header.Get("Content-Type")
	media, _, _ := mime.ParseMediaType(kind)
	switch {
	case err != nil:
		return c.fail(errs.Temporary, call, "the answer breaks off: %s", err)
	case len(text) > maxAnswer:
		return c.fail(errs.Temporary, call, "the answer is longer than %d bytes", maxAnswer)
	case len(text) == 0:
		return c.fail(errs.Temporary, call, "status %d and an empty answer", response.StatusCode)
	case media != "application/json":
		return c.fail(errs.Temporary, call, "status %d and an answer of type %.60q: %s", response.StatusCode, kind, wordsOf(kind, text))
	}
	if err := json.Unmarshal(text, into); err != nil {
		return c.fail(errs.Temporary, call, "an answer that is not as LAVA's: %s", err)
	}
	return nil
}

var (
	ignored = regexp.MustCompile(`(?is)<(script|style|head|nav|footer)\b.*?</(script|style|head|nav|footer)>|<!--.*?-->`)
	heading = regexp.MustCompile(`(?is)<h[1-6][^>]*>(.*?)</h[1-6]>`)
	tag     = regexp.MustCompile(`(?s)<[^>]*>`)
)

// wordsOf finds what the lab has to say in an answer.
func wordsOf(contentType string, text []byte) string {
	var words string
	var v any
	switch {
	case json.Unmarshal(text, &v) == nil:
		words = sentence(v)
	case strings.Contains(contentType, "html") || bytes.HasPrefix(bytes.TrimSpace(text), []byte("<")):
		page := ignored.ReplaceAllString(string(text), " ")
		if all := heading.FindAllStringSubmatch(page, -1); len(all) > 0 {
			page = ""
			for _, h := range all {
				page += " " + h[1]
			}
		}
		words = html.UnescapeString(tag.ReplaceAllString(page, " "))
	default:
		words = string(text)
	}
	words = strings.NewReplacer("<", "(", ">", ")").Replace(words)
	words = strings.Join(strings.Fields(strings.ToValidUTF8(words, "\uFFFD")), " ")
	if len(words) > maxWords {
		words = strings.ToValidUTF8(words[:maxWords], "") + "..."
	}
	if words == "" {
		return "an empty answer"
	}
	return words
}

// sentence makes one of JSON: what a message or detail says, else each field.
func sentence(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []any:
		var parts []string
		for _, one := range v {
			parts = append(parts, sentence(one))
		}
		return strings.Join(parts, " ")
	case map[string]any:
		for _, key := range []string{"message", "detail"} {
			if text, ok := v[key].(string); ok {
				return text
			}
		}
		var parts []string
		for key, one := range v {
			parts = append(parts, key+": "+sentence(one))
		}
		return strings.Join(parts, "; ")
	}
	return fmt.Sprint(v)
}
