package jobdef

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/kernelflow/kernelflow/shared/errs"
)

// Source is the text of a template: that of the first folder which has one of
// that name. As in Jinja2, a name means the same in whatever template it is
// written, "." and empty parts of it do not count, and none has a "..". Its
// errors are NotFound, or Invalid for what is there and no template.
func (r *Renderer) Source(name string) (string, error) {
	parts := slices.DeleteFunc(strings.Split(name, "/"), func(part string) bool { return part == "" || part == "." })
	path := strings.Join(parts, "/")
	for _, folder := range r.folders {
		if path == "" || !fs.ValidPath(path) || strings.ContainsRune(path, 0) {
			break
		}
		text, err := readFile(folder, path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("template %.200q: %w", name, errs.Wrap(errs.Invalid, err))
		}
		return string(text), nil
	}
	return "", errs.New(errs.NotFound, "template %.200q: there is no such template", name)
}

func readFile(folder fs.FS, name string) ([]byte, error) {
	info, err := fs.Stat(folder, name)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fs.ErrNotExist
	case info.Size() > maxTemplate:
		return nil, fmt.Errorf("must be of at most %d bytes", maxTemplate)
	}
	text, err := fs.ReadFile(folder, name)
	if err == nil && !utf8.Valid(text) {
		err = errors.New("must be UTF-8")
	}
	return text, err
}
