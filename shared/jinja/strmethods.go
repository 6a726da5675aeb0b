package jinja

import (
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/language"
)

// A method's first argument is its text: a str or a Markup, which is also the
// class of a text that it gives.

func self(a []Value) string {
	s, _ := str(a[0])
	return s
}

// asText is an argument that must be a str.
func asText(v Value) string {
	s, ok := str(v)
	if !ok {
		raise(typeError, "expected str, not %s", typeName(v))
	}
	return s
}

// escaped is an argument that a Markup's method escapes.
func escaped(of, v Value) string {
	text := asText(v)
	if _, ok := of.(Markup); ok {
		return escape(v)
	}
	return text
}

func likeAll(of Value, list []string) []Value {
	out := make([]Value, len(list))
	for i, s := range list {
		out[i] = like(of, s)
	}
	return out
}

// mapped is a method that gives a text made of its own.
func mapped(f func(string) string) func(*machine, []Value) Value {
	return func(m *machine, a []Value) Value { return like(a[0], m.text(f(self(a)))) }
}

// all is a method that asks something of every character; of none is false.
func all(f func(rune) bool) func(*machine, []Value) Value {
	return func(_ *machine, a []Value) Value {
		s := self(a)
		return s != "" && strings.IndexFunc(s, func(c rune) bool { return !f(c) }) < 0
	}
}

var strMethods map[string]*builtin

func init() {
	strMethods = table(map[string]func(*machine, []Value) Value{
		"capitalize(self, /)":   mapped(capitalize),
		"casefold(self, /)":     mapped(cases.Fold().String),
		"lower(self, /)":        mapped(lower),
		"upper(self, /)":        mapped(upper),
		"title(self, /)":        mapped(title),
		"swapcase(self, /)":     mapped(swapCase),
		"isalnum(self, /)":      all(func(c rune) bool { return unicode.IsLetter(c) || unicode.IsNumber(c) }),
		"isalpha(self, /)":      all(unicode.IsLetter),
		"isdecimal(self, /)":    all(unicode.IsDigit),
		"isdigit(self, /)":      all(func(c rune) bool { return unicode.IsDigit(c) || superscript(c) }),
		"isnumeric(self, /)":    all(unicode.IsNumber),
		"isspace(self, /)":      all(isSpace),
		"islower(self, /)":      func(_ *machine, a []Value) Value { return isLower(self(a)) },
		"isupper(self, /)":      func(_ *machine, a []Value) Value { return isUpper(self(a)) },
		"istitle(self, /)":      func(_ *machine, a []Value) Value { return isTitle(self(a)) },
		"isascii(self, /)":      func(_ *machine, a []Value) Value { return ascii(self(a)) },
		"isprintable(self, /)":  func(_ *machine, a []Value) Value { return strings.IndexFunc(self(a), unprintable) < 0 },
		"isidentifier(self, /)": func(_ *machine, a []Value) Value { return isIdentifier(self(a)) },
	})
	maps.Copy(strMethods, trimMethods())
	maps.Copy(strMethods, partMethods())
}

// trimMethods cut, fill and find.
func trimMethods() map[string]*builtin {
	return table(map[string]func(*machine, []Value) Value{
		"strip(self, chars=None, /)":    func(_ *machine, a []Value) Value { return like(a[0], strip(self(a), a[1], true, true)) },
		"lstrip(self, chars=None, /)":   func(_ *machine, a []Value) Value { return like(a[0], strip(self(a), a[1], true, false)) },
		"rstrip(self, chars=None, /)":   func(_ *machine, a []Value) Value { return like(a[0], strip(self(a), a[1], false, true)) },
		"removeprefix(self, prefix, /)": func(_ *machine, a []Value) Value { return like(a[0], strings.TrimPrefix(self(a), asText(a[1]))) },
		"removesuffix(self, suffix, /)": func(_ *machine, a []Value) Value { return like(a[0], strings.TrimSuffix(self(a), asText(a[1]))) },

		"center(self, width, fill=' ', /)": func(m *machine, a []Value) Value { return m.pad(a, 2) },
		"ljust(self, width, fill=' ', /)":  func(m *machine, a []Value) Value { return m.pad(a, 0) },
		"rjust(self, width, fill=' ', /)":  func(m *machine, a []Value) Value { return m.pad(a, 1) },
		"zfill(self, width, /)":            zfill,
		"expandtabs(self, tabsize=8)":      expandTabs,

		"count(self, sub, start=None, end=None, /)": func(m *machine, a []Value) Value {
			s, _, ok := window(a)
			if sub := asText(a[1]); ok {
				return strings.Count(s, sub)
			}
			return 0
		},
		"find(self, sub, start=None, end=None, /)":          func(_ *machine, a []Value) Value { return find(a, strings.Index) },
		"rfind(self, sub, start=None, end=None, /)":         func(_ *machine, a []Value) Value { return find(a, strings.LastIndex) },
		"index(self, sub, start=None, end=None, /)":         func(_ *machine, a []Value) Value { return mustFind(find(a, strings.Index)) },
		"rindex(self, sub, start=None, end=None, /)":        func(_ *machine, a []Value) Value { return mustFind(find(a, strings.LastIndex)) },
		"startswith(self, prefix, start=None, end=None, /)": func(_ *machine, a []Value) Value { return affix(a, "startswith", strings.HasPrefix) },
		"endswith(self, suffix, start=None, end=None, /)":   func(_ *machine, a []Value) Value { return affix(a, "endswith", strings.HasSuffix) },
	})
}

// partMethods part texts and put them together.
func partMethods() map[string]*builtin {
	return table(map[string]func(*machine, []Value) Value{
		"replace(self, old, new, count=-1, /)": func(m *machine, a []Value) Value {
			return like(a[0], m.replace(self(a), asText(a[1]), escaped(a[0], a[2]), index(a[3])))
		},
		"split(self, sep=None, maxsplit=-1)":  func(m *machine, a []Value) Value { return m.split(a, splitLeft) },
		"rsplit(self, sep=None, maxsplit=-1)": func(m *machine, a []Value) Value { return m.split(a, splitRight) },
		"splitlines(self, keepends=False)": func(m *machine, a []Value) Value {
			m.spend(32 * strings.Count(self(a), "\n"))
			return newList(likeAll(a[0], splitLines(self(a), m.truth(a[1])))...)
		},
		"partition(self, sep, /)": func(_ *machine, a []Value) Value {
			return partition(a, strings.Index, func(s string) []string { return []string{s, "", ""} })
		},
		"rpartition(self, sep, /)": func(_ *machine, a []Value) Value {
			return partition(a, strings.LastIndex, func(s string) []string { return []string{"", "", s} })
		},
		"join(self, iterable, /)": func(m *machine, a []Value) Value {
			if _, ok := a[0].(Markup); ok {
				return Markup(m.joined(self(a), a[1], func(v Value) string { return escape(m.soft(v)) }))
			}
			return m.joined(self(a), a[1], asText)
		},
		"format(self, /, *args, **kwargs)": func(m *machine, a []Value) Value {
			return m.format(a[0], a[1].(*Tuple).items, func(key string) Value { return m.item(a[2], key) })
		},
		"format_map(self, mapping, /)": func(m *machine, a []Value) Value {
			return m.format(a[0], nil, func(key string) Value { return m.item(a[1], key) })
		},
	})
}

// soft is a str as it is, and of anything else its str().
func (m *machine) soft(v Value) Value {
	if _, ok := str(v); ok {
		return v
	}
	return m.str(v)
}

func (m *machine) joined(sep string, v Value, text func(Value) string) string {
	if m.iter(v) == nil {
		raise(typeError, "can only join an iterable")
	}
	var out strings.Builder
	for i, item := range m.items(v) {
		if i > 0 {
			out.WriteString(m.text(sep))
		}
		out.WriteString(m.text(text(item)))
	}
	return out.String()
}

func lower(s string) string {
	if ascii(s) {
		return strings.ToLower(s)
	}
	return cases.Lower(language.Und).String(s)
}

func upper(s string) string {
	if ascii(s) {
		return strings.ToUpper(s)
	}
	return cases.Upper(language.Und).String(s)
}

// titleRune is the first character of a word.
func titleRune(c string) string { return cases.Title(language.Und).String(c) }

func capitalize(s string) string {
	if s == "" {
		return ""
	}
	first := runes(s)[0]
	return titleRune(first) + lower(s[len(first):])
}

func title(s string) string {
	var out strings.Builder
	inWord := false
	for _, c := range runes(s) {
		cased := isCased(c)
		switch {
		case cased && inWord:
			out.WriteString(lower(c))
		case cased:
			out.WriteString(titleRune(c))
		default:
			out.WriteString(c)
		}
		inWord = cased
	}
	return out.String()
}

func isCased(s string) bool {
	c := []rune(s)[0]
	return unicode.IsUpper(c) || unicode.IsLower(c) || unicode.IsTitle(c)
}

func swapCase(s string) string {
	var out strings.Builder
	for _, c := range runes(s) {
		if unicode.IsUpper([]rune(c)[0]) {
			out.WriteString(lower(c))
		} else {
			out.WriteString(upper(c))
		}
	}
	return out.String()
}

func isLower(s string) bool {
	return strings.IndexFunc(s, unicode.IsLower) >= 0 &&
		strings.IndexFunc(s, func(c rune) bool { return unicode.IsUpper(c) || unicode.IsTitle(c) }) < 0
}

func isUpper(s string) bool {
	return strings.IndexFunc(s, unicode.IsUpper) >= 0 &&
		strings.IndexFunc(s, func(c rune) bool { return unicode.IsLower(c) || unicode.IsTitle(c) }) < 0
}

func isTitle(s string) bool {
	found, inWord := false, false
	for _, c := range s {
		switch {
		case unicode.IsUpper(c) || unicode.IsTitle(c):
			if inWord {
				return false
			}
			found, inWord = true, true
		case unicode.IsLower(c):
			if !inWord {
				return false
			}
		default:
			inWord = false
		}
	}
	return found
}

func superscript(c rune) bool {
	return strings.ContainsRune("²³¹", c) || c >= 0x2070 && c <= 0x2089 && c != 0x2071 || c >= 0x2460 && c <= 0x2468
}

func unprintable(c rune) bool { return !unicode.IsPrint(c) }

func isIdentifier(s string) bool {
	for i, c := range s {
		if !isWord(c) || i == 0 && !unicode.IsLetter(c) && c != '_' && !unicode.Is(unicode.Nl, c) {
			return false
		}
	}
	return s != ""
}

func strip(s string, chars Value, left, right bool) string {
	cut := isSpace
	if chars != nil {
		set := asText(chars)
		cut = func(c rune) bool { return strings.ContainsRune(set, c) }
	}
	if left {
		s = strings.TrimLeftFunc(s, cut)
	}
	if right {
		s = strings.TrimRightFunc(s, cut)
	}
	return s
}

// pad fills a text on the right (0), the left (1) or both sides (2).
func (m *machine) pad(a []Value, side int) Value {
	width := index(a[1])
	fill := escaped(a[0], a[2])
	if size(fill) != 1 {
		raise(typeError, "the fill character must be exactly one character long")
	}
	missing := width - size(self(a))
	if missing <= 0 {
		return a[0]
	}
	left := missing * side
	if side == 2 {
		left = missing/2 + missing&width&1
	}
	m.spend(m.product(len(fill), width))
	return like(a[0], strings.Repeat(fill, left)+self(a)+strings.Repeat(fill, missing-left))
}

func zfill(m *machine, a []Value) Value {
	s, width := self(a), index(a[1])
	missing := width - size(s)
	if missing <= 0 {
		return a[0]
	}
	m.spend(width)
	sign := ""
	if strings.HasPrefix(s, "+") || strings.HasPrefix(s, "-") {
		sign, s = s[:1], s[1:]
	}
	return like(a[0], sign+strings.Repeat("0", missing)+s)
}

func expandTabs(m *machine, a []Value) Value {
	width, column := index(a[1]), 0
	var out strings.Builder
	for _, c := range self(a) {
		switch c {
		case '\t':
			if width > 0 {
				n := width - column%width
				column += n
				out.WriteString(m.text(strings.Repeat(" ", min(n, maxMemory))))
			}
		case '\n', '\r':
			column = 0
			out.WriteRune(c)
		default:
			column++
			out.WriteRune(c)
		}
	}
	return like(a[0], out.String())
}

// window is the part of a text that start and end leave, where it begins, and
// whether there is such a part.
func window(a []Value) (part string, first int, ok bool) {
	s := self(a)
	if a[2] == nil && a[3] == nil {
		return s, 0, true
	}
	list := runes(s)
	first, last, _ := bounds(len(list), a[2], a[3], nil)
	if a[2] != nil && clampIndex(a[2]) > len(list) || first > last {
		return "", 0, false
	}
	return strings.Join(list[first:last], ""), first, true
}

func find(a []Value, search func(s, sub string) int) Value {
	sub := asText(a[1])
	s, first, ok := window(a)
	if !ok {
		return -1
	}
	i := search(s, sub)
	if i < 0 {
		return -1
	}
	return first + size(s[:i])
}

func mustFind(place Value) Value {
	if place == -1 {
		raise(valueError, "substring not found")
	}
	return place
}

func affix(a []Value, method string, has func(s, affix string) bool) Value {
	options := []Value{a[1]}
	if t, ok := a[1].(*Tuple); ok {
		options = t.items
	}
	s, _, ok := window(a)
	return slices.ContainsFunc(options, func(v Value) bool {
		text, isText := str(v)
		if !isText {
			raise(typeError, "%s first arg must be str or a tuple of str, not %s", method, typeName(v))
		}
		return ok && has(s, text)
	})
}

func (m *machine) replace(s, old, with string, count int) string {
	if n := strings.Count(s, old); count < 0 || n < count {
		count = n
	}
	if len(with) > len(old) {
		m.spend(m.product(len(with)-len(old), count))
	}
	return m.text(strings.Replace(s, old, with, count))
}

func (m *machine) split(a []Value, split func(s, sep string, n int) []string) Value {
	n := index(a[2])
	sep := ""
	if a[1] != nil {
		if sep = asText(a[1]); sep == "" {
			raise(valueError, "empty separator")
		}
	}
	m.spend(16 * len(self(a)))
	return newList(likeAll(a[0], split(self(a), sep, n))...)
}

func splitLeft(s, sep string, n int) []string {
	switch {
	case sep != "" && n < 0:
		return strings.Split(s, sep)
	case sep != "":
		return strings.SplitN(s, sep, n+1)
	case n < 0:
		return strings.FieldsFunc(s, isSpace)
	}
	var out []string
	for s = strings.TrimLeftFunc(s, isSpace); s != ""; s = strings.TrimLeftFunc(s, isSpace) {
		i := strings.IndexFunc(s, isSpace)
		if len(out) == n {
			return append(out, s)
		}
		if i < 0 {
			return append(out, s)
		}
		out, s = append(out, s[:i]), s[i:]
	}
	return out
}

func splitRight(s, sep string, n int) []string {
	if n < 0 {
		return splitLeft(s, sep, n)
	}
	var out []string
	if sep != "" {
		for i := strings.LastIndex(s, sep); i >= 0 && len(out) < n; i = strings.LastIndex(s, sep) {
			out, s = append(out, s[i+len(sep):]), s[:i]
		}
		out = append(out, s)
	} else {
		for s = strings.TrimRightFunc(s, isSpace); s != ""; s = strings.TrimRightFunc(s, isSpace) {
			i := strings.LastIndexFunc(s, isSpace)
			if i < 0 || len(out) == n {
				out = append(out, s)
				break
			}
			_, width := utf8.DecodeRuneInString(s[i:])
			out, s = append(out, s[i+width:]), s[:i]
		}
	}
	slices.Reverse(out)
	return out
}

func splitLines(s string, keep bool) []string {
	var out []string
	for s != "" {
		i := strings.IndexFunc(s, isLineEnd)
		if i < 0 {
			return append(out, s)
		}
		end := i + len(runes(s[i:min(i+4, len(s))])[0])
		if strings.HasPrefix(s[i:], "\r\n") {
			end = i + 2
		}
		if keep {
			out = append(out, s[:end])
		} else {
			out = append(out, s[:i])
		}
		s = s[end:]
	}
	return out
}

func isLineEnd(c rune) bool {
	return c >= '\n' && c <= '\r' || c >= 0x1c && c <= 0x1e || c == 0x85 || c == 0x2028 || c == 0x2029
}

func partition(a []Value, search func(s, sep string) int, none func(string) []string) Value {
	sep := asText(a[1])
	if sep == "" {
		raise(valueError, "empty separator")
	}
	s := self(a)
	parts := none(s)
	if i := search(s, sep); i >= 0 {
		parts = []string{s[:i], sep, s[i+len(sep):]}
	}
	return newTuple(likeAll(a[0], parts)...)
}
