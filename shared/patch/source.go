package patch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/kernelflow/kernelflow/shared/errs"
)

// Source fetches patches.
type Source struct {
	hosts  []string
	client *http.Client
}

// maxLink bounds a URL, bytes.
const maxLink = 2000

// maxRedirects bounds how often a server may send a request elsewhere.
const maxRedirects = 5

// NewSource makes a source that knows the hosts (names without a port) and asks
// with client. Redirects lead to these hosts too, or nowhere.
func NewSource(hosts []string, client *http.Client) *Source {
	s := &Source{}
	for _, h := range hosts {
		s.hosts = append(s.hosts, strings.ToLower(h))
	}
	guarded := *client
	guarded.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects {
			return errs.New(errs.Invalid, "more than %d redirects", maxRedirects)
		}
		return s.check(r.URL)
	}
	s.client = &guarded
	return s
}

// Check says whether the patch can be had: its host is allowed, which is asked
// first, and answers HEAD with 200. The error is errs.Invalid.
func (s *Source) Check(ctx context.Context, link string) error {
	response, err := s.ask(ctx, http.MethodHead, link)
	if err != nil {
		return errs.Wrap(errs.Invalid, err)
	}
	return response.Body.Close()
}

// Fetch returns the patch, as it is. The error is errs.Invalid when it cannot
// be right, errs.Temporary when another try may succeed.
func (s *Source) Fetch(ctx context.Context, link string) ([]byte, error) {
	response, err := s.ask(ctx, http.MethodGet, link)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }() // only read
	return Read(response.Body)
}

// Read reads a whole patch; errs.Invalid when it is too large.
func Read(r io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, MaxSize+1))
	if err != nil {
		return nil, errs.Wrap(errs.Temporary, err)
	}
	if len(text) > MaxSize {
		return nil, errTooLarge
	}
	return text, nil
}

func (s *Source) ask(ctx context.Context, method, link string) (*http.Response, error) {
	u, err := url.Parse(link)
	if err != nil || len(link) > maxLink {
		return nil, errs.New(errs.Invalid, "patch %.200q: is not a URL of %d bytes at most", link, maxLink)
	}
	if err := s.check(u); err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, method, link, nil)
	if err != nil {
		return nil, errs.Wrap(errs.Invalid, err)
	}
	response, err := s.client.Do(r)
	switch {
	case errors.Is(err, errs.Invalid) || errors.Is(err, errs.Denied):
		return nil, fmt.Errorf("patch: %w", err)
	case err != nil:
		return nil, fmt.Errorf("patch: %w", errs.Wrap(errs.Temporary, err))
	case response.StatusCode == http.StatusOK:
		return response, nil
	}
	err = response.Body.Close()
	if response.StatusCode >= http.StatusInternalServerError || response.StatusCode == http.StatusTooManyRequests {
		return nil, errors.Join(errs.New(errs.Temporary, "patch %.200s: %s", link, response.Status), err)
	}
	return nil, errors.Join(errs.New(errs.Invalid, "patch %.200s: %s", link, response.Status), err)
}

func (s *Source) check(u *url.URL) error {
	switch {
	case u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil:
		return errs.New(errs.Invalid, "patch %.200q: must be an http(s) URL without credentials", u.Redacted())
	case !slices.Contains(s.hosts, strings.ToLower(u.Hostname())):
		return errs.New(errs.Invalid, "patch %.200q: the host is none of %s", u.Redacted(), strings.Join(s.hosts, ", "))
	}
	return nil
}
