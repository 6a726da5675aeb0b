package jinja

import (
	"context"
	"fmt"
	"regexp"
	"strings"
)

// YAML is a value as PyYAML's yaml.dump(value, indent=2) writes it: block style,
// sorted keys, lines folded at 80 characters, and an anchor for what is there
// twice. Its errors are *Error.
func YAML(ctx context.Context, v Value) (text string, err error) {
	defer func() {
		if e := caught(recover()); e != nil {
			text, err = "", &Error{Class: e.class, Text: e.text}
		}
	}()
	return (&machine{ctx: ctx}).yaml(v), nil
}

func (m *machine) yaml(v Value) string {
	w := &yamlWriter{m: m, indent: -1, whitespace: true, indention: true, anchors: map[Value]string{}, written: map[Value]bool{}}
	w.anchor(v)
	w.node(v, yamlRoot)
	w.writeIndent()
	if w.openEnded {
		w.indicator("...", true, false, false)
		w.writeIndent()
	}
	return m.text(w.out.String())
}

// yamlWriter is PyYAML's emitter, as far as dumping goes: the fields mean there
// what they mean here.
type yamlWriter struct {
	m          *machine
	out        strings.Builder
	column     int
	indent     int // -1: not yet any
	whitespace bool
	indention  bool
	openEnded  bool
	anchors    map[Value]string // "": it is there once
	ids        int
	written    map[Value]bool
}

type yamlPlace int

const (
	yamlRoot yamlPlace = iota
	yamlItem
	yamlValue
	yamlKey // a simple one
)

const (
	yamlWidth = 80
	yamlBreak = "\n\u0085\u2028\u2029"
)

// anchor names the containers that are there more than once.
func (w *yamlWriter) anchor(v Value) {
	defer w.m.level()()
	if !w.isContainer(v) {
		return
	}
	if id, again := w.anchors[v]; again {
		if id == "" {
			w.ids++
			w.anchors[v] = fmt.Sprintf("id%03d", w.ids)
		}
		return
	}
	w.anchors[v] = ""
	switch v := v.(type) {
	case *List:
		w.anchorAll(v.Items)
	case *Tuple:
		w.anchorAll(v.items)
	case *Dict:
		for _, pair := range w.pairs(v) {
			w.anchorAll(pair)
		}
	}
}

func (w *yamlWriter) anchorAll(items []Value) {
	for _, item := range items {
		w.anchor(item)
	}
}

// isContainer says what may be an alias: what is an object of its own.
func (w *yamlWriter) isContainer(v Value) bool {
	switch v := v.(type) {
	case *List, *Dict, *YAMLTime:
		return true
	case *Tuple:
		return len(v.items) > 0
	}
	return false
}

// pairs are a dict's items, sorted if they can be.
func (w *yamlWriter) pairs(d *Dict) [][]Value {
	items := w.m.items(&view{d, "items"})
	try(func() {
		items = w.m.sorted(items, func(item Value) Value { return item }, false)
	}, typeError)
	out := make([][]Value, len(items))
	for i, item := range items {
		out[i] = item.(*Tuple).items
	}
	return out
}

func (w *yamlWriter) node(v Value, place yamlPlace) {
	defer w.m.level()()
	if w.isContainer(v) {
		if id := w.anchors[v]; id != "" {
			if w.written[v] {
				w.indicator("*"+id, true, false, false)
				return
			}
			w.written[v] = true
			w.indicator("&"+id, true, false, false)
		}
	}
	switch v := v.(type) {
	case *List:
		w.sequence(v.Items, place)
	case *Tuple:
		w.indicator("!!python/tuple", true, false, false)
		w.sequence(v.items, place)
	case *Dict:
		w.mapping(v)
	default:
		w.scalar(v, place)
	}
}

// deeper writes what is indented one level more.
func (w *yamlWriter) deeper(indentless bool, write func()) {
	before := w.indent
	switch {
	case w.indent < 0:
		w.indent = 0
	case !indentless:
		w.indent += 2
	}
	write()
	w.indent = before
}

func (w *yamlWriter) sequence(items []Value, place yamlPlace) {
	if len(items) == 0 {
		w.indicator("[", true, true, false)
		w.indicator("]", false, false, false)
		return
	}
	w.deeper(place == yamlValue && !w.indention, func() {
		for _, item := range items {
			w.writeIndent()
			w.indicator("-", true, false, true)
			w.node(item, yamlItem)
		}
	})
}

func (w *yamlWriter) mapping(d *Dict) {
	if d.Len() == 0 {
		w.indicator("{", true, true, false)
		w.indicator("}", false, false, false)
		return
	}
	w.deeper(false, func() {
		for _, pair := range w.pairs(d) {
			w.writeIndent()
			if w.isSimple(pair[0]) {
				w.node(pair[0], yamlKey)
				w.indicator(":", false, false, false)
				w.node(pair[1], yamlValue)
				continue
			}
			w.indicator("?", true, false, true)
			w.node(pair[0], yamlValue)
			w.writeIndent()
			w.indicator(":", true, false, true)
			w.node(pair[1], yamlValue)
		}
	})
}

// isSimple says whether a key fits the line of its value.
func (w *yamlWriter) isSimple(key Value) bool {
	if t, ok := key.(*Tuple); ok {
		return len(t.items) == 0 || w.written[t]
	}
	if w.isContainer(key) && w.written[key] {
		return true
	}
	text, tag := w.scalarText(key)
	a := analyze(text)
	return len("!!"+tag)+size(text) < 128 && text != "" && !a.multiline
}

// scalarText is a scalar's text and its tag.
func (w *yamlWriter) scalarText(v Value) (text, tag string) {
	switch v := v.(type) {
	case nil:
		return "null", "null"
	case bool:
		return fmt.Sprint(v), "bool"
	case string:
		return v, "str"
	case *YAMLTime:
		return v.Text, "timestamp"
	case float64:
		text := floatRepr(v)
		switch {
		case text == "nan" || strings.HasSuffix(text, "inf"):
			return strings.NewReplacer("inf", ".inf", "nan", ".nan").Replace(text), "float"
		case !strings.Contains(text, "."):
			return strings.Replace(text, "e", ".0e", 1), "float"
		}
		return text, "float"
	}
	if !isInt(v) {
		raise(unsupported, "dumping a %s as YAML", typeName(v))
	}
	return w.m.repr(v), "int"
}

func (w *yamlWriter) scalar(v Value, place yamlPlace) {
	text, tag := w.scalarText(v)
	w.m.spend(2 * len(text))
	a := analyze(text)
	chars := runes(text)
	split := place != yamlKey
	defer func(before int) { w.indent = before }(w.indent)
	w.indent = max(w.indent, 0) + 2
	switch {
	case YAMLTag(text) == tag && a.blockPlain && !(place == yamlKey && (text == "" || a.multiline)):
		w.plain(chars, split, place == yamlRoot)
	case a.singleQuoted && !(place == yamlKey && a.multiline):
		w.singleQuoted(chars, split)
	default:
		w.doubleQuoted(chars, split)
	}
}

// YAMLTime is a date, or a date and time, in the form that PyYAML prints: an
// object, which can be there twice.
type YAMLTime struct{ Text string }

// yamlTypes are the forms of plain scalars in YAML 1.1; what has none is a str.
var yamlTypes = []struct {
	tag   string
	first string
	form  *regexp.Regexp
}{
	{"bool", "yYnNtTfFoO", regexp.MustCompile(`^(?:yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)\n?$`)},
	{"float", "-+0123456789.", regexp.MustCompile(`^(?:[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\n?$`)},
	{"int", "-+0123456789", regexp.MustCompile(`^(?:[-+]?0b[0-1_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+|[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+)\n?$`)},
	{"merge", "<", regexp.MustCompile(`^<<\n?$`)},
	{"null", "~nN", regexp.MustCompile(`^(?:~|null|Null|NULL)\n?$`)},
	{"timestamp", decimal, regexp.MustCompile(`^(?:[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{4}-[0-9][0-9]?-[0-9][0-9]?(?:[Tt]|[ \t]+)[0-9][0-9]?:[0-9]{2}:[0-9]{2}(?:\.[0-9]*)?(?:[ \t]*(?:Z|[-+][0-9][0-9]?(?::[0-9]{2})?))?)\n?$`)},
	{"value", "=", regexp.MustCompile(`^=\n?$`)},
	{"yaml", "!&*", regexp.MustCompile(`^[!&*]\n?$`)},
}

// YAMLTag is the type, by its short name, that YAML 1.1 gives a scalar without
// quotes: int, float, bool, null, timestamp, merge, value, yaml or str.
func YAMLTag(text string) string {
	if text == "" {
		return "null"
	}
	for _, t := range yamlTypes {
		if strings.IndexByte(t.first, text[0]) >= 0 && t.form.MatchString(text) {
			return t.tag
		}
	}
	return "str"
}

// analysis is how a text may be written.
type analysis struct{ multiline, blockPlain, singleQuoted bool }

const yamlSpace = "\x00 \t\r\n\u0085\u2028\u2029"

func analyze(text string) analysis {
	if text == "" {
		return analysis{blockPlain: true, singleQuoted: true}
	}
	list := []rune(text)
	after := func(i int) bool { return i >= len(list) || strings.ContainsRune(yamlSpace, list[i]) }
	indicators := strings.HasPrefix(text, "---") || strings.HasPrefix(text, "...") ||
		strings.ContainsRune("#,[]{}&*!|>'\"%@`", list[0]) || strings.ContainsRune("?:-", list[0]) && after(1)
	var multiline, special, breakSpace, spaceBreak bool
	var previous rune
	for i, c := range list {
		isBreak := strings.ContainsRune(yamlBreak, c)
		multiline = multiline || isBreak
		special = special || c != '\n' && (c < ' ' || c > '~')
		if i > 0 {
			indicators = indicators || c == ':' && after(i+1) || c == '#' && strings.ContainsRune(yamlSpace, list[i-1])
			breakSpace = breakSpace || c == ' ' && strings.ContainsRune(yamlBreak, previous)
			spaceBreak = spaceBreak || isBreak && previous == ' '
		}
		previous = c
	}
	ends := func(c rune) bool { return c == ' ' || strings.ContainsRune(yamlBreak, c) }
	return analysis{
		multiline:    multiline,
		blockPlain:   !indicators && !multiline && !special && !ends(list[0]) && !ends(previous),
		singleQuoted: !breakSpace && !spaceBreak && !special,
	}
}

func (w *yamlWriter) raw(text string) {
	w.column += size(text)
	w.out.WriteString(text)
}

func (w *yamlWriter) indicator(text string, needSpace, whitespace, indention bool) {
	if !w.whitespace && needSpace {
		text = " " + text
	}
	w.whitespace = whitespace
	w.indention = w.indention && indention
	w.openEnded = false
	w.raw(text)
}

func (w *yamlWriter) writeIndent() {
	indent := max(w.indent, 0)
	if !w.indention || w.column > indent || w.column == indent && !w.whitespace {
		w.lineBreak("\n")
	}
	if w.column < indent {
		w.whitespace = true
		w.m.spend(indent)
		w.raw(strings.Repeat(" ", indent-w.column))
	}
}

func (w *yamlWriter) lineBreak(text string) {
	w.whitespace, w.indention, w.column = true, true, 0
	w.out.WriteString(text)
}

// continued begins another line of a scalar.
func (w *yamlWriter) continued() {
	w.writeIndent()
	w.whitespace, w.indention = false, false
}

// plain writes a scalar without quotes: it has no line breaks.
func (w *yamlWriter) plain(list []string, split, root bool) {
	w.openEnded = w.openEnded || root
	if len(list) == 0 {
		return
	}
	if !w.whitespace {
		w.raw(" ")
	}
	w.whitespace, w.indention = false, false
	for start := 0; start < len(list); {
		end := start
		for end < len(list) && (list[end] == " ") == (list[start] == " ") {
			end++
		}
		if list[start] == " " && end-start == 1 && w.column > yamlWidth && split {
			w.continued()
		} else {
			w.raw(strings.Join(list[start:end], ""))
		}
		start = end
	}
}

func (w *yamlWriter) singleQuoted(list []string, split bool) {
	w.indicator("'", true, false, false)
	isBreak := func(i int) bool { return strings.Contains(yamlBreak, list[i]) }
	for start := 0; start < len(list); {
		end := start + 1
		switch {
		case list[start] == " ":
			for end < len(list) && list[end] == " " {
				end++
			}
			if end-start == 1 && w.column > yamlWidth && split && start != 0 && end != len(list) {
				w.writeIndent()
			} else {
				w.raw(strings.Join(list[start:end], ""))
			}
		case isBreak(start):
			for end < len(list) && isBreak(end) {
				end++
			}
			if list[start] == "\n" {
				w.lineBreak("\n")
			}
			for _, c := range list[start:end] {
				w.lineBreak(c)
			}
			w.writeIndent()
		case list[start] == "'":
			w.raw("''")
		default:
			for end < len(list) && list[end] != " " && list[end] != "'" && !isBreak(end) {
				end++
			}
			w.raw(strings.Join(list[start:end], ""))
		}
		start = end
	}
	w.indicator("'", false, false, false)
}

var yamlEscapes = map[string]string{
	"\x00": "0", "\a": "a", "\b": "b", "\t": "t", "\n": "n", "\v": "v", "\f": "f", "\r": "r", "\x1b": "e", `"`: `"`, `\`: `\`,
	"\u0085": "N", "\u00a0": "_", "\u2028": "L", "\u2029": "P",
}

func (w *yamlWriter) doubleQuoted(list []string, split bool) {
	w.indicator(`"`, true, false, false)
	start := 0
	flush := func(end int) {
		w.raw(strings.Join(list[start:end], ""))
		start = end
	}
	for end := range len(list) {
		c := list[end]
		if c < " " || c > "~" || c == `"` || c == `\` {
			flush(end)
			w.raw(yamlEscape(c))
			start = end + 1
		}
		pending := max(end-start, 0)
		if end > 0 && end < len(list)-1 && (c == " " || start >= end) && w.column+end-start > yamlWidth && split {
			if pending > 0 {
				flush(end)
			}
			w.raw(`\`)
			w.continued()
			if list[start] == " " {
				w.raw(`\`)
			}
		}
	}
	flush(len(list))
	w.indicator(`"`, false, false, false)
}

func yamlEscape(c string) string {
	if short, ok := yamlEscapes[c]; ok {
		return `\` + short
	}
	switch r := []rune(c)[0]; {
	case r <= 0xff:
		return fmt.Sprintf(`\x%02X`, r)
	case r <= 0xffff:
		return fmt.Sprintf(`\u%04X`, r)
	default:
		return fmt.Sprintf(`\U%08X`, r)
	}
}
