package jinja

import (
	"slices"
	"strings"
)

func (p *parser) expression() expr {
	defer p.enter()()
	x := p.or()
	for n := 0; p.current().is("if"); n++ {
		p.long(n)
		c := &condExpr{at: p.here(), then: x}
		p.next()
		c.test = p.or()
		if p.skipName("else") {
			c.other = p.expression()
		}
		x = c
	}
	return x
}

// leftBinary reads operands that operators, binding to the left, stand between.
func (p *parser) leftBinary(operand func() expr, isOp func(token) bool) expr {
	x := operand()
	for n := 0; isOp(p.current()); n++ {
		p.long(n)
		b := &binary{at: p.here(), left: x}
		t := p.next()
		b.op = t.String()
		b.right = operand()
		x = b
	}
	return x
}

func oneOf(kinds ...string) func(token) bool {
	return func(t token) bool { return slices.Contains(kinds, t.kind) }
}

func (p *parser) or() expr {
	return p.leftBinary(p.and, func(t token) bool { return t.is("or") })
}

func (p *parser) and() expr {
	return p.leftBinary(p.not, func(t token) bool { return t.is("and") })
}

func (p *parser) not() expr {
	if p.current().is("not") {
		defer p.enter()()
		u := &unary{at: p.here(), op: "not"}
		p.next()
		u.x = p.not()
		return u
	}
	return p.compare()
}

var isComparison = oneOf("==", "!=", "<", "<=", ">", ">=")

func (p *parser) compare() expr {
	c := &compare{at: p.here(), first: p.sum()}
	for {
		t := p.current()
		op := t.kind
		switch {
		case isComparison(t):
		case t.is("in"):
			op = "in"
		case t.is("not") && p.look().is("in"):
			p.next()
			op = "not in"
		case len(c.ops) == 0:
			return c.first
		default:
			return c
		}
		p.next()
		c.ops = append(c.ops, op)
		c.rest = append(c.rest, p.sum())
	}
}

func (p *parser) sum() expr { return p.leftBinary(p.concat, oneOf("+", "-")) }

func (p *parser) concat() expr {
	c := &concat{items: []expr{p.product()}}
	for p.skip("~") {
		c.items = append(c.items, p.product())
	}
	if len(c.items) == 1 {
		return c.items[0]
	}
	return c
}

func (p *parser) product() expr { return p.leftBinary(p.power, oneOf("*", "/", "//", "%")) }

func (p *parser) power() expr {
	return p.leftBinary(func() expr { return p.unary(true) }, oneOf("**"))
}

func (p *parser) unary(withFilter bool) expr {
	defer p.enter()()
	var x expr
	if t := p.current(); t.kind == "-" || t.kind == "+" {
		u := &unary{at: p.here(), op: t.kind}
		p.next()
		u.x = p.unary(false)
		x = u
	} else {
		x = p.primary(false)
	}
	x = p.postfix(x)
	if withFilter {
		x = p.filterExpr(x)
	}
	return x
}

var words = map[string]Value{"true": true, "True": true, "false": false, "False": false, "none": nil, "None": nil}

func (p *parser) primary(namespaces bool) expr {
	defer p.enter()()
	t := p.current()
	switch t.kind {
	case tokName:
		p.next()
		if value, ok := words[t.text]; ok {
			return &constant{value: value}
		}
		if namespaces && p.skip(".") {
			return &nsRef{at: at{t.line}, name: t.text, attr: p.expect(tokName).text}
		}
		return &name{at: at{t.line}, name: t.text}
	case tokString:
		var text strings.Builder
		for p.current().kind == tokString {
			text.WriteString(p.next().text)
		}
		return &constant{value: text.String()}
	case tokInteger, tokFloat:
		p.next()
		return &constant{value: t.value}
	case "(":
		p.next()
		x := p.parenthesized()
		p.expect(")")
		return x
	case "[":
		return p.list()
	case "{":
		return p.dict()
	}
	p.fail("unexpected %q", t)
	return nil
}

func (p *parser) parenthesized() expr {
	if p.current().kind == ")" {
		return &tupleLit{}
	}
	return p.tuple(p.expression)
}

// tuple reads one operand, or several with commas between or behind.
func (p *parser) tuple(operand func() expr, ends ...string) expr {
	var items []expr
	isTuple := false
	for {
		if items != nil {
			p.expect(",")
		}
		t := p.current()
		if oneOf(tokVariableEnd, tokBlockEnd, ")")(t) || t.kind == tokName && slices.Contains(ends, t.text) {
			break
		}
		items = append(items, operand())
		if p.current().kind != "," {
			break
		}
		isTuple = true
	}
	switch {
	case isTuple:
		return &tupleLit{items: items}
	case items == nil:
		p.fail("expected an expression, got %q", p.current())
	}
	return items[0]
}

func (p *parser) list() expr {
	p.expect("[")
	x := &listLit{}
	for p.current().kind != "]" {
		if x.items != nil {
			p.expect(",")
		}
		if p.current().kind == "]" {
			break
		}
		x.items = append(x.items, p.expression())
	}
	p.expect("]")
	return x
}

func (p *parser) dict() expr {
	p.expect("{")
	x := &dictLit{}
	for p.current().kind != "}" {
		if x.keys != nil {
			p.expect(",")
		}
		if p.current().kind == "}" {
			break
		}
		x.keys = append(x.keys, p.expression())
		p.expect(":")
		x.values = append(x.values, p.expression())
	}
	p.expect("}")
	return x
}

func (p *parser) postfix(x expr) expr {
	for n := 0; ; n++ {
		p.long(n)
		switch p.current().kind {
		case ".", "[":
			x = p.subscript(x)
		case "(":
			x = p.call(x)
		default:
			return x
		}
	}
}

func (p *parser) filterExpr(x expr) expr {
	for n := 0; ; n++ {
		p.long(n)
		switch t := p.current(); {
		case t.kind == "|":
			x = p.filters(x)
		case t.is("is"):
			x = p.test(x)
		case t.kind == "(":
			x = p.call(x)
		default:
			return x
		}
	}
}

func (p *parser) subscript(x expr) expr {
	pos := p.here()
	if p.next().kind == "." {
		switch t := p.next(); t.kind {
		case tokName:
			return &getAttr{at: pos, x: x, attr: t.text}
		case tokInteger:
			return &getItem{at: pos, x: x, arg: &constant{value: t.value}}
		}
		p.fail("expected name or number")
	}
	var args []expr
	for p.current().kind != "]" {
		if args != nil {
			p.expect(",")
		}
		args = append(args, p.subscribed())
	}
	p.expect("]")
	if len(args) == 1 {
		return &getItem{at: pos, x: x, arg: args[0]}
	}
	return &getItem{at: pos, x: x, arg: &tupleLit{items: args}}
}

func (p *parser) subscribed() expr {
	var x expr
	if p.current().kind != ":" {
		if x = p.expression(); p.current().kind != ":" {
			return x
		}
	}
	p.next()
	s := &sliceExpr{start: x}
	end := oneOf("]", ",", ":")
	if !end(p.current()) {
		s.stop = p.expression()
	}
	if p.skip(":") && !oneOf("]", ",")(p.current()) {
		s.step = p.expression()
	}
	return s
}

func (p *parser) call(x expr) expr {
	c := &call{at: p.here(), fn: x}
	c.arguments = p.arguments()
	return c
}

func (p *parser) arguments() arguments {
	p.expect("(")
	var a arguments
	ensure := func(ok bool) {
		if !ok {
			p.fail("invalid syntax for function call expression")
		}
	}
	for first := true; p.current().kind != ")"; first = false {
		if !first {
			p.expect(",")
			if p.current().kind == ")" {
				break
			}
		}
		switch t := p.current(); {
		case t.kind == "*":
			ensure(a.list == nil && a.mapped == nil)
			p.next()
			a.list = p.expression()
		case t.kind == "**":
			ensure(a.mapped == nil)
			p.next()
			a.mapped = p.expression()
		case t.kind == tokName && p.look().kind == "=":
			ensure(a.mapped == nil && !slices.Contains(a.names, t.text))
			p.next()
			p.next()
			a.names = append(a.names, t.text)
			a.values = append(a.values, p.expression())
		default:
			ensure(a.list == nil && a.mapped == nil && a.names == nil)
			a.args = append(a.args, p.expression())
		}
	}
	p.expect(")")
	return a
}

func (p *parser) filters(x expr) expr {
	for n := 0; p.skip("|"); n++ {
		p.long(n)
		x = p.filter(x)
	}
	return x
}

func (p *parser) dotted() string {
	name := p.expect(tokName).text
	for p.skip(".") {
		name += "." + p.expect(tokName).text
	}
	return name
}

func (p *parser) filter(x expr) expr {
	f := &filter{at: p.here(), x: x}
	f.name = p.dotted()
	if p.current().kind == "(" {
		f.arguments = p.arguments()
	}
	return f
}

var beginsOperand = oneOf(tokName, tokString, tokInteger, tokFloat, "(", "[", "{")

func (p *parser) test(x expr) expr {
	p.next()
	pos := p.here()
	negated := p.skipName("not")
	f := &filter{at: pos, x: x, isTest: true, name: p.dotted()}
	switch t := p.current(); {
	case t.kind == "(":
		f.arguments = p.arguments()
	case beginsOperand(t) && !t.is("else") && !t.is("or") && !t.is("and"):
		if t.is("is") {
			p.fail("you cannot chain multiple tests with is")
		}
		f.args = []expr{p.postfix(p.primary(false))}
	}
	if negated {
		return &unary{at: pos, op: "not", x: f}
	}
	return f
}
