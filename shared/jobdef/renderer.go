package jobdef

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nikolalohinski/gonja/v2/config"
	"github.com/nikolalohinski/gonja/v2/exec"

	"github.com/kernelflow/kernelflow/shared/errs"
)

//go:embed templates
var embedded embed.FS

// Bounds of one rendering.
const (
	maxOutput   = 1 << 20 // bytes of a definition
	maxTemplate = 1 << 20 // bytes of one template
	maxReads    = 100     // templates read, each as often as it is used
	maxTime     = 10 * time.Second
	maxCause    = 600 // bytes of gonja's text in an error
)

// Renderer makes job definitions from templates. It is safe for concurrent use.
type Renderer struct {
	folders []fs.FS
	limit   time.Duration
}

// New returns a renderer that looks for templates in dirs, in order, and then
// among the embedded ones. A dir that is no folder is an Invalid error.
func New(dirs ...string) (*Renderer, error) {
	r := &Renderer{limit: maxTime}
	for _, dir := range dirs {
		root, err := os.OpenRoot(dir)
		if err != nil {
			return nil, fmt.Errorf("jobdef.New: templates %q: %w", dir, errs.Wrap(errs.Invalid, err))
		}
		r.folders = append(r.folders, root.FS())
	}
	shipped, err := fs.Sub(embedded, "templates")
	if err != nil {
		return nil, fmt.Errorf("jobdef.New: %w", err)
	}
	r.folders = append(r.folders, shipped)
	return r, nil
}

// Has says whether there is such a template.
func (r *Renderer) Has(template string) bool {
	_, err := r.read(template)
	return err == nil
}

// Render makes the definition of one job. Its errors are Invalid: they name the
// template, the job and the cause, and another try would end the same way.
func (r *Renderer) Render(p Params) (string, error) {
	if p.Config == nil || p.Job == nil || p.Platform == nil || p.Runtime == nil {
		return "", errs.New(errs.Invalid, "jobdef.Render: job, platform, runtime and configuration must be given")
	}
	text, err := r.render(p)
	if err != nil {
		return "", errs.New(errs.Invalid, "template %q of job %q: %s", p.Job.Template, p.Job.Name, cause(err))
	}
	return text, nil
}

// cause is an error's text, cut: gonja may quote a whole template.
func cause(err error) string {
	text := strings.ToValidUTF8(err.Error(), "\uFFFD")
	if len(text) <= maxCause {
		return text
	}
	// The end says most: gonja wraps from the outside in.
	tail := text[len(text)-maxCause:]
	for len(tail) > 0 && !utf8.RuneStart(tail[0]) {
		tail = tail[1:]
	}
	return "..." + tail
}

// render runs gonja in a goroutine of its own, which nothing but its guards can
// stop.
func (r *Renderer) render(p Params) (string, error) {
	data, err := values(p)
	if err != nil {
		return "", err
	}
	type result struct {
		text string
		err  error
	}
	g := &guard{until: time.Now().Add(r.limit), limit: r.limit}
	done := make(chan result, 1)
	go func() {
		text, err := execute(r, g, p.Job.Template, data)
		done <- result{text, err}
	}()
	patience := time.NewTimer(r.limit + time.Second)
	defer patience.Stop()
	select {
	case got := <-done:
		return got.text, got.err
	case <-patience.C:
		return "", g.late()
	}
}

func execute(r *Renderer, g *guard, template string, data map[string]any) (text string, err error) {
	defer func() {
		// gonja panics where Python raises: division by zero, for example.
		if fault := recover(); fault != nil {
			err = fmt.Errorf("%v", fault)
		}
		if g.raised != nil {
			err = g.raised
		}
	}()
	environment, err := g.environment()
	if err != nil {
		return "", err
	}
	parsed, err := exec.NewTemplate(template, config.New(), &loader{renderer: r, guard: g}, environment)
	if err != nil {
		// The outermost text quotes the whole template.
		if inner := errors.Unwrap(err); inner != nil {
			err = inner
		}
		return "", err
	}
	out := &output{guard: g}
	if err := parsed.Execute(out, exec.NewContext(data)); err != nil {
		return "", err
	}
	return out.String(), nil
}

// read finds a template by its name.
func (r *Renderer) read(name string) ([]byte, error) {
	if !fs.ValidPath(name) || strings.ContainsAny(name, "\\\x00") || path.Base(name) == "." {
		return nil, errs.New(errs.Invalid, "template %.200q: must be a path below the folders of templates", name)
	}
	for _, folder := range r.folders {
		text, err := readFile(folder, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("template %.200q: %w", name, errs.Wrap(errs.Invalid, err))
		}
		return text, nil
	}
	return nil, errs.New(errs.NotFound, "template %.200q: there is no such template", name)
}

func readFile(folder fs.FS, name string) ([]byte, error) {
	info, err := fs.Stat(folder, name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxTemplate {
		return nil, fmt.Errorf("must be a regular file of at most %d bytes", maxTemplate)
	}
	return fs.ReadFile(folder, name)
}
