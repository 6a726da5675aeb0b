package jinja

import (
	"fmt"
)

// macro is a macro, or what a call block hands to one, with the run around it.
type macro struct {
	def *macroStmt
	up  *activation
}

// String is how Python prints it.
func (f *macro) String() string {
	if f.def.name == "" {
		return "<Macro anonymous>"
	}
	return "<Macro " + quote(f.up.m, f.def.name) + ">"
}

func (f *macro) field(name string) (Value, bool) {
	switch name {
	case "name":
		if f.def.name == "" {
			return nil, true
		}
		return f.def.name, true
	case "arguments":
		args := newTuple()
		for _, p := range f.def.params {
			args.items = append(args.items, p.name)
		}
		return args, true
	case "catch_kwargs":
		return f.def.kwargs, true
	case "catch_varargs":
		return f.def.varargs, true
	case "caller":
		return f.def.caller, true
	case "explicit_caller":
		return f.def.explicitCaller, true
	}
	return nil, false
}

func (f *macro) call(m *machine, args []Value, kwargs *Dict) Value {
	defer m.enter()()
	def := f.def
	values := f.arrange(args, kwargs)
	a := f.up.inner(def.fn, &buffer{})
	for i, slot := range def.slots {
		a.vars[slot] = values[i]
	}
	a.enter(def.frame)
	first := len(def.params) - len(def.defaults)
	for i, p := range def.params {
		v := &a.vars[def.slots[i]]
		switch {
		case *v != missing:
		case i < first:
			*v = &Undefined{hint: "parameter '" + p.name + "' was not provided", name: p.name}
		default:
			*v = def.defaults[i-first].eval(a)
		}
	}
	a.execAll(def.body)
	return a.out.text(m)
}

// arrange gives each parameter its argument; the special ones come last.
func (f *macro) arrange(args []Value, kwargs *Dict) []Value {
	def := f.def
	kwargs = kwargsCopy(kwargs)
	n := len(def.params)
	values := append([]Value(nil), args[:min(n, len(args))]...)
	found := len(values) == n && def.explicitCaller
	for i := len(values); i < n; i++ {
		name := def.params[i].name
		v, ok := kwargs.remove(name)
		if !ok {
			v = missing
		}
		found = found || name == "caller"
		values = append(values, v)
	}
	if def.caller && !found {
		v, _ := kwargs.remove("caller")
		if v == nil {
			v = &Undefined{hint: "No caller defined", name: "caller"}
		}
		values = append(values, v)
	}
	switch {
	case def.kwargs:
		values = append(values, kwargs)
	case kwargs.Len() > 0:
		raise(typeError, "macro '%s' takes no keyword argument '%v'", def.name, kwargs.keys()[0])
	}
	switch {
	case def.varargs:
		values = append(values, newTuple(args[min(n, len(args)):]...))
	case len(args) > n:
		raise(typeError, "macro '%s' takes not more than %d argument(s)", def.name, n)
	}
	return values
}

func kwargsCopy(kwargs *Dict) *Dict {
	if kwargs == nil {
		return NewDict()
	}
	return kwargs.copy()
}

// module is an imported template.
type module struct {
	name  string
	out   buffer
	names map[string]Value
}

// String is its repr; printed, it is what the template prints.
func (mod *module) String() string { return "<TemplateModule '" + mod.name + "'>" }

func (mod *module) field(name string) (Value, bool) { return lookup(name, mod.names) }

func (m *machine) newModule(t *Template, names map[string]Value) *module {
	ctx := newContext(t, names)
	mod := &module{name: t.name, names: map[string]Value{}}
	m.render(t, ctx, &mod.out)
	for name := range ctx.exported {
		mod.names[name] = ctx.vars[name]
	}
	return mod
}

// module is an imported template without a context: it is run once.
func (m *machine) module(t *Template) *module {
	mod, ok := m.modules[t]
	if !ok {
		mod = m.newModule(t, m.engine.globals())
		m.modules[t] = mod
	}
	return mod
}

// templateRef is the variable self.
type templateRef struct{ ctx *renderContext }

// String is how Python prints it.
func (r *templateRef) String() string { return "<TemplateReference '" + r.ctx.template.name + "'>" }

func (r *templateRef) item(key Value) (Value, bool) {
	name, _ := str(key)
	stack, ok := r.ctx.blocks[name]
	return &blockRef{name, r.ctx, stack, 0}, ok
}

// blockRef is a block that can be called.
type blockRef struct {
	name  string
	ctx   *renderContext
	stack []*block
	depth int
}

func (c *renderContext) super(current *block) Value {
	for i, b := range c.blocks[current.name] {
		if b == current {
			return (&blockRef{current.name, c, c.blocks[current.name], i}).super()
		}
	}
	return noSuper(current.name)
}

func noSuper(name string) Value {
	return &Undefined{hint: "there is no parent block called '" + name + "'", name: "super"}
}

func (r *blockRef) super() Value {
	if r.depth+1 >= len(r.stack) {
		return noSuper(r.name)
	}
	return &blockRef{r.name, r.ctx, r.stack, r.depth + 1}
}

func (r *blockRef) field(name string) (Value, bool) {
	switch name {
	case "super":
		return r.super(), true
	case "name":
		return r.name, true
	}
	return nil, false
}

func (r *blockRef) call(m *machine, args []Value, kwargs *Dict) Value {
	noArguments.bind("block", args, kwargs)
	var out buffer
	m.renderBlock(r.stack[r.depth], r.ctx, &out)
	return out.text(m)
}

var noArguments = newSignature("")

// cycler is what cycler() gives.
type cycler struct {
	items *Tuple
	pos   int
}

func (c *cycler) current() Value { return c.items.items[c.pos] }

func (c *cycler) field(name string) (Value, bool) {
	switch name {
	case "current":
		return c.current(), true
	case "items":
		return c.items, true
	case "pos":
		return c.pos, true
	}
	return nil, false
}

var cyclerMethods map[string]*builtin

func init() {
	cyclerMethods = table(map[string]func(*machine, []Value) Value{
		"reset(self)": func(_ *machine, a []Value) Value {
			a[0].(*cycler).pos = 0
			return nil
		},
		"next(self)": func(_ *machine, a []Value) Value {
			c := a[0].(*cycler)
			v := c.current()
			c.pos = (c.pos + 1) % len(c.items.items)
			return v
		},
	})
}

// joiner is what joiner() gives: nothing once, then its text.
type joiner struct {
	sep  Value
	used bool
}

func (j *joiner) field(name string) (Value, bool) {
	return lookup(name, map[string]Value{"sep": j.sep, "used": j.used})
}

func (j *joiner) call(_ *machine, args []Value, kwargs *Dict) Value {
	noArguments.bind("joiner", args, kwargs)
	if j.used {
		return j.sep
	}
	j.used = true
	return ""
}

// class is a type that can be called: it prints as one.
type class struct {
	*builtin
	repr string
}

// String is how Python prints it.
func (c *class) String() string { return "<class '" + c.repr + "'>" }

var constructors map[string]*builtin

func init() {
	constructors = table(map[string]func(*machine, []Value) Value{
		"range(a, b=None, c=None, /)": func(_ *machine, a []Value) Value {
			r := &pyRange{0, index(a[0]), 1}
			if a[1] != nil {
				r.start, r.stop = r.stop, index(a[1])
			}
			if a[2] != nil {
				r.step = index(a[2])
			}
			if r.step == 0 {
				raise(valueError, "range() arg 3 must not be zero")
			}
			return r
		},
		"dict(*args, **kwargs)":      func(m *machine, a []Value) Value { return m.newDict(a[0].(*Tuple).items, a[1].(*Dict)) },
		"namespace(*args, **kwargs)": func(m *machine, a []Value) Value { return &namespace{m.newDict(a[0].(*Tuple).items, a[1].(*Dict))} },
		"cycler(*items)": func(_ *machine, a []Value) Value {
			if len(a[0].(*Tuple).items) == 0 {
				raise(pythonRuntimeError, "at least one item has to be provided")
			}
			return &cycler{items: a[0].(*Tuple)}
		},
		"joiner(sep=', ')": func(_ *machine, a []Value) Value { return &joiner{sep: a[0]} },
	})
}

// standard are the globals of Jinja2 itself, but for lipsum, which is random.
func standard() map[string]Value {
	names := map[string]string{
		"range": "range", "dict": "dict", "namespace": "jinja2.utils.Namespace",
		"cycler": "jinja2.utils.Cycler", "joiner": "jinja2.utils.Joiner",
	}
	out := map[string]Value{"lipsum": &builtin{name: "lipsum", sig: newSignature("*args, **kwargs"), fn: func(*machine, []Value) Value {
		raise(unsupported, "lipsum is not available: a text is the same each time")
		return nil
	}}}
	for name, repr := range names {
		out[name] = &class{constructors[name], repr}
	}
	return out
}

// newDict is Python's dict().
func (m *machine) newDict(args []Value, kwargs *Dict) *Dict {
	if len(args) > 1 {
		raise(typeError, "dict expected at most 1 argument, got %d", len(args))
	}
	d := NewDict()
	if len(args) == 1 {
		m.update(d, args[0])
	}
	for k, v := range kwargs.All {
		d.Set(k, v)
	}
	return d
}

// update adds the items of a dict, or of pairs.
func (m *machine) update(d *Dict, from Value) {
	if ns, ok := from.(*namespace); ok && ns != nil {
		raise(typeError, "'Namespace' object is not iterable")
	}
	if other, ok := from.(*Dict); ok {
		m.spend(maxItem * other.Len())
		for k, v := range other.All {
			d.Set(k, v)
		}
		return
	}
	if u, ok := from.(*Undefined); ok {
		u.raise() // it is asked for its keys
	}
	i := 0
	m.each(from, func(item Value) {
		pair := m.pair(item, i)
		d.Set(pair[0], pair[1])
		i++
	})
}

func (m *machine) pair(item Value, i int) []Value {
	if m.iter(item) == nil {
		raise(typeError, "cannot convert dictionary update sequence element #%d to a sequence", i)
	}
	pair := m.items(item)
	if len(pair) != 2 {
		raise(valueError, "dictionary update sequence element #%d has length %d; 2 is required", i, len(pair))
	}
	m.spend(maxItem)
	return pair
}

var _ = fmt.Stringer(&class{})
