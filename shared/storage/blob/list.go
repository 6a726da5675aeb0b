package blob

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"

	"gocloud.dev/blob/driver"
)

// batch is how many names of one folder are held at once: a folder may have
// millions. Each batch reads the whole folder again.
const batch = 1000

// ListPaged implements driver.Bucket. It lists whatever is below a prefix, so no
// delimiter is supported. BeforeList is given the *lister, to set where a list
// begins.
func (f *folder) ListPaged(ctx context.Context, opts *driver.ListOptions) (*driver.ListPage, error) {
	if opts.Delimiter != "" {
		return nil, errors.ErrUnsupported
	}
	if _, err := f.root.Stat(uploads); err != nil {
		return nil, err // the folder was removed
	}
	l := &lister{ctx: ctx, folder: f, prefix: opts.Prefix, after: string(opts.PageToken), limit: cmp.Or(opts.PageSize, batch)}
	if opts.BeforeList != nil {
		if err := opts.BeforeList(l.as); err != nil {
			return nil, err
		}
	}
	dir := l.prefix[:strings.LastIndex(l.prefix, "/")+1]
	if hidden(dir) {
		return &l.page, nil
	}
	err := l.walk(dir)
	if errors.Is(err, errFull) {
		l.page.NextPageToken, err = []byte(l.page.Objects[l.limit-1].Key), nil
	}
	return &l.page, err
}

var errFull = errors.New("the page is full")

// lister walks folders in the order of paths. A folder's path ends with "/",
// as the paths of what is in it go on.
type lister struct {
	ctx           context.Context
	folder        *folder
	prefix, after string
	limit         int
	page          driver.ListPage
}

func (l *lister) as(to any) bool {
	p, ok := to.(**lister)
	if ok {
		*p = l
	}
	return ok
}

// walk adds what is below dir, "" for all.
func (l *lister) walk(dir string) error {
	for from := l.first(dir); ; {
		if err := l.ctx.Err(); err != nil {
			return err
		}
		names, err := l.names(dir, from)
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := l.visit(dir + name); err != nil {
				return err
			}
		}
		if len(names) < batch {
			return nil
		}
		from = names[len(names)-1] + "\x00"
	}
}

// first is the least name in dir that a page can begin with.
func (l *lister) first(dir string) string {
	from := ""
	for _, bound := range []string{l.prefix, l.after} {
		if rest, ok := strings.CutPrefix(bound, dir); ok {
			first, _, deeper := strings.Cut(rest, "/")
			if deeper {
				first += "/"
			}
			from = max(from, first)
		}
	}
	return from
}

// visit takes one path, unless the page has no use for it.
func (l *lister) visit(p string) error {
	below := strings.HasSuffix(p, "/")
	switch {
	case below && !strings.HasPrefix(p, l.prefix) && !strings.HasPrefix(l.prefix, p), !below && !strings.HasPrefix(p, l.prefix):
		return nil
	case p <= l.after && !(below && strings.HasPrefix(l.after, p)):
		return nil
	case below:
		return l.walk(p)
	}
	info, err := l.folder.root.Lstat(p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // removed meanwhile
	}
	if err != nil {
		return err
	}
	l.page.Objects = append(l.page.Objects, &driver.ListObject{Key: p, ModTime: info.ModTime(), Size: info.Size(), AsFunc: asInfo(info)})
	if len(l.page.Objects) == l.limit {
		return errFull
	}
	return nil
}

// names returns the first batch of names in dir that are from or come later, in
// order; those of folders end with "/".
func (l *lister) names(dir, from string) ([]string, error) {
	d, err := l.folder.root.Open(path.Clean("./" + dir))
	if noFolder(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }() // only read
	var names []string
	last := "" // of a batch that is full
	for {
		entries, err := d.ReadDir(batch)
		for _, e := range entries {
			name := listed(dir, e)
			if name >= from && name != "" && (last == "" || name < last) {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		if len(names) >= batch {
			names, last = names[:batch], names[batch-1]
		}
		if err != nil {
			if errors.Is(err, io.EOF) || noFolder(err) {
				err = nil
			}
			return names, err
		}
	}
}

func noFolder(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// listed is the name under which a list goes on with e, "" for what it leaves
// out.
func listed(dir string, e fs.DirEntry) string {
	switch {
	case dir == "" && e.Name() == uploads:
		return ""
	case e.IsDir():
		return e.Name() + "/"
	case e.Type().IsRegular():
		return e.Name()
	}
	return ""
}
