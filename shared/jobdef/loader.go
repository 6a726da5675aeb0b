package jobdef

import (
	"bytes"
	"fmt"
	"io"

	"github.com/nikolalohinski/gonja/v2/loaders"
)

// loader gives gonja the templates of a Renderer. As in Jinja2, a name means
// the same in whatever template it is written.
type loader struct {
	renderer *Renderer
	guard    *guard
}

// Read returns a template's text.
func (l *loader) Read(name string) (io.Reader, error) {
	if l.guard.reads++; l.guard.reads > maxReads {
		return nil, l.guard.end(fmt.Errorf("more than %d templates are read: does one include or extend itself?", maxReads))
	}
	if err := l.guard.check(); err != nil {
		return nil, err
	}
	text, err := l.renderer.read(name)
	if err != nil {
		return nil, err
	}
	return bytes.NewReader(text), nil
}

// Resolve checks that there is such a template.
func (l *loader) Resolve(name string) (string, error) {
	_, err := l.renderer.read(name)
	return name, err
}

// Inherit returns the loader for use in the template from: the same.
func (l *loader) Inherit(string) (loaders.Loader, error) { return l, nil }
