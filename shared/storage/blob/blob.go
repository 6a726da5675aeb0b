// Package blob keeps artifacts in a bucket: today a folder of this machine
// (file:///DIR), which a function serves over HTTP.
//
// An upload is visible when it is complete and not before: the bytes go to a
// file of the hidden folder .uploads, which is flushed to the disk and renamed.
// Uploads of the same path at once leave one of them, whole; one that breaks
// off leaves nothing, and what a killed process leaves in .uploads is removed
// by the next Open that finds it a day old.
//
// Nothing leads out of the folder: each path is opened below it with os.Root,
// which follows no symbolic link to elsewhere, whoever put it there. Only plain
// files are artifacts. A folder keeps no content types: names say them.
//
// Decisions. gocloud.dev's fileblob would do the same for a folder, but it
// follows links, and lists and serves half an upload beside the artifacts.
// Buckets of clouds (gs, s3, azblob) are for gocloud.dev; they come with the
// cloud hosts. Until then their URLs are refused with a clear error. Removing
// what is old is not done here: nobody asks for it yet.
package blob

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/storage"
)

const (
	uploads   = ".uploads"     // the folder of what is not complete
	abandoned = 24 * time.Hour // after this without a byte nobody completes it
)

// Storage is the driver. See package storage for what each method promises.
type Storage struct {
	root *os.Root
	base *url.URL
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
	root, err := openFolder(filepath.FromSlash(u.Path))
	if err != nil {
		return nil, fmt.Errorf("blob.Open(%s): %w", bucketURL, kind(err))
	}
	return &Storage{root: root, base: b}, nil
}

func openFolder(dir string) (*os.Root, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	err = root.MkdirAll(uploads, 0o755)
	if err == nil {
		err = sweep(root)
	}
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return root, nil
}

// sweep removes uploads that nobody will complete. How old they are is told by
// the folder's own clock, that of a new file: it may be another machine's.
func sweep(root *os.Root) error {
	probe, err := create(root)
	if err != nil {
		return err
	}
	now, err := probe.Stat()
	if err := errors.Join(err, probe.Close(), root.Remove(path.Join(uploads, filepath.Base(probe.Name())))); err != nil {
		return err
	}
	return fs.WalkDir(root.FS(), uploads, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil && now.ModTime().Sub(info.ModTime()) > abandoned {
			err = root.Remove(p)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it was completed, or another instance swept it
		}
		return err
	})
}

// create makes a file for an upload.
func create(root *os.Root) (*os.File, error) {
	return root.OpenFile(path.Join(uploads, rand.Text()), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
}

// clean is storage.CleanPath without what is the driver's own.
func clean(p string) (string, error) {
	p, err := storage.CleanPath(p)
	if err == nil && (p == uploads || strings.HasPrefix(p, uploads+"/")) {
		return "", errs.New(errs.Invalid, "path %.80q: %s is taken", p, uploads)
	}
	return p, err
}

// Upload implements storage.Storage.
func (s *Storage) Upload(ctx context.Context, p, _ string, r io.Reader) (string, error) {
	p, err := clean(p)
	if err != nil {
		return "", err
	}
	if err := s.upload(ctx, p, r); err != nil {
		return "", fmt.Errorf("blob.Upload(%q): %w", p, kind(err))
	}
	return s.URL(p), nil
}

func (s *Storage) upload(ctx context.Context, p string, r io.Reader) (err error) {
	file, err := create(s.root)
	if err != nil {
		return err
	}
	temp := path.Join(uploads, filepath.Base(file.Name()))
	defer func() {
		if err != nil {
			err = errors.Join(err, s.root.Remove(temp))
		}
	}()
	_, err = io.Copy(file, r)
	if err == nil {
		err = file.Sync()
	}
	if err := errors.Join(err, file.Close(), ctx.Err()); err != nil {
		return err
	}
	if err := s.root.MkdirAll(path.Dir(p), 0o755); err != nil {
		return err
	}
	if err := s.root.Rename(temp, p); err != nil {
		return err
	}
	return s.flush(path.Dir(p))
}

// flush makes the names in dir and above it survive a loss of power.
func (s *Storage) flush(dir string) error {
	for ; ; dir = path.Dir(dir) {
		f, err := s.root.Open(dir)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil || dir == "." {
			return err
		}
	}
}

// Open implements storage.Storage.
func (s *Storage) Open(_ context.Context, p string) (io.ReadSeekCloser, storage.Info, error) {
	p, err := clean(p)
	if err != nil {
		return nil, storage.Info{}, err
	}
	file, info, err := s.open(p)
	if err != nil {
		err = kind(err)
		if !errors.Is(err, errs.Temporary) {
			err = errs.Wrap(errs.NotFound, err) // whatever else is there is no artifact
		}
		return nil, storage.Info{}, fmt.Errorf("blob.Open(%q): %w", p, err)
	}
	return file, describe(p, info), nil
}

func (s *Storage) open(p string) (*os.File, fs.FileInfo, error) {
	// Opening what is no plain file may wait for ever, so that is seen first.
	if info, err := s.root.Lstat(p); err != nil || !info.Mode().IsRegular() {
		return nil, nil, errors.Join(err, fs.ErrNotExist)
	}
	file, err := s.root.Open(p)
	if err != nil {
		return nil, nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	return file, info, nil
}

func describe(p string, info fs.FileInfo) storage.Info {
	i := storage.Info{Path: p, Size: info.Size(), ContentType: storage.ContentType(p), Modified: info.ModTime().UTC()}
	// Clocks are coarse. An upload is made beside what it replaces, so its
	// number is another one.
	var inode uint64
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		inode = st.Ino
	}
	i.ETag = fmt.Sprintf(`"%x-%x-%x"`, inode, info.ModTime().UnixNano(), info.Size())
	return i
}

// URL implements storage.Storage.
func (s *Storage) URL(p string) string {
	return strings.TrimSuffix(s.base.String(), "/") + "/" + (&url.URL{Path: p}).EscapedPath()
}

// Space implements storage.Storage.
func (s *Storage) Space(context.Context) (storage.Space, error) {
	dir, err := s.root.Open(".")
	if err != nil {
		return storage.Space{}, fmt.Errorf("blob.Space(): %w", kind(err))
	}
	var st unix.Statfs_t
	if err := errors.Join(unix.Fstatfs(int(dir.Fd()), &st), dir.Close()); err != nil {
		return storage.Space{}, fmt.Errorf("blob.Space(): %w", kind(err))
	}
	block := uint64(st.Bsize)
	return storage.Space{Free: st.Bavail * block, Total: st.Blocks * block}, nil
}

// Ping implements storage.Storage.
func (s *Storage) Ping(context.Context) error {
	if _, err := s.root.Stat(uploads); err != nil {
		return fmt.Errorf("blob.Ping(): %w", errs.Wrap(errs.Temporary, err))
	}
	return nil
}

// Close implements storage.Storage.
func (s *Storage) Close() error { return s.root.Close() }

// kind classifies what the folder said, which is about names or about disks.
func kind(err error) error {
	var number syscall.Errno
	var named *fs.PathError
	switch {
	case errs.KindOf(err) != nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, fs.ErrNotExist):
		return errs.Wrap(errs.NotFound, err)
	case errors.Is(err, fs.ErrPermission):
		return errs.Wrap(errs.Denied, err)
	case !errors.As(err, &number):
		if errors.As(err, &named) && !errors.Is(err, fs.ErrClosed) {
			return errs.Wrap(errs.Denied, err) // os.Root: the path leads out of the folder
		}
		return errs.Wrap(errs.Temporary, err)
	}
	switch number {
	case syscall.ENOTDIR, syscall.EISDIR, syscall.EEXIST, syscall.ENOTEMPTY:
		return errs.Wrap(errs.Conflict, err) // a file where a folder must be, or the reverse
	case syscall.ENAMETOOLONG, syscall.ELOOP, syscall.EINVAL:
		return errs.Wrap(errs.Invalid, err)
	}
	return errs.Wrap(errs.Temporary, err)
}
