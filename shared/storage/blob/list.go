package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/storage"
)

// batch is how many names of one folder are held at once: a folder may have
// millions. Each batch reads the whole folder again.
const batch = 1000

// List implements storage.Storage.
func (s *Storage) List(ctx context.Context, prefix, after string, limit int) ([]storage.Info, error) {
	if limit < 1 {
		return nil, errs.New(errs.Invalid, "limit: must be 1 or more, it is %d", limit)
	}
	dir := prefix[:strings.LastIndex(prefix, "/")+1]
	if dir != "" {
		if _, err := clean(strings.TrimSuffix(dir, "/")); err != nil {
			return nil, err
		}
	}
	l := lister{storage: s, ctx: ctx, prefix: prefix, after: after, limit: limit}
	if err := l.walk(dir); err != nil && !errors.Is(err, errFull) {
		return nil, fmt.Errorf("blob.List(%q): %w", prefix, kind(err))
	}
	return l.found, nil
}

var errFull = errors.New("the page is full")

// lister walks folders in the order of paths. A folder's path ends with "/",
// as the paths of what is in it go on.
type lister struct {
	storage       *Storage
	ctx           context.Context
	prefix, after string
	limit         int
	found         []storage.Info
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
	info, err := l.storage.root.Lstat(p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // removed meanwhile
	}
	if err != nil {
		return err
	}
	l.found = append(l.found, describe(p, info))
	if len(l.found) == l.limit {
		return errFull
	}
	return nil
}

// names returns the first batch of names in dir that are from or come later, in
// order; those of folders end with "/".
func (l *lister) names(dir, from string) ([]string, error) {
	folder, err := l.storage.root.Open(path.Clean("./" + dir))
	if noFolder(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = folder.Close() }() // only read
	var names []string
	last := "" // of a batch that is full
	for {
		entries, err := folder.ReadDir(batch)
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
