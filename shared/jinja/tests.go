package jinja

import "math/big"

var tests map[string]*builtin

// is is a test of one value.
func is(f func(m *machine, v Value) bool) func(*machine, []Value) Value {
	return func(m *machine, a []Value) Value { return f(m, a[0]) }
}

func comparing(op string) func(*machine, []Value) Value {
	return func(m *machine, a []Value) Value { return m.comparison(op, a[0], a[1]) }
}

func isType[T any](_ *machine, v Value) bool {
	_, ok := v.(T)
	return ok
}

func init() {
	tests = table(map[string]func(*machine, []Value) Value{
		"defined(value)":          is(func(m *machine, v Value) bool { return !isType[*Undefined](m, v) }),
		"undefined(value)":        is(isType[*Undefined]),
		"none(value)":             is(func(_ *machine, v Value) bool { return v == nil }),
		"boolean(value)":          is(isType[bool]),
		"true(value)":             is(func(_ *machine, v Value) bool { return v == true }),
		"false(value)":            is(func(_ *machine, v Value) bool { return v == false }),
		"integer(value)":          is(func(m *machine, v Value) bool { return isType[int](m, v) || isType[*big.Int](m, v) }),
		"float(value)":            is(isType[float64]),
		"number(value)":           is(func(_ *machine, v Value) bool { return isNumber(v) }),
		"string(value)":           is(func(m *machine, v Value) bool { return isType[string](m, v) || isType[Markup](m, v) }),
		"mapping(value)":          is(isType[*Dict]),
		"sequence(value)":         is(isSequence),
		"iterable(value)":         is(func(m *machine, v Value) bool { return m.iter(v) != nil || isType[*templateRef](m, v) }),
		"callable(obj, /)":        is(isType[callable]),
		"escaped(value)":          is(func(m *machine, v Value) bool { return isType[Markup](m, v) || isType[*module](m, v) }),
		"lower(value)":            is(func(m *machine, v Value) bool { return isLower(m.str(v)) }),
		"upper(value)":            is(func(m *machine, v Value) bool { return isUpper(m.str(v)) }),
		"odd(value)":              is(func(m *machine, v Value) bool { return m.equal(m.binary("%", v, 2), 1) }),
		"even(value)":             is(func(m *machine, v Value) bool { return m.equal(m.binary("%", v, 2), 0) }),
		"divisibleby(value, num)": func(m *machine, a []Value) Value { return m.equal(m.binary("%", a[0], a[1]), 0) },
		"sameas(value, other)":    func(_ *machine, a []Value) Value { return same(a[0], a[1]) },
		"in(value, seq)":          func(m *machine, a []Value) Value { return m.contains(a[1], a[0]) },
		"filter(value)": func(m *machine, a []Value) Value {
			hash(a[0])
			name, ok := str(a[0])
			return ok && m.engine.filter(name) != nil
		},
		"test(value)": func(_ *machine, a []Value) Value {
			hash(a[0])
			name, ok := str(a[0])
			return ok && tests[name] != nil
		},
		"==|eq|equalto(a, b, /)":    comparing("=="),
		"!=|ne(a, b, /)":            comparing("!="),
		">|gt|greaterthan(a, b, /)": comparing(">"),
		">=|ge(a, b, /)":            comparing(">="),
		"<|lt|lessthan(a, b, /)":    comparing("<"),
		"<=|le(a, b, /)":            comparing("<="),
	})
}

func isSequence(m *machine, v Value) bool {
	switch v.(type) {
	case *view, *loopContext:
		return false
	}
	_, ok := m.length(v)
	return ok
}
