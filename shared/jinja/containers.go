package jinja

import (
	"slices"
)

var listMethods map[string]*builtin

func init() {
	listMethods = table(map[string]func(*machine, []Value) Value{
		"append(self, item, /)": func(m *machine, a []Value) Value {
			m.spend(16)
			l := a[0].(*List)
			l.Items = append(l.Items, a[1])
			return nil
		},
		"extend(self, iterable, /)": func(m *machine, a []Value) Value {
			l := a[0].(*List)
			l.Items = append(l.Items, m.items(a[1])...)
			return nil
		},
		"insert(self, index, item, /)": func(m *machine, a []Value) Value {
			m.spend(16)
			l := a[0].(*List)
			at, _, _ := bounds(len(l.Items), index(a[1]), nil, nil)
			l.Items = slices.Insert(l.Items, at, a[2])
			return nil
		},
		"remove(self, item, /)": func(m *machine, a []Value) Value {
			l := a[0].(*List)
			i := m.position(l.Items, a[1], nil, nil)
			l.Items = slices.Delete(slices.Clone(l.Items), i, i+1)
			return nil
		},
		"pop(self, index=-1, /)": func(_ *machine, a []Value) Value {
			l := a[0].(*List)
			i := index(a[1])
			if i < 0 {
				i += len(l.Items)
			}
			if i < 0 || i >= len(l.Items) {
				raise(indexError, "pop index out of range")
			}
			item := l.Items[i]
			l.Items = slices.Delete(slices.Clone(l.Items), i, i+1)
			return item
		},
		"clear(self, /)": func(_ *machine, a []Value) Value {
			a[0].(*List).Items = nil
			return nil
		},
		"copy(self, /)": func(m *machine, a []Value) Value { return newList(m.items(a[0])...) },
		"reverse(self, /)": func(_ *machine, a []Value) Value {
			slices.Reverse(a[0].(*List).Items)
			return nil
		},
		"sort(self, *, key=None, reverse=False)": func(m *machine, a []Value) Value {
			l := a[0].(*List)
			key := func(v Value) Value { return v }
			if a[1] != nil {
				key = func(v Value) Value { return m.call(a[1], []Value{v}, nil) }
			}
			l.Items = m.sorted(l.Items, key, m.truth(a[2]))
			return nil
		},
		"index(self, item, start=None, end=None, /)": func(m *machine, a []Value) Value { return m.position(a[0].(*List).Items, a[1], a[2], a[3]) },
		"count(self, item, /)":                       func(m *machine, a []Value) Value { return m.count(a[0], a[1]) },
	})
}

var tupleMethods map[string]*builtin

func init() {
	tupleMethods = table(map[string]func(*machine, []Value) Value{
		"index(self, item, start=None, end=None, /)": func(m *machine, a []Value) Value { return m.position(m.items(a[0]), a[1], a[2], a[3]) },
		"count(self, item, /)":                       func(m *machine, a []Value) Value { return m.count(a[0], a[1]) },
	})
}

func (m *machine) position(items []Value, item, start, end Value) int {
	first, last, _ := bounds(len(items), start, end, nil)
	for i := first; i < last; i++ {
		m.step()
		if m.identicalOrEqual(items[i], item) {
			return i
		}
	}
	raise(valueError, "%s is not in list", m.shortRepr(item))
	return 0
}

func (m *machine) count(v, item Value) Value {
	n := 0
	m.each(v, func(have Value) {
		if m.identicalOrEqual(have, item) {
			n++
		}
	})
	return n
}

// sorted is Python's sorted(): stable, in reverse too.
func (m *machine) sorted(items []Value, key func(Value) Value, reverse bool) []Value {
	m.spend(48 * len(items))
	type keyed struct{ key, item Value }
	list := make([]keyed, len(items))
	for i, item := range items {
		list[i] = keyed{key(item), item}
	}
	slices.SortStableFunc(list, func(x, y keyed) int {
		m.step()
		if reverse {
			x, y = y, x
		}
		switch {
		case m.order("<", x.key, y.key):
			return -1
		case m.order("<", y.key, x.key):
			return 1
		}
		return 0
	})
	out := make([]Value, len(list))
	for i := range list {
		out[i] = list[i].item
	}
	return out
}

var dictMethods map[string]*builtin

func init() {
	dictMethods = table(map[string]func(*machine, []Value) Value{
		"keys(self, /)":   func(_ *machine, a []Value) Value { return &view{a[0].(*Dict), "keys"} },
		"values(self, /)": func(_ *machine, a []Value) Value { return &view{a[0].(*Dict), "values"} },
		"items(self, /)":  func(_ *machine, a []Value) Value { return &view{a[0].(*Dict), "items"} },
		"copy(self, /)": func(m *machine, a []Value) Value {
			m.spend(maxItem * a[0].(*Dict).Len())
			return a[0].(*Dict).copy()
		},
		"clear(self, /)": func(_ *machine, a []Value) Value {
			*a[0].(*Dict) = *NewDict()
			return nil
		},
		"get(self, key, default=None, /)": func(_ *machine, a []Value) Value {
			if v, ok := a[0].(*Dict).Get(a[1]); ok {
				return v
			}
			return a[2]
		},
		"setdefault(self, key, default=None, /)": func(m *machine, a []Value) Value {
			d := a[0].(*Dict)
			if v, ok := d.Get(a[1]); ok {
				return v
			}
			m.spend(maxItem)
			d.Set(a[1], a[2])
			return a[2]
		},
		"pop(self, key, *default)": func(m *machine, a []Value) Value {
			otherwise := a[2].(*Tuple).items
			if len(otherwise) > 1 {
				raise(typeError, "pop expected at most 2 arguments, got %d", len(otherwise)+1)
			}
			if v, ok := a[0].(*Dict).remove(a[1]); ok {
				return v
			}
			if len(otherwise) == 0 {
				raise(keyError, "%s", m.shortRepr(a[1]))
			}
			return otherwise[0]
		},
		"popitem(self, /)": func(_ *machine, a []Value) Value {
			d := a[0].(*Dict)
			keys := d.keys()
			if len(keys) == 0 {
				raise(keyError, "popitem(): dictionary is empty")
			}
			key := keys[len(keys)-1]
			value, _ := d.remove(key)
			return newTuple(key, value)
		},
		"update(self, /, *args, **kwargs)": func(m *machine, a []Value) Value {
			args := a[1].(*Tuple).items
			if len(args) > 1 {
				raise(typeError, "update expected at most 1 argument, got %d", len(args))
			}
			if len(args) == 1 {
				m.update(a[0].(*Dict), args[0])
			}
			m.update(a[0].(*Dict), a[2])
			return nil
		},
	})
}
