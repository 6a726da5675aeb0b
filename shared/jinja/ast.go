package jinja

// expr is an expression; it panics with an *exception where Python raises.
type expr interface{ eval(a *activation) Value }

// stmt is a statement.
type stmt interface{ exec(a *activation) }

// at is a place in a template.
type at struct{ line int }

// Expressions.
type (
	constant struct {
		value   Value
		nameErr bool // Jinja2 writes it as a name that Python does not know: inf, nan
		copied  bool // it can be changed: each run has its own
	}
	name struct {
		at
		name string
		kind nameKind
		ref  slotRef
		// certain: a parameter, which is read without a look at whether it is there.
		certain bool
	}
	nsRef struct {
		at
		name, attr string
		ref        slotRef
	}
	tupleLit struct{ items []expr }
	listLit  struct{ items []expr }
	dictLit  struct{ keys, values []expr }
	binary   struct {
		at
		op          string
		left, right expr
		negate      bool // the left is a negative constant to which "**" binds tighter than its sign
	}
	unary struct {
		at
		op string
		x  expr
	}
	concat  struct{ items []expr }
	compare struct {
		at
		first expr
		ops   []string
		rest  []expr
	}
	condExpr struct {
		at
		test, then, other expr
	}
	getAttr struct {
		at
		x    expr
		attr string
	}
	getItem struct {
		at
		x, arg expr
	}
	sliceExpr struct{ start, stop, step expr }
	arguments struct {
		args         []expr
		names        []string
		values       []expr
		list, mapped expr // *list, **mapped
	}
	call struct {
		at
		fn expr
		arguments
	}
	// filter is a filter or, with isTest, a test.
	filter struct {
		at
		x      expr
		name   string
		isTest bool
		fn     *builtin // nil: there is none, and that is an error when it is used
		arguments
	}
	// captured is what a filter block, or a set block, has collected.
	captured struct{}
)

type nameKind int

const (
	load nameKind = iota
	store
	param
)

// Statements. What linking adds (frames, slots) comes last.
type (
	output struct {
		items []expr // text is a constant
		// checked: nothing is printed once the template has a parent.
		checked, skipped bool
	}
	text   struct{ string }
	ifStmt struct{ branches []branch }
	branch struct {
		at
		test expr // nil: else
		body []stmt
	}
	forStmt struct {
		at
		target, iter, test expr
		body, orElse       []stmt
		recursive          bool

		extended            bool // it has a loop variable
		loop                slotRef
		fn, testFn          *function // of a recursive loop, of a test
		testTarget          expr
		frame, elseF, testF loads
	}
	macroStmt struct {
		at
		name     string
		params   []*name
		defaults []expr // of the last params
		body     []stmt

		fn                       *function
		slots                    []int
		frame                    loads
		kwargs, varargs, caller  bool
		explicitCaller, topLevel bool
		ref                      slotRef
	}
	callBlock struct {
		at
		call  *call
		macro *macroStmt
	}
	filterBlock struct {
		body   []stmt
		filter expr
		frame  loads
	}
	withStmt struct {
		targets, values []expr
		body            []stmt
		frame           loads
	}
	blockStmt struct {
		at
		name             string
		body             []stmt
		scoped, required bool

		skipped, checked bool
		locals           []local
	}
	extendsStmt struct {
		at
		template expr
		again    bool // it is not the first
		known    bool // a parent is certain before
	}
	includeStmt struct {
		at
		template      expr
		ignoreMissing bool
		withContext   bool
		locals        []local
	}
	importStmt struct {
		at
		template    expr
		withContext bool
		module      string // "" if names are imported
		names       []importName
		locals      []local
		refs        []slotRef
		topLevel    bool
	}
	importName struct{ name, alias string }
	doStmt     struct {
		at
		x expr
	}
	setStmt struct {
		at
		target, value expr
		spaces        []*nsRef
		public        []*name // to be written to the context
	}
	setBlock struct {
		setStmt
		filter expr // nil: none
		body   []stmt
		frame  loads
	}
)

// children are the nodes below a node, in the order in which Jinja2 visits them.
func children(n any) []any {
	switch n := n.(type) {
	case *tupleLit:
		return nodes(n.items)
	case *listLit:
		return nodes(n.items)
	case *dictLit:
		var out []any
		for i := range n.keys {
			out = append(out, n.keys[i], n.values[i])
		}
		return out
	case *binary:
		return []any{n.left, n.right}
	case *unary:
		return []any{n.x}
	case *concat:
		return nodes(n.items)
	case *compare:
		return append([]any{n.first}, nodes(n.rest)...)
	case *condExpr:
		return some(n.test, n.then, n.other)
	case *getAttr:
		return []any{n.x}
	case *getItem:
		return []any{n.x, n.arg}
	case *sliceExpr:
		return some(n.start, n.stop, n.step)
	case *call:
		return append([]any{n.fn}, n.arguments.nodes()...)
	case *filter:
		return append([]any{n.x}, n.arguments.nodes()...)
	}
	return statementChildren(n)
}

func statementChildren(n any) []any {
	switch n := n.(type) {
	case *output:
		return nodes(n.items)
	case *ifStmt:
		var out []any
		for _, b := range n.branches {
			out = append(append(out, some(b.test)...), nodes(b.body)...)
		}
		return out
	case *forStmt:
		out := append([]any{n.target, n.iter}, nodes(n.body)...)
		return append(append(out, nodes(n.orElse)...), some(n.test)...)
	case *macroStmt:
		return append(append(nodes(n.params), nodes(n.defaults)...), nodes(n.body)...)
	case *callBlock:
		return append([]any{n.call}, children(n.macro)...)
	case *filterBlock:
		return append(nodes(n.body), n.filter)
	case *withStmt:
		return append(append(nodes(n.targets), nodes(n.values)...), nodes(n.body)...)
	case *blockStmt:
		return nodes(n.body)
	case *extendsStmt:
		return []any{n.template}
	case *includeStmt:
		return []any{n.template}
	case *importStmt:
		return []any{n.template}
	case *doStmt:
		return []any{n.x}
	case *setStmt:
		return []any{n.target, n.value}
	case *setBlock:
		return append(append([]any{n.target}, some(n.filter)...), nodes(n.body)...)
	}
	return nil
}

func (a *arguments) nodes() []any {
	out := append(nodes(a.args), nodes(a.values)...)
	return append(out, some(a.list, a.mapped)...)
}

func nodes[T any](list []T) []any {
	out := make([]any, len(list))
	for i := range list {
		out[i] = list[i]
	}
	return out
}

func some(list ...expr) []any {
	var out []any
	for _, n := range list {
		if n != nil {
			out = append(out, n)
		}
	}
	return out
}

// each calls f for every node below n, n included, until f says not to go
// further down.
func each(n any, f func(any) bool) {
	if !f(n) {
		return
	}
	for _, child := range children(n) {
		each(child, f)
	}
}
