package jinja

import (
	"math/big"
	"unicode/utf8"
)

// Value is a Python value: nil is None; bool, int, *big.Int (only where an int
// is too small), float64, string, Markup, *Undefined, *List, *Tuple, *Dict,
// and what templates make themselves.
type Value = any

// Markup is a text that is HTML: what it is joined with is escaped.
type Markup string

// Undefined stands for what is not there. It prints as nothing, and raises an
// UndefinedError when more is done with it.
type Undefined struct {
	hint string
	name string
}

func (u *Undefined) raise() {
	if u.hint != "" {
		raise(undefinedError, "%s", u.hint)
	}
	raise(undefinedError, "%q is undefined", u.name)
}

// List is a Python list.
type List struct{ Items []Value }

// Tuple is a Python tuple.
type Tuple struct {
	items  []Value
	fields []string // names of the items, if they have any
}

func newList(items ...Value) *List   { return &List{Items: items} }
func newTuple(items ...Value) *Tuple { return &Tuple{items: items} }

// Dict is a Python dict: in the order of insertion.
type Dict struct {
	entries []entry
	index   map[any]int // by hash, the place in entries
	deleted int
}

type entry struct {
	key, value Value
	live       bool
}

// NewDict returns an empty dict.
func NewDict() *Dict { return &Dict{index: map[any]int{}} }

// Len is the number of items.
func (d *Dict) Len() int { return len(d.index) }

// Get returns the value of a key, and whether there is one. A key that is no
// key (a list) raises, as everything in this package does.
func (d *Dict) Get(key Value) (Value, bool) {
	if i, ok := d.index[hash(key)]; ok {
		return d.entries[i].value, true
	}
	return nil, false
}

// Set gives a key a value; the key keeps its place if it has one.
func (d *Dict) Set(key, value Value) {
	h := hash(key)
	if i, ok := d.index[h]; ok {
		d.entries[i].value = value
		return
	}
	d.index[h] = len(d.entries)
	d.entries = append(d.entries, entry{key, value, true})
}

func (d *Dict) remove(key Value) (Value, bool) {
	h := hash(key)
	i, ok := d.index[h]
	if !ok {
		return nil, false
	}
	value := d.entries[i].value
	delete(d.index, h)
	d.entries[i] = entry{}
	if d.deleted++; d.deleted > len(d.entries)/2 {
		d.compact()
	}
	return value, true
}

func (d *Dict) compact() {
	old := d.entries
	d.entries, d.deleted = nil, 0
	for _, e := range old {
		if e.live {
			d.index[hash(e.key)] = len(d.entries)
			d.entries = append(d.entries, e)
		}
	}
}

// All calls yield with each item in order.
func (d *Dict) All(yield func(key, value Value) bool) {
	for _, e := range d.entries {
		if e.live && !yield(e.key, e.value) {
			return
		}
	}
}

func (d *Dict) copy() *Dict {
	c := NewDict()
	for k, v := range d.All {
		c.Set(k, v)
	}
	return c
}

func (d *Dict) keys() []Value {
	out := make([]Value, 0, d.Len())
	for k := range d.All {
		out = append(out, k)
	}
	return out
}

// pyRange is what range() gives.
type pyRange struct{ start, stop, step int }

func (r *pyRange) len() int {
	switch {
	case r.step > 0 && r.start < r.stop:
		return (r.stop-r.start-1)/r.step + 1
	case r.step < 0 && r.start > r.stop:
		return (r.start-r.stop-1)/-r.step + 1
	}
	return 0
}

func (r *pyRange) at(i int) int { return r.start + i*r.step }

// view is what a dict's keys(), values() and items() give.
type view struct {
	dict *Dict
	kind string
}

// iterator is a Python iterator, used up by reading.
type iterator struct {
	next func() (Value, bool)
	kind string
}

// special is a value of Jinja2's own that a template should never see.
type special string

// missing is in a variable that has no value.
const missing special = "missing"

// builtin is a function, filter, test or method that is written here.
type builtin struct {
	name    string
	sig     *signature
	context bool // never computed before the template runs
	fn      func(m *machine, args []Value) Value
}

// bound is a method with its object.
type bound struct {
	self Value
	fn   *builtin
}

// callable is what can be called.
type callable interface {
	call(m *machine, args []Value, kwargs *Dict) Value
}

func (b *builtin) call(m *machine, args []Value, kwargs *Dict) Value {
	return b.fn(m, b.sig.bind(b.name, args, kwargs))
}

func (b *bound) call(m *machine, args []Value, kwargs *Dict) Value {
	return b.fn.call(m, append([]Value{b.self}, args...), kwargs)
}

func (u *Undefined) call(*machine, []Value, *Dict) Value {
	u.raise()
	return nil
}

// namespace is what namespace() gives: its attributes can be set.
type namespace struct{ attrs *Dict }

// typeName is the name of a value's class in messages.
func typeName(v Value) string {
	switch v := v.(type) {
	case nil:
		return "NoneType"
	case bool:
		return "bool"
	case int, *big.Int:
		return "int"
	case float64:
		return "float"
	case string:
		return "str"
	case Markup:
		return "Markup"
	case *List:
		return "list"
	case *Tuple:
		return "tuple"
	case *Dict:
		return "dict"
	case *pyRange:
		return "range"
	case *view:
		return "dict_" + v.kind
	case *iterator:
		return v.kind
	case *Undefined:
		return "Undefined"
	}
	return "object"
}

// str is the text of a str or Markup.
func str(v Value) (text string, ok bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case Markup:
		return string(v), true
	}
	return "", false
}

// like gives a text the class of a str or Markup.
func like(v Value, text string) Value {
	if _, ok := v.(Markup); ok {
		return Markup(text)
	}
	return text
}

// size is the number of characters.
func size(s string) int { return utf8.RuneCountInString(s) }

// runes are the characters of s as strings of their own: invalid bytes stay.
func runes(s string) []string {
	out := make([]string, 0, len(s))
	for len(s) > 0 {
		_, n := utf8.DecodeRuneInString(s)
		out = append(out, s[:n])
		s = s[n:]
	}
	return out
}

// truth is Python's bool().
func (m *machine) truth(v Value) bool {
	switch v := v.(type) {
	case nil, *Undefined:
		return false
	case bool:
		return v
	case int:
		return v != 0
	case *big.Int:
		return true
	case float64:
		return v != 0
	}
	if n, ok := m.length(v); ok {
		return n > 0
	}
	return true
}

// length is Python's len(), if there is one.
func (m *machine) length(v Value) (int, bool) {
	switch v := v.(type) {
	case string:
		return size(v), true
	case Markup:
		return size(string(v)), true
	case *List:
		return len(v.Items), true
	case *Tuple:
		return len(v.items), true
	case *Dict:
		return v.Len(), true
	case *pyRange:
		return v.len(), true
	case *view:
		return v.dict.Len(), true
	case *Undefined:
		return 0, true
	case *loopContext:
		return v.length(), true
	}
	return 0, false
}

// sequence is what can be read by an index.
func (m *machine) sequence(v Value) (n int, at func(int) Value, ok bool) {
	switch v := v.(type) {
	case *List:
		return len(v.Items), func(i int) Value { return v.Items[i] }, true
	case *Tuple:
		return len(v.items), func(i int) Value { return v.items[i] }, true
	case *pyRange:
		return v.len(), func(i int) Value { return v.at(i) }, true
	case string, Markup:
		text, _ := str(v)
		if ascii(text) {
			return len(text), func(i int) Value { return like(v, text[i:i+1]) }, true
		}
		m.spend(8 * len(text))
		list := runes(text)
		return len(list), func(i int) Value { return like(v, list[i]) }, true
	}
	return 0, nil, false
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// iter is Python's iter(): nil if the value can not be iterated.
func (m *machine) iter(v Value) *iterator {
	switch v := v.(type) {
	case *iterator:
		return v
	case *Undefined:
		return &iterator{next: func() (Value, bool) { return nil, false }, kind: "generator"}
	case *List:
		i := -1
		return &iterator{kind: "list_iterator", next: func() (Value, bool) {
			if i++; i >= len(v.Items) {
				return nil, false
			}
			return v.Items[i], true
		}}
	case *Dict:
		return m.iterDict(v, "keys")
	case *view:
		return m.iterDict(v.dict, v.kind)
	case *loopContext:
		return &iterator{kind: "LoopContext", next: func() (Value, bool) {
			item, ok := v.advance()
			return newTuple(item, v), ok
		}}
	case Markup:
		return m.iter(string(v))
	}
	n, at, ok := m.sequence(v)
	if !ok {
		return nil
	}
	i := -1
	return &iterator{kind: typeName(v) + "_iterator", next: func() (Value, bool) {
		if i++; i >= n {
			return nil, false
		}
		return at(i), true
	}}
}

func (m *machine) iterDict(d *Dict, kind string) *iterator {
	i, n := -1, d.Len()
	return &iterator{kind: "dict_" + kind[:len(kind)-1] + "iterator", next: func() (Value, bool) {
		if d.Len() != n {
			raise(pythonRuntimeError, "dictionary changed size during iteration")
		}
		for i++; i < len(d.entries); i++ {
			if e := d.entries[i]; e.live {
				return dictItem(e, kind), true
			}
		}
		return nil, false
	}}
}

func dictItem(e entry, kind string) Value {
	switch kind {
	case "values":
		return e.value
	case "items":
		return newTuple(e.key, e.value)
	}
	return e.key
}

// mustIter is iter, or a TypeError.
func (m *machine) mustIter(v Value) *iterator {
	it := m.iter(v)
	if it == nil {
		raise(typeError, "'%s' object is not iterable", typeName(v))
	}
	return it
}

// each calls f with every item.
func (m *machine) each(v Value, f func(Value)) {
	it := m.mustIter(v)
	for {
		m.step()
		item, ok := it.next()
		if !ok {
			return
		}
		f(item)
	}
}

// items are all items of what can be iterated.
func (m *machine) items(v Value) []Value {
	switch v := v.(type) {
	case *List:
		m.spend(16 * len(v.Items))
		return append([]Value(nil), v.Items...)
	case *Tuple:
		return v.items
	}
	var out []Value
	m.each(v, func(item Value) {
		m.spend(16)
		out = append(out, item)
	})
	return out
}
