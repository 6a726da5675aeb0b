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
	"unicode"
	"unicode/utf8"

	"github.com/kernelflow/kernelflow/shared/errs"
)

// Info describes a stored artifact.
type Info struct {
	Path        string
	Size        int64 // bytes
	ContentType string
	Modified    time.Time // UTC
	ETag        string    // quoted, as HTTP has it; another one when the content is another
}

// Space is how much fits into a storage, in bytes. Total is 0 where nothing
// bounds it.
type Space struct{ Free, Total uint64 }

// Storage keeps artifacts. Paths are relative, with slashes; see CleanPath.
type Storage interface {
	// Upload streams r to path, replacing what was there, and returns its
	// URL. Nobody ever sees half a file: when r or the upload fails, what was
	// there before stays. An empty content type is guessed from the name.
	Upload(ctx context.Context, path, contentType string, r io.Reader) (url string, err error)
	// Open reads an artifact; NotFound. The reader also seeks, and goes on
	// reading the same content when the artifact is replaced.
	Open(ctx context.Context, path string) (io.ReadSeekCloser, Info, error)
	// List returns the artifacts whose paths begin with prefix and come after
	// the path after, in the order of their bytes, limit of them at most. The
	// next page is after the last path. A limit below 1 is Invalid.
	List(ctx context.Context, prefix, after string, limit int) ([]Info, error)
	// Delete removes an artifact; that it is not there is no error, so that it
	// may be done twice. Who has opened it reads on.
	Delete(ctx context.Context, path string) error
	// Space says how much room there is.
	Space(ctx context.Context) (Space, error)
	// URL is where path can be read, whether or not it exists.
	URL(path string) string
	// Ping says whether the storage answers.
	Ping(ctx context.Context) error
	// Close frees everything.
	Close() error
}

// Bounds of a path and of each of its elements, in bytes.
const (
	maxPath    = 1024
	maxElement = 255
)

// CleanPath checks a path that somebody gave: relative, no "..", no empty or
// dot element, no backslash, and nothing that does not show: control and format
// characters, what is no UTF-8. The error is errs.Invalid.
func CleanPath(p string) (string, error) {
	bad := func(why string) (string, error) {
		return "", errs.New(errs.Invalid, "path %.80q: %s", p, why)
	}
	switch {
	case p == "" || len(p) > maxPath:
		return bad("must be 1 to 1024 bytes long")
	case strings.ContainsFunc(p, unfit):
		return bad("backslashes and characters that do not show are not allowed")
	case p != path.Clean(p) || strings.HasPrefix(p, "/") || p == "." || p == ".." || strings.HasPrefix(p, "../"):
		return bad("must be relative, without empty, . or .. elements")
	}
	for element := range strings.SplitSeq(p, "/") {
		if len(element) > maxElement {
			return bad("an element must not be longer than 255 bytes")
		}
	}
	return p, nil
}

func unfit(r rune) bool { return r == '\\' || r == utf8.RuneError || !unicode.IsGraphic(r) }
