package job

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/kernelflow/kernelflow/shared/ending"
	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
)

// Bounds of the talk with the API and the storage.
const (
	callTime    = 2 * time.Minute        // for a call that is no upload
	uploadTime  = time.Hour              // for an upload
	firstPause  = 200 * time.Millisecond // before the second attempt
	longestWait = 30 * time.Second       // between two attempts
	maxAnswer   = 64 << 20
)

// client talks to the API and the storage for one job.
type client struct {
	http   *http.Client
	spec   func() (Spec, error) // as it is now: the addresses may change
	now    func() time.Time
	random func() float64 // 0 to 1, for jitter
	log    *slog.Logger
}

func newClient(spec func() (Spec, error), now func() time.Time, random func() float64, log *slog.Logger) *client {
	// A redirect is an answer like any other: the token goes to no third place.
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &client{http: &http.Client{CheckRedirect: stay}, spec: spec, now: now, random: random, log: log}
}

// get reads the job's node.
func (c *client) get(ctx context.Context) (node.Node, error) {
	var n node.Node
	s, err := c.spec()
	if err != nil {
		return n, err
	}
	b, err := c.call(ctx, callTime, http.MethodGet, nodeURL(s, "node"), s.Token, "", nil)
	if err != nil {
		return n, err
	}
	if bytes.Equal(bytes.TrimSpace(b), []byte("null")) {
		return n, errs.New(errs.NotFound, "GET node %s: no such node", s.Node.ID)
	}
	err = json.Unmarshal(b, &n)
	if err == nil && n.ID != s.Node.ID {
		err = fmt.Errorf("the answer is about node %q", n.ID)
	}
	if err != nil {
		// No API says that: something in between does, or the address has
		// another owner now.
		return n, fmt.Errorf("GET node %s: %w", s.Node.ID, errs.Wrap(errs.Temporary, err))
	}
	return n, nil
}

// addArtifact adds an artifact to the job's node as it is now; Temporary when
// that has got another one meanwhile.
func (c *client) addArtifact(ctx context.Context, name, link string) error {
	n, err := c.get(ctx)
	if err != nil || n.Artifacts[name] == link {
		return err
	}
	n.Artifacts[name] = link
	body, err := json.Marshal(map[string]any{"artifacts": n.Artifacts})
	if err != nil {
		return err
	}
	s, err := c.spec()
	if err != nil {
		return err
	}
	_, err = c.call(ctx, callTime, http.MethodPatch, nodeURL(s, "node"), s.Token, "application/json", bytes.NewReader(body))
	if errs.KindOf(err) == errs.Conflict {
		return errs.New(errs.Temporary, "%s", err)
	}
	return err
}

// put sends a report; Conflict when the job has ended for the API already.
func (c *client) put(ctx context.Context, report []byte) error {
	s, err := c.spec()
	if err != nil {
		return err
	}
	_, err = c.call(ctx, callTime, http.MethodPut, nodeURL(s, "nodes"), s.Token, "application/json", bytes.NewReader(report))
	return err
}

// upload stores content as an artifact of the job's node and returns its URL.
func (c *client) upload(ctx context.Context, name string, content io.Reader) (string, error) {
	s, err := c.spec()
	if err != nil {
		return "", err
	}
	body, contentType := form(string(s.Node.ID), name, content)
	// The sender stops when nobody reads the form any more.
	defer func() { _ = body.Close() }()
	_, err = c.call(ctx, uploadTime, http.MethodPost, strings.TrimRight(s.StorageURL, "/")+"/v1/file", s.Token, contentType, body)
	return strings.TrimRight(s.StorageURL, "/") + "/" + string(s.Node.ID) + "/" + url.PathEscape(name), err
}

// form streams the form of an upload: the folder and the name come apart.
func form(folder, name string, content io.Reader) (io.ReadCloser, string) {
	r, w := io.Pipe()
	form := multipart.NewWriter(w)
	go func() {
		err := form.WriteField("path", folder)
		if err == nil {
			var part io.Writer
			if part, err = form.CreateFormFile("file0", name); err == nil {
				_, err = io.Copy(part, content)
			}
		}
		w.CloseWithError(errors.Join(err, form.Close()))
	}()
	return r, form.FormDataContentType()
}

func nodeURL(s Spec, call string) string {
	return fmt.Sprintf("%s/latest/%s/%s", strings.TrimRight(s.APIURL, "/"), call, s.Node.ID)
}

// call sends one request. Its errors have the kind that says whether to repeat
// it; they never hold the token.
func (c *client) call(ctx context.Context, limit time.Duration, method, url, token, contentType string, body io.Reader) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, errs.Wrap(errs.Invalid, err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, errs.Wrap(errs.Temporary, err)
	}
	defer func() { _ = resp.Body.Close() }() // only read
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if resp.StatusCode/100 != 2 {
		text := ending.Printable(redactText(string(answer), token), 300)
		return nil, errs.New(statusKind(resp.StatusCode), "%s %s: %s: %s", method, url, resp.Status, text)
	}
	return answer, errs.Wrap(errs.Temporary, err)
}

func statusKind(status int) *errs.Kind {
	switch status {
	case http.StatusConflict:
		return errs.Conflict
	case http.StatusUnauthorized:
		return errs.Unauthenticated
	case http.StatusForbidden:
		return errs.Denied
	case http.StatusNotFound:
		return errs.NotFound
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInsufficientStorage:
		return errs.Temporary
	}
	if status >= 500 {
		return errs.Temporary
	}
	return errs.Invalid
}

// retry calls f until it succeeds, fails for good, or another attempt would be
// later than until. f is called once at least.
func (c *client) retry(ctx context.Context, until time.Time, f func() error) error {
	for wait := firstPause; ; wait = min(2*wait, longestWait) {
		err := f()
		if !errs.Retry(err) {
			return err
		}
		pause := wait/2 + time.Duration(c.random()*float64(wait))
		if c.now().Add(pause).After(until) {
			return err
		}
		c.log.Warn("will be tried again", "in", pause, "error", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
	}
}
