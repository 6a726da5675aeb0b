package jinja

import (
	"slices"
	"strings"
)

// maxNesting is how deep statements, and expressions, may stand in each other.
const maxNesting = 100

type parser struct {
	template string
	tokens   []token
	pos      int
	depth    int
}

// parse makes the statements of a template. It panics as the lexer does.
func parse(name, source string) []stmt {
	p := &parser{template: name, tokens: lex(name, source)}
	return p.body()
}

func (p *parser) current() token { return p.tokens[p.pos] }
func (p *parser) look() token    { return p.tokens[min(p.pos+1, len(p.tokens)-1)] }
func (p *parser) here() at       { return at{p.current().line} }

func (p *parser) next() token {
	t := p.current()
	if p.pos < len(p.tokens)-1 {
		p.pos++
	}
	return t
}

func (p *parser) fail(format string, args ...any) {
	raiseAt(p.template, p.current().line, syntaxError, format, args...)
}

// enter counts the nesting; call what it returns when leaving.
func (p *parser) enter() func() {
	if p.depth++; p.depth > maxNesting {
		raiseAt(p.template, p.current().line, limitError, "nested too deeply")
	}
	return func() { p.depth-- }
}

// maxChain is how many operators, filters or calls may follow each other: they
// nest in the tree. Python's own bound is lower for all that is not constant.
const maxChain = 400

func (p *parser) long(n int) {
	if n > maxChain {
		raiseAt(p.template, p.current().line, limitError, "more than %d operations in a row", maxChain)
	}
}

func (p *parser) skip(kind string) bool {
	if p.current().kind == kind {
		p.next()
		return true
	}
	return false
}

func (p *parser) skipName(name string) bool {
	if p.current().is(name) {
		p.next()
		return true
	}
	return false
}

func (p *parser) expect(kind string) token {
	if p.current().kind != kind {
		p.fail("expected token %q, got %q", kind, p.current())
	}
	return p.next()
}

func (p *parser) expectName(name string) {
	if !p.skipName(name) {
		p.fail("expected token %q, got %q", name, p.current())
	}
}

// body reads statements up to one of the end tags, whose name is then the
// current token; without end tags, to the end of the template.
func (p *parser) body(ends ...string) []stmt {
	defer p.enter()()
	var list []stmt
	var data []expr
	flush := func() {
		if data != nil {
			list = append(list, &output{items: data})
			data = nil
		}
	}
	for {
		switch t := p.current(); t.kind {
		case tokData:
			data = append(data, &constant{value: t.text})
			p.next()
		case tokVariableBegin:
			p.next()
			data = append(data, p.tuple(p.expression))
			p.expect(tokVariableEnd)
		case tokBlockBegin:
			flush()
			p.next()
			if p.current().kind == tokName && slices.Contains(ends, p.current().text) {
				return list
			}
			list = append(list, p.statement())
			p.expect(tokBlockEnd)
		default:
			flush()
			if len(ends) > 0 {
				p.fail("unexpected end of template: looking for %s", strings.Join(ends, " or "))
			}
			return list
		}
	}
}

// inner reads the rest of a tag and what stands up to one of the end tags,
// and gives the end tag's name.
func (p *parser) inner(ends ...string) ([]stmt, string) {
	p.skip(":")
	p.expect(tokBlockEnd)
	list := p.body(ends...)
	return list, p.next().text
}

var statements = map[string]func(*parser) stmt{}

func init() {
	statements = map[string]func(*parser) stmt{
		"for": (*parser).forTag, "if": (*parser).ifTag, "block": (*parser).blockTag, "extends": (*parser).extendsTag,
		"print": (*parser).printTag, "macro": (*parser).macroTag, "include": (*parser).includeTag, "from": (*parser).fromTag,
		"import": (*parser).importTag, "set": (*parser).setTag, "with": (*parser).withTag, "call": (*parser).callTag,
		"filter": (*parser).filterTag, "do": (*parser).doTag,
	}
}

func (p *parser) statement() stmt {
	t := p.current()
	if t.kind != tokName {
		p.fail("tag name expected")
	}
	if t.text == "autoescape" {
		raiseAt(p.template, t.line, unsupported, "the tag autoescape")
	}
	read := statements[t.text]
	if read == nil {
		p.fail("unknown tag %q", t.text)
	}
	return read(p)
}

func (p *parser) doTag() stmt {
	s := &doStmt{at: p.here()}
	p.next()
	s.x = p.tuple(p.expression)
	return s
}

func (p *parser) printTag() stmt {
	p.next()
	s := &output{}
	for p.current().kind != tokBlockEnd {
		if s.items != nil {
			p.expect(",")
		}
		s.items = append(s.items, p.expression())
	}
	return s
}

func (p *parser) setTag() stmt {
	s := setStmt{at: p.here()}
	p.next()
	s.target = p.target(true)
	if p.skip("=") {
		s.value = p.tuple(p.expression)
		return &s
	}
	block := &setBlock{setStmt: s}
	if p.current().kind == "|" {
		block.filter = p.filters(captured{})
	}
	block.body, _ = p.inner("endset")
	return block
}

func (p *parser) forTag() stmt {
	s := &forStmt{at: p.here()}
	p.next()
	s.target = p.target(false, "in")
	p.expectName("in")
	s.iter = p.tuple(p.or, "recursive")
	if p.skipName("if") {
		s.test = p.expression()
	}
	s.recursive = p.skipName("recursive")
	var end string
	if s.body, end = p.inner("endfor", "else"); end == "else" {
		s.orElse, _ = p.inner("endfor")
	}
	return s
}

func (p *parser) ifTag() stmt {
	s := &ifStmt{}
	for {
		b := branch{at: p.here()}
		p.next()
		b.test = p.tuple(p.or)
		p.skip(":")
		p.expect(tokBlockEnd)
		b.body = p.body("elif", "else", "endif")
		s.branches = append(s.branches, b)
		switch {
		case p.current().is("elif"):
			continue
		case p.skipName("else"):
			last := branch{at: p.here()}
			last.body, _ = p.inner("endif")
			s.branches = append(s.branches, last)
		default:
			p.next()
		}
		return s
	}
}

func (p *parser) withTag() stmt {
	s := &withStmt{}
	p.next()
	for p.current().kind != tokBlockEnd {
		if s.targets != nil {
			p.expect(",")
		}
		target := p.target(false)
		setKind(target, param)
		s.targets = append(s.targets, target)
		p.expect("=")
		s.values = append(s.values, p.expression())
	}
	s.body, _ = p.inner("endwith")
	return s
}

func (p *parser) blockTag() stmt {
	s := &blockStmt{at: p.here()}
	p.next()
	s.name = p.expect(tokName).text
	s.scoped = p.skipName("scoped")
	s.required = p.skipName("required")
	if p.current().kind == "-" {
		p.fail("a block's name may not contain hyphens")
	}
	s.body, _ = p.inner("endblock")
	if s.required && !onlySpace(s.body) {
		p.fail("required blocks can only contain comments or whitespace")
	}
	p.skipName(s.name)
	return s
}

func onlySpace(body []stmt) bool {
	for _, s := range body {
		out, ok := s.(*output)
		if !ok {
			return false
		}
		for _, item := range out.items {
			c, ok := item.(*constant)
			if !ok {
				return false
			}
			if data, ok := c.value.(string); !ok || strings.TrimFunc(data, isSpace) != "" {
				return false
			}
		}
	}
	return true
}

func (p *parser) extendsTag() stmt {
	s := &extendsStmt{at: p.here()}
	p.next()
	s.template = p.expression()
	return s
}

// withContext reads "with context" or "without context".
func (p *parser) withContext(otherwise bool) (with, read bool) {
	t := p.current()
	if (t.is("with") || t.is("without")) && p.look().is("context") {
		p.next()
		p.next()
		return t.text == "with", true
	}
	return otherwise, false
}

func (p *parser) includeTag() stmt {
	s := &includeStmt{at: p.here()}
	p.next()
	s.template = p.expression()
	if p.current().is("ignore") && p.look().is("missing") {
		s.ignoreMissing = true
		p.next()
		p.next()
	}
	s.withContext, _ = p.withContext(true)
	return s
}

func (p *parser) importTag() stmt {
	s := &importStmt{at: p.here()}
	p.next()
	s.template = p.expression()
	p.expectName("as")
	s.module = p.targetName().name
	s.withContext, _ = p.withContext(false)
	return s
}

func (p *parser) fromTag() stmt {
	s := &importStmt{at: p.here()}
	p.next()
	s.template = p.expression()
	p.expectName("import")
	for {
		if s.names != nil {
			p.expect(",")
		}
		if p.current().kind != tokName {
			p.expect(tokName)
		}
		var read bool
		if s.withContext, read = p.withContext(false); read {
			return s
		}
		n := importName{name: p.targetName().name}
		if strings.HasPrefix(n.name, "_") {
			p.fail("names starting with an underline can not be imported")
		}
		n.alias = n.name
		if p.skipName("as") {
			n.alias = p.targetName().name
		}
		s.names = append(s.names, n)
		if s.withContext, read = p.withContext(false); read || p.current().kind != "," {
			return s
		}
	}
}

func (p *parser) signature(m *macroStmt) {
	p.expect("(")
	for p.current().kind != ")" {
		if m.params != nil {
			p.expect(",")
		}
		arg := p.targetName()
		arg.kind = param
		if slices.ContainsFunc(m.params, func(n *name) bool { return n.name == arg.name }) {
			p.fail("duplicate argument %q", arg.name)
		}
		if p.skip("=") {
			m.defaults = append(m.defaults, p.expression())
		} else if m.defaults != nil {
			p.fail("non-default argument follows default argument")
		}
		m.params = append(m.params, arg)
	}
	p.expect(")")
}

func (p *parser) callTag() stmt {
	s := &callBlock{at: p.here(), macro: &macroStmt{at: p.here()}}
	p.next()
	if p.current().kind == "(" {
		p.signature(s.macro)
	}
	c, ok := p.expression().(*call)
	if !ok {
		p.fail("expected call")
	}
	if slices.Contains(c.names, "caller") {
		p.fail("keyword argument repeated: caller")
	}
	s.call = c
	s.macro.body, _ = p.inner("endcall")
	return s
}

func (p *parser) filterTag() stmt {
	p.next()
	s := &filterBlock{}
	s.filter = p.filters(p.filter(captured{}))
	s.body, _ = p.inner("endfilter")
	return s
}

func (p *parser) macroTag() stmt {
	s := &macroStmt{at: p.here()}
	p.next()
	s.name = p.targetName().name
	p.signature(s)
	s.body, _ = p.inner("endmacro")
	return s
}

func (p *parser) targetName() *name {
	t := p.expect(tokName)
	n := &name{at: at{t.line}, name: t.text, kind: store}
	p.assignable(n)
	return n
}

// target reads what can be assigned to.
func (p *parser) target(namespaces bool, ends ...string) expr {
	target := p.tuple(func() expr { return p.primary(namespaces) }, ends...)
	setKind(target, store)
	p.assignable(target)
	return target
}

func (p *parser) assignable(x expr) {
	switch x := x.(type) {
	case *name:
		if !slices.Contains([]string{"true", "false", "none", "True", "False", "None"}, x.name) {
			return
		}
	case *nsRef:
		return
	case *tupleLit:
		for _, item := range x.items {
			p.assignable(item)
		}
		return
	}
	p.fail("can't assign to this")
}

func setKind(x expr, kind nameKind) {
	each(x, func(n any) bool {
		if n, ok := n.(*name); ok {
			n.kind = kind
		}
		return true
	})
}
