// Package blob keeps artifacts in a bucket, through gocloud.dev/blob: today a
// folder of this machine (file:///DIR), which a function serves over HTTP.
//
// An upload is visible when it is complete and not before: the bytes go to a
// file beside the others, which is flushed to the disk and renamed. Uploads of
// the same path at once leave one of them, whole.
//
// Decisions. Buckets of clouds (gs, s3, azblob) are a matter of linking their
// gocloud drivers, which cost each start-up some milliseconds and each build
// some minutes; they come with the cloud hosts. Until then their URLs are
// refused with a clear error.
package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"

	"gocloud.dev/blob"
	"gocloud.dev/blob/fileblob"
	"gocloud.dev/gcerrors"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/storage"
)

// Storage is the driver. See package storage for what each method promises.
type Storage struct {
	bucket *blob.Bucket
	dir    string
	base   *url.URL
}

var _ storage.Storage = (*Storage)(nil)

// Open opens the bucket at bucketURL; base is where its artifacts can be read
// by HTTP. A folder is made when it does not exist. A URL that is not
// supported is errs.Invalid.
func Open(bucketURL, base string) (*Storage, error) {
	b, err := url.Parse(base)
	if err != nil || b.Host == "" {
		return nil, errs.New(errs.Invalid, "blob.Open: base URL %q is not absolute", base)
	}
	u, err := url.Parse(bucketURL)
	if err != nil {
		return nil, fmt.Errorf("blob.Open: %w", errs.Wrap(errs.Invalid, err))
	}
	if u.Scheme != "file" || u.Path == "" {
		return nil, errs.New(errs.Invalid, "blob.Open: a bucket of scheme %q is not supported by this program, use file:///DIR", u.Scheme)
	}
	dir := filepath.FromSlash(u.Path)
	bucket, err := fileblob.OpenBucket(dir, &fileblob.Options{CreateDir: true, NoTempDir: true, Metadata: fileblob.MetadataDontWrite, DirFileMode: 0o755})
	if err != nil {
		return nil, fmt.Errorf("blob.Open(%s): %w", bucketURL, kind(err))
	}
	return &Storage{bucket: bucket, dir: dir, base: b}, nil
}

// Upload implements storage.Storage.
func (s *Storage) Upload(ctx context.Context, p, contentType string, r io.Reader) (string, error) {
	p, err := storage.CleanPath(p)
	if err != nil {
		return "", err
	}
	if contentType == "" {
		contentType = guess(p)
	}
	if err := s.upload(ctx, p, contentType, r); err != nil {
		return "", fmt.Errorf("blob.Upload(%q): %w", p, kind(err))
	}
	return s.URL(p), nil
}

func (s *Storage) upload(ctx context.Context, p, contentType string, r io.Reader) error {
	// Cancelling its context is how a write is given up: nothing becomes
	// visible then.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w, err := s.bucket.NewWriter(ctx, p, &blob.WriterOptions{ContentType: contentType, DisableContentTypeDetection: true})
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, r); err != nil {
		cancel()
		_ = w.Close() // reports the cancellation
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return s.flush(p)
}

// flush makes the file and its name survive a loss of power.
func (s *Storage) flush(p string) error {
	file := filepath.Join(s.dir, filepath.FromSlash(p))
	for _, name := range []string{file, filepath.Dir(file)} {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

func guess(p string) string {
	switch ext := path.Ext(p); ext {
	case ".gz", ".tgz":
		return "application/gzip"
	case ".log", ".config", ".ktap":
		return "text/plain; charset=utf-8"
	default:
		if t := mime.TypeByExtension(ext); t != "" {
			return t
		}
	}
	return "application/octet-stream"
}

// Open implements storage.Storage.
func (s *Storage) Open(ctx context.Context, p string) (io.ReadSeekCloser, storage.Info, error) {
	p, err := storage.CleanPath(p)
	if err != nil {
		return nil, storage.Info{}, err
	}
	r, err := s.bucket.NewReader(ctx, p, nil)
	if err != nil {
		return nil, storage.Info{}, fmt.Errorf("blob.Open(%q): %w", p, kind(err))
	}
	return r, storage.Info{Path: p, Size: r.Size(), ContentType: guess(p), Modified: r.ModTime().UTC()}, nil
}

// URL implements storage.Storage.
func (s *Storage) URL(p string) string {
	return strings.TrimSuffix(s.base.String(), "/") + "/" + (&url.URL{Path: p}).EscapedPath()
}

// Ping implements storage.Storage.
func (s *Storage) Ping(ctx context.Context) error {
	ok, err := s.bucket.IsAccessible(ctx)
	if err == nil && !ok {
		err = errs.New(errs.Temporary, "the bucket is not accessible")
	}
	if err != nil {
		return fmt.Errorf("blob.Ping(): %w", kind(err))
	}
	return nil
}

// Close implements storage.Storage.
func (s *Storage) Close() error { return s.bucket.Close() }

func kind(err error) error {
	if errs.KindOf(err) != nil || errors.Is(err, context.Canceled) {
		return err
	}
	switch gcerrors.Code(err) {
	case gcerrors.NotFound:
		return errs.Wrap(errs.NotFound, err)
	case gcerrors.InvalidArgument:
		return errs.Wrap(errs.Invalid, err)
	case gcerrors.PermissionDenied:
		return errs.Wrap(errs.Denied, err)
	}
	return errs.Wrap(errs.Temporary, err)
}
