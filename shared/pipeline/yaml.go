package pipeline

import (
	"errors"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds on what is read.
const (
	maxNesting = 100     // levels of lists and mappings
	maxIndent  = 400     // columns before the first word of a line
	maxValues  = 1 << 20 // values that a whole configuration may expand to
)

type kind int

const (
	scalar kind = iota
	list
	mapping
)

// value is a parsed YAML value that knows its place. Aliases share the value of
// their anchor, so values form a graph without cycles.
type value struct {
	place  Place
	kind   kind
	scalar any    // string, bool, int, float64, nil
	text   string // a scalar as it is written
	items  []*value
	fields []field
	keys   []string // of fields, in Python's order; nil: as they stand
}

// field is one key of a mapping. A merged one keeps the place where it is
// written.
type field struct {
	key   string
	place Place
	value *value
}

func (v *value) isNull() bool { return v.kind == scalar && v.scalar == nil }

// reader turns one file into values.
type reader struct {
	file     string
	anchors  map[string]*value
	problems *Problems
	budget   *int // values left before the configuration is too large
}

// read parses a file's content: false when it cannot be parsed, which is
// reported.
func (r *reader) read(content []byte) (*value, bool) {
	tokens := lexer.Tokenize(string(content))
	if at, deep := tooDeep(tokens); deep {
		r.problems.add(r.place(at), "nested more than %d levels deep, or indented by more than %d columns", maxNesting, maxIndent)
		return nil, false
	}
	// Duplicate keys are looked for here: the parser takes quadratic time to.
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		r.syntax(err)
		return nil, false
	}
	root := null
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if root != null {
			r.problems.add(r.place(doc.Body.GetToken()), "a second YAML document; a file holds one")
			return root, true
		}
		root = r.value(doc.Body)
	}
	return root, true
}

func (r *reader) syntax(err error) {
	var syntax *yaml.SyntaxError
	if errors.As(err, &syntax) {
		r.problems.add(r.place(syntax.Token), "syntax error: %s", syntax.Message)
		return
	}
	r.problems.add(r.place(nil), "syntax error: %s", err)
}

func (r *reader) place(t *token.Token) Place {
	if t == nil || t.Position == nil {
		return Place{File: r.file}
	}
	return Place{File: r.file, Line: t.Position.Line}
}

// tooDeep says whether the tokens nest deeper than a recursive parser should
// follow, and where: brackets are counted; block levels are bounded by the
// indentation of lines and by the indicators that stand on one line.
func tooDeep(tokens token.Tokens) (*token.Token, bool) {
	brackets, prefixes, line := 0, 0, 0
	for _, t := range tokens {
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			brackets++
		case token.SequenceEndType, token.MappingEndType:
			brackets--
		}
		first := t.Position.Line != line
		if line = t.Position.Line; first {
			prefixes = 0
		}
		switch t.Type {
		case token.SequenceEntryType, token.MappingKeyType, token.AnchorType, token.TagType:
			prefixes++
		}
		if brackets > maxNesting || prefixes > maxNesting || first && brackets == 0 && t.Position.Column > maxIndent {
			return t, true
		}
	}
	return nil, false
}

// spend takes n values from the budget; false when it is used up, which is
// reported once.
func (r *reader) spend(n int, at Place) bool {
	return spend(r.budget, n, at, r.problems)
}

func spend(budget *int, n int, at Place, problems *Problems) bool {
	if *budget < 0 {
		return false
	}
	if *budget -= n; *budget < 0 {
		problems.add(at, "the configuration expands to more than %d values here", maxValues)
		return false
	}
	return true
}

var null = &value{}

func (r *reader) value(n ast.Node) *value {
	if n == nil {
		return null
	}
	at := r.place(n.GetToken())
	if !r.spend(1, at) {
		return null
	}
	switch n := n.(type) {
	case *ast.AnchorNode:
		v := r.value(n.Value)
		r.anchors[n.Name.GetToken().Value] = v
		return v
	case *ast.AliasNode:
		return r.alias(n.Value.GetToken().Value, at)
	case *ast.MappingNode:
		return r.mapping(at, n.Values)
	case *ast.MappingValueNode:
		return r.mapping(at, []*ast.MappingValueNode{n})
	case *ast.SequenceNode:
		return r.list(at, n.Values)
	case *ast.TagNode:
		return r.tagged(n, at)
	case ast.ScalarNode:
		return r.scalar(n, at)
	}
	r.problems.add(at, "a YAML %s cannot stand here", n.Type())
	return null
}

func (r *reader) alias(name string, at Place) *value {
	v, ok := r.anchors[name]
	if !ok {
		r.problems.add(at, "alias *%s has no anchor above it in this file%s", name, nearestKey(name, r.anchors))
		return null
	}
	return v
}

// tagged reads the one tag that configurations need.
func (r *reader) tagged(n *ast.TagNode, at Place) *value {
	v := r.value(n.Value)
	if n.Start.Value != "!!str" || v.kind != scalar {
		r.problems.add(at, "tag %.40s is not supported; only !!str is", n.Start.Value)
		return null
	}
	return &value{place: v.place, scalar: v.text, text: v.text}
}

func (r *reader) scalar(n ast.ScalarNode, at Place) *value {
	v := &value{place: at, text: n.GetToken().Value}
	switch n := n.(type) {
	case *ast.NullNode:
	case *ast.BoolNode:
		v.scalar = n.Value
	case *ast.IntegerNode:
		v.scalar = integer(n.Value)
	case *ast.FloatNode:
		v.scalar = n.Value
	case *ast.StringNode:
		v.scalar, v.text = n.Value, n.Value
		if b, ok := oldBools[n.Value]; ok && n.Token.Type == token.StringType {
			v.scalar = b
		}
	case *ast.LiteralNode:
		v.scalar, v.text = n.Value.Value, n.Value.Value
	default:
		r.problems.add(at, "%.40q is not a value that a configuration can hold", v.text)
	}
	return v
}

// oldBools are the unquoted words that YAML 1.1, which KernelCI's own loader
// reads, takes for booleans beside true and false.
var oldBools = map[string]bool{
	"yes": true, "Yes": true, "YES": true, "on": true, "On": true, "ON": true,
	"no": false, "No": false, "NO": false, "off": false, "Off": false, "OFF": false,
}

// integer brings the library's int64 or uint64 to an int; what does not fit
// becomes a float64.
func integer(v any) any {
	switch v := v.(type) {
	case int64:
		return int(v)
	case uint64:
		if int(v) >= 0 {
			return int(v)
		}
		return float64(v)
	}
	return v
}

func (r *reader) list(at Place, nodes []ast.Node) *value {
	v := &value{place: at, kind: list, items: make([]*value, len(nodes))}
	for i, n := range nodes {
		v.items[i] = r.value(n)
	}
	return v
}

// mapping reads the pairs of a mapping. Keys written here win over merged
// ones, wherever the merge stands; of several merged mappings the first wins.
func (r *reader) mapping(at Place, pairs []*ast.MappingValueNode) *value {
	v := &value{place: at, kind: mapping}
	seen := make(map[string]Place, len(pairs))
	var merges []*value
	for _, pair := range pairs {
		keyAt := r.place(pair.Key.GetToken())
		if pair.Key.IsMergeKey() {
			merges = append(merges, r.value(pair.Value))
			continue
		}
		key, ok := r.key(pair.Key, keyAt)
		if !ok {
			continue
		}
		content := r.value(pair.Value)
		if first, twice := seen[key]; twice {
			r.problems.add(keyAt, "%q is given twice; the first is at %s", key, first)
			continue
		}
		seen[key] = keyAt
		v.fields = append(v.fields, field{key, keyAt, content})
	}
	own := len(v.fields)
	for _, m := range merges {
		r.merge(v, m, seen, at)
	}
	if len(v.fields) > own {
		v.keys = mergedKeys(merges, v.fields)
	}
	return v
}

// mergedKeys are the keys of a mapping in the order that they have in Python:
// those of what it merges come first.
func mergedKeys(merges []*value, fields []field) []string {
	var keys []string
	seen := map[string]bool{}
	add := func(key string) {
		if !seen[key] {
			seen[key] = true
			keys = append(keys, key)
		}
	}
	for _, m := range merges {
		for _, source := range append([]*value{m}, m.items...) {
			for _, key := range source.order() {
				add(key)
			}
		}
	}
	for _, f := range fields {
		add(f.key)
	}
	return keys
}

// order are the keys of a mapping in Python's order.
func (v *value) order() []string {
	if v.keys != nil {
		return v.keys
	}
	keys := make([]string, len(v.fields))
	for i, f := range v.fields {
		keys[i] = f.key
	}
	return keys
}

// key reads a mapping's key: any scalar, as it is written.
func (r *reader) key(n ast.MapKeyNode, at Place) (string, bool) {
	var node ast.Node = n
	if explicit, ok := node.(*ast.MappingKeyNode); ok {
		node = explicit.Value
	}
	if v := r.value(node); v.kind == scalar && v.text != "" {
		return v.text, true
	}
	r.problems.add(at, "a key must be plain text")
	return "", false
}

func (r *reader) merge(into, from *value, seen map[string]Place, at Place) {
	sources := []*value{from}
	if from.kind == list {
		sources = from.items
	}
	for _, s := range sources {
		if s.kind != mapping {
			r.problems.add(at, "<< merges mappings only")
			continue
		}
		if !r.spend(len(s.fields), at) {
			return
		}
		for _, f := range s.fields {
			if _, taken := seen[f.key]; !taken {
				seen[f.key] = f.place
				into.fields = append(into.fields, f)
			}
		}
	}
}
