package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/storage"
	"github.com/kernelflow/kernelflow/shared/user"
)

var fileFields = regexp.MustCompile(`^file[0-9]+$`)

// upload keeps files: a form with the folder "path" and the files "file0",
// "file1" and so on. KernelCI's storage takes the first alone, its library
// sends many. Each is streamed, and is there as a whole before the next one is
// read; one that breaks off leaves nothing. The answer is where they can be
// read, one URL a line.
func (f *Function) upload(w http.ResponseWriter, r *http.Request) {
	links, err := f.keep(w, r)
	if err != nil {
		f.refuse(w, r, err)
		return
	}
	writePlain(w, http.StatusOK, strings.Join(links, "\n"))
}

func (f *Function) keep(w http.ResponseWriter, r *http.Request) ([]string, error) {
	u, err := f.bearer(r)
	if err != nil {
		return nil, err
	}
	m, err := f.form(w, r, fileFields)
	if err != nil {
		return nil, err
	}
	var waiting []arrived // those that came before the path
	var links []string
	for {
		file, err := m.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if m.known {
			if links, err = f.put(r.Context(), u, m.folder, file, links); err != nil {
				return nil, err
			}
			continue
		}
		spooled, err := spool(file.content)
		if err != nil {
			return nil, err
		}
		defer func() { _ = spooled.Close() }() // nobody can read it any more
		waiting = append(waiting, arrived{file.name, spooled})
	}
	switch {
	case len(links)+len(waiting) == 0:
		return nil, errs.New(errs.Invalid, "No file0 field in upload")
	case !m.known:
		return nil, errs.New(errs.Invalid, "path: is missing")
	}
	for _, file := range waiting {
		if links, err = f.put(r.Context(), u, m.folder, file, links); err != nil {
			return nil, err
		}
	}
	return links, nil
}

// put keeps one file, if u may, and adds its URL to links.
func (f *Function) put(ctx context.Context, u user.User, folder string, file arrived, links []string) ([]string, error) {
	target, err := destination(folder, file.name)
	if err == nil {
		err = f.mayUpload(ctx, u, target)
	}
	if err != nil {
		return nil, err
	}
	link, err := f.storage.Upload(ctx, target, "", file.content)
	return append(links, link), err
}

// destination is the path of a file in a folder. As in KernelCI's storage a slash
// before or behind a folder means nothing, "" and "." are the top, and a name
// may have folders in it.
func destination(folder, name string) (string, error) {
	full := folder + "/" + name
	if slices.Contains(strings.Split(full, "/"), "..") {
		return "", errs.New(errs.Invalid, "path: Path traversal detected: %.80q", full)
	}
	target, err := storage.CleanPath(strings.TrimPrefix(path.Clean("/"+full), "/"))
	if err == nil && hidden[target] {
		err = errs.New(errs.Invalid, "path: %s is taken", target)
	}
	return target, err
}

// mayUpload: a superuser anywhere; others in a folder of a node that they may
// edit, and people in the folder of their own name. The folder of a node is its
// id, or NAME-ID as KernelCI calls it. A job that has ended may leave
// what is not there yet, and replaces nothing. A personal token may be bound to
// folders besides.
func (f *Function) mayUpload(ctx context.Context, u user.User, target string) error {
	denied := errs.New(errs.Denied, "User %s has no upload permissions for path %s", u.Username, target)
	switch {
	case u.Prefixes != nil && !slices.ContainsFunc(u.Prefixes, func(folder string) bool { return strings.HasPrefix(target, folder+"/") }):
		return denied
	case (u.Superuser || u.Uploader) && u.Active:
		return nil
	}
	first, _, below := strings.Cut(target, "/")
	id, err := node.ParseID(first[strings.LastIndex(first, "-")+1:])
	switch {
	case below && err != nil && first == u.Username && !u.IsJob():
		return nil
	case !below || err != nil || u.IsJob() && id != u.Node:
		return denied
	}
	n, err := f.store.Get(ctx, id)
	switch {
	case errors.Is(err, errs.NotFound), err == nil && !u.MayEdit(n):
		return denied
	case err != nil:
		return err
	}
	if err := mayReport(u, n); err == nil || f.there(ctx, target) {
		return err
	}
	return nil
}

// there says whether an artifact is at target, or may be.
func (f *Function) there(ctx context.Context, target string) bool {
	content, _, err := f.storage.Open(ctx, target)
	if err == nil {
		_ = content.Close() // nothing was read
	}
	return !errors.Is(err, errs.NotFound)
}
