// Package storage says how artifacts are kept: bytes go in under a path, a URL
// that a plain HTTP GET can read comes out. storagetest is the suite that each
// driver must pass.
package storage

import (
	"context"
	"io"
	"path"
	"strings"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
)

// Info describes a stored artifact.
type Info struct {
	Path        string
	Size        int64
	ContentType string
	Modified    time.Time // UTC
}

// Storage keeps artifacts. Paths are relative, with slashes; see CleanPath.
type Storage interface {
	// Upload streams r to path, replacing what was there, and returns its
	// URL. Nobody ever sees half a file: when r or the upload fails, what was
	// there before stays. An empty content type is guessed from the name.
	Upload(ctx context.Context, path, contentType string, r io.Reader) (url string, err error)
	// Open reads an artifact; NotFound. The reader also seeks.
	Open(ctx context.Context, path string) (io.ReadSeekCloser, Info, error)
	// URL is where path can be read, whether or not it exists.
	URL(path string) string
	// Ping says whether the storage answers.
	Ping(ctx context.Context) error
	// Close frees everything.
	Close() error
}

// maxPath bounds a path's length in bytes.
const maxPath = 1024

// CleanPath checks a path that somebody gave: relative, no "..", no empty or
// dot element, no control character or backslash. The error is errs.Invalid.
func CleanPath(p string) (string, error) {
	bad := func(why string) (string, error) {
		return "", errs.New(errs.Invalid, "path %.80q: %s", p, why)
	}
	switch {
	case p == "" || len(p) > maxPath:
		return bad("must be 1 to 1024 bytes long")
	case strings.ContainsFunc(p, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' || r == 0xfffd }):
		return bad("control characters and backslashes are not allowed")
	case p != path.Clean(p) || strings.HasPrefix(p, "/") || p == "." || p == ".." || strings.HasPrefix(p, "../"):
		return bad("must be relative, without empty, . or .. elements")
	}
	return p, nil
}
