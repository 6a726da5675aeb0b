package jobdef

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// dict and list are what JSON objects and arrays are in a template; printed,
// they are Python literals.
type (
	dict map[string]any
	list []any
)

// String is the dict as a Python literal, its keys sorted.
func (d dict) String() string { return literal(d) }

// String is the list as a Python literal.
func (l list) String() string { return literal(l) }

func literal(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case bool:
		if v {
			return "True"
		}
		return "False"
	case string:
		return pythonString(v)
	case float64:
		text := strconv.FormatFloat(v, 'g', -1, 64)
		if !strings.ContainsAny(text, ".eIN") {
			text += ".0"
		}
		return text
	case dict:
		items := make([]string, 0, len(v))
		for _, key := range slices.Sorted(maps.Keys(v)) {
			items = append(items, pythonString(key)+": "+literal(v[key]))
		}
		return "{" + strings.Join(items, ", ") + "}"
	case list:
		items := make([]string, 0, len(v))
		for _, item := range v {
			items = append(items, literal(item))
		}
		return "[" + strings.Join(items, ", ") + "]"
	}
	return fmt.Sprint(v)
}

// pythonString quotes as Python's repr does: with ' unless only " is free.
func pythonString(s string) string {
	quote := '\''
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		quote = '"'
	}
	var out strings.Builder
	out.WriteRune(quote)
	for _, c := range s {
		switch {
		case c == quote || c == '\\':
			out.WriteRune('\\')
			out.WriteRune(c)
		case c == '\n':
			out.WriteString(`\n`)
		case c == '\r':
			out.WriteString(`\r`)
		case c == '\t':
			out.WriteString(`\t`)
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&out, `\x%02x`, c)
		case !strconv.IsPrint(c) && c <= 0xff:
			fmt.Fprintf(&out, `\x%02x`, c)
		case !strconv.IsPrint(c) && c <= 0xffff:
			fmt.Fprintf(&out, `\u%04x`, c)
		case !strconv.IsPrint(c):
			fmt.Fprintf(&out, `\U%08x`, c)
		default:
			out.WriteRune(c)
		}
	}
	out.WriteRune(quote)
	return out.String()
}
