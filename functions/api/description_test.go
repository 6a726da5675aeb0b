package api_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// description is /openapi.json, and a validator of JSON Schema that shares
// nothing with the one which the API has.
type description struct {
	t        testing.TB
	root     fields
	compiler *jsonschema.Compiler
	compiled map[string]*jsonschema.Schema // by place in the description
	texts    map[string]string             // examples by schema
}

// fields are a schema or another part of the description.
type fields = map[string]any

func (s *site) description() *description {
	s.t.Helper()
	d := &description{t: s.t, compiler: jsonschema.NewCompiler(), compiled: map[string]*jsonschema.Schema{}, texts: map[string]string{}}
	check(s.t, json.Unmarshal([]byte(s.want("", "GET", "/openapi.json", "", 200, "")), &d.root))
	d.compiler.AssertFormat()
	check(s.t, d.compiler.AddResource("api.json", d.root))
	return d
}

// operation is one route as it is described.
type operation struct {
	method, path string
	fields
}

func (o operation) String() string { return o.method + " " + o.path }

// place is where in the description a part of the operation is.
func (o operation) place(keys ...string) string {
	place := "#"
	for _, key := range append([]string{"paths", o.path, strings.ToLower(o.method)}, keys...) {
		place += "/" + strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace(key)
	}
	return place
}

func (d *description) operations() []operation {
	var all []operation
	paths := d.root["paths"].(fields)
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		item := paths[path].(fields)
		for _, method := range slices.Sorted(maps.Keys(item)) {
			all = append(all, operation{strings.ToUpper(method), path, item[method].(fields)})
		}
	}
	return all
}

// allows says whether the schema at a place of the description allows a value.
func (d *description) allows(place string, value any) bool {
	d.t.Helper()
	schema := d.compiled[place]
	if schema == nil {
		var err error
		schema, err = d.compiler.Compile("api.json" + place)
		check(d.t, err)
		d.compiled[place] = schema
	}
	return schema.Validate(value) == nil
}

// text returns a string that a schema without references allows.
func (d *description) text(schema fields) string {
	d.t.Helper()
	key := fmt.Sprint(schema)
	if text, known := d.texts[key]; known {
		return text
	}
	place := fmt.Sprintf("text%d.json", len(d.texts))
	check(d.t, d.compiler.AddResource(place, schema))
	leaf, err := d.compiler.Compile(place)
	check(d.t, err)
	for _, text := range []string{"x", thereID, "2025-01-12T08:00:00", "2025-01-12", "a@example.org", "https://example.org/x", "password", "True"} {
		if leaf.Validate(text) == nil {
			d.texts[key] = text
			return text
		}
	}
	d.t.Fatalf("no example of %v", schema)
	return ""
}

// thereID is what the examples of ids are.
const thereID = "65f0000000000000000000aa"

func (d *description) resolved(schema fields) fields {
	if ref, ok := schema["$ref"].(string); ok {
		name := strings.TrimPrefix(ref, "#/components/schemas/")
		return d.root["components"].(fields)["schemas"].(fields)[name].(fields)
	}
	return schema
}

func typeOf(schema fields) string {
	switch t := schema["type"].(type) {
	case string:
		return t
	case []any:
		return t[0].(string) // null is the second one
	}
	return ""
}

// deepest is how far examples follow schemas that have themselves in them.
const deepest = 2

// example returns a value that the schema allows, with all that it names.
func (d *description) example(schema fields, depth int) any {
	d.t.Helper()
	schema = d.resolved(schema)
	if enum, ok := schema["enum"].([]any); ok {
		return enum[slices.IndexFunc(enum, func(v any) bool { return v != nil })]
	}
	switch typeOf(schema) {
	case "string":
		return d.text(schema)
	case "integer", "number":
		return max(1, number(schema["minimum"]))
	case "boolean":
		return true
	case "array":
		if depth > deepest {
			return []any{}
		}
		return []any{d.example(schema["items"].(fields), depth+1)}
	case "object":
		value := fields{}
		properties, _ := schema["properties"].(fields)
		for name, property := range properties {
			value[name] = d.example(property.(fields), depth+1)
		}
		if value["expires"] != nil {
			value["expires"] = "2055-01-12" // which must not be over
		}
		if more, ok := schema["additionalProperties"].(fields); ok {
			value["x"] = d.example(more, depth+1)
		}
		return value
	}
	if branches, ok := schema["anyOf"].([]any); ok {
		return d.example(branches[0].(fields), depth)
	}
	return "anything"
}

func number(v any) float64 {
	f, _ := v.(float64)
	return f
}

// variant is a value in which one thing is not as in the example.
type variant struct {
	at    []string
	what  string // it is
	value any
}

func (v variant) String() string { return strings.Join(v.at, ".") + ": " + v.what }

// in returns the variant of what has v at a key.
func (v variant) in(key string, value any) variant {
	return variant{append([]string{key}, v.at...), v.what, value}
}

// variants returns values at and beyond each border that the schema draws. It
// is for the validator to say which of them are allowed.
func (d *description) variants(schema fields, depth int) []variant {
	d.t.Helper()
	schema = d.resolved(schema)
	var all []variant
	for _, v := range append(borders(schema), nil, true, 1.0, 1.5, -1.0, "", "x", "null", []any{}, []any{nil}, fields{}) {
		all = append(all, variant{what: fmt.Sprintf("%.80q", fmt.Sprint(v)), value: v})
	}
	branches, _ := schema["anyOf"].([]any)
	for _, branch := range branches {
		all = append(all, d.variants(branch.(fields), depth)...)
	}
	if items, ok := schema["items"].(fields); ok && depth <= deepest {
		item := d.example(items, depth+1)
		all = append(all, variant{what: "the same twice", value: []any{item, item}})
		for _, v := range d.variants(items, depth+1) {
			all = append(all, v.in("0", []any{v.value}))
		}
	}
	if typeOf(schema) == "object" {
		all = append(all, d.objects(schema, depth)...)
	}
	return all
}

// objects varies an object by one property.
func (d *description) objects(schema fields, depth int) []variant {
	d.t.Helper()
	good := d.example(schema, depth).(fields)
	without := func(name string) fields {
		rest := maps.Clone(good)
		delete(rest, name)
		return rest
	}
	with := func(o fields, name string, value any) fields {
		o[name] = value
		return o
	}
	var all []variant
	properties := fields{}
	if named, ok := schema["properties"].(fields); ok {
		properties = maps.Clone(named)
	}
	if more, ok := schema["additionalProperties"].(fields); ok {
		properties["x"] = more
	}
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		at, upper := []string{name}, strings.ToUpper(name)
		all = append(all, variant{at, "is missing", without(name)}, variant{at, "is in capitals", with(without(name), upper, good[name])},
			variant{at, "is there in capitals too", with(without(upper), upper, fields{})})
		for _, v := range d.variants(properties[name].(fields), depth+1) {
			all = append(all, v.in(name, with(without(name), name, v.value)))
		}
	}
	return all
}

// borders are the values next to the bounds of a schema, on both sides, and
// texts that look like what it wants. Lengths are in characters, whatever an
// encoding makes of them.
func borders(schema fields) []any {
	var all []any
	for _, bound := range []string{"minimum", "maximum"} {
		if n, ok := schema[bound].(float64); ok {
			all = append(all, n-1, n, n+1)
		}
	}
	for _, bound := range []string{"minLength", "maxLength"} {
		if n, ok := schema[bound].(float64); ok {
			for _, letter := range []string{"a", "\U0001d5ba"} {
				all = append(all, strings.Repeat(letter, max(0, int(n)-1)), strings.Repeat(letter, int(n)), strings.Repeat(letter, int(n)+1))
			}
		}
	}
	if n, ok := schema["maxItems"].(float64); ok {
		all = append(all, slices.Repeat([]any{"x"}, int(n)+1))
	}
	if schema["pattern"] != nil || schema["anyOf"] != nil {
		for _, text := range []string{thereID, "2025-01-12T08:00:00Z", "https://x", "x@example.org"} {
			all = append(all, text, text+"\n", " "+text)
		}
		for _, text := range []string{"2025-01-12", "2025-02-29", "2024-02-29", "1900-02-29", "2025-01-12 08:00 02:00", "2025-01-12T08:00 02:00", "2025-01-12T08:00:00,5", "http://x/a b", "mailto:x", "12", "a b"} {
			all = append(all, text)
		}
		all = append(all, "é", "\U0001d5ba", "\t")
	}
	enum, _ := schema["enum"].([]any)
	return append(all, enum...)
}

// asParameter returns what a value is in an address; false for what has no text.
func asParameter(value any) (string, bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	}
	return "", false
}

// allowsText says whether a text in an address stands for a value that the
// schema at a place of the description allows.
func (d *description) allowsText(place, text string) bool {
	d.t.Helper()
	if f, err := strconv.ParseFloat(text, 64); err == nil && d.allows(place, f) {
		return true
	}
	if b, err := strconv.ParseBool(text); err == nil && d.allows(place, b) {
		return true
	}
	return d.allows(place, text)
}
