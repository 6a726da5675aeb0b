package jinja

import (
	"slices"
	"strings"
)

// function is what Jinja2 makes a Python function of: a template's body, a
// block, a macro, a recursive loop, a loop's test. Its variables have slots;
// those of the function around it are one step up.
type function struct {
	up    *function
	slots map[string]int
	loops int // how deep it is in loops
}

func newFunction(up *function) *function { return &function{up: up, slots: map[string]int{}} }

func (f *function) slot(id string) int {
	i, ok := f.slots[id]
	if !ok {
		i = len(f.slots)
		f.slots[id] = i
	}
	return i
}

// slotRef is a variable: how many functions up, and which slot.
type slotRef struct{ up, slot int }

// loads are what a scope does when it is entered and left.
type loads []struct {
	slot int
	kind loadKind
	name string
	from slotRef
}

// local is a variable that an include or a scoped block hands on.
type local struct {
	name string
	ref  slotRef
}

// scope is a scope while it is linked.
type scope struct {
	*symbols
	linker   *linker
	top      bool // what is set here is exported
	root     bool // not even in an if
	loop     bool
	block    bool
	soft     bool // in an if: an unknown filter or test is an error only when used
	checked  bool // output must look whether there is a parent
	params   map[string]bool
	tracking *[]*name
}

func (s *scope) inner() *scope {
	return &scope{symbols: newSymbols(s.symbols, s.fn), linker: s.linker, checked: s.checked, params: s.params, tracking: s.tracking}
}

// innerIn is a scope in a function of its own.
func (s *scope) innerIn(fn *function) *scope {
	in := s.inner()
	in.fn = fn
	return in
}

func (s *scope) softened() *scope {
	c := *s
	c.root, c.soft = false, true
	return &c
}

// maxLoops is how many loops may stand in each other: Python's own bound.
const maxLoops = 20

type linker struct {
	m            *machine
	template     *Template
	seen         map[string]bool // blocks
	blocks       []*blockStmt
	extends      int
	knownExtends bool
}

func (l *linker) fail(line int, format string, args ...any) {
	raiseAt(l.template.name, line, syntaxError, format, args...)
}

// link makes a template of parsed statements.
func (m *machine) link(templateName string, body []stmt) *Template {
	t := &Template{name: templateName, body: body, blocks: map[string]*block{}}
	l := &linker{m: m, template: t, seen: map[string]bool{}}
	t.fn = newFunction(nil)
	s := &scope{symbols: newSymbols(nil, t.fn), linker: l, top: true, root: true}
	s.spend = m.spendSteps
	l.prepare(body, s)
	if undeclared(nodes(body), "self")["self"] {
		s.param("self")
		t.self = &slotRef{slot: t.fn.slot(s.refs["self"])}
	}
	s.visit(nodes(body)...)
	s.body(body)
	t.loads = s.entering()
	for _, b := range l.blocks {
		t.blocks[b.name] = l.linkBlock(b)
	}
	return t
}

// prepare looks for blocks and extends anywhere in the template.
func (l *linker) prepare(body []stmt, s *scope) {
	for _, b := range body {
		each(b, func(n any) bool {
			switch n := n.(type) {
			case *blockStmt:
				if l.seen[n.name] {
					l.fail(n.line, "block %q defined twice", n.name)
				}
				l.seen[n.name] = true
				l.blocks = append(l.blocks, n)
			case *extendsStmt:
				s.checked = true
			}
			return true
		})
	}
}

func (l *linker) linkBlock(stmt *blockStmt) *block {
	b := &block{name: stmt.name, template: l.template, body: stmt.body, fn: newFunction(nil)}
	s := &scope{symbols: newSymbols(nil, b.fn), linker: l, block: true}
	s.spend = l.m.spendSteps
	used := undeclared(nodes(stmt.body), "self", "super")
	if used["self"] {
		s.param("self")
		b.self = &slotRef{slot: b.fn.slot(s.refs["self"])}
	}
	if used["super"] {
		s.param("super")
		b.super = &slotRef{slot: b.fn.slot(s.refs["super"])}
	}
	s.visit(nodes(stmt.body)...)
	s.body(stmt.body)
	b.loads = s.entering()
	return b
}

// ref is where the variable of a name is.
func (s *scope) ref(name string) slotRef {
	id, owner := s.find(name)
	if owner == nil {
		// Jinja2 looks through no filter of a set block, and fails as this does.
		s.linker.fail(1, "the name %q is not known in this scope", name)
	}
	return s.refTo(id, owner.fn)
}

func (s *scope) refTo(id string, owner *function) slotRef {
	up := 0
	for fn := s.fn; fn != owner; fn = fn.up {
		up++
	}
	return slotRef{up, owner.slot(id)}
}

// entering is what is done when the scope is entered.
func (s *scope) entering() loads {
	var out loads
	for _, id := range s.order {
		rule := s.symbols.loads[id]
		entry := loads{{slot: s.fn.slot(id), kind: rule.kind, name: rule.from}}
		if rule.kind == loadAlias {
			entry[0].from = s.refTo(rule.from, s.ownerOf(rule.from))
		}
		out = append(out, entry...)
	}
	return out
}

func (s *scope) ownerOf(id string) *function {
	_, name, _ := strings.Cut(id, " ")
	for p := s.parent; p != nil; p = p.parent {
		if p.refs[name] == id {
			return p.fn
		}
	}
	return s.fn
}

// locals are the variables that are stored here and around.
func (s *scope) locals() []local {
	var out []local
	seen := map[string]bool{}
	for p := s.symbols; p != nil; p = p.parent {
		s.spend(len(p.stores))
		for name := range p.stores {
			if !seen[name] {
				seen[name] = true
				out = append(out, local{name, s.ref(name)})
			}
		}
	}
	return out
}

func (s *scope) body(list []stmt) {
	for _, n := range list {
		s.stmt(n)
	}
}

func (s *scope) stmt(n stmt) {
	switch n := n.(type) {
	case *output:
		s.output(n)
	case *ifStmt:
		soft := s.softened()
		for i := range n.branches {
			soft.optional(&n.branches[i].test)
			soft.body(n.branches[i].body)
		}
	case *forStmt:
		s.forLoop(n)
	case *macroStmt:
		s.macro(n)
		n.ref, n.topLevel = s.ref(n.name), s.top
	case *callBlock:
		s.macro(n.macro)
		s.children(n.call)
	case *filterBlock:
		in := s.inner()
		in.visit(nodes(n.body)...)
		in.visit(n.filter)
		in.body(n.body)
		in.expr(&n.filter)
		n.frame = in.entering()
	case *withStmt:
		s.with(n)
	case *doStmt:
		s.expr(&n.x)
	case *setStmt:
		s.set(n, func() { s.expr(&n.value) })
	case *setBlock:
		s.setBlock(n)
	default:
		s.templateStmt(n)
	}
}

// templateStmt links what has to do with other templates.
func (s *scope) templateStmt(n stmt) {
	switch n := n.(type) {
	case *blockStmt:
		n.skipped = s.top && s.linker.knownExtends
		n.checked = s.top && s.linker.extends > 0
		if n.scoped {
			n.locals = s.locals()
		}
	case *extendsStmt:
		if !s.top {
			s.linker.fail(n.line, "cannot use extend from a non top-level scope")
		}
		s.expr(&n.template)
		n.again, n.known = s.linker.extends > 0, s.linker.knownExtends
		s.linker.extends++
		s.linker.knownExtends = s.linker.knownExtends || s.root
	case *includeStmt:
		s.expr(&n.template)
		n.locals = s.locals()
	case *importStmt:
		s.expr(&n.template)
		n.locals, n.topLevel = s.locals(), s.top
		for _, alias := range n.targets() {
			n.refs = append(n.refs, s.ref(alias))
		}
	}
}

func (s *scope) output(n *output) {
	n.checked = s.checked
	if n.skipped = s.checked && s.linker.knownExtends; n.skipped {
		return
	}
	for i, item := range n.items {
		if value, ok := s.linker.fold(item); ok {
			if printed, ok := s.linker.printed(value); ok {
				n.items[i] = &text{printed}
				continue
			}
		}
		s.expr(&n.items[i])
		s.shallow(n.items[i])
	}
}

func (s *scope) with(n *withStmt) {
	in := s.inner()
	in.visit(nodes(n.targets)...)
	in.visit(nodes(n.body)...)
	for i := range n.targets {
		in.expr(&n.targets[i])
		s.expr(&n.values[i])
	}
	in.body(n.body)
	n.frame = in.entering()
}

// tracked links a target, and takes the names whose values the context gets.
func (s *scope) set(n *setStmt, value func()) {
	before := s.tracking
	var names []*name
	s.tracking = &names
	each(n.target, func(x any) bool {
		if ref, ok := x.(*nsRef); ok {
			ref.ref = s.ref(ref.name)
			n.spaces = append(n.spaces, ref)
		}
		return true
	})
	s.expr(&n.target)
	value()
	s.tracking = before
	if s.top && !s.loop && !s.block {
		n.public = names
	}
}

func (s *scope) setBlock(n *setBlock) {
	s.set(&n.setStmt, func() {
		in := s.inner()
		in.checked = false
		in.visit(nodes(n.body)...)
		in.body(n.body)
		if n.filter != nil {
			in.expr(&n.filter)
		}
		n.frame = in.entering()
	})
}

func (s *scope) forLoop(n *forStmt) {
	n.extended = n.recursive || undeclared(nodes(n.body), "loop")["loop"]
	each(n, func(x any) bool {
		switch x := x.(type) {
		case *blockStmt:
			n.extended = n.extended || x.scoped
		case *name:
			if x.kind == store && x.name == "loop" {
				s.linker.fail(x.line, "can't assign to special loop variable in for-loop")
			}
		}
		return true
	})
	s.expr(&n.iter)
	if n.test != nil {
		s.loopTest(n)
	}
	fn := s.fn
	if n.recursive {
		n.fn = newFunction(s.fn)
		fn = n.fn
	}
	if fn.loops++; fn.loops > maxLoops {
		s.linker.fail(n.line, "too many loops in each other")
	}
	defer func() { fn.loops-- }()
	in, orElse := s.innerIn(fn), s.innerIn(fn)
	in.loop = true
	if n.extended {
		in.param("loop")
		n.loop = slotRef{slot: fn.slot(in.refs["loop"])}
	}
	in.visitParams(n.target)
	in.visit(nodes(n.body)...)
	orElse.visit(nodes(n.orElse)...)
	in.tracking = nil
	in.expr(&n.target)
	in.body(n.body)
	n.frame = in.entering()
	orElse.body(n.orElse)
	n.elseF = orElse.entering()
}

// loopTest links a loop's test as the function that it is in Jinja2.
func (s *scope) loopTest(n *forStmt) {
	n.testFn = newFunction(s.fn)
	in := s.innerIn(n.testFn)
	in.visitParams(n.target)
	in.visit(n.test)
	n.testTarget = copyTarget(n.target)
	in.tracking = nil
	in.expr(&n.testTarget)
	in.expr(&n.test)
	n.testF = in.entering()
}

func copyTarget(x expr) expr {
	switch x := x.(type) {
	case *name:
		c := *x
		return &c
	case *tupleLit:
		c := &tupleLit{}
		for _, item := range x.items {
			c.items = append(c.items, copyTarget(item))
		}
		return c
	}
	return x
}

func (s *scope) macro(n *macroStmt) {
	n.fn = newFunction(s.fn)
	in := s.innerIn(n.fn)
	in.checked, in.tracking = false, nil
	everything := slices.Concat(nodes(n.params), nodes(n.defaults), nodes(n.body))
	in.visit(everything...)
	own := map[string]bool{}
	bare := false // the argument caller has no default
	for i, arg := range n.params {
		own[arg.name] = true
		n.slots = append(n.slots, n.fn.slot(in.refs[arg.name]))
		bare = bare || arg.name == "caller" && i < len(n.params)-len(n.defaults)
	}
	n.explicitCaller = own["caller"]
	used := undeclared(nodes(n.body), "caller", "kwargs", "varargs")
	if used["caller"] && bare {
		s.linker.fail(n.line, "the argument caller must be omitted or be given a default")
	}
	n.caller = used["caller"]
	n.kwargs = used["kwargs"] && !own["kwargs"]
	n.varargs = used["varargs"] && !own["varargs"]
	special := []struct {
		name string
		used bool
	}{{"caller", n.caller && !n.explicitCaller}, {"kwargs", n.kwargs}, {"varargs", n.varargs}}
	for _, x := range special {
		if x.used {
			in.param(x.name)
			n.slots = append(n.slots, n.fn.slot(in.refs[x.name]))
		}
	}
	in.visit(everything...)
	in.params = map[string]bool{}
	for id, rule := range in.symbols.loads {
		in.params[id] = rule.kind == loadParam
	}
	in.defaults(n)
	in.params = nil
	in.body(n.body)
	n.frame = in.entering()
}

// defaults links the defaults of a macro's arguments: one that stands before
// an argument finds it undefined.
func (s *scope) defaults(n *macroStmt) {
	first := len(n.params) - len(n.defaults)
	for i, arg := range n.params {
		if i >= first {
			s.expr(&n.defaults[i-first])
		}
		delete(s.params, s.refs[arg.name])
	}
}

func (s *scope) optional(x *expr) {
	if *x != nil {
		s.expr(x)
	}
}

// expr links an expression, and puts the value of a constant one in its place.
func (s *scope) expr(x *expr) {
	switch n := (*x).(type) {
	case *name:
		s.name(n)
		return
	case *constant:
		if c := foldedConstant(n.value); c != nil {
			n.nameErr = c.nameErr
		}
		return
	case captured, *nsRef, *tupleLit, *listLit, *dictLit, *call, *sliceExpr:
	default:
		if value, ok := s.linker.fold(n); ok {
			if c := foldedConstant(value); c != nil {
				*x = c
				return
			}
		}
	}
	s.children(*x)
}

func (s *scope) name(n *name) {
	if n.kind != load && (s.top || s.loop || s.block) && s.tracking != nil {
		*s.tracking = append(*s.tracking, n)
	}
	n.ref = s.ref(n.name)
	id, _ := s.find(n.name)
	rule, ok := s.findLoad(id)
	n.certain = n.kind != load || ok && rule.kind == loadParam && !s.params[id]
}

func (s *scope) all(list []expr) {
	for i := range list {
		s.expr(&list[i])
	}
}

// children links what is below an expression.
func (s *scope) children(x expr) {
	switch n := x.(type) {
	case *tupleLit:
		s.all(n.items)
	case *listLit:
		s.all(n.items)
	case *dictLit:
		s.all(n.keys)
		s.all(n.values)
	case *binary:
		s.expr(&n.left)
		s.expr(&n.right)
		if c, ok := n.left.(*constant); ok && n.op == "**" {
			n.negate = isNegative(c.value)
		}
	case *unary:
		s.expr(&n.x)
	case *concat:
		s.all(n.items)
	case *compare:
		s.expr(&n.first)
		s.all(n.rest)
	case *condExpr:
		soft := s.softened()
		soft.expr(&n.then)
		soft.expr(&n.test)
		soft.optional(&n.other)
	case *getAttr:
		s.expr(&n.x)
	case *getItem:
		s.expr(&n.x)
		s.expr(&n.arg)
	case *sliceExpr:
		s.optional(&n.start)
		s.optional(&n.stop)
		s.optional(&n.step)
	case *call:
		s.expr(&n.fn)
		s.arguments(&n.arguments)
	case *filter:
		s.filter(n)
	}
}

func (s *scope) arguments(a *arguments) {
	s.all(a.args)
	s.all(a.values)
	s.optional(&a.list)
	s.optional(&a.mapped)
}

func (s *scope) filter(n *filter) {
	if n.isTest {
		n.fn = tests[n.name]
	} else {
		n.fn = s.linker.m.engine.filter(n.name)
	}
	if n.fn == nil && !s.soft {
		s.linker.fail(n.line, "no filter or test named %q", n.name)
	}
	s.expr(&n.x)
	s.arguments(&n.arguments)
}

// maxParens is how many brackets Python's own parser takes in each other.
const maxParens = 199

// shallow refuses an expression that is too deep for Python.
func (s *scope) shallow(x expr) {
	if parens(x) > maxParens {
		s.linker.fail(1, "too many nested parentheses")
	}
}

func parens(x any) int {
	deepest := 0
	for _, child := range children(x) {
		deepest = max(deepest, parens(child))
	}
	if _, ok := x.(*concat); ok {
		deepest++
	}
	return deepest + 1
}
