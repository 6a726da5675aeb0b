package jinja

import (
	"strings"
)

// percentSpec is one %... of a text.
type percentSpec struct {
	key              string
	hasKey           bool
	minus, plus      bool
	space, alt, zero bool
	width, precision int // precision -1: none
	verb             rune
}

// percentArgs hands out the arguments of %.
type percentArgs struct {
	items   []Value
	used    int
	mapping Value // nil: it is none
}

func (p *percentArgs) next() Value {
	if p.used >= len(p.items) {
		raise(typeError, "not enough arguments for format string")
	}
	p.used++
	return p.items[p.used-1]
}

// percent is Python's str % value; a Markup escapes what it takes in.
func (m *machine) percent(of Value, format string, value Value) Value {
	args := &percentArgs{items: []Value{value}}
	if t, ok := value.(*Tuple); ok {
		args.items = t.items
	} else if m.isMapping(value) {
		args.mapping = value
	}
	_, escaping := of.(Markup)
	var out strings.Builder
	list := runes(format)
	for i := 0; i < len(list); i++ {
		if list[i] != "%" {
			out.WriteString(list[i])
			continue
		}
		var spec percentSpec
		spec, i = parsePercent(list, i+1, args)
		if spec.verb == '%' {
			out.WriteString("%")
			continue
		}
		out.WriteString(m.text(m.percentOne(spec, args, escaping)))
	}
	if args.used < len(args.items) && args.mapping == nil {
		raise(typeError, "not all arguments converted during string formatting")
	}
	return like(of, m.text(out.String()))
}

// isMapping says what Python takes for a mapping here: all that has items.
func (m *machine) isMapping(v Value) bool {
	switch v.(type) {
	case *Dict, *List, *pyRange, *Undefined, *templateRef:
		return true
	}
	return false
}

// percentReader reads what stands between a % and its verb.
type percentReader struct {
	list []string
	i    int
	args *percentArgs
}

func (p *percentReader) at() string {
	if p.i >= len(p.list) {
		raise(valueError, "incomplete format")
	}
	return p.list[p.i]
}

// parsePercent reads a spec that begins at i, and gives the place of its verb.
func parsePercent(list []string, i int, args *percentArgs) (percentSpec, int) {
	p := &percentReader{list, i, args}
	spec := percentSpec{precision: -1}
	if p.at() == "(" {
		spec.key, spec.hasKey = p.key(), true
	}
	p.flags(&spec)
	if spec.width = p.number(); spec.width < 0 {
		spec.minus, spec.width = true, -spec.width
	}
	if p.at() == "." {
		p.i++
		spec.precision = max(p.number(), 0)
	}
	if strings.Contains("hlL", p.at()) {
		p.i++
	}
	spec.verb = []rune(p.at())[0]
	return spec, p.i
}

// key reads "(key)", in which brackets may nest.
func (p *percentReader) key() string {
	if p.args.mapping == nil {
		raise(typeError, "format requires a mapping")
	}
	depth, begin := 1, p.i+1
	for depth > 0 {
		p.i++
		depth += map[string]int{"(": 1, ")": -1}[p.at()]
	}
	p.i++
	return strings.Join(p.list[begin:p.i-1], "")
}

func (p *percentReader) flags(spec *percentSpec) {
	flags := map[string]*bool{"-": &spec.minus, "+": &spec.plus, " ": &spec.space, "#": &spec.alt, "0": &spec.zero}
	for flag := flags[p.at()]; flag != nil; flag = flags[p.at()] {
		*flag = true
		p.i++
	}
}

// number reads a width or a precision, which "*" takes from the arguments.
func (p *percentReader) number() int {
	if p.at() == "*" {
		p.i++
		v := p.args.next()
		if !isInt(v) {
			raise(typeError, "* wants int")
		}
		return index(v)
	}
	n := 0
	for ; strings.Contains(decimal, p.at()); p.i++ {
		if n = n*10 + int(p.at()[0]-'0'); n > maxMemory {
			raise(valueError, "width too big")
		}
	}
	return n
}

func (m *machine) percentOne(spec percentSpec, args *percentArgs, escaping bool) string {
	var v Value
	if spec.hasKey {
		v = m.item(args.mapping, spec.key)
	} else {
		v = args.next()
	}
	switch spec.verb {
	case 's', 'r', 'a':
		return m.padPercent(spec, cut(m.percentText(spec.verb, v, escaping), spec.precision))
	case 'c':
		return m.padPercent(spec, percentChar(v))
	case 'd', 'i', 'u', 'o', 'x', 'X':
		return m.padPercent(spec, m.percentInt(spec, v))
	case 'e', 'E', 'f', 'F', 'g', 'G':
		f := m.percentFloat(v)
		precision := spec.precision
		if precision < 0 {
			precision = 6
		}
		m.spend(precision)
		return m.padPercent(spec, signOf(f, spec)+formatFloat(f, byte(spec.verb), precision, spec.alt))
	}
	raise(valueError, "unsupported format character %q", spec.verb)
	return ""
}

func cut(s string, n int) string {
	if n < 0 || size(s) <= n {
		return s
	}
	return strings.Join(runes(s)[:n], "")
}

func (m *machine) percentText(verb rune, v Value, escaping bool) string {
	switch {
	case verb == 's' && escaping:
		return escape(m.soft(v))
	case verb == 's':
		return m.str(v)
	case verb == 'a':
		return m.ascii(v)
	case escaping:
		return escape(m.repr(v))
	}
	return m.repr(v)
}

// ascii is Python's ascii().
func (m *machine) ascii(v Value) string {
	var out strings.Builder
	for _, c := range m.repr(v) {
		if c < 0x7f {
			out.WriteRune(c)
		} else {
			out.WriteString(escapeRune(c))
		}
	}
	return out.String()
}

func percentChar(v Value) string {
	if s, ok := str(v); ok {
		if size(s) != 1 {
			raise(typeError, "%%c requires int or char")
		}
		return s
	}
	if !isInt(v) {
		raise(typeError, "%%c requires int or char")
	}
	return char(index(v))
}

// char is the character of a code.
func char(c int) string {
	if c < 0 || c > 0x10ffff {
		raise(overflowError, "%%c arg not in range(0x110000)")
	}
	if c >= 0xd800 && c < 0xe000 {
		raise(unsupported, "half of a surrogate pair")
	}
	return string(rune(c))
}

func (m *machine) percentFloat(v Value) float64 {
	if _, isText := str(v); isText {
		raise(typeError, "must be real number, not str")
	}
	return m.float(v)
}

func signOf(v Value, spec percentSpec) string {
	switch {
	case isNegative(v):
		return "-"
	case spec.plus:
		return "+"
	case spec.space:
		return " "
	}
	return ""
}

func (m *machine) percentInt(spec percentSpec, v Value) string {
	if f, ok := v.(float64); ok && strings.ContainsRune("diu", spec.verb) {
		v = m.integer(f)
	}
	i, ok := toBig(v)
	if !ok {
		if u, is := v.(*Undefined); is && strings.ContainsRune("diu", spec.verb) {
			u.raise()
		}
		raise(typeError, "%%%c format: a real number is required, not %s", spec.verb, typeName(v))
	}
	m.spend(i.BitLen() / 3)
	base := map[rune]int{'o': 8, 'x': 16, 'X': 16}[spec.verb]
	digits := ""
	if base == 0 {
		digits = strings.TrimPrefix(intText(i), "-")
	} else {
		digits = strings.TrimPrefix(i.Text(base), "-")
	}
	if missing := spec.precision - len(digits); missing > 0 {
		m.spend(missing)
		digits = strings.Repeat("0", missing) + digits
	}
	if spec.alt {
		digits = map[rune]string{'o': "0o", 'x': "0x", 'X': "0x"}[spec.verb] + digits
	}
	if spec.verb == 'X' {
		digits = strings.ToUpper(digits)
	}
	return signOf(norm(i), spec) + digits
}

// padPercent fills a converted value to its width.
func (m *machine) padPercent(spec percentSpec, s string) string {
	missing := spec.width - size(s)
	if missing <= 0 {
		return s
	}
	m.spend(missing)
	numeric := strings.ContainsRune("diuoxXeEfFgG", spec.verb)
	switch {
	case spec.minus:
		return s + strings.Repeat(" ", missing)
	case spec.zero && numeric:
		head := len(s) - len(strings.TrimLeft(s, "+- "))
		if spec.alt && strings.ContainsRune("oxX", spec.verb) {
			head += 2
		}
		return s[:head] + strings.Repeat("0", missing) + s[head:]
	}
	return strings.Repeat(" ", missing) + s
}
