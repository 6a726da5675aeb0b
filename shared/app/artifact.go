package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/kernelflow/kernelflow/shared/errs"
)

// maxArtifact bounds what is read of an artifact into memory, bytes.
const maxArtifact = 16 << 20

// Artifacts reads artifacts by their addresses, which whoever reports a build has
// chosen: from the storage of this instance, and from elsewhere by public
// addresses alone unless the configuration allows private ones. What cannot be
// had is Invalid, or Temporary when another try may help.
func (a *App) Artifacts() func(ctx context.Context, link string) ([]byte, error) {
	own, others := outbound(true), outbound(a.Config.PrivateFiles)
	own.CheckRedirect = func(*http.Request, []*http.Request) error {
		return errs.New(errs.Denied, "the storage leads elsewhere")
	}
	storage := a.StorageURL() + "/"
	return func(ctx context.Context, link string) ([]byte, error) {
		client := others
		if strings.HasPrefix(link, storage) {
			client = own
		}
		text, err := read(ctx, client, link)
		if err != nil {
			return nil, fmt.Errorf("artifact %.200s: %w", link, err)
		}
		return text, nil
	}
}

func read(ctx context.Context, client *http.Client, link string) (text []byte, err error) {
	if u, err := url.Parse(link); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return nil, errs.New(errs.Invalid, "must be an http(s) URL without credentials")
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, link, nil)
	if err != nil {
		return nil, errs.Wrap(errs.Invalid, err)
	}
	response, err := client.Do(r)
	switch {
	case errors.Is(err, errs.Denied):
		return nil, errs.Wrap(errs.Invalid, err) // another try ends the same way
	case err != nil:
		return nil, errs.Wrap(errs.Temporary, err)
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	switch status := response.StatusCode; {
	case status >= http.StatusInternalServerError || status == http.StatusTooManyRequests:
		return nil, errs.New(errs.Temporary, "%s", response.Status)
	case status != http.StatusOK:
		return nil, errs.New(errs.Invalid, "%s", response.Status)
	}
	text, err = io.ReadAll(io.LimitReader(response.Body, maxArtifact+1))
	if err != nil {
		return nil, errs.Wrap(errs.Temporary, err)
	}
	if len(text) > maxArtifact {
		return nil, errs.New(errs.Invalid, "larger than %d bytes", maxArtifact)
	}
	return text, nil
}
