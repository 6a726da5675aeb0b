package jinja

import (
	"slices"
	"strconv"
	"strings"
)

// signature says how a function takes its arguments. It is written as in
// Python: "s, old, new, count=None", "self, /, *args, **kwargs".
type signature struct {
	params      []parameter
	posOnly     int // so many take no keyword
	keywordOnly int // from here on, if there are some
	varargs     bool
	catchAll    bool
	mandatory   int
}

type parameter struct {
	name     string
	fallback Value
}

// comma stands for ', ' where it is a default.
const comma = "\x00"

func newSignature(text string) *signature {
	s := &signature{}
	for part := range strings.SplitSeq(strings.ReplaceAll(text, "', '", comma), ",") {
		part = strings.ReplaceAll(strings.TrimSpace(part), comma, "', '")
		name, fallback, optional := strings.Cut(part, "=")
		switch {
		case part == "":
		case part == "*":
			s.keywordOnly = len(s.params)
		case part == "/":
			s.posOnly = len(s.params)
		case strings.HasPrefix(part, "**"):
			s.catchAll = true
		case strings.HasPrefix(part, "*"):
			s.varargs = true
		case optional:
			s.params = append(s.params, parameter{name, literal(fallback)})
		default:
			s.mandatory++
			s.params = append(s.params, parameter{name: name})
		}
	}
	return s
}

func literal(text string) Value {
	if v, ok := words[text]; ok {
		return v
	}
	if i, err := strconv.Atoi(text); err == nil {
		return i
	}
	if f, err := strconv.ParseFloat(text, 64); err == nil {
		return f
	}
	return strings.Trim(text, "'")
}

// bind puts the arguments of a call in the order of the parameters; what *args
// and **kwargs take comes last, as a *Tuple and a *Dict.
func (s *signature) bind(name string, args []Value, kwargs *Dict) []Value {
	n := len(s.params)
	if len(args) > n && !s.varargs || s.keywordOnly > 0 && len(args) > s.keywordOnly {
		raise(typeError, "%s() takes %d arguments but %d were given", name, n, len(args))
	}
	out := make([]Value, n, n+2)
	given := make([]bool, n)
	for i := range min(n, len(args)) {
		out[i], given[i] = args[i], true
	}
	rest := s.keywords(name, kwargs, out, given)
	for i, p := range s.params {
		switch {
		case given[i]:
		case i < s.mandatory:
			raise(typeError, "%s() missing argument: '%s'", name, p.name)
		default:
			out[i] = p.fallback
		}
	}
	if s.varargs {
		out = append(out, newTuple(slices.Clone(args[min(n, len(args)):])...))
	}
	if s.catchAll {
		out = append(out, rest)
	}
	return out
}

func (s *signature) keywords(name string, kwargs *Dict, out []Value, given []bool) *Dict {
	rest := NewDict()
	if kwargs == nil {
		return rest
	}
	for k, v := range kwargs.All {
		i := slices.IndexFunc(s.params, func(p parameter) bool { return Value(p.name) == k })
		switch {
		case i >= s.posOnly && given[i]:
			raise(typeError, "%s() got multiple values for argument '%v'", name, k)
		case i >= s.posOnly:
			out[i], given[i] = v, true
		case s.catchAll:
			rest.Set(k, v)
		default:
			raise(typeError, "%s() got an unexpected keyword argument '%v'", name, k)
		}
	}
	return rest
}

// table makes builtins: the name and signature, "replace(s, old, new, count=None)",
// with what is called.
func table(functions map[string]func(m *machine, a []Value) Value) map[string]*builtin {
	out := map[string]*builtin{}
	for head, fn := range functions {
		names, params, _ := strings.Cut(strings.TrimSuffix(head, ")"), "(")
		for name := range strings.SplitSeq(names, "|") {
			out[name] = &builtin{name: name, sig: newSignature(params), fn: fn}
		}
	}
	return out
}
