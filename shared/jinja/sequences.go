package jinja

import (
	"slices"
	"strings"
)

// getter is what reads an attribute, "a.b.0" or a number, of each item of a
// sequence.
func (m *machine) getter(attribute Value, post func(Value) Value, fallback Value) func(Value) Value {
	parts := attributeParts(attribute)
	return func(item Value) Value {
		for _, part := range parts {
			item = m.getitem(item, part)
			if _, undefined := item.(*Undefined); undefined && fallback != nil {
				item = fallback
			}
		}
		if post != nil {
			item = post(item)
		}
		return item
	}
}

func attributeParts(attribute Value) []Value {
	text, ok := str(attribute)
	switch {
	case attribute == nil:
		return nil
	case !ok:
		return []Value{attribute}
	}
	var parts []Value
	for part := range strings.SplitSeq(text, ".") {
		if n := digits(part, decimal); n > 0 && n == len(part) && !strings.Contains(part, "_") {
			parts = append(parts, parseInt(part, 10))
			continue
		}
		parts = append(parts, part)
	}
	return parts
}

func ignoreCase(v Value) Value {
	if text, ok := str(v); ok {
		return like(v, lower(text))
	}
	return v
}

// folder is ignoreCase, unless case matters.
func (m *machine) folder(caseSensitive Value) func(Value) Value {
	if m.truth(caseSensitive) {
		return nil
	}
	return ignoreCase
}

// generator is an iterator that begins when it is read first.
func (m *machine) generator(begin func() func() (Value, bool)) *iterator {
	var next func() (Value, bool)
	return &iterator{kind: "generator", next: func() (Value, bool) {
		m.step()
		if next == nil {
			next = begin()
		}
		return next()
	}}
}

func nothing() (Value, bool) { return nil, false }

// lazy is f of each item.
func (m *machine) lazy(v Value, f func(Value) Value) *iterator {
	it := m.mustIter(v)
	return &iterator{kind: "map", next: func() (Value, bool) {
		item, ok := it.next()
		if !ok {
			return nil, false
		}
		return f(item), true
	}}
}

// kept are the items for which keep holds.
func (m *machine) kept(v Value, keep func(Value) bool) func() (Value, bool) {
	it := m.mustIter(v)
	return func() (Value, bool) {
		for {
			m.step()
			item, ok := it.next()
			if !ok || keep(item) {
				return item, ok
			}
		}
	}
}

// sequenceFilters are those that take sequences.
func sequenceFilters() map[string]*builtin {
	return table(map[string]func(*machine, []Value) Value{
		"first(seq)": func(m *machine, a []Value) Value {
			return m.first(m.mustIter(a[0]), "No first item, sequence was empty.")
		},
		"last(seq)": func(m *machine, a []Value) Value {
			return m.first(m.mustReverse(a[0]), "No last item, sequence was empty.")
		},
		"reverse(value)": func(m *machine, a []Value) Value {
			if _, ok := str(a[0]); ok {
				return m.slice(a[0], nil, nil, -1)
			}
			if it := m.reversed(a[0]); it != nil {
				return it
			}
			if m.iter(a[0]) == nil {
				raise(filterError, "argument must be iterable")
			}
			items := m.items(a[0])
			slices.Reverse(items)
			return newList(items...)
		},
		"sort(value, reverse=False, case_sensitive=False, attribute=None)": func(m *machine, a []Value) Value {
			return newList(m.sorted(m.items(a[0]), m.multiGetter(a[3], m.folder(a[2])), m.truth(a[1]))...)
		},
		"unique(value, case_sensitive=False, attribute=None)":            filterUnique,
		"min(value, case_sensitive=False, attribute=None)":               func(m *machine, a []Value) Value { return m.extreme("<", a) },
		"max(value, case_sensitive=False, attribute=None)":               func(m *machine, a []Value) Value { return m.extreme(">", a) },
		"sum(iterable, attribute=None, start=0)":                         filterSum,
		"groupby(value, attribute, default=None, case_sensitive=False)":  filterGroupBy,
		"dictsort(value, case_sensitive=False, by='key', reverse=False)": filterDictSort,
		"items(value)": func(m *machine, a []Value) Value {
			return m.generator(func() func() (Value, bool) {
				if _, ok := a[0].(*Undefined); ok {
					return nothing
				}
				d, ok := a[0].(*Dict)
				if !ok {
					raise(typeError, "can only get item pairs from a mapping")
				}
				return m.iterDict(d, "items").next
			})
		},
		"batch(value, linecount, fill_with=None)": filterBatch,
		"slice(value, slices, fill_with=None)":    filterSlice,
		"attr(obj, name)": func(m *machine, a []Value) Value {
			name := asText(a[1])
			if v, ok := m.attribute(a[0], name); ok {
				return v
			}
			return &Undefined{hint: typeName(a[0]) + " object has no attribute '" + name + "'"}
		},
	})
}

// contextFilters are those that find other filters, or chance.
func contextFilters() map[string]*builtin {
	return table(map[string]func(*machine, []Value) Value{
		"map(value, *args, **kwargs)":        filterMap,
		"select(value, *args, **kwargs)":     func(m *machine, a []Value) Value { return m.selected(a, false, true) },
		"reject(value, *args, **kwargs)":     func(m *machine, a []Value) Value { return m.selected(a, false, false) },
		"selectattr(value, *args, **kwargs)": func(m *machine, a []Value) Value { return m.selected(a, true, true) },
		"rejectattr(value, *args, **kwargs)": func(m *machine, a []Value) Value { return m.selected(a, true, false) },
		"random(seq)": func(m *machine, a []Value) Value {
			n := m.mustLength(a[0])
			if n == 0 {
				return &Undefined{hint: "No random item, sequence was empty."}
			}
			if m.engine.Random == nil {
				raise(unsupported, "random is not available: a text is the same each time")
			}
			return m.item(a[0], m.engine.Random(n))
		},
	})
}

func (m *machine) first(it *iterator, none string) Value {
	if v, ok := it.next(); ok {
		return v
	}
	return &Undefined{hint: none}
}

// reversed is Python's reversed(): nil if there is none.
func (m *machine) reversed(v Value) *iterator {
	var items []Value
	switch v := v.(type) {
	case *Undefined:
	case *Dict:
		items = v.keys()
	case *view:
		items = m.items(v)
	default:
		n, at, ok := m.sequence(v)
		if !ok {
			return nil
		}
		for i := range n {
			m.spend(16)
			items = append(items, at(i))
		}
	}
	i := len(items)
	return &iterator{kind: "reversed", next: func() (Value, bool) {
		if i--; i < 0 {
			return nil, false
		}
		return items[i], true
	}}
}

func (m *machine) mustReverse(v Value) *iterator {
	it := m.reversed(v)
	if it == nil {
		raise(typeError, "'%s' object is not reversible", typeName(v))
	}
	return it
}

// multiGetter reads several attributes, "a,b", as a list.
func (m *machine) multiGetter(attribute Value, post func(Value) Value) func(Value) Value {
	names := []Value{attribute}
	if text, ok := str(attribute); ok {
		names = nil
		for name := range strings.SplitSeq(text, ",") {
			names = append(names, name)
		}
	}
	getters := make([]func(Value) Value, len(names))
	for i, name := range names {
		getters[i] = m.getter(name, post, nil)
	}
	return func(item Value) Value {
		out := newList()
		for _, get := range getters {
			out.Items = append(out.Items, get(item))
		}
		return out
	}
}

func filterUnique(m *machine, a []Value) Value {
	return m.generator(func() func() (Value, bool) {
		get := m.getter(a[2], m.folder(a[1]), nil)
		seen := map[any]bool{}
		return m.kept(a[0], func(item Value) bool {
			key := hash(get(item))
			if seen[key] {
				return false
			}
			m.spend(maxItem)
			seen[key] = true
			return true
		})
	})
}

// extreme is the item whose key comes before all others.
func (m *machine) extreme(op string, a []Value) Value {
	it := m.mustIter(a[0])
	get := m.getter(a[2], m.folder(a[1]), nil)
	best, ok := it.next()
	if !ok {
		return &Undefined{hint: "No aggregated item, sequence was empty."}
	}
	key := get(best)
	for {
		m.step()
		item, ok := it.next()
		if !ok {
			return best
		}
		if k := get(item); m.order(op, k, key) {
			best, key = item, k
		}
	}
}

func filterSum(m *machine, a []Value) Value {
	total := a[2]
	if _, ok := str(total); ok {
		raise(typeError, "sum() can't sum strings")
	}
	get := m.getter(a[1], nil, nil)
	m.each(a[0], func(item Value) { total = m.binary("+", total, get(item)) })
	return total
}

func filterGroupBy(m *machine, a []Value) Value {
	key := m.getter(a[1], m.folder(a[3]), a[2])
	name := key
	if !m.truth(a[3]) {
		name = m.getter(a[1], nil, a[2])
	}
	out := newList()
	var last Value
	for i, item := range m.sorted(m.items(a[0]), key, false) {
		k := key(item)
		if i == 0 || !m.equal(k, last) {
			group := newTuple(name(item), newList())
			group.fields = []string{"grouper", "list"}
			out.Items = append(out.Items, group)
		}
		last = k
		members := out.Items[len(out.Items)-1].(*Tuple).items[1].(*List)
		members.Items = append(members.Items, item)
	}
	return out
}

func filterDictSort(m *machine, a []Value) Value {
	by, _ := str(a[2])
	pos := slices.Index([]string{"key", "value"}, by)
	if pos < 0 {
		raise(filterError, `you can only sort by either "key" or "value"`)
	}
	if u, ok := a[0].(*Undefined); ok {
		u.raise()
	}
	d, ok := a[0].(*Dict)
	if !ok {
		raise(attributeError, "'%s' object has no attribute 'items'", typeName(a[0]))
	}
	fold := m.folder(a[1])
	return newList(m.sorted(m.items(&view{d, "items"}), func(item Value) Value {
		v := item.(*Tuple).items[pos]
		if fold != nil {
			v = fold(v)
		}
		return v
	}, m.truth(a[3]))...)
}

func filterBatch(m *machine, a []Value) Value {
	return m.generator(func() func() (Value, bool) {
		it := m.mustIter(a[0])
		row := newList()
		done := false
		return func() (Value, bool) {
			for !done {
				m.step()
				item, ok := it.next()
				if !ok {
					done = true
					return m.lastRow(row, a[1], a[2])
				}
				full := row
				isFull := m.equal(len(row.Items), a[1])
				if isFull {
					row = newList()
				}
				row.Items = append(row.Items, item)
				if isFull {
					return full, true
				}
			}
			return nil, false
		}
	})
}

func (m *machine) lastRow(row *List, count, fill Value) (Value, bool) {
	if len(row.Items) == 0 {
		return nil, false
	}
	if fill != nil && m.order("<", len(row.Items), count) {
		missing := m.binary("*", newList(fill), m.binary("-", count, len(row.Items)))
		row.Items = append(row.Items, missing.(*List).Items...)
	}
	return row, true
}

func filterSlice(m *machine, a []Value) Value {
	return m.generator(func() func() (Value, bool) {
		items := m.items(a[0])
		if !isNumber(a[1]) {
			m.binary("//", len(items), a[1])
		}
		if m.equal(a[1], 0) {
			raise(zeroDivision, "integer division or modulo by zero")
		}
		n := index(a[1])
		i, start := 0, 0
		return func() (Value, bool) {
			if i >= n {
				return nil, false
			}
			end := start + len(items)/n
			extra := i < len(items)%n
			if extra {
				end++
			}
			row := newList(slices.Clone(items[start:end])...)
			if a[2] != nil && !extra {
				row.Items = append(row.Items, a[2])
			}
			i, start = i+1, end
			m.spend(16)
			return row, true
		}
	})
}

func filterMap(m *machine, a []Value) Value {
	return m.generator(func() func() (Value, bool) {
		if !m.truth(a[0]) {
			return nothing
		}
		return m.lazy(a[0], m.mapper(a[1].(*Tuple).items, a[2].(*Dict))).next
	})
}

func (m *machine) mapper(args []Value, kwargs *Dict) func(Value) Value {
	attribute, ok := kwargs.Get("attribute")
	if len(args) == 0 && ok {
		kwargs.remove("attribute")
		fallback, _ := kwargs.remove("default")
		if kwargs.Len() > 0 {
			raise(filterError, "unexpected keyword argument %v", kwargs.keys()[0])
		}
		return m.getter(attribute, nil, fallback)
	}
	if len(args) == 0 {
		raise(filterError, "map requires a filter argument")
	}
	return func(item Value) Value {
		return m.named(args[0], m.engine.filter).call(m, append([]Value{item}, args[1:]...), kwargs)
	}
}

// named is a filter or test that a template names by a value.
func (m *machine) named(name Value, find func(string) *builtin) *builtin {
	hash(name)
	text, ok := str(name)
	fn := find(text)
	if !ok || fn == nil {
		raise(runtimeError, "no filter or test named %s", m.shortRepr(name))
	}
	return fn
}

// selected are the items, or those whose attribute, that pass a test or do not.
func (m *machine) selected(a []Value, byAttribute, want bool) Value {
	return m.generator(func() func() (Value, bool) {
		if !m.truth(a[0]) {
			return nothing
		}
		args, kwargs := a[1].(*Tuple).items, a[2].(*Dict)
		get := func(v Value) Value { return v }
		if byAttribute {
			if len(args) == 0 {
				raise(filterError, "missing parameter for attribute name")
			}
			get, args = m.getter(args[0], nil, nil), args[1:]
		}
		return m.kept(a[0], func(item Value) bool {
			item = get(item)
			if len(args) > 0 {
				test := m.named(args[0], func(name string) *builtin { return tests[name] })
				item = test.call(m, append([]Value{item}, args[1:]...), kwargs)
			}
			return m.truth(item) == want
		})
	})
}
