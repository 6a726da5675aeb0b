package jinja

import (
	"math/big"
	"slices"
	"strings"
)

// notOffered are the attributes that Python's types have and templates of ours
// have not: they end a rendering, where a name unknown to Python is undefined.
var notOffered = map[string]string{
	"str":       "encode translate maketrans",
	"Markup":    "encode translate maketrans unescape striptags escape",
	"int":       "real imag numerator denominator conjugate bit_length bit_count to_bytes from_bytes as_integer_ratio",
	"bool":      "real imag numerator denominator conjugate bit_length bit_count to_bytes from_bytes as_integer_ratio",
	"float":     "real imag conjugate as_integer_ratio is_integer hex fromhex",
	"dict":      "fromkeys",
	"dict_keys": "isdisjoint mapping", "dict_values": "mapping", "dict_items": "isdisjoint mapping",
	"generator": "send throw close gi_code gi_frame gi_running gi_suspended gi_yieldfrom",
}

// attribute is Python's getattr.
func (m *machine) attribute(v Value, name string) (Value, bool) {
	if ns, ok := v.(*namespace); ok {
		return ns.attrs.Get(name)
	}
	dunder := strings.HasPrefix(name, "__") && strings.HasSuffix(name, "__") && len(name) > 4
	if u, ok := v.(*Undefined); ok {
		if !dunder {
			u.raise()
		}
		return nil, false
	}
	if dunder || slices.Contains(strings.Fields(notOffered[typeName(v)]), name) {
		raise(unsupported, "the attribute %s of a %s", name, typeName(v))
	}
	if methods := methodsOf(v); methods != nil {
		if fn := methods[name]; fn != nil {
			return &bound{v, fn}, true
		}
	}
	return m.field(v, name)
}

func methodsOf(v Value) map[string]*builtin {
	switch v.(type) {
	case string, Markup:
		return strMethods
	case *List:
		return listMethods
	case *Tuple, *pyRange:
		return tupleMethods
	case *Dict:
		return dictMethods
	case *loopContext:
		return loopMethods
	case *cycler:
		return cyclerMethods
	}
	return nil
}

// field is an attribute that is no method.
func (m *machine) field(v Value, name string) (Value, bool) {
	switch v := v.(type) {
	case *Tuple:
		if i := slices.Index(v.fields, name); i >= 0 {
			return v.items[i], true
		}
	case *pyRange:
		return lookup(name, map[string]Value{"start": v.start, "stop": v.stop, "step": v.step})
	case interface {
		field(name string) (Value, bool)
	}:
		return v.field(name)
	}
	return nil, false
}

func lookup(name string, fields map[string]Value) (Value, bool) {
	v, ok := fields[name]
	return v, ok
}

// getattr is x.name in a template: the attribute, or else the item.
func (m *machine) getattr(v Value, name string) Value {
	if attr, ok := m.attribute(v, name); ok {
		return attr
	}
	if item, ok := m.tryItem(v, name); ok {
		return item
	}
	return &Undefined{hint: typeName(v) + " object has no attribute '" + name + "'", name: name}
}

// getitem is x[key] in a template: the item, or else the attribute.
func (m *machine) getitem(v, key Value) Value {
	if item, ok := m.tryItem(v, key); ok {
		return item
	}
	if name, ok := str(key); ok {
		if attr, ok := m.attribute(v, name); ok {
			return attr
		}
	}
	return &Undefined{hint: typeName(v) + " object has no element " + m.shortRepr(key)}
}

// shortRepr is a value for a message.
func (m *machine) shortRepr(v Value) string {
	switch v.(type) {
	case nil, bool, int, float64, string:
		return m.scalarRepr(v)
	}
	return typeName(v)
}

func (m *machine) tryItem(v, key Value) (item Value, ok bool) {
	raised := try(func() { item = m.item(v, key) }, attributeError, typeError, keyError, indexError)
	return item, raised == nil
}

// item is Python's x[key].
func (m *machine) item(v, key Value) Value {
	switch v := v.(type) {
	case *Undefined:
		v.raise()
	case *Dict:
		value, ok := v.Get(key)
		if !ok {
			raise(keyError, "%s", m.shortRepr(key))
		}
		return value
	case interface{ item(key Value) (Value, bool) }:
		value, ok := v.item(key)
		if !ok {
			raise(keyError, "%s", m.shortRepr(key))
		}
		return value
	}
	if s, ok := key.(*slicing); ok {
		return m.slice(v, s.start, s.stop, s.step)
	}
	n, at, ok := m.sequence(v)
	if !ok {
		raise(typeError, "'%s' object is not subscriptable", typeName(v))
	}
	if _, isBig := key.(*big.Int); isBig {
		raise(indexError, "cannot fit 'int' into an index-sized integer")
	}
	if !isInt(key) {
		raise(typeError, "indices must be integers, not %s", typeName(key))
	}
	i, _ := toInt(key)
	if i < 0 {
		i += n
	}
	if i < 0 || i >= n {
		raise(indexError, "%s index out of range", typeName(v))
	}
	return at(i)
}

// slicing is a slice that stands for a key.
type slicing struct{ start, stop, step Value }
