package jinja

import (
	"context"
	"maps"
)

// Loader gives the source of a template by its name. An error of the kind
// errs.NotFound says that there is none.
type Loader interface {
	Source(name string) (string, error)
}

// Function is a function, a filter or a global, that a program adds: it gets
// its arguments and gives a value, or an error, which ends the rendering.
type Function struct {
	// Signature names the parameters as Python does: "value, width=80".
	Signature string
	Call      func(args []Value) (Value, error)
}

// Engine renders templates. It is safe for concurrent use once it is made, if
// its Loader and functions are.
type Engine struct {
	Loader  Loader
	Globals map[string]Function
	Filters map[string]Function
	// Random gives a number from 0 to n-1, for the filter random; nil: the
	// filter is an error.
	Random func(n int) int
	// MaxOutput is the most bytes of a text.
	MaxOutput int
}

func (f Function) builtin(name string) *builtin {
	return &builtin{name: name, sig: newSignature(f.Signature), context: true, fn: func(m *machine, args []Value) Value {
		v, err := f.Call(args)
		if err != nil {
			raise(raisedError, "%s", err)
		}
		return v
	}}
}

func (e *Engine) filter(name string) *builtin {
	if f, ok := e.Filters[name]; ok {
		return f.builtin(name)
	}
	return filters[name]
}

func (e *Engine) globals() map[string]Value {
	all := standard()
	all["kci_yaml_dump"] = &builtin{name: "kci_yaml_dump", sig: newSignature("data"), fn: func(m *machine, a []Value) Value { return m.yaml(a[0]) }}
	for name, f := range e.Globals {
		all[name] = f.builtin(name)
	}
	return all
}

// folding is a machine for the constants of a template.
func (e *Engine) folding() *machine {
	return &machine{ctx: context.Background(), engine: e, steps: maxSteps - 100_000, memory: maxMemory - 1<<20}
}

// Render prints a template with the names of vars. Its errors are *Error, of
// the kind errs.Invalid. The dicts and lists in vars may be changed by the
// template.
func (e *Engine) Render(ctx context.Context, name string, vars map[string]Value) (text string, err error) {
	m := &machine{ctx: ctx, engine: e, templates: map[string]*Template{}, modules: map[*Template]*module{}}
	defer func() {
		if x := caught(recover()); x != nil {
			text, err = "", &Error{Class: x.class, Text: x.text, Template: x.template, Line: x.line}
		}
	}()
	names := e.globals()
	maps.Copy(names, vars)
	t := m.template(name)
	var out buffer
	m.render(t, newContext(t, names), &out)
	return out.text(m), nil
}

// template reads and parses a template; a rendering does so once for each.
func (m *machine) template(value Value) *Template {
	if u, ok := value.(*Undefined); ok {
		u.raise()
	}
	name, ok := str(value)
	if !ok {
		raise(typeError, "a template's name is a text, not a %s", typeName(value))
	}
	if t, ok := m.templates[name]; ok {
		return t
	}
	if len(m.templates) >= maxReads {
		raise(limitError, "more than %d templates are read", maxReads)
	}
	source, err := m.engine.Loader.Source(name)
	switch {
	case err != nil && isNotFound(err):
		raise(notFoundError, "%s", err)
	case err != nil:
		raise(raisedError, "%s", err)
	}
	m.spend(len(source) * 16)
	t := m.link(name, parse(name, source))
	m.templates[name] = t
	return t
}

// selectTemplate reads the template of that name, or the first of several that
// there is.
func (m *machine) selectTemplate(value Value) *Template {
	_, isText := str(value)
	if _, isUndefined := value.(*Undefined); isText || isUndefined {
		return m.template(value)
	}
	if !m.truth(value) {
		raise(notFoundError, "tried to select from an empty list of templates")
	}
	for _, name := range m.items(value) {
		var t *Template
		if try(func() { t = m.template(name) }, notFoundError, undefinedError) == nil {
			return t
		}
	}
	raise(notFoundError, "none of the templates given were found")
	return nil
}
