package jinja

import (
	"fmt"
	"math"
	"math/big"
	"slices"
	"strings"
)

// hash is what a dict finds a key by: equal keys have the same.
func hash(v Value) any {
	switch v := v.(type) {
	case nil:
		return special("None")
	case bool, int:
		i, _ := toInt(v)
		return i
	case *big.Int:
		return "int " + v.Text(32)
	case float64:
		if i, accuracy := new(big.Float).SetFloat64(nanless(v)).Int(nil); accuracy == big.Exact && i != nil && !math.IsNaN(v) {
			return hash(norm(i))
		}
		return v
	case string:
		return "str " + v
	case Markup:
		return "str " + string(v)
	case *Tuple:
		var key strings.Builder
		for _, item := range v.items {
			part := fmt.Sprintf("%T %v", hash(item), hash(item))
			fmt.Fprintf(&key, "%d %s,", len(part), part)
		}
		return "tuple " + key.String()
	case *pyRange:
		return *v
	case *Undefined:
		return special("Undefined")
	case *YAMLTime:
		return "time " + v.Text
	case *view:
		if v.kind == "values" { // the only one of the three that is no set
			return v
		}
		raise(typeError, "unhashable type: 'dict_%s'", v.kind)
	case *List, *Dict, *slicing:
		raise(typeError, "unhashable type: '%s'", typeName(v))
	}
	return v
}

func nanless(f float64) float64 {
	if math.IsNaN(f) {
		return 0.5
	}
	return f
}

// same is Python's "is".
func same(a, b Value) bool {
	switch x := a.(type) {
	case *big.Int:
		y, ok := b.(*big.Int)
		return ok && x == y
	case float64, string, Markup:
		// Whether two equal ones are the same object is Python's own affair.
		if fmt.Sprintf("%T", a) != fmt.Sprintf("%T", b) {
			return false
		}
	}
	return a == b
}

// equal is Python's ==.
func (m *machine) equal(a, b Value) bool {
	defer m.level()()
	if x, ok := str(a); ok {
		y, ok := str(b)
		return ok && x == y
	}
	if isNumber(a) && isNumber(b) {
		order, ordered := compareNumbers(a, b)
		return ordered && order == 0
	}
	switch x := a.(type) {
	case *List:
		y, ok := b.(*List)
		return ok && m.equalItems(x.Items, y.Items)
	case *Tuple:
		y, ok := b.(*Tuple)
		return ok && m.equalItems(x.items, y.items)
	case *Dict:
		y, ok := b.(*Dict)
		return ok && m.equalDicts(x, y)
	case *Undefined:
		_, ok := b.(*Undefined)
		return ok
	case *pyRange:
		y, ok := b.(*pyRange)
		return ok && m.equalRanges(x, y)
	case *view:
		if y, ok := b.(*view); ok && x.kind != "values" && y.kind != "values" {
			raise(unsupported, "comparing the keys or items of dicts as sets")
		}
	case *bound:
		y, ok := b.(*bound)
		return ok && x.fn == y.fn && same(x.self, y.self)
	}
	return a == b
}

func (m *machine) equalItems(a, b []Value) bool {
	return len(a) == len(b) && !slices.ContainsFunc(zip(a, b), func(p [2]Value) bool { return !m.identicalOrEqual(p[0], p[1]) })
}

func zip(a, b []Value) [][2]Value {
	out := make([][2]Value, min(len(a), len(b)))
	for i := range out {
		out[i] = [2]Value{a[i], b[i]}
	}
	return out
}

// identicalOrEqual is how containers compare their items.
func (m *machine) identicalOrEqual(a, b Value) bool {
	switch a.(type) {
	case *List, *Tuple, *Dict:
		if a == b {
			return true
		}
	}
	return m.equal(a, b)
}

func (m *machine) equalDicts(a, b *Dict) bool {
	if a.Len() != b.Len() {
		return false
	}
	for k, v := range a.All {
		if w, ok := b.Get(k); !ok || !m.identicalOrEqual(v, w) {
			return false
		}
	}
	return true
}

func (m *machine) equalRanges(a, b *pyRange) bool {
	n := a.len()
	return n == b.len() && (n == 0 || a.start == b.start && (n == 1 || a.step == b.step))
}

// order compares with <, <=, > or >=.
func (m *machine) order(op string, a, b Value) bool {
	for _, v := range []Value{a, b} {
		if u, ok := v.(*Undefined); ok {
			u.raise()
		}
	}
	c, ordered := m.compare(op, a, b)
	switch op {
	case "<":
		return ordered && c < 0
	case "<=":
		return ordered && c <= 0
	case ">":
		return ordered && c > 0
	}
	return ordered && c >= 0
}

func (m *machine) compare(op string, a, b Value) (order int, ordered bool) {
	defer m.level()()
	if isNumber(a) && isNumber(b) {
		return compareNumbers(a, b)
	}
	x, aText := str(a)
	y, bText := str(b)
	if aText && bText {
		return strings.Compare(x, y), true
	}
	switch x := a.(type) {
	case *List:
		if y, ok := b.(*List); ok {
			return m.compareItems(op, x.Items, y.Items)
		}
	case *Tuple:
		if y, ok := b.(*Tuple); ok {
			return m.compareItems(op, x.items, y.items)
		}
	case *view:
		if y, ok := b.(*view); ok && x.kind != "values" && y.kind != "values" {
			raise(unsupported, "comparing the keys or items of dicts as sets")
		}
	}
	raise(typeError, "'%s' not supported between instances of '%s' and '%s'", op, typeName(a), typeName(b))
	return 0, false
}

func (m *machine) compareItems(op string, a, b []Value) (order int, ordered bool) {
	for _, p := range zip(a, b) {
		if m.identicalOrEqual(p[0], p[1]) {
			continue
		}
		// The operator itself decides: a NaN in there is neither less nor more.
		switch {
		case m.order(op, p[0], p[1]):
			return map[byte]int{'<': -1, '>': 1}[op[0]], true
		default:
			return map[byte]int{'<': 1, '>': -1}[op[0]], true
		}
	}
	return len(a) - len(b), true
}

// contains is Python's "in".
func (m *machine) contains(container, item Value) bool {
	switch c := container.(type) {
	case string, Markup:
		text, ok := str(item)
		if !ok {
			raise(typeError, "'in <string>' requires string as left operand, not %s", typeName(item))
		}
		all, _ := str(c)
		m.spend(len(all) / 16)
		return strings.Contains(all, text)
	case *Dict:
		_, ok := c.Get(item)
		return ok
	case *view:
		if c.kind == "keys" {
			_, ok := c.dict.Get(item)
			return ok
		}
	case *pyRange:
		if i, ok := toInt(item); ok {
			offset := i - c.start
			return offset%c.step == 0 && offset/c.step >= 0 && offset/c.step < c.len()
		}
	}
	it := m.iter(container)
	if it == nil {
		raise(typeError, "argument of type '%s' is not iterable", typeName(container))
	}
	for {
		m.step()
		have, ok := it.next()
		if !ok || m.identicalOrEqual(have, item) {
			return ok
		}
	}
}

// binary is an arithmetic operator.
func (m *machine) binary(op string, a, b Value) Value {
	if text, ok := str(a); ok && op == "%" {
		return m.percent(a, text, b)
	}
	for _, v := range []Value{a, b} {
		if u, ok := v.(*Undefined); ok {
			u.raise()
		}
	}
	if isNumber(a) && isNumber(b) {
		return m.arithmetic(op, a, b)
	}
	switch op {
	case "+":
		if v, ok := m.join(a, b); ok {
			return v
		}
	case "*":
		if v, ok := m.repeat(a, b); ok {
			return v
		}
		if v, ok := m.repeat(b, a); ok {
			return v
		}
	case "-":
		if isView(a) || isView(b) {
			raise(unsupported, "the keys or items of dicts as sets")
		}
	}
	raise(typeError, "unsupported operand type(s) for %s: '%s' and '%s'", op, typeName(a), typeName(b))
	return nil
}

func isView(v Value) bool {
	x, ok := v.(*view)
	return ok && x.kind != "values"
}

// join is + of texts, lists and tuples.
func (m *machine) join(a, b Value) (Value, bool) {
	x, aText := str(a)
	y, bText := str(b)
	if aText && bText {
		_, aMarkup := a.(Markup)
		_, bMarkup := b.(Markup)
		if aMarkup || bMarkup {
			return Markup(m.text(escape(a) + escape(b))), true
		}
		m.spend(len(x) + len(y))
		return x + y, true
	}
	switch x := a.(type) {
	case *List:
		if y, ok := b.(*List); ok {
			m.spend(16 * (len(x.Items) + len(y.Items)))
			return newList(slices.Concat(x.Items, y.Items)...), true
		}
	case *Tuple:
		if y, ok := b.(*Tuple); ok {
			m.spend(16 * (len(x.items) + len(y.items)))
			return newTuple(slices.Concat(x.items, y.items)...), true
		}
	}
	return nil, false
}

// repeat is * of a text, list or tuple with an int.
func (m *machine) repeat(a, times Value) (Value, bool) {
	if !isInt(times) {
		return nil, false
	}
	text, isText := str(a)
	list, isList := a.(*List)
	tuple, isTuple := a.(*Tuple)
	if !isText && !isList && !isTuple {
		return nil, false
	}
	n := max(index(times), 0)
	switch {
	case isText:
		m.spend(m.product(len(text), n))
		return like(a, strings.Repeat(text, n)), true
	case isList:
		m.spend(m.product(16*len(list.Items), n))
		return newList(slices.Repeat(list.Items, n)...), true
	}
	m.spend(m.product(16*len(tuple.items), n))
	return newTuple(slices.Repeat(tuple.items, n)...), true
}

// signed is unary minus, or plus.
func (m *machine) signed(op string, v Value) Value {
	if u, ok := v.(*Undefined); ok {
		u.raise()
	}
	if !isNumber(v) {
		raise(typeError, "bad operand type for unary %s: '%s'", op, typeName(v))
	}
	if f, ok := v.(float64); ok {
		if op == "+" {
			return f
		}
		return -f
	}
	if op == "+" {
		return m.arithmetic("+", v, 0)
	}
	return m.arithmetic("-", 0, v)
}

// bounds are the indexes of a slice of n items, as Python's slice.indices.
func bounds(n int, start, stop, step Value) (first, last, by int) {
	by = 1
	if step != nil {
		if by = clampIndex(step); by == 0 {
			raise(valueError, "slice step cannot be zero")
		}
	}
	low, high := 0, n
	if by < 0 {
		low, high = -1, n-1
	}
	place := func(v Value, otherwise int) int {
		if v == nil {
			return otherwise
		}
		i := clampIndex(v)
		if i < 0 {
			return max(i+n, low)
		}
		return min(i, high)
	}
	if by < 0 {
		return place(start, high), place(stop, low), by
	}
	return place(start, low), place(stop, high), by
}

// clampIndex is an int in a slice: one that is too large is only large.
func clampIndex(v Value) int {
	if b, ok := v.(*big.Int); ok {
		return b.Sign() * math.MaxInt32
	}
	if !isInt(v) {
		raise(typeError, "slice indices must be integers or None or have an __index__ method")
	}
	i, _ := toInt(v)
	return max(min(i, math.MaxInt32), -math.MaxInt32)
}

func (m *machine) slice(v, start, stop, step Value) Value {
	if u, ok := v.(*Undefined); ok {
		u.raise()
	}
	n, at, ok := m.sequence(v)
	if !ok {
		raise(typeError, "'%s' object is not subscriptable", typeName(v))
	}
	first, last, by := bounds(n, start, stop, step)
	window := &pyRange{first, last, by}
	if r, ok := v.(*pyRange); ok {
		return &pyRange{r.start + first*r.step, r.start + last*r.step, r.step * by}
	}
	m.spend(16 * window.len())
	out := make([]Value, window.len())
	for i := range out {
		out[i] = at(window.at(i))
	}
	switch v.(type) {
	case *List:
		return newList(out...)
	case *Tuple:
		return newTuple(out...)
	}
	return like(v, joinTexts(out))
}

func joinTexts(list []Value) string {
	var out strings.Builder
	for _, v := range list {
		text, _ := str(v)
		out.WriteString(text)
	}
	return out.String()
}

var escaper = strings.NewReplacer("&", "&amp;", ">", "&gt;", "<", "&lt;", "'", "&#39;", `"`, "&#34;")

// escape is a str as HTML; a Markup is that already.
func escape(v Value) string {
	if s, ok := v.(Markup); ok {
		return string(s)
	}
	text, _ := str(v)
	return escaper.Replace(text)
}
