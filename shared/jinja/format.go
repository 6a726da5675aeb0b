package jinja

import (
	"math"
	"strconv"
	"strings"
)

// formatSpec is Python's format specification: what stands behind the colon.
type formatSpec struct {
	fill      string
	align     byte // 0: none given
	sign      byte
	alt       bool
	width     int
	grouping  string
	precision int // -1: none
	verb      byte
}

// formatter reads the fields of a text for str.format.
type formatter struct {
	m        *machine
	of       Value
	args     []Value
	named    func(string) Value
	auto     int
	manual   bool
	depth    int
	escaping bool
}

func (m *machine) format(of Value, args []Value, named func(string) Value) Value {
	f := &formatter{m: m, of: of, args: args, named: named}
	_, f.escaping = of.(Markup)
	return like(of, m.text(f.expand(asText(of))))
}

func (f *formatter) expand(s string) string {
	if f.depth++; f.depth > 2 {
		raise(valueError, "max string recursion exceeded")
	}
	defer func() { f.depth-- }()
	var out strings.Builder
	for s != "" {
		i := strings.IndexAny(s, "{}")
		if i < 0 {
			out.WriteString(s)
			break
		}
		out.WriteString(s[:i])
		c, rest := s[i], s[i+1:]
		switch {
		case strings.HasPrefix(rest, string(c)):
			out.WriteByte(c)
			s = rest[1:]
		case c == '}':
			raise(valueError, "single '}' encountered in format string")
		default:
			end := fieldEnd(rest)
			out.WriteString(f.field(rest[:end]))
			s = rest[end+1:]
		}
	}
	return out.String()
}

// fieldEnd is the place of the bracket that closes a field.
func fieldEnd(s string) int {
	depth, inIndex := 1, false
	for i := range len(s) {
		switch {
		case s[i] == '[':
			inIndex = true
		case s[i] == ']':
			inIndex = false
		case inIndex && depth == 1:
		case s[i] == '{':
			depth++
		case s[i] == '}':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	raise(valueError, "expected '}' before end of string")
	return 0
}

// field is a field's value in its form.
func (f *formatter) field(s string) string {
	name, spec, conversion := s, "", ""
	if i := nameEnd(s); i >= 0 {
		name = s[:i]
		if s[i] == ':' {
			spec = s[i+1:]
		} else {
			conversion, spec, _ = strings.Cut(s[i+1:], ":")
			if size(conversion) != 1 {
				raise(valueError, "expected one character after '!'")
			}
		}
	}
	v := f.lookup(name)
	switch conversion {
	case "":
	case "s":
		v = f.m.str(v)
	case "r":
		v = f.m.repr(v)
	case "a":
		v = f.m.ascii(v)
	default:
		raise(valueError, "unknown conversion specifier")
	}
	if strings.ContainsAny(spec, "{}") {
		spec = f.expand(spec)
	}
	if f.escaping {
		return f.escaped(v, spec)
	}
	return f.m.formatted(v, spec)
}

func (f *formatter) escaped(v Value, spec string) string {
	if s, ok := v.(Markup); ok {
		if spec != "" {
			raise(valueError, "unsupported format specification for Markup")
		}
		return string(s)
	}
	return escaper.Replace(f.m.formatted(v, spec))
}

// nameEnd is where the name in a field ends; -1: it is all.
func nameEnd(s string) int {
	inIndex := false
	for i := range len(s) {
		switch {
		case s[i] == '[':
			inIndex = true
		case s[i] == ']':
			inIndex = false
		case inIndex:
		case s[i] == ':' || s[i] == '!':
			return i
		case s[i] == '{':
			raise(valueError, "unexpected '{' in field name")
		}
	}
	return -1
}

// lookup finds "name.attribute[index]".
func (f *formatter) lookup(name string) Value {
	end := strings.IndexAny(name, ".[")
	if end < 0 {
		end = len(name)
	}
	v := f.argument(name[:end])
	for rest := name[end:]; rest != ""; {
		if rest[0] == '[' {
			i := strings.IndexByte(rest, ']')
			if i < 2 {
				raise(valueError, "missing ']' or empty attribute in format string")
			}
			v = f.m.item(v, indexOrKey(rest[1:i]))
			rest = rest[i+1:]
			if rest != "" && rest[0] != '.' && rest[0] != '[' {
				raise(valueError, "only '.' or '[' may follow ']' in format field specifier")
			}
			continue
		}
		end := strings.IndexAny(rest[1:], ".[") + 1
		if end == 0 {
			end = len(rest)
		}
		if end == 1 {
			raise(valueError, "empty attribute in format string")
		}
		attr, ok := f.m.attribute(v, rest[1:end])
		if !ok {
			raise(attributeError, "'%s' object has no attribute '%s'", typeName(v), rest[1:end])
		}
		v, rest = attr, rest[end:]
	}
	return v
}

func indexOrKey(s string) Value {
	if n := digits(s, decimal); n > 0 && n == len(s) && !strings.Contains(s, "_") {
		return parseInt(s, 10)
	}
	return s
}

func (f *formatter) argument(name string) Value {
	i, ok := indexOrKey(name).(int)
	switch {
	case name == "":
		if f.manual {
			raise(valueError, "cannot switch from manual field specification to automatic field numbering")
		}
		i = f.auto
		f.auto++
	case ok:
		if f.auto > 0 {
			raise(valueError, "cannot switch from automatic field numbering to manual field specification")
		}
		f.manual = true
	default:
		return f.named(name)
	}
	if i >= len(f.args) {
		raise(indexError, "replacement index %d out of range for positional args tuple", i)
	}
	return f.args[i]
}

// formatted is Python's format(value, spec).
func (m *machine) formatted(v Value, text string) string {
	if text == "" {
		return m.str(v)
	}
	switch {
	case isNumber(v):
		return m.formatNumber(v, parseFormat(text))
	default:
		s, ok := str(v)
		if !ok {
			raise(typeError, "unsupported format string passed to %s.__format__", typeName(v))
		}
		spec := parseFormat(text)
		if spec.verb != 0 && spec.verb != 's' || spec.sign != 0 || spec.alt || spec.grouping != "" || spec.align == '=' {
			raise(valueError, "format %q does not go with a string", text)
		}
		return m.padFormat(spec, "", cut(s, spec.precision), '<')
	}
}

func parseFormat(s string) formatSpec {
	spec := formatSpec{fill: " ", precision: -1}
	list := runes(s)
	take := func(set string) byte {
		if len(list) > 0 && len(list[0]) == 1 && strings.Contains(set, list[0]) {
			c := list[0][0]
			list = list[1:]
			return c
		}
		return 0
	}
	number := func() (n int, ok bool) {
		for c := take(decimal); c != 0; c = take(decimal) {
			if n = n*10 + int(c-'0'); n > maxMemory {
				raise(valueError, "too many decimal digits in format string")
			}
			ok = true
		}
		return n, ok
	}
	if len(list) > 1 && len(list[1]) == 1 && strings.Contains("<>=^", list[1]) {
		spec.fill, list = list[0], list[1:]
	}
	spec.align = take("<>=^")
	spec.sign = take("+- ")
	if take("z") != 0 {
		raise(unsupported, "the z in a format")
	}
	spec.alt = take("#") != 0
	if take("0") != 0 && spec.align == 0 {
		spec.fill, spec.align = "0", '0'
	}
	spec.width, _ = number()
	for c := take(",_"); c != 0; c = take(",_") {
		spec.grouping += string(c)
	}
	if take(".") != 0 {
		var ok bool
		if spec.precision, ok = number(); !ok {
			raise(valueError, "format specifier missing precision")
		}
	}
	spec.verb = take("bcdoxXneEfFgG%s")
	if len(list) > 0 || len(spec.grouping) > 1 {
		raise(valueError, "invalid format specifier %q", s)
	}
	return spec
}

func (m *machine) formatNumber(v Value, spec formatSpec) string {
	f, isFloat := v.(float64)
	switch {
	case !isFloat && (spec.verb == 0 || strings.IndexByte("bcdoxXn", spec.verb) >= 0):
		return m.formatInt(v, spec)
	case spec.verb == 0 || strings.IndexByte("eEfFgGn%", spec.verb) >= 0:
		if !isFloat {
			f = toFloat(v)
		}
		return m.formatReal(f, spec)
	}
	raise(valueError, "unknown format code '%c' for object of type '%s'", spec.verb, typeName(v))
	return ""
}

func (m *machine) formatInt(v Value, spec formatSpec) string {
	i, _ := toBig(v)
	if spec.precision >= 0 {
		raise(valueError, "precision not allowed in integer format specifier")
	}
	if spec.verb == 'c' {
		if spec.sign != 0 || spec.alt || spec.grouping != "" {
			raise(valueError, "sign not allowed with integer format specifier 'c'")
		}
		return m.padFormat(spec, "", char(index(v)), '>')
	}
	bases := map[byte]int{'b': 2, 'o': 8, 'x': 16, 'X': 16}
	digits, prefix, every := "", "", 4
	if base := bases[spec.verb]; base != 0 {
		if spec.grouping == "," {
			raise(valueError, "cannot specify ',' with '%c'", spec.verb)
		}
		m.spend(i.BitLen())
		digits = strings.TrimPrefix(i.Text(base), "-")
		if spec.alt {
			prefix = "0" + string(spec.verb)
		}
		if spec.verb == 'X' {
			digits = strings.ToUpper(digits)
		}
	} else {
		if spec.verb == 'n' && spec.grouping != "" {
			raise(valueError, "cannot specify '%s' with 'n'", spec.grouping)
		}
		digits, every = strings.TrimPrefix(intText(i), "-"), 3
	}
	head := spec.signText(isNegative(norm(i))) + prefix
	return m.padGrouped(spec, head, digits, "", every)
}

func (s formatSpec) signText(negative bool) string {
	switch {
	case negative:
		return "-"
	case s.sign == '+' || s.sign == ' ':
		return string(s.sign)
	}
	return ""
}

func (m *machine) formatReal(f float64, spec formatSpec) string {
	precision, verb := spec.precision, spec.verb
	if spec.verb == 'n' && spec.grouping != "" {
		raise(valueError, "cannot specify '%s' with 'n'", spec.grouping)
	}
	suffix := ""
	if verb == '%' {
		f, verb, suffix = f*100, 'f', "%"
	}
	var text string
	switch {
	case verb == 0 && precision < 0:
		text = floatRepr(math.Abs(f))
	case verb == 0:
		text = formatGeneral(math.Abs(f), precision, spec.alt)
	default:
		if verb == 'n' {
			verb = 'g'
		}
		if precision < 0 {
			precision = 6
		}
		m.spend(precision)
		text = formatFloat(f, verb, precision, spec.alt)
	}
	text += suffix
	whole := len(text) - len(strings.TrimLeft(text, decimal))
	return m.padGrouped(spec, spec.signText(isNegative(f)), text[:whole], text[whole:], 3)
}

// formatGeneral is the form of a float without a letter: as g, but with a digit
// behind the point.
func formatGeneral(f float64, precision int, alt bool) string {
	precision = max(precision, 1)
	text := formatFloat(f, 'g', precision, alt)
	if strings.ContainsAny(text, "enia") {
		return text
	}
	if !strings.Contains(text, ".") {
		if len(text) >= precision && precision > 0 && len(text) == precision {
			return formatFloat(f, 'e', precision-1, false)
		}
		text += ".0"
	}
	return text
}

// formatFloat is a float's size in C's forms e, f and g.
func formatFloat(f float64, verb byte, precision int, alt bool) string {
	f = math.Abs(f)
	lower := verb | 0x20
	var text string
	switch {
	case math.IsInf(f, 0):
		text = "inf"
	case math.IsNaN(f):
		text = "nan"
	case lower == 'g':
		text = generalForm(f, max(precision, 1), alt)
	default:
		text = strconv.FormatFloat(f, lower, precision, 64)
		if alt && precision == 0 {
			mantissa, exponent, found := strings.Cut(text, "e")
			text = mantissa + "."
			if found {
				text += "e" + exponent
			}
		}
	}
	if verb != lower {
		text = strings.ToUpper(text)
	}
	return text
}

// generalForm is C's %g.
func generalForm(f float64, precision int, alt bool) string {
	scientific := strconv.FormatFloat(f, 'e', precision-1, 64)
	mantissa, exponent, _ := strings.Cut(scientific, "e")
	exp, _ := strconv.Atoi(exponent)
	if exp >= -4 && exp < precision {
		text := strconv.FormatFloat(f, 'f', precision-1-exp, 64)
		return trimZeros(text, alt)
	}
	return trimZeros(mantissa, alt) + "e" + exponent
}

func trimZeros(s string, alt bool) string {
	if alt {
		if !strings.Contains(s, ".") {
			s += "."
		}
		return s
	}
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}

// padGrouped parts the digits in groups, and fills the number to its width.
func (m *machine) padGrouped(spec formatSpec, head, digits, tail string, every int) string {
	if spec.align == '0' || spec.align == '=' && spec.fill == "0" {
		room := spec.width - len(head) - size(tail)
		m.spend(max(room, 0))
		return head + group(digits, spec.grouping, every, room) + tail
	}
	return m.padFormat(spec, head, group(digits, spec.grouping, every, 0)+tail, '>')
}

// group parts digits with a mark, with zeros before them up to a width.
func group(digits, mark string, every, width int) string {
	if mark == "" {
		return strings.Repeat("0", max(width-len(digits), 0)) + digits
	}
	if digits == "" {
		return digits
	}
	var parts []string
	length := 0
	for {
		n := min(every, len(digits))
		part := digits[len(digits)-n:]
		digits = digits[:len(digits)-n]
		rest := width - length
		if len(parts) > 0 {
			rest--
		}
		if missing := min(every, rest) - len(part); digits == "" && missing > 0 {
			part = strings.Repeat("0", missing) + part
		}
		parts = append([]string{part}, parts...)
		length = len(strings.Join(parts, mark))
		if digits == "" && length >= width {
			return strings.Join(parts, mark)
		}
		if digits == "" {
			digits = "0"
		}
	}
}

func (m *machine) padFormat(spec formatSpec, head, body string, otherwise byte) string {
	align := spec.align
	if align == 0 || align == '0' && otherwise == '<' {
		align = otherwise
	}
	missing := spec.width - size(head) - size(body)
	if missing <= 0 {
		return head + body
	}
	m.spend(m.product(missing, len(spec.fill)))
	fill := func(n int) string { return strings.Repeat(spec.fill, n) }
	switch align {
	case '<':
		return head + body + fill(missing)
	case '^':
		return fill(missing/2) + head + body + fill(missing-missing/2)
	case '=', '0':
		return head + fill(missing) + body
	}
	return fill(missing) + head + body
}
