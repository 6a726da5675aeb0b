package jinja

import (
	"fmt"
	"maps"
	"slices"
)

// Jinja2 decides before a template runs which names of a scope are its own,
// which come from the scope around it and which from the context. It shows: a
// name that a loop sets starts each turn with what the scope around has, and a
// macro sees what its scope sets later. These tables decide as Jinja2 does.

type loadKind int

const (
	loadParam loadKind = iota
	loadResolve
	loadAlias
	loadUndefined
)

type loadRule struct {
	kind loadKind
	from string // the name to resolve, or the identifier to copy
}

// symbols are the names of one scope. An identifier is a name with the depth of
// the scope that it belongs to.
type symbols struct {
	level  int
	parent *symbols
	fn     *function
	refs   map[string]string
	loads  map[string]loadRule
	order  []string // of loads
	stores map[string]bool
	spend  func(names int) // counts work on many names
}

func newSymbols(parent *symbols, fn *function) *symbols {
	s := &symbols{parent: parent, fn: fn, refs: map[string]string{}, loads: map[string]loadRule{}, stores: map[string]bool{}}
	if parent != nil {
		s.level, s.spend = parent.level+1, parent.spend
	}
	return s
}

func (s *symbols) clone() *symbols {
	s.spend(len(s.refs) + len(s.stores))
	c := *s
	c.refs, c.loads, c.stores, c.order = maps.Clone(s.refs), maps.Clone(s.loads), maps.Clone(s.stores), slices.Clone(s.order)
	return &c
}

func (s *symbols) define(name string, rule loadRule) {
	id := fmt.Sprintf("%d %s", s.level, name)
	s.refs[name] = id
	s.setLoad(id, rule)
}

func (s *symbols) setLoad(id string, rule loadRule) {
	if _, ok := s.loads[id]; !ok {
		s.order = append(s.order, id)
	}
	s.loads[id] = rule
}

// find is the identifier of a name, and the scope that has it.
func (s *symbols) find(name string) (string, *symbols) {
	for ; s != nil; s = s.parent {
		if id, ok := s.refs[name]; ok {
			return id, s
		}
	}
	return "", nil
}

func (s *symbols) findLoad(id string) (loadRule, bool) {
	for ; s != nil; s = s.parent {
		if rule, ok := s.loads[id]; ok {
			return rule, true
		}
	}
	return loadRule{}, false
}

func (s *symbols) outer(name string) (string, bool) {
	if s.parent == nil {
		return "", false
	}
	id, owner := s.parent.find(name)
	return id, owner != nil
}

func (s *symbols) store(name string) {
	s.stores[name] = true
	if _, ok := s.refs[name]; ok {
		return
	}
	if id, ok := s.outer(name); ok {
		s.define(name, loadRule{loadAlias, id})
		return
	}
	s.define(name, loadRule{kind: loadUndefined})
}

func (s *symbols) param(name string) {
	s.stores[name] = true
	s.define(name, loadRule{kind: loadParam})
}

func (s *symbols) load(name string) {
	if _, owner := s.find(name); owner == nil {
		s.define(name, loadRule{loadResolve, name})
	}
}

// branches joins what the branches of an if have stored: a name that only some
// of them store keeps, in the others, what it was before.
func (s *symbols) branches(list ...*symbols) {
	stores := map[string]bool{}
	for _, b := range list {
		for name := range b.stores {
			if !s.stores[name] {
				stores[name] = true
			}
		}
	}
	for _, b := range list {
		maps.Copy(s.refs, b.refs)
		for _, id := range b.order {
			s.setLoad(id, b.loads[id])
		}
		maps.Copy(s.stores, b.stores)
	}
	for name := range stores {
		id, _ := s.find(name)
		if outer, ok := s.outer(name); ok {
			s.setLoad(id, loadRule{loadAlias, outer})
			continue
		}
		s.setLoad(id, loadRule{loadResolve, name})
	}
}

// visit takes the names that a node uses in its own scope.
func (s *symbols) visit(list ...any) {
	for _, n := range list {
		switch n := n.(type) {
		case *name:
			s.visitName(n)
		case *nsRef:
			s.load(n.name)
		case *ifStmt:
			s.visitIf(n.branches)
		case *macroStmt:
			s.store(n.name)
		case *importStmt:
			s.visit(n.template)
			for _, alias := range n.targets() {
				s.store(alias)
			}
		case *setStmt:
			s.visit(n.value, n.target)
		case *setBlock:
			s.visit(n.target)
		case *forStmt:
			s.visit(n.iter)
		case *callBlock:
			s.visit(n.call)
		case *filterBlock:
			s.visit(n.filter)
		case *withStmt:
			s.visit(nodes(n.values)...)
		case *blockStmt:
		default:
			s.visit(children(n)...)
		}
	}
}

func (s *symbols) visitName(n *name) {
	switch n.kind {
	case param:
		s.param(n.name)
	case store:
		s.store(n.name)
	default:
		s.load(n.name)
	}
}

// visitIf visits a chain of branches: the test of the first, its body, all of
// the elifs, and the else.
func (s *symbols) visitIf(list []branch) {
	s.visit(list[0].test)
	body, elifs, orElse := s.clone(), s.clone(), s.clone()
	body.visit(nodes(list[0].body)...)
	for _, b := range list[1:] {
		if b.test == nil {
			orElse.visit(nodes(b.body)...)
			continue
		}
		elifs.visitIf([]branch{b})
	}
	s.branches(body, elifs, orElse)
}

// visitParams takes the names of a loop's target.
func (s *symbols) visitParams(target expr) {
	each(target, func(n any) bool {
		if n, ok := n.(*name); ok {
			s.param(n.name)
		}
		return true
	})
}

// targets are the names that an import assigns.
func (s *importStmt) targets() []string {
	if s.module != "" {
		return []string{s.module}
	}
	var out []string
	for _, n := range s.names {
		out = append(out, n.alias)
	}
	return out
}

// undeclared says which of the names the nodes read before they store them.
func undeclared(list []any, names ...string) map[string]bool {
	found, open := map[string]bool{}, map[string]bool{}
	for _, n := range names {
		open[n] = true
	}
	for _, n := range list {
		each(n, func(n any) bool {
			if _, isBlock := n.(*blockStmt); isBlock {
				return false
			}
			if n, ok := n.(*name); ok {
				if n.kind == load && open[n.name] {
					found[n.name] = true
				} else {
					delete(open, n.name)
				}
			}
			return true
		})
	}
	return found
}
