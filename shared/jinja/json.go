package jinja

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf16"
)

var htmlSafe = strings.NewReplacer("<", `\u003c`, ">", `\u003e`, "&", `\u0026`, "'", `\u0027`)

// htmlJSON is what the filter tojson gives: Python's json.dumps with sorted
// keys, safe inside HTML.
func (m *machine) htmlJSON(v, indent Value) string {
	j := &jsonWriter{m: m, inside: map[Value]bool{}, between: ", "}
	if indent != nil {
		j.between = ","
		j.indent, j.pretty = j.indentOf(indent), true
	}
	j.write(v)
	return m.text(htmlSafe.Replace(j.out.String()))
}

// MarshalJSON is the dict as JSON, its keys sorted.
func (d *Dict) MarshalJSON() ([]byte, error) { return marshal(d) }

// MarshalJSON is the list as JSON.
func (l *List) MarshalJSON() ([]byte, error) { return marshal(l) }

func marshal(v Value) (text []byte, err error) {
	defer func() {
		if e := caught(recover()); e != nil {
			err = &Error{Class: e.class, Text: e.text}
		}
	}()
	j := &jsonWriter{m: &machine{ctx: context.Background()}, inside: map[Value]bool{}, between: ", "}
	j.write(v)
	return []byte(j.out.String()), nil
}

type jsonWriter struct {
	m       *machine
	out     strings.Builder
	inside  map[Value]bool
	between string
	pretty  bool
	indent  string
	depth   int
}

func (j *jsonWriter) indentOf(v Value) string {
	if text, ok := str(v); ok {
		return text
	}
	return asText(j.m.binary("*", " ", v))
}

func (j *jsonWriter) write(v Value) {
	defer j.m.level()()
	switch v := v.(type) {
	case nil:
		j.out.WriteString("null")
	case bool:
		fmt.Fprint(&j.out, v)
	case float64:
		j.out.WriteString(jsonFloat(v))
	case string:
		j.text(v)
	case Markup:
		j.text(string(v))
	case *List:
		j.list(v, v.Items)
	case *Tuple:
		j.list(v, v.items)
	case *Dict:
		j.dict(v)
	default:
		if !isInt(v) {
			raise(typeError, "object of type %s is not JSON serializable", typeName(v))
		}
		j.out.WriteString(j.m.repr(v))
	}
}

func jsonFloat(f float64) string {
	text := floatRepr(f)
	if other, ok := map[string]string{"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}[text]; ok {
		return other
	}
	return text
}

func (j *jsonWriter) text(s string) {
	j.m.spend(len(s))
	j.out.WriteByte('"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			j.out.WriteString(`\` + string(c))
		case c >= ' ' && c < 0x7f:
			j.out.WriteRune(c)
		case strings.ContainsRune("\n\r\t\b\f", c):
			j.out.WriteString(map[rune]string{'\n': `\n`, '\r': `\r`, '\t': `\t`, '\b': `\b`, '\f': `\f`}[c])
		case c > 0xffff:
			high, low := utf16.EncodeRune(c)
			fmt.Fprintf(&j.out, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&j.out, `\u%04x`, c)
		}
	}
	j.out.WriteByte('"')
}

// nested writes a container of n items.
func (j *jsonWriter) nested(v Value, brackets string, n int, item func(i int)) {
	if n == 0 {
		j.out.WriteString(brackets)
		return
	}
	if j.inside[v] {
		raise(valueError, "circular reference detected")
	}
	j.inside[v] = true
	j.depth++
	j.out.WriteByte(brackets[0])
	for i := range n {
		if i > 0 {
			j.out.WriteString(j.between)
		}
		j.newline()
		item(i)
	}
	j.depth--
	j.newline()
	j.out.WriteByte(brackets[1])
	delete(j.inside, v)
}

func (j *jsonWriter) newline() {
	if j.pretty {
		j.out.WriteString("\n" + j.m.text(strings.Repeat(j.indent, j.depth)))
	}
}

func (j *jsonWriter) list(v Value, items []Value) {
	j.nested(v, "[]", len(items), func(i int) { j.write(items[i]) })
}

func (j *jsonWriter) dict(d *Dict) {
	keys := j.m.sorted(d.keys(), func(k Value) Value { return k }, false)
	j.nested(d, "{}", len(keys), func(i int) {
		value, _ := d.Get(keys[i])
		j.key(keys[i])
		j.out.WriteString(": ")
		j.write(value)
	})
}

func (j *jsonWriter) key(k Value) {
	switch k := k.(type) {
	case string, Markup:
		j.write(k)
		return
	case nil:
		j.out.WriteString(`"null"`)
		return
	case bool:
		fmt.Fprintf(&j.out, `"%t"`, k)
		return
	case float64:
		j.out.WriteString(`"` + jsonFloat(k) + `"`)
		return
	}
	if !isInt(k) {
		raise(typeError, "keys must be str, int, float, bool or None, not %s", typeName(k))
	}
	j.out.WriteString(`"` + j.m.repr(k) + `"`)
}
