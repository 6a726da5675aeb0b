package blob

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"gocloud.dev/blob/driver"
	"gocloud.dev/gcerrors"

	"github.com/kernelflow/kernelflow/shared/storage"
)

const (
	uploads   = ".uploads"     // the folder of what is not complete
	abandoned = 24 * time.Hour // after this without a byte nobody completes it
)

// hidden says whether p is the folder's own.
func hidden(p string) bool { return p == uploads || strings.HasPrefix(p, uploads+"/") }

// folder is gocloud's driver for a folder. Keys are clean paths. It keeps bytes
// alone, so of a writer's options it knows none; As gives an *os.Root.
type folder struct{ root *os.Root }

var _ driver.Bucket = (*folder)(nil)

func openFolder(dir string) (*folder, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	f := &folder{root}
	err = root.MkdirAll(uploads, 0o755)
	if err == nil {
		err = f.sweep()
	}
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return f, nil
}

// sweep removes uploads that nobody will complete. How old they are is told by
// the folder's own clock, that of a new file: it may be another machine's.
func (f *folder) sweep() error {
	probe, temp, err := f.create()
	if err != nil {
		return err
	}
	now, err := probe.Stat()
	if err := errors.Join(err, probe.Close(), f.root.Remove(temp)); err != nil {
		return err
	}
	return fs.WalkDir(f.root.FS(), uploads, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil && now.ModTime().Sub(info.ModTime()) > abandoned {
			err = f.root.Remove(p)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it was completed, or another instance swept it
		}
		return err
	})
}

// create makes a file for an upload, and says where it is.
func (f *folder) create() (*os.File, string, error) {
	temp := path.Join(uploads, rand.Text())
	file, err := f.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	return file, temp, err
}

// NewTypedWriter implements driver.Bucket.
func (f *folder) NewTypedWriter(ctx context.Context, key, _ string, _ *driver.WriterOptions) (driver.Writer, error) {
	file, temp, err := f.create()
	if err != nil {
		return nil, err
	}
	return &upload{File: file, ctx: ctx, folder: f, temp: temp, key: key}, nil
}

// upload is a file that becomes visible, or goes away, when it is closed.
type upload struct {
	*os.File
	ctx       context.Context // of the write, as gocloud has it
	folder    *folder
	temp, key string
}

// Close implements driver.Writer.
func (u *upload) Close() error {
	err := u.ctx.Err()
	if err == nil {
		err = u.Sync()
	}
	err = errors.Join(err, u.File.Close())
	if err == nil {
		err = u.folder.publish(u.temp, u.key)
	}
	if err != nil {
		_ = u.folder.root.Remove(u.temp) // or a later sweep does
	}
	return err
}

func (f *folder) publish(temp, key string) error {
	var err error
	// A folder that has just been made may be removed again by Delete, since it
	// is empty.
	for range 3 {
		if err = f.root.MkdirAll(path.Dir(key), 0o755); err == nil {
			err = f.root.Rename(temp, key)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if err != nil {
		return err
	}
	return f.flush(path.Dir(key))
}

// flush makes the names in dir and above it survive a loss of power.
func (f *folder) flush(dir string) error {
	for ; ; dir = path.Dir(dir) {
		d, err := f.root.Open(dir)
		if err != nil {
			return err
		}
		if err := errors.Join(d.Sync(), d.Close()); err != nil || dir == "." {
			return err
		}
	}
}

// NewRangeReader implements driver.Bucket.
func (f *folder) NewRangeReader(_ context.Context, key string, offset, length int64, _ *driver.ReaderOptions) (driver.Reader, error) {
	r, err := f.open(key)
	if err != nil {
		return nil, err
	}
	if length < 0 {
		length = r.info.Size()
	}
	_, err = r.file.Seek(offset, io.SeekStart)
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	r.Reader = io.LimitReader(r.file, length)
	return r, nil
}

// open opens what is an artifact. Whatever else is at key does not exist.
func (f *folder) open(key string) (*reader, error) {
	// Opening what is no plain file may wait for ever, so that is seen first.
	info, err := f.root.Lstat(key)
	if err == nil && !info.Mode().IsRegular() {
		return nil, fs.ErrNotExist
	}
	var file *os.File
	if err == nil {
		file, err = f.root.Open(key)
	}
	switch f.ErrorCode(err) {
	case gcerrors.OK:
	case gcerrors.NotFound, gcerrors.Unknown:
		return nil, err
	default:
		return nil, fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	if info, err = file.Stat(); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &reader{file: file, info: info}, nil
}

// reader reads a part of a file. As gives the *os.File and its fs.FileInfo.
type reader struct {
	io.Reader
	file *os.File
	info fs.FileInfo
}

// Close implements driver.Reader.
func (r *reader) Close() error { return r.file.Close() }

// Attributes implements driver.Reader.
func (r *reader) Attributes() *driver.ReaderAttributes {
	return &driver.ReaderAttributes{ContentType: storage.ContentType(r.file.Name()), ModTime: r.info.ModTime(), Size: r.info.Size()}
}

// As implements driver.Reader.
func (r *reader) As(to any) bool {
	if p, ok := to.(**os.File); ok {
		*p = r.file
		return true
	}
	return asInfo(r.info)(to)
}

// asInfo gives an fs.FileInfo.
func asInfo(info fs.FileInfo) func(any) bool {
	return func(to any) bool {
		p, ok := to.(*fs.FileInfo)
		if ok {
			*p = info
		}
		return ok
	}
}

// Attributes implements driver.Bucket.
func (f *folder) Attributes(_ context.Context, key string) (*driver.Attributes, error) {
	r, err := f.open(key)
	if err != nil {
		return nil, err
	}
	a := r.Attributes()
	return &driver.Attributes{ContentType: a.ContentType, ModTime: a.ModTime, Size: a.Size, ETag: fileETag(r.info), AsFunc: asInfo(r.info)}, r.Close()
}

// fileETag is of a content. Clocks are coarse, but an upload is made beside what
// it replaces, so the number of its file is another one.
func fileETag(info fs.FileInfo) string {
	var inode uint64
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		inode = st.Ino
	}
	return fmt.Sprintf(`"%x-%x-%x"`, inode, info.ModTime().UnixNano(), info.Size())
}

// Copy implements driver.Bucket: nothing here copies.
func (f *folder) Copy(context.Context, string, string, *driver.CopyOptions) error {
	return errors.ErrUnsupported
}

// Delete implements driver.Bucket. Folders that are empty then go as well.
func (f *folder) Delete(_ context.Context, key string, _ *driver.DeleteOptions) error {
	r, err := f.open(key)
	if err != nil {
		return err
	}
	if err := errors.Join(r.Close(), f.root.Remove(key)); err != nil {
		return err
	}
	for dir := path.Dir(key); dir != "." && f.root.Remove(dir) == nil; {
		dir = path.Dir(dir)
	}
	return nil
}

// SignedURL implements driver.Bucket: artifacts are public.
func (f *folder) SignedURL(context.Context, string, *driver.SignedURLOptions) (string, error) {
	return "", errors.ErrUnsupported
}

// As implements driver.Bucket.
func (f *folder) As(to any) bool {
	p, ok := to.(**os.Root)
	if ok {
		*p = f.root
	}
	return ok
}

// ErrorAs implements driver.Bucket.
func (f *folder) ErrorAs(err error, to any) bool { return errors.As(err, to) }

// Close implements driver.Bucket.
func (f *folder) Close() error { return f.root.Close() }

// ErrorCode implements driver.Bucket. A folder's errors are about names or
// about disks; those about disks are not known.
func (f *folder) ErrorCode(err error) gcerrors.ErrorCode {
	var number syscall.Errno
	var named *fs.PathError
	switch {
	case err == nil:
		return gcerrors.OK
	case errors.Is(err, fs.ErrNotExist):
		return gcerrors.NotFound
	case errors.Is(err, fs.ErrPermission):
		return gcerrors.PermissionDenied
	case errors.Is(err, errors.ErrUnsupported):
		return gcerrors.Unimplemented
	case !errors.As(err, &number):
		if errors.As(err, &named) && !errors.Is(err, fs.ErrClosed) {
			return gcerrors.PermissionDenied // os.Root: the path leads out of the folder
		}
		return gcerrors.Unknown
	}
	switch number {
	case syscall.ENOTDIR, syscall.EISDIR, syscall.EEXIST, syscall.ENOTEMPTY:
		return gcerrors.AlreadyExists // a file where a folder must be, or the reverse
	case syscall.ENAMETOOLONG, syscall.ELOOP, syscall.EINVAL:
		return gcerrors.InvalidArgument
	}
	return gcerrors.Unknown
}
