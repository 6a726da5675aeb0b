package jinja_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
)

// params are what generated templates get: every type that JSON has.
const params = `{"s": "hello World", "t": "a-b_c d", "e": "", "q": "it's \"q\" \\ <b>&\n\ttab é\u200b😀", "n": 7, "z": 0, "neg": -3,
"f": 2.5, "g": -0.125, "big": 123456789012345678901234567890, "yes": true, "no": false, "nil": null,
"l": [3, 1, 2], "ls": ["b", "A", "c", "a"], "lm": [1, "x", null, 2.5, true, [1], {"k": "v"}], "le": [],
"d": {"b": 1, "a": "x", "c": [1, 2]}, "de": {}, "dn": {"1": {"x": 5, "y": "p"}, "k": {"x": 2, "y": "Q"}},
"rows": [{"x": 2, "y": "b", "g": "u"}, {"x": 1, "y": "A", "g": "v"}, {"x": 3, "y": "a", "g": "u"}],
"lines": "one\n  two\n\nthree ", "job": {"name": "kunit-x86_64", "params": {"fragments": ["kvm", "debug"], "timeout": 10}}}`

// generator makes templates by chance. Each function makes a part of one.
type generator struct {
	r      *rand.Rand
	depth  int
	names  []string // of variables that may be set
	macros []string
	parts  map[string]string // further templates
	loops  int
	// tame templates keep to what goes well mostly: else nearly all end in errors.
	tame bool
}

func generate(r *rand.Rand) job {
	g := &generator{r: r, parts: map[string]string{}, names: []string{"v", "w", "undef"}, tame: r.IntN(3) > 0}
	main := g.main()
	g.parts["main"] = main
	return job{Templates: g.parts, Name: "main", Params: json.RawMessage(params)}
}

func (g *generator) pick(options ...string) string { return options[g.r.IntN(len(options))] }

func (g *generator) chance(percent int) bool { return g.r.IntN(100) < percent }

func (g *generator) main() string {
	switch g.r.IntN(10) {
	case 0, 1:
		return g.child()
	case 2:
		g.parts["part"] = g.body(2)
		return g.body(2) + g.pick("{% include 'part' %}", "{% include ['none', 'part'] %}", "{% include 'none' ignore missing %}", "{% include 'part' without context %}", "{% for v in l %}{% include 'part' %}{% endfor %}", "{% include s %}") + g.body(1)
	case 3:
		g.parts["lib"] = g.tag("macro hello(a, b="+g.expr()+")") + g.body(1) + "{{ a }}{{ b }}" + g.tag("endmacro") + g.tag("set shown = "+g.expr()) + g.body(1)
		return g.pick("{% import 'lib' as lib %}{{ lib.hello("+g.expr()+") }}{{ lib.shown }}{{ lib.hidden }}",
			"{% from 'lib' import hello as hi, shown with context %}{{ hi("+g.args()+") }}{{ shown }}",
			"{% from 'lib' import hello, absent %}{{ hello(1) }}{{ absent }}") + g.body(1)
	}
	return g.body(4)
}

// child is a template that extends another.
func (g *generator) child() string {
	g.parts["base"] = g.body(1) + "{% block one %}" + g.body(1) + "{% endblock %}" + g.body(1) +
		g.pick("", "{% for i in l %}{% block two scoped %}{{ i }}"+g.body(0)+"{% endblock %}{% endfor %}", "{% block two %}{{ v }}{% endblock %}{{ self.one() }}")
	g.parts["middle"] = "{% extends 'base' %}{% block one %}m{{ super() }}" + g.body(1) + "{% endblock %}"
	before := ""
	if g.chance(50) {
		before = g.body(1)
	}
	parent := g.pick("'base'", "'middle'", "'ba' ~ 'se'", "'middle' if n else 'base'", "['base'][0]", "'base'", "'middle'", "undef")
	return before + g.tag("extends "+parent) + g.body(1) + "{% block one %}" + g.pick("", "{{ super() }}", "{{ super.super() }}", "{{ self.two() }}") +
		g.body(1) + "{% endblock one %}" + g.pick("", "{% block two %}"+g.body(1)+"{% endblock %}") + g.body(0)
}

// tag is a statement's tag, with whitespace control.
func (g *generator) tag(s string) string {
	return "{%" + g.pick("", "", "", "-", "+") + " " + s + " " + g.pick("", "", "", "-", "+") + "%}"
}

func (g *generator) text() string {
	return g.pick("x", " ", "\n", "  \n  ", "a b", "\t", "{ }", "%", "é\n", "- item:\n    ", "\r\n", "{#- note -#}", "{# note #}", "{% raw %}{{ n }}{% endraw %}")
}

func (g *generator) body(n int) string {
	var out strings.Builder
	g.depth++
	defer func() { g.depth-- }()
	for range g.r.IntN(n + 2) {
		out.WriteString(g.text())
		if g.depth > 4 || g.chance(50) {
			out.WriteString("{{" + g.pick("", "", "-", "+") + " " + g.expr() + " " + g.pick("", "", "-") + "}}")
			continue
		}
		out.WriteString(g.statement())
	}
	return out.String() + g.text()
}

func (g *generator) statement() string {
	switch g.r.IntN(14) {
	case 0, 1:
		return g.ifTag()
	case 2, 3, 4:
		return g.forTag()
	case 5:
		return g.tag("set " + g.name() + " = " + g.expr())
	case 6:
		return g.tag("set "+g.name()+g.pick("", " | upper", " | trim | replace('a', 'b')", " | length")) + g.body(1) + g.tag("endset")
	case 7:
		name := fmt.Sprintf("m%d", len(g.macros))
		g.macros = append(g.macros, name)
		return g.tag("macro "+name+g.pick("(a)", "(a, b=1)", "(a='x', b=a)", "()")) + "{{ a }}{{ b }}{{ v }}" + g.pick("", "{{ varargs }}", "{{ kwargs }}", "{{ caller() if caller }}") + g.body(1) + g.tag("endmacro") +
			"{{ " + name + "(" + g.args() + ") }}"
	case 8:
		return g.tag("filter "+g.pick("upper", "replace('a', "+g.str()+")", "indent(2)", "trim | length", "indent(1, true) | upper")) + g.body(1) + g.tag("endfilter")
	case 9:
		return g.tag("with v = "+g.expr()+", w = v") + g.body(1) + "{{ v }}{{ w }}" + g.tag("endwith")
	case 10:
		what := g.pick("pop()", "reverse()", "sort()", "remove(1)")
		if g.loops == 0 { // a list that grows under a loop never ends
			what = g.pick("append(1)", "extend([1, 2])", "insert(1, 'i')", "append(l)")
		}
		return g.tag("do "+g.pick("l", "ls", "lm")+"."+what) + "{{ l }}{{ ls }}"
	case 11:
		return g.tag("do d."+g.pick("update({'z': 1})", "update(n=2)", "pop('a', 0)", "setdefault('q', [])", "clear()", "update([('a', 1)])", "popitem()")) + "{{ d }}"
	case 12:
		if len(g.macros) > 0 {
			return g.tag("call"+g.pick("", "(x)")+" "+g.pick(g.macros...)+"("+g.args()+")") + g.body(1) + g.tag("endcall")
		}
		return "{% print " + g.expr() + ", " + g.expr() + " %}"
	}
	return g.tag("set ns = namespace(x="+g.expr()+", y=0)") + g.tag("for i in l") + g.tag("set ns.x = ns.y ~ i") + g.tag("set ns.y = ns.y + i") + g.tag("endfor") + "{{ ns.x }}{{ ns.y }}{{ ns }}"
}

func (g *generator) name() string {
	name := g.pick("v", "w", "u", "c", "v, w", "x", "l", "_p")
	g.names = append(g.names, strings.Split(name, ", ")...)
	return name
}

func (g *generator) ifTag() string {
	out := g.tag("if "+g.operand()) + g.body(1)
	for g.chance(30) {
		out += g.tag("elif "+g.operand()) + g.body(1)
	}
	if g.chance(50) {
		out += g.tag("else") + g.body(1)
	}
	return out + g.tag("endif")
}

func (g *generator) forTag() string {
	if g.loops > 2 {
		return "{{ v }}"
	}
	g.loops++
	defer func() { g.loops-- }()
	head := g.pick("for i in ("+g.list()+")", "for k, v in d.items()", "for k, v in dn|dictsort", "for r in rows", "for i in range("+g.pick("3", "n", "1, 6, 2", "3, 0, -1", "z")+")",
		"for c in "+g.str(), "for i, c in [(1, 'a'), [2, 'b']]", "for v in l", "for i in "+g.operand(), "for k in d", "for v in ("+g.list()+")")
	if g.chance(25) {
		head += " if " + g.pick("loop", "i", "v", "not i", "i != 1", "k", "r.x", g.expr())
	}
	if g.chance(10) {
		head += " recursive"
	}
	out := g.tag(head) + g.pick("{{ i }}", "{{ v }}", "{{ k }}", "{{ c }}", "{{ r }}", "") + g.pick("", "", "{{ loop."+g.pick("index", "index0", "first", "last", "length", "revindex", "revindex0", "previtem", "nextitem", "depth", "cycle('a', 'b')", "changed(v)")+" }}", "{{ loop }}") + g.body(1)
	if g.chance(20) {
		out += g.tag("else") + g.body(1)
	}
	return out + g.tag("endfor")
}

func (g *generator) args() string {
	return g.pick("", "1", g.expr(), g.expr()+", "+g.expr(), "a="+g.expr(), "b="+g.expr()+", a=2", "*l", "**d", "1, 2, 3", "c=3")
}

// expr is any expression.
func (g *generator) expr() string {
	g.depth++
	defer func() { g.depth-- }()
	if g.depth > 7 {
		return g.atom()
	}
	kinds := 15
	if g.tame {
		kinds = 10
	}
	switch g.r.IntN(kinds) {
	case 0, 1:
		return g.atom()
	case 2, 3:
		return g.str()
	case 4, 5:
		return g.num()
	case 6:
		return g.list()
	case 7:
		return g.dict()
	case 8, 9:
		return g.boolean()
	case 10:
		return g.expr() + " if " + g.expr() + g.pick("", " else "+g.expr())
	case 11:
		return "(" + g.expr() + g.pick(")", ", "+g.expr()+")", ",)")
	case 12:
		return g.expr() + g.pick(" + ", " * ", " ~ ", " ~ ", " ~ ", " % ", " and ", " or ", " or ") + g.small()
	case 13:
		return g.operand() + "." + g.pick("x", "y", "items()", "keys()", "a", "name", "upper()", "0", "params.fragments", "real_none", "append", "b.c")
	}
	return g.operand() + "[" + g.pick("0", "-1", "'a'", "n", "1:", ":2", "::-1", "'x'", "z", "None", "1:3:2", g.expr()) + "]"
}

func (g *generator) operand() string {
	if g.chance(60) {
		return g.atom()
	}
	return "(" + g.expr() + ")"
}

func (g *generator) small() string {
	return g.pick("2", "n", "z", "1.5", "s", "l", "'%s'", "d", g.operand(), "-"+g.operand(), g.atom())
}

func (g *generator) atom() string {
	if g.tame {
		return g.pick("s", "t", "q", "n", "l", "ls", "d", "rows", "job", "f", "1", "'x'", "yes", "nil", "lm", "neg", "lines", g.pick(g.names...))
	}
	return g.pick("s", "t", "e", "q", "n", "z", "neg", "f", "g", "big", "yes", "no", "nil", "l", "ls", "lm", "le", "d", "de", "dn", "rows", "lines", "job", "job.params", "undef", g.pick(g.names...),
		"1", "0", "-1", "'x'", "''", "'a b'", "\"it's\"", "'\\n'", "none", "true", "False", "1.0", "1e3", "0x1f", "1_000", "[]", "{}", "()", "'é' 'b'", "'\\u00e9\\x41'", "'<&>'")
}

func (g *generator) str() string {
	g.depth++
	defer func() { g.depth-- }()
	if g.depth > 7 {
		return g.pick("s", "t", "q", "lines", "'abc'", "'%s-%d'", "'{}'")
	}
	switch g.r.IntN(12) {
	case 0, 1:
		return g.pick("s", "t", "q", "e", "lines", "job.name", "'abc'", "'A,b,,c'", "'  x '", "'it\\'s'", "'ẞß ǆ'", "'ab12'")
	case 2:
		return g.str() + " ~ " + g.expr()
	case 3:
		return g.str() + "." + g.method()
	case 4:
		return g.str() + " | " + g.strFilter()
	case 5:
		return g.expr() + " | " + g.pick("string", "tojson", "tojson(indent=2)", "e", "tojson | replace('\"', '')", "pprint", "tojson | string", "default("+g.expr()+")", "d('x', true)", "urlencode", "safe")
	case 6:
		if g.chance(20) {
			return "kci_yaml_dump(" + g.expr() + ")"
		}
		return g.list() + " | join(" + g.pick("", "','", "', '", "d='-'", "'|', attribute='x'", "n") + ")"
	case 7:
		return g.pick("'%s'", "'%5s|'", "'%-5s|'", "'%d'", "'%05.1f'", "'%x'", "'%r'", "'%s %s'", "'%(a)s'", "'%c'", "'%%'", "'%+d'", "'%#x'", "'%e'", "'%g'", "'%.3s'", "'%i%%'") + " % " + g.pick(g.expr(), "("+g.expr()+", "+g.expr()+")", "d", "n", "f")
	case 8:
		return g.pick("'{}'", "'{0}{0}'", "'{a}'", "'{:>8}|'", "'{:^8}|'", "'{:05d}'", "'{:,}'", "'{:.2f}'", "'{!r}'", "'{0[0]}'", "'{:x}'", "'{:%}'", "'{:*<6}'", "'{{}}'", "'{:+}'", "'{:g}'", "'{:_}'", "'{:.3}'", "'{:>{}}'", "'{:#b}'", "'{:010,}'", "'{:e}'") + ".format(" + g.pick(g.expr(), g.expr()+", "+g.expr(), "a="+g.expr(), "*l", "**d", "n", "f", "big") + ")"
	case 9:
		return g.pick("s", "t", "q", "lines", "'abcdef'") + "[" + g.pick("1:", ":-1", "::-1", "0", "1:4:2", "-3:", "10:", "::2", ":n") + "]"
	case 10:
		return "(" + g.str() + " + " + g.str() + ")"
	}
	return "(" + g.str() + " * " + g.pick("2", "z", "neg", "n") + ")"
}

func (g *generator) method() string {
	return g.pick("upper()", "lower()", "title()", "capitalize()", "swapcase()", "strip()", "strip('a')", "lstrip()", "rstrip('d ')", "split()", "split(' ')", "split(',')", "split(',', 1)", "rsplit('b', 1)", "rsplit(None, 1)",
		"splitlines()", "splitlines(true)", "replace('l', 'L')", "replace('', '-')", "replace('l', 'L', 1)", "startswith('h')", "endswith('')", "endswith(('d', 'x'))", "find('o')", "rfind('o')", "index('o')", "count('l')", "count('')",
		"center(15)", "center(14, '*')", "ljust(12, '.')", "rjust(12)", "zfill(14)", "join(ls)", "join('ab')", "partition('-')", "rpartition('_')", "isdigit()", "isalpha()", "isalnum()", "isspace()", "islower()", "isupper()", "istitle()",
		"expandtabs(4)", "removeprefix('he')", "removesuffix('d')", "format(1)", "find('o', 5)", "split(maxsplit=1)", "casefold()", "isidentifier()", "startswith('e', 1)", "count('l', 2, -1)", "nothing()", "format_map(d)", "isprintable()", "isascii()")
}

func (g *generator) strFilter() string {
	return g.pick("upper", "lower", "title", "capitalize", "trim", "trim('a')", "length", "count", "replace('l', 'L')", "replace('o', '0', 1)", "indent", "indent(2)", "indent(2, true)", "indent('> ', true, true)", "center(20)", "first", "last",
		"list", "reverse", "wordcount", "truncate(5)", "truncate(5, true)", "truncate(8, false, '..', 0)", "int", "float", "int(5, 16)", "default('x')", "escape", "striptags", "urlencode", "wordwrap(5)", "wordwrap(6, false)", "string", "sort | join", "unique | list", "batch(3) | list", "format(1)", "format(n, s)", "list | random is string", "wordwrap(4, wrapstring='|')", "xmlattr", "safe", "forceescape", "attr('upper') is defined", "filesizeformat")
}

func (g *generator) num() string {
	g.depth++
	defer func() { g.depth-- }()
	if g.depth > 7 {
		return g.pick("n", "z", "f", "2")
	}
	switch g.r.IntN(10) {
	case 0, 1, 2:
		return g.pick("n", "z", "neg", "f", "g", "big", "1", "2", "-5", "0.1", "1e10", "2.675", "1e22", "1e-7", "100000000000000000", "yes", "3")
	case 3, 4, 5:
		return g.num() + g.pick(" + ", " - ", " * ", " / ", " // ", " % ", "+", "-", "*") + g.num()
	case 6:
		return g.pick("-", "+", "") + "(" + g.num() + ")" + g.pick("", " ** 2", " ** 0.5", " ** -1", " ** n")
	case 7:
		return g.list() + " | " + g.pick("length", "sum", "min", "max", "first", "last", "count", "sum(attribute='x')", "max(attribute='y')", "sum(start=n)")
	}
	return "(" + g.num() + ") | " + g.pick("abs", "round", "round(1)", "round(-1)", "round(2, 'floor')", "round(0, 'ceil')", "int", "float", "string", "filesizeformat", "filesizeformat(true)", "default(1)", "format", "round | int")
}

func (g *generator) list() string {
	g.depth++
	defer func() { g.depth-- }()
	if g.depth > 7 {
		return g.pick("l", "ls", "rows", "le")
	}
	switch g.r.IntN(9) {
	case 0, 1:
		return g.pick("l", "ls", "lm", "le", "rows", "job.params.fragments", "[1, 2, 3]", "['x', 'Y']", "range(4)", "(1, 'a')", "[[1, 2], [3, 4]]")
	case 2:
		return "[" + g.expr() + ", " + g.expr() + g.pick("]", ",]")
	case 3:
		return "(" + g.list() + " + " + g.list() + ")"
	case 4:
		return g.list() + g.pick("[1:]", "[::-1]", "[:2]", "[-2:]", "[5:]", "[::2]")
	case 5:
		return g.pick("d", "dn", "de", "job", "d.items() | list", "d.keys()", "d.values()", "dn.values() | list", "d | dictsort", "d | dictsort(true, 'value')", "d | items | list", "dn | dictsort(reverse=true)")
	case 6:
		return g.str() + g.pick(".split()", ".split('l')", ".splitlines()", " | list", ".partition(' ')")
	}
	return g.list() + " | " + g.pick("list", "sort", "sort(reverse=true)", "sort(attribute='x')", "sort(case_sensitive=true)", "sort(attribute='y,x')", "unique | list", "reverse | list", "map('upper') | list", "map(attribute='x') | list", "map('int', default=1) | list",
		"select | list", "select('odd') | list", "select('string') | list", "reject('none') | list", "reject | list", "selectattr('x', 'gt', 1) | list", "rejectattr('x', 'equalto', 1) | list", "selectattr('y') | list", "groupby('g')", "groupby('g') | map('last') | list", "groupby('x', default=0) | list", "batch(2) | list", "batch(2, 'z') | list",
		"slice(2) | list", "slice(3, 0) | list", "map('string') | list", "map('default', 'u') | list", "map(attribute='y', default='no') | list", "unique(attribute='g') | list", "first", "last", "map('length') | list", "select('in', [1, 'x', 3]) | list", "select('>', 1) | list", "map('tojson') | list", "reject('defined') | list", "max", "join(', ') | list")
}

func (g *generator) dict() string {
	return g.pick("d", "de", "dn", "job", "job.params", "{'a': "+g.expr()+"}", "{'a': 1, 'b': "+g.expr()+", 'a': 2}", "{1: 'x', 'n': none, (1, 2): "+g.expr()+"}", "dict(a=1, b="+g.expr()+")", "dict(d, z=1)", "rows[0]", "{'x': {'y': "+g.expr()+"}}", "d.copy()", "{"+g.expr()+": 1}", "dict([('a', 1)])")
}

func (g *generator) boolean() string {
	g.depth++
	defer func() { g.depth-- }()
	if g.depth > 7 {
		return "yes"
	}
	switch g.r.IntN(6) {
	case 0:
		return g.operand() + g.pick(" == ", " != ", " < ", " <= ", " > ", " >= ", " in ", " not in ") + g.operand() + g.pick("", "", " < "+g.operand(), " == "+g.num())
	case 1:
		return "not " + g.expr()
	case 2:
		return g.expr() + g.pick(" and ", " or ") + g.expr()
	case 3:
		return g.operand() + " is " + g.pick("", "not ") + g.pick("defined", "undefined", "none", "string", "number", "mapping", "sequence", "iterable", "callable", "odd", "even", "divisibleby 3", "divisibleby(2)", "boolean", "true", "false", "integer", "float", "lower", "upper", "escaped", "sameas none", "in [1, 's', none]", "eq 7", "ne(s)", "gt 1", "lessthan 3", "ge(n)", "filter", "test", "equalto s")
	case 4:
		return g.pick("'a'", "1", "n", "s", "'x'", g.operand()) + g.pick(" in ", " not in ") + g.pick("d", "l", "ls", "s", "lm", "dn", "d.keys()", "d.values()", "range(5)", "ls | join(' ')", "(1, 'a')", g.operand())
	}
	return g.operand() + g.pick(" == ", " != ") + g.operand()
}
