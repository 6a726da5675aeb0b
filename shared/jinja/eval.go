package jinja

import (
	"math"
	"math/big"
	"slices"
	"strings"
)

// activation is a run of a function: its variables, and where it prints.
type activation struct {
	m        *machine
	template *Template
	ctx      *renderContext
	up       *activation
	vars     []Value
	out      *buffer
	captured Value
	// root is the template's own activation, which knows the parent.
	root   *activation
	parent *Template
}

func (a *activation) at(ref slotRef) *Value {
	for range ref.up {
		a = a.up
	}
	return &a.vars[ref.slot]
}

// inner is the run of a function inside this one.
func (a *activation) inner(fn *function, out *buffer) *activation {
	in := &activation{m: a.m, template: a.template, ctx: a.ctx, up: a, out: out, root: a.root}
	in.vars = make([]Value, len(fn.slots))
	for i := range in.vars {
		in.vars[i] = missing
	}
	return in
}

// buffer is what is printed. What is no text is no error yet: it is one when all
// is put together, which nobody does with a template that is only imported.
type buffer struct {
	strings.Builder
	bad *exception
}

func (b *buffer) text(m *machine) string {
	if b.bad != nil {
		panic(b.bad)
	}
	return m.text(b.String())
}

// writeRaw prints a value that must be a text.
func (a *activation) writeRaw(v Value) {
	text, ok := str(v)
	if !ok {
		a.out.bad = &exception{class: typeError, text: "expected str instance, " + typeName(v) + " found"}
	}
	a.write(text)
}

func (a *activation) write(text string) {
	a.m.written += len(text)
	if a.m.written > a.m.engine.MaxOutput*4 || a.out.Len()+len(text) > a.m.engine.MaxOutput {
		raise(limitError, "the text is longer than %d bytes", a.m.engine.MaxOutput)
	}
	a.out.WriteString(text)
}

// refusal is the value of a constant that we cannot compute.
type refusal struct{ cause *exception }

func (c *constant) eval(a *activation) Value {
	if r, ok := c.value.(refusal); ok {
		panic(r.cause)
	}
	if c.nameErr {
		raise(nameError, "name 'inf' is not defined")
	}
	if c.copied {
		return a.m.fresh(c.value)
	}
	return c.value
}

func (t *text) eval(*activation) Value { return t.string }
func (captured) eval(a *activation) Value {
	a.outside()
	return a.captured
}
func (n *nsRef) eval(a *activation) Value { return *a.at(n.ref) }
func (s *sliceExpr) eval(*activation) Value {
	raise(syntaxError, "a slice in a tuple")
	return nil
}

func (s *sliceExpr) slicing(a *activation) *slicing {
	part := func(x expr) Value {
		if x == nil {
			return nil
		}
		return x.eval(a)
	}
	return &slicing{part(s.start), part(s.stop), part(s.step)}
}

func (n *name) eval(a *activation) Value {
	a.m.step()
	a.outside()
	v := *a.at(n.ref)
	if v == missing && !n.certain {
		return &Undefined{name: n.name}
	}
	return v
}

func (t *tupleLit) eval(a *activation) Value { return newTuple(a.evalAll(t.items)...) }
func (l *listLit) eval(a *activation) Value  { return newList(a.evalAll(l.items)...) }

func (a *activation) evalAll(list []expr) []Value {
	a.m.spend(16 * len(list))
	out := make([]Value, len(list))
	for i, x := range list {
		out[i] = x.eval(a)
	}
	return out
}

func (d *dictLit) eval(a *activation) Value {
	out := NewDict()
	a.m.spend(maxItem * len(d.keys))
	for i := range d.keys {
		key := d.keys[i].eval(a)
		out.Set(key, d.values[i].eval(a))
	}
	return out
}

func (b *binary) eval(a *activation) Value {
	a.m.step()
	defer a.positioned(b.line)
	left := b.left.eval(a)
	switch b.op {
	case "and":
		if !a.m.truth(left) {
			return left
		}
		return b.right.eval(a)
	case "or":
		if a.m.truth(left) {
			return left
		}
		return b.right.eval(a)
	}
	right := b.right.eval(a)
	if b.negate {
		return a.m.signed("-", a.m.binary(b.op, a.m.signed("-", left), right))
	}
	return a.m.binary(b.op, left, right)
}

func (u *unary) eval(a *activation) Value {
	a.m.step()
	defer a.positioned(u.line)
	x := u.x.eval(a)
	if u.op == "not" {
		return !a.m.truth(x)
	}
	return a.m.signed(u.op, x)
}

func (c *concat) eval(a *activation) Value {
	a.m.step()
	var out strings.Builder
	for _, v := range a.evalAll(c.items) {
		out.WriteString(a.m.text(a.m.str(v)))
	}
	return out.String()
}

func (c *compare) eval(a *activation) Value {
	a.m.step()
	defer a.positioned(c.line)
	left := c.first.eval(a)
	for i, op := range c.ops {
		right := c.rest[i].eval(a)
		if !a.m.comparison(op, left, right) {
			return false
		}
		left = right
	}
	return true
}

func (m *machine) comparison(op string, a, b Value) bool {
	switch op {
	case "==":
		return m.equal(a, b)
	case "!=":
		return !m.equal(a, b)
	case "in":
		return m.contains(b, a)
	case "not in":
		return !m.contains(b, a)
	}
	return m.order(op, a, b)
}

func (c *condExpr) eval(a *activation) Value {
	a.m.step()
	if a.m.truth(c.test.eval(a)) {
		return c.then.eval(a)
	}
	if c.other == nil {
		a.outside()
		return &Undefined{hint: "the inline if-expression evaluated to false and no else section was defined"}
	}
	return c.other.eval(a)
}

func (g *getAttr) eval(a *activation) Value {
	a.m.step()
	defer a.positioned(g.line)
	return a.m.getattr(g.x.eval(a), g.attr)
}

func (g *getItem) eval(a *activation) Value {
	a.m.step()
	defer a.positioned(g.line)
	x := g.x.eval(a)
	if s, ok := g.arg.(*sliceExpr); ok {
		if a.ctx == nil { // it is being folded: Jinja2 takes its slices for keys then
			return a.m.getitem(x, s.slicing(a))
		}
		return a.m.item(x, s.slicing(a))
	}
	return a.m.getitem(x, g.arg.eval(a))
}

// evaluate makes the arguments of a call; a call block adds its caller.
func (g *arguments) evaluate(a *activation, caller *macro) ([]Value, *Dict) {
	args := a.evalAll(g.args)
	var kwargs *Dict
	if len(g.names) > 0 || g.mapped != nil || caller != nil {
		kwargs = NewDict()
	}
	for i, name := range g.names {
		kwargs.Set(name, g.values[i].eval(a))
	}
	if caller != nil {
		kwargs.Set("caller", caller)
	}
	if g.list != nil {
		args = append(args, a.m.items(g.list.eval(a))...)
	}
	if g.mapped != nil {
		a.m.merge(kwargs, g.mapped.eval(a))
	}
	return args, kwargs
}

// merge adds **mapped to keyword arguments.
func (m *machine) merge(kwargs *Dict, mapped Value) {
	d, ok := mapped.(*Dict)
	if !ok {
		raise(typeError, "argument after ** must be a mapping, not %s", typeName(mapped))
	}
	for k, v := range d.All {
		name, ok := str(k)
		if !ok {
			raise(typeError, "keywords must be strings")
		}
		if _, twice := kwargs.Get(name); twice {
			raise(typeError, "got multiple values for keyword argument '%s'", name)
		}
		kwargs.Set(name, v)
	}
}

func (c *call) eval(a *activation) Value {
	a.m.step()
	a.outside()
	defer a.positioned(c.line)
	fn := c.fn.eval(a)
	args, kwargs := c.evaluate(a, nil)
	return a.m.call(fn, args, kwargs)
}

func (m *machine) call(fn Value, args []Value, kwargs *Dict) Value {
	f, ok := fn.(callable)
	if !ok {
		raise(typeError, "'%s' object is not callable", typeName(fn))
	}
	return f.call(m, args, kwargs)
}

func (f *filter) eval(a *activation) Value {
	a.m.step()
	defer a.positioned(f.line)
	if f.fn == nil || f.fn.context && a.ctx == nil {
		raise(runtimeError, "no filter or test named '%s' found", f.name)
	}
	x := f.x.eval(a)
	args, kwargs := f.evaluate(a, nil)
	return f.fn.call(a.m, append([]Value{x}, args...), kwargs)
}

// assign gives a target a value.
func (a *activation) assign(target expr, value Value) {
	switch t := target.(type) {
	case *name:
		*a.at(t.ref) = value
	case *nsRef:
		(*a.at(t.ref)).(*namespace).attrs.Set(t.attr, value)
	case *tupleLit:
		items := a.unpack(value, len(t.items))
		for i, item := range t.items {
			a.assign(item, items[i])
		}
	}
}

func (a *activation) unpack(value Value, n int) []Value {
	it := a.m.iter(value)
	if it == nil {
		raise(typeError, "cannot unpack non-iterable %s object", typeName(value))
	}
	items := make([]Value, 0, n)
	for {
		item, ok := it.next()
		switch {
		case !ok && len(items) == n:
			return items
		case !ok:
			raise(valueError, "not enough values to unpack (expected %d, got %d)", n, len(items))
		case len(items) == n:
			raise(valueError, "too many values to unpack (expected %d)", n)
		}
		items = append(items, item)
	}
}

// fold computes an expression that depends on nothing, as Jinja2's optimizer
// does. It shows where the value is then written into a program.
func (l *linker) fold(x expr) (value Value, ok bool) {
	if !isConstant(x) {
		return nil, false
	}
	m := l.m.engine.folding()
	defer func() {
		if e := caught(recover()); e != nil {
			value, ok = refusal{e}, e.class == unsupported
		}
	}()
	if c, is := x.(*constant); is {
		return c.value, true
	}
	a := &activation{m: m, template: l.template}
	return x.eval(a), true
}

// isConstant says whether an expression may depend on nothing: what "and", "or"
// and "if" do not reach does not count, and raises when it is reached.
func isConstant(x any) bool {
	switch n := x.(type) {
	case *name, *call, captured:
		return false
	case *binary:
		if n.op == "and" || n.op == "or" {
			isConstant(n.right)
			return isConstant(n.left)
		}
	case *condExpr:
		isConstant(n.then)
		isConstant(n.other)
		return isConstant(n.test)
	case *filter:
		if n.fn = filters[n.name]; n.isTest {
			n.fn = tests[n.name]
		}
		if n.fn == nil || n.fn.context {
			return false
		}
	}
	constant := true
	for _, child := range children(x) {
		constant = isConstant(child) && constant
	}
	return constant
}

// outside raises when what is being folded is no constant after all.
func (a *activation) outside() {
	if a.ctx == nil {
		raise(runtimeError, "it is no constant")
	}
}

// printed is a constant as output.
func (l *linker) printed(value Value) (text string, ok bool) {
	defer func() {
		if caught(recover()) != nil {
			text, ok = "", false
		}
	}()
	return l.m.engine.folding().str(value), true
}

// foldedConstant is what a folded value is written as, or nil if it is not: as
// Python's repr, which makes a new list each time it is run.
func foldedConstant(value Value) *constant {
	if !hasSafeRepr(value) {
		return nil
	}
	c := &constant{value: value}
	c.examine(value)
	return c
}

// examine looks for what Python cannot read again.
func (c *constant) examine(value Value) {
	switch v := value.(type) {
	case float64:
		c.nameErr = c.nameErr || math.IsInf(v, 0) || math.IsNaN(v)
	case *big.Int:
		intText(v)
	case *List:
		c.examineAll(v.Items)
	case *Tuple:
		c.examineAll(v.items)
	case *Dict:
		c.copied = true
		for k, item := range v.All {
			c.examine(k)
			c.examine(item)
		}
	}
}

func (c *constant) examineAll(items []Value) {
	c.copied = true
	for _, item := range items {
		c.examine(item)
	}
}

func hasSafeRepr(value Value) bool {
	switch v := value.(type) {
	case nil, bool, int, float64, string, Markup, refusal, *big.Int:
		return true
	case *List:
		return allSafe(v.Items)
	case *Tuple:
		return v.fields == nil && allSafe(v.items)
	case *Dict:
		for k, item := range v.All {
			if !hasSafeRepr(k) || !hasSafeRepr(item) {
				return false
			}
		}
		return true
	}
	return false
}

func allSafe(items []Value) bool {
	return !slices.ContainsFunc(items, func(item Value) bool { return !hasSafeRepr(item) })
}

// fresh is a copy of a value, for a template to change.
func (m *machine) fresh(value Value) Value {
	m.step()
	switch v := value.(type) {
	case *List:
		return newList(m.freshAll(v.Items)...)
	case *Tuple:
		return newTuple(m.freshAll(v.items)...)
	case *Dict:
		out := NewDict()
		for k, item := range v.All {
			m.spend(maxItem)
			out.Set(m.fresh(k), m.fresh(item))
		}
		return out
	}
	return value
}

func (m *machine) freshAll(items []Value) []Value {
	m.spend(16 * len(items))
	out := make([]Value, len(items))
	for i, item := range items {
		out[i] = m.fresh(item)
	}
	return out
}
