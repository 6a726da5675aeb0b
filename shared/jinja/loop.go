package jinja

import (
	"fmt"
)

// loopContext is the variable loop.
type loopContext struct {
	m        *machine
	iterable Value // nil: its length is not known
	it       *iterator
	stmt     *forStmt
	up       *activation // of a recursive loop
	depth0   int
	index0   int
	count    int // -1: not known yet

	before, current, after Value
	changed                Value
}

func (l *loopContext) length() int {
	if l.count >= 0 {
		return l.count
	}
	if l.iterable != nil {
		if n, ok := l.m.length(l.iterable); ok {
			l.count = n
			return n
		}
	}
	rest := newList(l.m.items(l.it)...)
	l.it = l.m.iter(rest)
	l.count = len(rest.Items) + l.index0 + 1
	if l.after != missing {
		l.count++
	}
	return l.count
}

func (l *loopContext) peek() Value {
	if l.after == missing {
		if v, ok := l.it.next(); ok {
			l.after = v
		}
	}
	return l.after
}

// advance goes to the next item.
func (l *loopContext) advance() (Value, bool) {
	v := l.after
	if v == missing {
		var ok bool
		if v, ok = l.it.next(); !ok {
			return nil, false
		}
	}
	l.after = missing
	l.index0++
	l.before, l.current = l.current, v
	return v, true
}

func (l *loopContext) field(name string) (Value, bool) {
	switch name {
	case "index":
		return l.index0 + 1, true
	case "index0":
		return l.index0, true
	case "length":
		return l.length(), true
	case "revindex":
		return l.length() - l.index0, true
	case "revindex0":
		return l.length() - l.index0 - 1, true
	case "first":
		return l.index0 == 0, true
	case "last":
		return l.peek() == missing, true
	case "depth":
		return l.depth0 + 1, true
	case "depth0":
		return l.depth0, true
	case "previtem":
		if l.index0 == 0 {
			return &Undefined{hint: "there is no previous item"}, true
		}
		return l.before, true
	case "nextitem":
		if v := l.peek(); v != missing {
			return v, true
		}
		return &Undefined{hint: "there is no next item"}, true
	}
	return nil, false
}

// String is how Python prints it.
func (l *loopContext) String() string {
	return fmt.Sprintf("<LoopContext %d/%d>", l.index0+1, l.length())
}

func (l *loopContext) call(m *machine, args []Value, kwargs *Dict) Value {
	iterable := loopCall.bind("loop", args, kwargs)[0]
	if l.up == nil {
		raise(typeError, "the loop must have the 'recursive' marker to be called recursively")
	}
	return l.stmt.recurse(l.up, iterable, l.depth0+1)
}

var (
	loopCall    = newSignature("iterable")
	loopMethods map[string]*builtin
)

func init() {
	loopMethods = table(map[string]func(*machine, []Value) Value{
		"cycle(self, *args)": func(_ *machine, a []Value) Value {
			items := a[1].(*Tuple).items
			if len(items) == 0 {
				raise(typeError, "no items for cycling given")
			}
			return items[a[0].(*loopContext).index0%len(items)]
		},
		"changed(self, *value)": func(m *machine, a []Value) Value {
			l := a[0].(*loopContext)
			if l.changed != nil && m.equal(l.changed, a[1]) {
				return false
			}
			l.changed = a[1]
			return true
		},
	})
}

func (s *forStmt) exec(a *activation) {
	defer a.positioned(s.line)
	iterable := s.iter.eval(a)
	if s.recursive {
		a.write(a.m.str(s.recurse(a, iterable, 0)))
		return
	}
	s.run(a, a, iterable, 0)
}

// recurse runs a recursive loop and gives what it prints.
func (s *forStmt) recurse(up *activation, iterable Value, depth int) Value {
	defer up.m.enter()()
	out := &buffer{}
	s.run(up.inner(s.fn, out), up, iterable, depth)
	return out.text(up.m)
}

func (s *forStmt) run(a, up *activation, iterable Value, depth int) {
	it := a.m.mustIter(iterable)
	if s.test != nil {
		it, iterable = s.filtered(up, it), nil
	}
	l := &loopContext{m: a.m, iterable: iterable, it: it, stmt: s, depth0: depth, index0: -1, count: -1, before: missing, current: missing, after: missing}
	if s.recursive {
		l.up = up
	}
	if s.extended {
		a.vars[s.loop.slot] = missing
	}
	none := true
	for {
		a.m.step()
		item, ok := l.advance()
		if !ok {
			break
		}
		a.assign(s.target, item)
		if s.extended {
			a.vars[s.loop.slot] = l
		}
		a.enter(s.frame)
		a.execAll(s.body)
		none = false
	}
	if !s.recursive || s.orElse != nil {
		a.leave(s.frame)
	}
	if none && s.orElse != nil {
		a.enter(s.elseF)
		a.execAll(s.orElse)
		a.leave(s.elseF)
	}
}

// filtered are the items that pass the loop's test.
func (s *forStmt) filtered(up *activation, it *iterator) *iterator {
	var a *activation
	return &iterator{kind: "generator", next: func() (Value, bool) {
		if a == nil {
			a = up.inner(s.testFn, nil)
			a.enter(s.testF)
		}
		for {
			a.m.step()
			item, ok := it.next()
			if !ok {
				return nil, false
			}
			a.assign(s.testTarget, item)
			if a.m.truth(s.test.eval(a)) {
				return s.testTarget.eval(a), true
			}
		}
	}}
}
