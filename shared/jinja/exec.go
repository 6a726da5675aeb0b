package jinja

import (
	"cmp"
	"maps"
	"strings"
)

// Template is a parsed template: it is never changed.
type Template struct {
	name   string
	body   []stmt
	fn     *function
	loads  loads
	self   *slotRef
	blocks map[string]*block
}

type block struct {
	name        string
	template    *Template
	body        []stmt
	fn          *function
	loads       loads
	self, super *slotRef
}

// renderContext are the names that a template's functions share: what it was
// given, what it has set, and the blocks of all templates that it extends.
type renderContext struct {
	template *Template
	parent   map[string]Value
	vars     map[string]Value
	exported map[string]bool
	blocks   map[string][]*block
}

func newContext(t *Template, parent map[string]Value) *renderContext {
	c := &renderContext{template: t, parent: parent, vars: map[string]Value{}, exported: map[string]bool{}, blocks: map[string][]*block{}}
	for name, b := range t.blocks {
		c.blocks[name] = []*block{b}
	}
	return c
}

func (c *renderContext) resolve(name string) Value {
	if v, ok := c.vars[name]; ok {
		return v
	}
	if v, ok := c.parent[name]; ok {
		return v
	}
	return missing
}

// all are the names and values; the map may be the context's own.
func (c *renderContext) all() map[string]Value {
	if len(c.vars) == 0 {
		return c.parent
	}
	all := maps.Clone(c.parent)
	maps.Copy(all, c.vars)
	return all
}

// with are all names, and the variables that are handed on.
func (a *activation) with(locals []local) map[string]Value {
	all := maps.Clone(a.ctx.all())
	a.m.spend(32 * len(all))
	for _, l := range locals {
		if v := *a.at(l.ref); v != missing {
			all[l.name] = v
		}
	}
	return all
}

func (c *renderContext) derived(vars map[string]Value) *renderContext {
	d := newContext(c.template, vars)
	d.blocks = maps.Clone(c.blocks)
	return d
}

// run is a run of a template's or block's function in a context.
func (m *machine) run(t *Template, fn *function, ctx *renderContext, out *buffer) *activation {
	a := (&activation{m: m, template: t, ctx: ctx}).inner(fn, out)
	a.up, a.root = nil, a
	return a
}

// render prints a template.
func (m *machine) render(t *Template, ctx *renderContext, out *buffer) {
	defer m.enter()()
	a := m.run(t, t.fn, ctx, out)
	if t.self != nil {
		*a.at(*t.self) = &templateRef{ctx}
	}
	a.enter(t.loads)
	a.execAll(t.body)
	if a.parent != nil {
		m.render(a.parent, ctx, out)
	}
}

func (m *machine) renderBlock(b *block, ctx *renderContext, out *buffer) {
	defer m.enter()()
	a := m.run(b.template, b.fn, ctx, out)
	if b.self != nil {
		*a.at(*b.self) = &templateRef{ctx}
	}
	if b.super != nil {
		*a.at(*b.super) = ctx.super(b)
	}
	a.enter(b.loads)
	a.execAll(b.body)
}

func (a *activation) execAll(body []stmt) {
	for _, s := range body {
		a.m.step()
		s.exec(a)
	}
}

// enter fills the variables of a scope.
func (a *activation) enter(list loads) {
	for _, l := range list {
		switch l.kind {
		case loadResolve:
			a.vars[l.slot] = a.ctx.resolve(l.name)
		case loadAlias:
			a.vars[l.slot] = *a.at(l.from)
		case loadUndefined:
			a.vars[l.slot] = missing
		}
	}
}

// leave empties the variables of a scope.
func (a *activation) leave(list loads) {
	for _, l := range list {
		a.vars[l.slot] = missing
	}
}

// capture runs f and gives what it prints.
func (a *activation) capture(f func()) string {
	outer := a.out
	a.out = &buffer{}
	f()
	inner := a.out
	a.out = outer
	return inner.text(a.m)
}

func (o *output) exec(a *activation) {
	if o.skipped || o.checked && a.root.parent != nil {
		return
	}
	for _, item := range o.items {
		if t, ok := item.(*text); ok {
			a.write(t.string)
			continue
		}
		a.write(a.m.str(item.eval(a)))
	}
}

func (s *ifStmt) exec(a *activation) {
	for _, b := range s.branches {
		if b.test == nil || b.holds(a) {
			a.execAll(b.body)
			return
		}
	}
}

func (b *branch) holds(a *activation) bool {
	defer a.positioned(b.line)
	return a.m.truth(b.test.eval(a))
}

func (s *doStmt) exec(a *activation) {
	defer a.positioned(s.line)
	s.x.eval(a)
}

func (s *setStmt) exec(a *activation) {
	defer a.positioned(s.line)
	s.check(a)
	s.finish(a, s.value.eval(a))
}

// check refuses attributes of what is no namespace.
func (s *setStmt) check(a *activation) {
	for _, n := range s.spaces {
		if _, ok := n.eval(a).(*namespace); !ok {
			raise(runtimeError, "cannot assign attribute on non-namespace object")
		}
	}
}

func (s *setStmt) finish(a *activation, value Value) {
	a.assign(s.target, value)
	for _, n := range s.public {
		a.export(n.name, *a.at(n.ref))
	}
}

// export gives the context a name, and those who import the template.
func (a *activation) export(name string, value Value) {
	a.ctx.vars[name] = value
	if !strings.HasPrefix(name, "_") {
		a.ctx.exported[name] = true
	}
}

func (s *setBlock) exec(a *activation) {
	defer a.positioned(s.line)
	a.enter(s.frame)
	a.captured = a.capture(func() { a.execAll(s.body) })
	value := a.captured
	if s.filter != nil {
		value = s.filter.eval(a)
	}
	s.check(a)
	s.finish(a, value)
	a.leave(s.frame)
}

func (s *filterBlock) exec(a *activation) {
	a.enter(s.frame)
	a.captured = a.capture(func() { a.execAll(s.body) })
	a.writeRaw(s.filter.eval(a))
	a.leave(s.frame)
}

func (s *withStmt) exec(a *activation) {
	a.enter(s.frame)
	for i, target := range s.targets {
		a.assign(target, s.values[i].eval(a))
	}
	a.execAll(s.body)
	a.leave(s.frame)
}

func (s *callBlock) exec(a *activation) {
	defer a.positioned(s.line)
	fn := s.call.fn.eval(a)
	args, kwargs := s.call.evaluate(a, &macro{def: s.macro, up: a})
	a.writeRaw(a.m.call(fn, args, kwargs))
}

func (s *macroStmt) exec(a *activation) {
	m := &macro{def: s, up: a}
	*a.at(s.ref) = m
	if s.topLevel {
		a.export(s.name, m)
	}
}

func (s *blockStmt) exec(a *activation) {
	if s.skipped || s.checked && a.root.parent != nil {
		return
	}
	defer a.positioned(s.line)
	ctx := a.ctx
	if s.scoped {
		ctx = ctx.derived(a.with(s.locals))
	}
	stack := a.ctx.blocks[s.name]
	if s.required && len(stack) <= 1 {
		raise(runtimeError, "required block '%s' not found", s.name)
	}
	a.m.renderBlock(stack[0], ctx, a.out)
}

func (s *extendsStmt) exec(a *activation) {
	defer a.positioned(s.line)
	if s.again && (s.known || a.root.parent != nil) {
		raise(runtimeError, "extended multiple times")
	}
	parent := a.m.template(s.template.eval(a))
	a.root.parent = parent
	for name, b := range parent.blocks {
		stack := a.ctx.blocks[name]
		a.ctx.blocks[name] = append(stack[:len(stack):len(stack)], b)
	}
}

func (s *includeStmt) exec(a *activation) {
	defer a.positioned(s.line)
	var t *Template
	load := func() { t = a.m.selectTemplate(s.template.eval(a)) }
	if s.ignoreMissing {
		if try(load, notFoundError) != nil {
			return
		}
	} else {
		load()
	}
	if s.withContext {
		a.m.render(t, newContext(t, a.with(s.locals)), a.out)
		return
	}
	module := a.m.module(t)
	a.out.bad = cmp.Or(a.out.bad, module.out.bad)
	a.write(module.out.String())
}

func (s *importStmt) exec(a *activation) {
	defer a.positioned(s.line)
	t := a.m.template(s.template.eval(a))
	var imported *module
	if s.withContext {
		imported = a.m.newModule(t, a.with(s.locals))
	} else {
		imported = a.m.module(t)
	}
	if s.module != "" {
		s.bind(a, 0, s.module, imported)
		return
	}
	for i, n := range s.names {
		v, ok := imported.field(n.name)
		if !ok {
			v = &Undefined{hint: "the template '" + t.name + "' does not export the requested name '" + n.name + "'"}
		}
		s.bind(a, i, n.alias, v)
	}
}

// bind assigns what is imported; it is not exported again.
func (s *importStmt) bind(a *activation, i int, alias string, v Value) {
	*a.at(s.refs[i]) = v
	if s.topLevel {
		a.ctx.vars[alias] = v
		delete(a.ctx.exported, alias)
	}
}
