package jinja

import (
	"fmt"
	"math/big"
	"strings"
	"unicode"
	"unicode/utf8"
)

// str is Python's str().
func (m *machine) str(v Value) string {
	switch v := v.(type) {
	case string:
		return v
	case Markup:
		return string(v)
	case *Undefined:
		return ""
	case *module:
		return v.out.text(m)
	}
	return m.repr(v)
}

// repr is Python's repr().
func (m *machine) repr(v Value) string {
	var out strings.Builder
	r := &representer{m: m, out: &out, inside: map[Value]bool{}}
	r.write(v)
	return m.text(out.String())
}

type representer struct {
	m      *machine
	out    *strings.Builder
	inside map[Value]bool // what is being written, and would begin again
}

func (r *representer) write(v Value) {
	defer r.m.level()()
	if r.out.Len() > maxMemory {
		r.m.spend(maxMemory + 1)
	}
	switch v := v.(type) {
	case *List:
		r.nested(v, "[", "]", func() { r.list(v.Items) })
	case *Tuple:
		r.nested(v, "(", ")", func() {
			r.list(v.items)
			if len(v.items) == 1 {
				r.out.WriteString(",")
			}
		})
	case *Dict:
		r.nested(v, "{", "}", func() { r.pairs(v) })
	case *view:
		r.nested(v, "dict_"+v.kind+"([", "])", func() {
			r.list(r.m.items(v))
		})
	case *namespace:
		r.nested(v, "<Namespace ", ">", func() { r.write(v.attrs) })
	default:
		r.out.WriteString(r.m.scalarRepr(v))
	}
}

// nested writes a container, or three dots if it is inside itself.
func (r *representer) nested(v Value, begin, end string, content func()) {
	r.out.WriteString(begin)
	if r.inside[v] {
		r.out.WriteString("...")
	} else {
		r.inside[v] = true
		content()
		delete(r.inside, v)
	}
	r.out.WriteString(end)
}

func (r *representer) list(items []Value) {
	for i, item := range items {
		if i > 0 {
			r.out.WriteString(", ")
		}
		r.write(item)
	}
}

func (r *representer) pairs(d *Dict) {
	first := true
	for k, v := range d.All {
		if !first {
			r.out.WriteString(", ")
		}
		first = false
		r.write(k)
		r.out.WriteString(": ")
		r.write(v)
	}
}

func (m *machine) scalarRepr(v Value) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case bool:
		if v {
			return "True"
		}
		return "False"
	case int:
		return fmt.Sprint(v)
	case *big.Int:
		return intText(v)
	case float64:
		return floatRepr(v)
	case string:
		return quote(m, v)
	case Markup:
		return "Markup(" + quote(m, string(v)) + ")"
	case *Undefined:
		return "Undefined"
	case special:
		return string(v)
	case *pyRange:
		if v.step != 1 {
			return fmt.Sprintf("range(%d, %d, %d)", v.start, v.stop, v.step)
		}
		return fmt.Sprintf("range(%d, %d)", v.start, v.stop)
	case fmt.Stringer:
		return v.String()
	}
	raise(unsupported, "printing a %s: in Python its address would show", typeName(v))
	return ""
}

// quote is Python's repr of a str: with ' unless only " is free.
func quote(m *machine, s string) string {
	m.spend(len(s))
	mark := '\''
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		mark = '"'
	}
	var out strings.Builder
	out.WriteRune(mark)
	for len(s) > 0 {
		c, n := utf8.DecodeRuneInString(s)
		if c == utf8.RuneError && n == 1 {
			out.WriteByte(s[0])
		} else if c == mark {
			out.WriteString(`\` + string(mark))
		} else {
			out.WriteString(escapeUnprintable(c))
		}
		s = s[n:]
	}
	out.WriteRune(mark)
	return out.String()
}

func escapeUnprintable(c rune) string {
	switch c {
	case '\\':
		return `\\`
	case '\n':
		return `\n`
	case '\r':
		return `\r`
	case '\t':
		return `\t`
	}
	if unicode.IsPrint(c) {
		return string(c)
	}
	return escapeRune(c)
}

// escapeRune is a character as its code.
func escapeRune(c rune) string {
	switch {
	case c <= 0xff:
		return fmt.Sprintf(`\x%02x`, c)
	case c <= 0xffff:
		return fmt.Sprintf(`\u%04x`, c)
	}
	return fmt.Sprintf(`\U%08x`, c)
}
