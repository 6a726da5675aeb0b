package pipeline

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/kernelflow/kernelflow/shared/errs"
)

// Bounds on the files of a configuration.
const (
	maxFile  = 1 << 20 // bytes in one
	maxTotal = 8 << 20 // bytes in all
	maxFiles = 5000
)

// Options change how strict [Load] is.
type Options struct {
	Strict bool // warnings are errors
}

// LoadDir is [Load] on a folder.
func LoadDir(dir string, opts Options) (*Config, Problems, error) {
	if info, err := os.Stat(dir); err != nil {
		return nil, nil, fmt.Errorf("pipeline.LoadDir: %w", errs.Wrap(errs.Invalid, err))
	} else if !info.IsDir() {
		return nil, nil, errs.New(errs.Invalid, "pipeline.LoadDir(%s): not a folder", dir)
	}
	c, warnings, err := load(os.DirFS(dir), opts)
	if err != nil {
		return nil, warnings, fmt.Errorf("pipeline.LoadDir(%s): %w", dir, err)
	}
	return c, warnings, nil
}

// Load reads every *.yaml and *.yml file of fsys, in the order of their paths,
// and merges them. Files and folders whose name starts with a dot are left out.
//
// The problems are the warnings, sorted by place. The error is errs.Invalid
// and holds all problems that are not mere warnings as a [Problems]; or it is
// what reading fsys gave.
func Load(fsys fs.FS, opts Options) (*Config, Problems, error) {
	c, warnings, err := load(fsys, opts)
	if err != nil {
		return nil, warnings, fmt.Errorf("pipeline.Load: %w", err)
	}
	return c, warnings, nil
}

func load(fsys fs.FS, opts Options) (*Config, Problems, error) {
	l := &loader{budget: maxValues, config: newConfig(), first: map[string]Place{}, orders: map[*value]*Order{}}
	if err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error { return l.visit(fsys, p, d, err) }); err != nil {
		return nil, nil, err
	}
	if l.files == 0 {
		return nil, nil, errs.New(errs.Invalid, "no *.yaml or *.yml file")
	}
	if !l.partial {
		l.check()
	}
	l.problems.Sort()
	var wrong, warnings Problems
	for _, p := range l.problems {
		if p.Warning && !opts.Strict {
			warnings = append(warnings, p)
		} else {
			wrong = append(wrong, p)
		}
	}
	if len(wrong) > 0 {
		return nil, warnings, fmt.Errorf("%d problems:\n%w", len(wrong), errs.Wrap(errs.Invalid, wrong))
	}
	return l.config, warnings, nil
}

func newConfig() *Config {
	return &Config{
		API: map[string]*API{}, Storage: map[string]*Storage{}, Runtimes: map[string]*Runtime{},
		Trees: map[string]*Tree{}, BuildConfigs: map[string]*BuildConfig{}, Jobs: map[string]*Job{},
		Platforms: map[string]*Platform{}, Fragments: map[string]*Fragment{}, Rootfs: map[string]*Rootfs{},
	}
}

// loader holds what one Load has found so far.
type loader struct {
	config   *Config
	problems Problems
	orders   map[*value]*Order
	first    map[string]Place // "section.name" to where it is defined
	budget   int
	files    int
	partial  bool // a file could not be read: names in it are not known
	bytes    int64
}

func (l *loader) visit(fsys fs.FS, name string, d fs.DirEntry, err error) error {
	if err != nil {
		return err
	}
	if hidden := strings.HasPrefix(path.Base(name), ".") && name != "."; hidden && d.IsDir() {
		return fs.SkipDir
	} else if hidden || d.IsDir() {
		return nil
	}
	if ext := path.Ext(name); ext != ".yaml" && ext != ".yml" {
		return nil
	}
	if l.files++; l.files > maxFiles {
		return errs.New(errs.Invalid, "more than %d files", maxFiles)
	}
	content, err := l.content(fsys, name)
	if err != nil || content == nil {
		return err
	}
	r := &reader{file: name, anchors: map[string]*value{}, problems: &l.problems, budget: &l.budget}
	root, ok := r.read(content)
	if !ok {
		l.partial = true
	}
	l.merge(name, root)
	return nil
}

// content reads a file; nil when it is empty, or too large, which is reported.
func (l *loader) content(fsys fs.FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(content) > maxFile {
		l.problems.add(Place{File: name}, "larger than %d bytes", maxFile)
		l.partial = true
		return nil, nil
	}
	if l.bytes += int64(len(content)); l.bytes > maxTotal {
		return nil, errs.New(errs.Invalid, "%s: the files are larger than %d bytes together", name, maxTotal)
	}
	return content, nil
}
