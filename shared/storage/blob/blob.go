// Package blob keeps artifacts in a bucket of gocloud.dev/blob: today a folder
// of this machine (file:///DIR), which a function serves over HTTP.
//
// An upload is visible when it is complete and not before: when its source
// fails, the write is cancelled before it is closed, which is how gocloud gives
// one up. Uploads of the same path at once leave one of them, whole. A reader
// goes on reading what it opened.
//
// In a folder the bytes of an upload go to a file of the hidden folder .uploads,
// which is flushed to the disk and renamed. What a killed process leaves there
// is removed by the next Open that finds it a day old. Nothing leads out of the
// folder: each path is opened below it with os.Root, which follows no symbolic
// link to elsewhere, whoever put it there. Only plain files are artifacts. A
// folder keeps no content types: names say them.
//
// Decisions. Storage speaks to gocloud's portable bucket, so that the buckets of
// clouds (gs, s3, azblob) will share it: each is a URL, a driver to link, and a
// line where the drivers differ (where a list begins, ETags). They come with
// the cloud hosts; until then their URLs are refused with a clear error. The
// folder is a driver of our own. gocloud's fileblob follows links; its uploads
// either lie beside the artifacts, where it lists and serves half of one, or in
// a temporary folder of another file system, from which none can be renamed.
// The price is that driver, which somebody must keep, and gocloud itself: it
// links gRPC for its errors, 4 MB of each binary. Removing what is old is not
// done here: nobody asks for it yet.
package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"
	"golang.org/x/sys/unix"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/storage"
)

// Storage is the driver. See package storage for what each method promises.
type Storage struct {
	bucket *blob.Bucket
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
	f, err := openFolder(filepath.FromSlash(u.Path))
	if err != nil {
		return nil, fmt.Errorf("blob.Open(%s): %w", bucketURL, kind(err))
	}
	return &Storage{bucket: blob.NewBucket(f), base: b}, nil
}

// clean is storage.CleanPath without what is the folder's own, in every bucket:
// a path is good for all of them or for none.
func clean(p string) (string, error) {
	p, err := storage.CleanPath(p)
	if err == nil && hidden(p) {
		return "", errs.New(errs.Invalid, "path %.80q: %s is taken", p, uploads)
	}
	return p, err
}

// Upload implements storage.Storage. A content type that is none is
// errs.Invalid.
func (s *Storage) Upload(ctx context.Context, p, contentType string, r io.Reader) (string, error) {
	p, err := clean(p)
	if err != nil {
		return "", err
	}
	if contentType == "" {
		contentType = storage.ContentType(p)
	}
	if _, _, err := mime.ParseMediaType(contentType); err != nil {
		return "", errs.New(errs.Invalid, "content type %.80q: %v", contentType, err)
	}
	if err := s.upload(ctx, p, contentType, r); err != nil {
		return "", fmt.Errorf("blob.Upload(%q): %w", p, kind(err))
	}
	return s.URL(p), nil
}

func (s *Storage) upload(ctx context.Context, p, contentType string, r io.Reader) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w, err := s.bucket.NewWriter(ctx, p, &blob.WriterOptions{ContentType: contentType})
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, r); err != nil {
		cancel()
		_ = w.Close() // says that it was cancelled
		return err
	}
	return w.Close()
}

// Open implements storage.Storage.
func (s *Storage) Open(ctx context.Context, p string) (io.ReadSeekCloser, storage.Info, error) {
	p, err := clean(p)
	if err != nil {
		return nil, storage.Info{}, err
	}
	r, err := s.bucket.NewReader(ctx, p, nil)
	if err != nil {
		return nil, storage.Info{}, fmt.Errorf("blob.Open(%q): %w", p, kind(err))
	}
	info := storage.Info{Path: p, Size: r.Size(), ContentType: r.ContentType(), Modified: r.ModTime().UTC(), ETag: etag(r.As)}
	var file *os.File
	if r.As(&file) {
		return openFile{file, r}, info, nil
	}
	return r, info, nil
}

// openFile is a reader by its file: after a Seek gocloud's own opens the path
// again, where another content may be by then.
type openFile struct {
	*os.File
	reader *blob.Reader
}

func (f openFile) Close() error { return f.reader.Close() }

// etag asks an object for what tells its content from another: the portable
// types leave that to the drivers.
func etag(as func(any) bool) string {
	var info fs.FileInfo
	if as(&info) {
		return fileETag(info)
	}
	return ""
}

// List implements storage.Storage.
func (s *Storage) List(ctx context.Context, prefix, after string, limit int) ([]storage.Info, error) {
	if limit < 1 {
		return nil, errs.New(errs.Invalid, "limit: must be 1 or more, it is %d", limit)
	}
	if dir := prefix[:strings.LastIndex(prefix, "/")+1]; dir != "" {
		if _, err := clean(strings.TrimSuffix(dir, "/")); err != nil {
			return nil, err
		}
	}
	objects, _, err := s.bucket.ListPage(ctx, blob.FirstPageToken, limit, &blob.ListOptions{Prefix: prefix, BeforeList: beginAfter(after)})
	if err != nil {
		return nil, fmt.Errorf("blob.List(%q): %w", prefix, kind(err))
	}
	found := make([]storage.Info, len(objects))
	for i, o := range objects {
		found[i] = storage.Info{Path: o.Key, Size: o.Size, ContentType: storage.ContentType(o.Key), Modified: o.ModTime.UTC(), ETag: etag(o.As)}
	}
	return found, nil
}

// beginAfter tells a list where to begin: the portable type leaves that to the
// drivers.
func beginAfter(after string) func(as func(any) bool) error {
	return func(as func(any) bool) error {
		var l *lister
		if !as(&l) {
			return errors.ErrUnsupported
		}
		l.after = max(l.after, after)
		return nil
	}
}

// Delete implements storage.Storage.
func (s *Storage) Delete(ctx context.Context, p string) error {
	p, err := clean(p)
	if err != nil {
		return err
	}
	if err := s.bucket.Delete(ctx, p); err != nil && gcerrors.Code(err) != gcerrors.NotFound {
		return fmt.Errorf("blob.Delete(%q): %w", p, kind(err))
	}
	return nil
}

// URL implements storage.Storage.
func (s *Storage) URL(p string) string {
	return strings.TrimSuffix(s.base.String(), "/") + "/" + (&url.URL{Path: p}).EscapedPath()
}

// Space implements storage.Storage: that of the folder's disk.
func (s *Storage) Space(context.Context) (storage.Space, error) {
	var root *os.Root
	if !s.bucket.As(&root) {
		return storage.Space{}, nil
	}
	var st unix.Statfs_t
	dir, err := root.Open(".")
	if err == nil {
		err = errors.Join(unix.Fstatfs(int(dir.Fd()), &st), dir.Close())
	}
	if err != nil {
		return storage.Space{}, fmt.Errorf("blob.Space(): %w", errs.Wrap(errs.Temporary, err))
	}
	block := uint64(st.Bsize)
	return storage.Space{Free: st.Bavail * block, Total: st.Blocks * block}, nil
}

// Ping implements storage.Storage. It lists where no artifact can be: that of a
// large bucket takes long.
func (s *Storage) Ping(ctx context.Context) error {
	_, _, err := s.bucket.ListPage(ctx, blob.FirstPageToken, 1, &blob.ListOptions{Prefix: uploads + "/"})
	if err != nil {
		return fmt.Errorf("blob.Ping(): %w", errs.Wrap(errs.Temporary, err))
	}
	return nil
}

// Close implements storage.Storage.
func (s *Storage) Close() error { return s.bucket.Close() }

// kinds are of what a bucket says. What is not here is errs.Temporary.
var kinds = map[gcerrors.ErrorCode]*errs.Kind{
	gcerrors.NotFound:         errs.NotFound,
	gcerrors.AlreadyExists:    errs.Conflict,
	gcerrors.InvalidArgument:  errs.Invalid,
	gcerrors.PermissionDenied: errs.Denied,
}

func kind(err error) error {
	if errs.KindOf(err) != nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if k, ok := kinds[gcerrors.Code(err)]; ok {
		return errs.Wrap(k, err)
	}
	return errs.Wrap(errs.Temporary, err)
}
