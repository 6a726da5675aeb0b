package jinja

import (
	"html"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

var filters map[string]*builtin

func init() {
	filters = textFilters()
	maps.Copy(filters, sequenceFilters())
	for name, fn := range contextFilters() {
		fn.context = true
		filters[name] = fn
	}
}

// textFilters are those that take a text, a number or anything.
func textFilters() map[string]*builtin {
	return table(map[string]func(*machine, []Value) Value{
		"default|d(value, default_value='', boolean=False)": func(m *machine, a []Value) Value {
			if _, ok := a[0].(*Undefined); ok || m.truth(a[2]) && !m.truth(a[0]) {
				return a[1]
			}
			return a[0]
		},
		"string(value)":           func(m *machine, a []Value) Value { return m.soft(a[0]) },
		"lower(s)":                softly(lower),
		"upper(s)":                softly(upper),
		"capitalize(s)":           softly(capitalize),
		"title(s)":                func(m *machine, a []Value) Value { return m.text(titleWords(asText(m.soft(a[0])))) },
		"trim(value, chars=None)": softMethod("strip"),
		"center(value, width=80)": softMethod("center"),
		"length|count(value, /)":  func(m *machine, a []Value) Value { return m.mustLength(a[0]) },
		"list(value)":             func(m *machine, a []Value) Value { return newList(slices.Clone(m.items(a[0]))...) },
		"escape|e(value, /)":      func(m *machine, a []Value) Value { return Markup(m.text(escape(m.soft(a[0])))) },
		"forceescape(value)":      func(m *machine, a []Value) Value { return Markup(m.text(escaper.Replace(m.str(a[0])))) },
		"safe(value)":             func(m *machine, a []Value) Value { return Markup(m.str(a[0])) },
		"striptags(value)":        func(m *machine, a []Value) Value { return stripTags(m.str(a[0])) },
		"replace(s, old, new, count=None)": func(m *machine, a []Value) Value {
			count := -1
			if a[3] != nil {
				count = index(a[3])
			}
			return m.replace(m.str(a[0]), m.str(a[1]), m.str(a[2]), count)
		},
		"join(value, d='', attribute=None)": func(m *machine, a []Value) Value {
			get := m.getter(a[2], nil, nil)
			return m.joined(m.str(a[1]), m.lazy(a[0], get), m.str)
		},
		"format(value, *args, **kwargs)":                                   filterFormat,
		"indent(s, width=4, first=False, blank=False)":                     filterIndent,
		"truncate(s, length=255, killwords=False, end='...', leeway=None)": filterTruncate,
		"wordcount(s)": func(m *machine, a []Value) Value { return wordCount(m.str(a[0])) },
		"wordwrap(s, width=79, break_long_words=True, wrapstring=None, break_on_hyphens=True)": filterWordwrap,
		"urlencode(value)":                           filterURLEncode,
		"xmlattr(d, autospace=True)":                 filterXMLAttr,
		"filesizeformat(value, binary=False)":        filterFileSize,
		"pprint(value)":                              filterPprint,
		"tojson(value, indent=None)":                 func(m *machine, a []Value) Value { return Markup(m.htmlJSON(a[0], a[1])) },
		"abs(value, /)":                              filterAbs,
		"int(value, default=0, base=10)":             filterInt,
		"float(value, default=0.0)":                  filterFloat,
		"round(value, precision=0, method='common')": filterRound,
		"urlize(value, *args, **kwargs)": func(*machine, []Value) Value {
			raise(unsupported, "the filter urlize")
			return nil
		},
	})
}

// softly is a filter that takes anything's text.
func softly(f func(string) string) func(*machine, []Value) Value {
	return func(m *machine, a []Value) Value {
		v := m.soft(a[0])
		return like(v, m.text(f(asText(v))))
	}
}

func softMethod(name string) func(*machine, []Value) Value {
	return func(m *machine, a []Value) Value {
		return strMethods[name].call(m, append([]Value{m.soft(a[0])}, a[1:]...), nil)
	}
}

func (m *machine) mustLength(v Value) int {
	n, ok := m.length(v)
	if !ok {
		raise(typeError, "object of type '%s' has no len()", typeName(v))
	}
	return n
}

// titleWords is the filter title, which knows fewer ends of a word than the
// method.
func titleWords(s string) string {
	var out strings.Builder
	begin := true
	for _, c := range runes(s) {
		isEnd := strings.Contains("-({[<", c) || isSpace([]rune(c)[0])
		switch {
		case isEnd && begin:
			out.WriteString(upper(c))
		case begin && !isEnd:
			out.WriteString(upper(c))
		default:
			out.WriteString(c)
		}
		begin = isEnd
	}
	return lowerTail(out.String())
}

// lowerTail lowers all of each word but its first character.
func lowerTail(s string) string {
	var out strings.Builder
	for s != "" {
		end := strings.IndexFunc(s, func(c rune) bool { return strings.ContainsRune("-({[<", c) || isSpace(c) })
		if end < 0 {
			end = len(s)
		}
		word := s[:end]
		if word != "" {
			first := runes(word)[0]
			out.WriteString(first + lower(word[len(first):]))
		}
		rest := strings.TrimLeftFunc(s[end:], func(c rune) bool { return strings.ContainsRune("-({[<", c) || isSpace(c) })
		out.WriteString(s[end : len(s)-len(rest)])
		s = rest
	}
	return out.String()
}

func stripTags(s string) string {
	var out strings.Builder
	for {
		begin := strings.Index(s, "<")
		if begin < 0 {
			break
		}
		end := ">"
		if strings.HasPrefix(s[begin:], "<!--") {
			end = "-->"
		}
		from := begin + len(end)/3*4
		i := strings.Index(s[from:], end)
		if i < 0 {
			break
		}
		out.WriteString(s[:begin])
		s = s[from+i+len(end):]
	}
	out.WriteString(s)
	return html.UnescapeString(strings.Join(strings.FieldsFunc(out.String(), isSpace), " "))
}

func filterFormat(m *machine, a []Value) Value {
	args, kwargs := a[1].(*Tuple), a[2].(*Dict)
	if len(args.items) > 0 && kwargs.Len() > 0 {
		raise(filterError, "can't handle positional and keyword arguments at the same time")
	}
	value := m.soft(a[0])
	if kwargs.Len() > 0 {
		return m.percent(value, asText(value), kwargs)
	}
	return m.percent(value, asText(value), args)
}

func filterIndent(m *machine, a []Value) Value {
	s, ok := str(a[0])
	if !ok {
		m.binary("+", a[0], "\n")
		raise(attributeError, "'%s' object has no attribute 'splitlines'", typeName(a[0]))
	}
	indention, ok := str(a[1])
	if !ok {
		indention = asText(m.binary("*", " ", a[1]))
	}
	first, blank := m.truth(a[2]), m.truth(a[3])
	var out strings.Builder
	for i, line := range splitLines(s+"\n", false) {
		if i > 0 {
			out.WriteString("\n")
		}
		if i == 0 && first || i > 0 && (blank || line != "") {
			out.WriteString(m.text(indention))
		}
		out.WriteString(m.text(line))
	}
	return like(a[0], out.String())
}

func filterTruncate(m *machine, a []Value) Value {
	length, leeway := a[1], a[4]
	if leeway == nil {
		leeway = 5
	}
	end := m.mustLength(a[3])
	if !m.order(">=", length, end) || !m.order(">=", leeway, 0) {
		raise(assertionError, "expected length >= %d and leeway >= 0", end)
	}
	if m.order("<=", m.mustLength(a[0]), m.binary("+", length, leeway)) {
		return a[0]
	}
	cut := m.slice(a[0], nil, m.binary("-", length, end), nil)
	if !m.truth(a[2]) {
		if _, ok := str(cut); !ok {
			raise(attributeError, "'%s' object has no attribute 'rsplit'", typeName(cut))
		}
		cut = like(cut, splitRight(asText(cut), " ", 1)[0])
	}
	return m.binary("+", cut, a[3])
}

func wordCount(s string) int {
	return len(strings.FieldsFunc(s, func(c rune) bool { return !isWordChar(c) }))
}

// isWordChar is what \w matches.
func isWordChar(c rune) bool { return c == '_' || unicode.IsLetter(c) || unicode.IsNumber(c) }

const unreserved = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-~"

func (m *machine) urlQuote(v Value, query bool) string {
	var out strings.Builder
	for _, c := range []byte(m.text(m.str(v))) {
		switch {
		case strings.IndexByte(unreserved, c) >= 0 || c == '/' && !query:
			out.WriteByte(c)
		case c == ' ' && query:
			out.WriteByte('+')
		default:
			out.WriteString("%" + strings.ToUpper(strconv.FormatUint(0x100|uint64(c), 16)[1:]))
		}
	}
	return out.String()
}

func filterURLEncode(m *machine, a []Value) Value {
	if _, ok := str(a[0]); ok || m.iter(a[0]) == nil {
		return m.urlQuote(a[0], false)
	}
	pairs := a[0]
	if d, ok := pairs.(*Dict); ok {
		pairs = &view{d, "items"}
	}
	var list []string
	m.each(pairs, func(pair Value) {
		kv := (&activation{m: m}).unpack(pair, 2)
		list = append(list, m.urlQuote(kv[0], true)+"="+m.urlQuote(kv[1], true))
	})
	return strings.Join(list, "&")
}

func filterXMLAttr(m *machine, a []Value) Value {
	d, ok := a[0].(*Dict)
	if !ok {
		raise(attributeError, "'%s' object has no attribute 'items'", typeName(a[0]))
	}
	var out strings.Builder
	for k, v := range d.All {
		if _, undefined := v.(*Undefined); undefined || v == nil {
			continue
		}
		key := asText(k)
		if strings.ContainsAny(key, " \t\n\r\f\v/>=") {
			raise(valueError, "invalid character in attribute name: %q", key)
		}
		if m.truth(a[1]) || out.Len() > 0 {
			out.WriteString(" ")
		}
		out.WriteString(m.text(escape(k) + `="` + escape(m.soft(v)) + `"`))
	}
	return out.String()
}

func filterFileSize(m *machine, a []Value) Value {
	bytes := m.float(a[0])
	base, unit, prefixes := 1000.0, "B", "kMGTPEZY"
	if m.truth(a[1]) {
		base, unit, prefixes = 1024, "iB", "KMGTPEZY"
	}
	switch {
	case bytes == 1:
		return "1 Byte"
	case bytes < base:
		return m.str(m.integer(bytes)) + " Bytes"
	}
	scale := base
	last := len(prefixes) - 1
	for i := range prefixes {
		scale *= base
		if bytes < scale || i == last {
			return strconv.FormatFloat(base*bytes/scale, 'f', 1, 64) + " " + prefixes[i:i+1] + unit
		}
	}
	return nil
}

// filterPprint is Python's pprint of what fits one line.
func filterPprint(m *machine, a []Value) Value {
	text := m.repr(m.sortedDicts(a[0]))
	if size(text) > 80 {
		raise(unsupported, "pprint of more than a line")
	}
	return text
}

// sortedDicts is a value whose dicts are sorted by their keys.
func (m *machine) sortedDicts(v Value) Value {
	defer m.level()()
	switch v := v.(type) {
	case *Dict:
		out := NewDict()
		keys := v.keys()
		slices.SortStableFunc(keys, m.safeOrder)
		for _, k := range keys {
			value, _ := v.Get(k)
			out.Set(k, m.sortedDicts(value))
		}
		return out
	case *List:
		out := newList()
		for _, item := range v.Items {
			out.Items = append(out.Items, m.sortedDicts(item))
		}
		return out
	case *Tuple:
		out := newTuple()
		for _, item := range v.items {
			out.items = append(out.items, m.sortedDicts(item))
		}
		return out
	}
	return v
}

// safeOrder is how pprint sorts: keys that cannot be compared by their classes.
func (m *machine) safeOrder(a, b Value) (order int) {
	m.step()
	if try(func() {
		switch {
		case m.order("<", a, b):
			order = -1
		case m.order("<", b, a):
			order = 1
		}
	}, typeError) == nil {
		return order
	}
	if typeName(a) == typeName(b) {
		raise(unsupported, "pprint of keys that Python sorts by their address")
	}
	return strings.Compare(typeName(a), typeName(b))
}

func filterAbs(m *machine, a []Value) Value {
	if !isNumber(a[0]) {
		raise(typeError, "bad operand type for abs(): '%s'", typeName(a[0]))
	}
	if isNegative(a[0]) {
		return m.signed("-", a[0])
	}
	return m.signed("+", a[0])
}

// integer is Python's int() of what is no text.
func (m *machine) integer(v Value) Value {
	switch v := v.(type) {
	case *Undefined:
		v.raise()
	case float64:
		if i, accuracy := new(big.Float).SetFloat64(nanless(v)).Int(nil); i != nil && v == v {
			_ = accuracy
			return norm(i)
		}
		if v != v {
			raise(valueError, "cannot convert float NaN to integer")
		}
		raise(overflowError, "cannot convert float infinity to integer")
	}
	i, ok := toBig(v)
	if !ok {
		raise(typeError, "int() argument must be a string, a bytes-like object or a real number, not '%s'", typeName(v))
	}
	return norm(i)
}

// float is Python's float().
func (m *machine) float(v Value) float64 {
	if u, ok := v.(*Undefined); ok {
		u.raise()
	}
	text, ok := str(v)
	if !ok {
		return toFloat(v)
	}
	clean := strings.ToLower(strings.TrimFunc(text, isSpace))
	number := strings.TrimPrefix(strings.TrimPrefix(clean, "+"), "-")
	known := slices.Contains([]string{"inf", "infinity", "nan"}, number) && len(clean)-len(number) <= 1
	if !known && !isFloatText(clean) {
		raise(valueError, "could not convert string to float: %s", m.shortRepr(text))
	}
	f, _ := strconv.ParseFloat(strings.ReplaceAll(clean, "_", ""), 64)
	return f
}

func isFloatText(s string) bool {
	s = strings.TrimLeft(s, "+-")
	whole := digits(s, decimal)
	rest := s[whole:]
	fraction := 0
	if strings.HasPrefix(rest, ".") {
		fraction = digits(rest[1:], decimal)
		rest = rest[1+fraction:]
	}
	if whole+fraction == 0 {
		return false
	}
	if strings.HasPrefix(rest, "e") {
		rest = strings.TrimPrefix(rest[1:], "-")
		rest = strings.TrimPrefix(rest, "+")
		n := digits(rest, decimal)
		return n > 0 && n == len(rest)
	}
	return rest == ""
}

// parseInt is Python's int() of a text.
func parseInt(text string, base Value) Value {
	b := index(base)
	clean := strings.TrimFunc(text, isSpace)
	sign := ""
	if strings.HasPrefix(clean, "-") || strings.HasPrefix(clean, "+") {
		sign, clean = clean[:1], clean[1:]
	}
	bad := b != 0 && (b < 2 || b > 36) || clean == "" || len(clean) > maxDigits
	prefixes := map[string]int{"0b": 2, "0o": 8, "0x": 16}
	if len(clean) > 2 {
		if p := prefixes[strings.ToLower(clean[:2])]; p != 0 && (b == 0 || b == p) {
			b, clean = p, strings.TrimPrefix(clean[2:], "_")
		}
	}
	if b == 0 {
		bad = bad || strings.HasPrefix(clean, "0") && strings.Trim(clean, "0_") != ""
		b = 10
	}
	const all = "0123456789abcdefghijklmnopqrstuvwxyz"
	if !bad && digits(strings.ToLower(clean), all[:b]) == len(clean) {
		if i, ok := new(big.Int).SetString(sign+strings.ReplaceAll(clean, "_", ""), b); ok {
			return norm(i)
		}
	}
	raise(valueError, "invalid literal for int() with base %d", b)
	return nil
}

func filterInt(m *machine, a []Value) (v Value) {
	failed := try(func() {
		if text, ok := str(a[0]); ok {
			v = parseInt(text, a[2])
		} else {
			v = m.integer(a[0])
		}
	}, typeError, valueError)
	if failed != nil {
		if try(func() { v = m.integer(m.float(a[0])) }, typeError, valueError, overflowError) != nil {
			return a[1]
		}
	}
	return v
}

func filterFloat(m *machine, a []Value) (v Value) {
	if try(func() { v = m.float(a[0]) }, typeError, valueError) != nil {
		return a[1]
	}
	return v
}

func filterRound(m *machine, a []Value) Value {
	method, _ := str(a[2])
	switch method {
	case "common":
		return m.round(a[0], a[1])
	case "ceil", "floor":
		scale := m.binary("**", 10, a[1])
		scaled := m.binary("*", a[0], scale)
		if !isNumber(scaled) {
			raise(typeError, "must be real number, not %s", typeName(scaled))
		}
		floor := m.integer(m.binary("//", scaled, 1))
		if method == "ceil" {
			floor = m.signed("-", m.integer(m.binary("//", m.signed("-", scaled), 1)))
		}
		return m.binary("/", floor, scale)
	}
	raise(filterError, "method must be common, ceil or floor")
	return nil
}

// round is Python's round(): half to even, of the exact value.
func (m *machine) round(v, precision Value) Value {
	if !isNumber(v) {
		raise(typeError, "type %s doesn't define __round__ method", typeName(v))
	}
	n := 0
	if precision != nil {
		n = max(min(index(precision), 400), -400)
	}
	f, isFloat := v.(float64)
	if isFloat && (f != f || f-f != 0) {
		if precision == nil {
			return m.integer(f)
		}
		return f
	}
	if !isFloat && n >= 0 {
		return m.signed("+", v)
	}
	if isFloat && n > 0 {
		r, _ := strconv.ParseFloat(strconv.FormatFloat(f, 'f', n, 64), 64)
		return r
	}
	whole := roundWhole(v, n)
	if isFloat && precision != nil {
		r, _ := new(big.Float).SetInt(whole).Float64()
		if r == 0 && isNegative(f) {
			return -r
		}
		return r
	}
	return norm(whole)
}

// roundWhole rounds a number to a multiple of 10 to the power of -n.
func roundWhole(v Value, n int) *big.Int {
	exact := new(big.Rat)
	if f, ok := v.(float64); ok {
		exact.SetFloat64(f)
	} else {
		i, _ := toBig(v)
		exact.SetInt(i)
	}
	scale := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(-n)), nil)
	exact.Quo(exact, new(big.Rat).SetInt(scale))
	twice := new(big.Int).Mul(exact.Num(), big.NewInt(2))
	twice.Add(twice, exact.Denom())
	denom := new(big.Int).Mul(exact.Denom(), big.NewInt(2))
	q := floorDiv(twice, denom)
	if new(big.Int).Mul(q, denom).Cmp(twice) == 0 && q.Bit(0) == 1 {
		q.Sub(q, big.NewInt(1))
	}
	return q.Mul(q, scale)
}
