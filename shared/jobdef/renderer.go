package jobdef

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/jinja"
)

//go:embed templates
var embedded embed.FS

// Bounds of one rendering.
const (
	maxOutput   = 1 << 20 // bytes of a definition
	maxTemplate = 1 << 20 // bytes of one template
	maxTime     = 10 * time.Second
	maxCause    = 600 // bytes of the cause in an error
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
	_, err := r.Source(template)
	return err == nil
}

// Render makes the definition of one job; that for a LAVA lab is written anew by
// [Normalize], as KernelCI does. Its errors are Invalid: they name the
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

// cause is an error's text, cut: it may quote what is in the template.
func cause(err error) string {
	text := strings.ToValidUTF8(err.Error(), "\uFFFD")
	if len(text) <= maxCause {
		return text
	}
	return strings.ToValidUTF8(text[:maxCause], "") + "..."
}

func (r *Renderer) render(p Params) (string, error) {
	data, err := values(p)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), r.limit)
	defer cancel()
	engine := &jinja.Engine{
		Loader:    r,
		Globals:   map[string]jinja.Function{"kci_raise": {Signature: "msg", Call: raise}},
		Filters:   map[string]jinja.Function{"quote": {Signature: "value", Call: quote}},
		Random:    chance(p),
		MaxOutput: maxOutput,
	}
	text, err := engine.Render(ctx, p.Job.Template, data)
	if err != nil || p.Runtime.LabType != "lava" {
		return text, err
	}
	return Normalize(text)
}

// raise is kci_raise: the template's own error.
func raise(args []jinja.Value) (jinja.Value, error) {
	text, err := jinja.Text(args[0])
	if err == nil {
		err = errors.New(text)
	}
	return nil, err
}

// chance is the randomness of a job's template: the same each time.
func chance(p Params) func(int) int {
	seed := fnv.New64a()
	_, _ = seed.Write([]byte(p.Node.ID))
	return rand.New(rand.NewPCG(seed.Sum64(), 0)).IntN
}
