package pipeline

import (
	"slices"
	"strings"
	"time"
)

// object reads the fields of one mapping by name. Each getter reports a value
// of the wrong kind; finish reports the keys that nobody asked for.
type object struct {
	l     *loader
	what  string // for messages: "jobs.kunit"
	place Place
	value *value
	asked []string
}

// object starts reading v; false (reported) when it is no mapping. Null is an
// empty mapping.
func (l *loader) object(what string, at Place, v *value) (*object, bool) {
	if v.isNull() {
		v = &value{place: at, kind: mapping}
	}
	if v.kind != mapping {
		l.problems.add(at, "%s must be a mapping of keys to values", what)
		return nil, false
	}
	return &object{l: l, what: what, place: at, value: v}, true
}

// get returns the field, or false when it is missing or null.
func (o *object) get(key string) (field, bool) {
	o.asked = append(o.asked, key)
	for _, f := range o.value.fields {
		if f.key == key {
			return f, !f.value.isNull()
		}
	}
	return field{}, false
}

func (o *object) wrong(f field, want string) {
	o.l.problems.add(f.place, "%s: %s must be %s", o.what, f.key, want)
}

// finish reports every key that no getter asked for.
func (o *object) finish() {
	for _, f := range o.value.fields {
		if !slices.Contains(o.asked, f.key) {
			o.l.problems.add(f.place, "%s: unknown key %q%s", o.what, f.key, nearest(f.key, o.asked))
		}
	}
}

// ignore accepts keys that have no meaning here.
func (o *object) ignore(keys ...string) { o.asked = append(o.asked, keys...) }

// asText gives a scalar as it is written; a version such as 6.10 keeps its
// zero. A bool is refused: an unquoted true is rarely meant as a word.
func asText(v *value) (string, bool) {
	if v.kind != scalar || v.scalar == nil {
		return "", false
	}
	_, isBool := v.scalar.(bool)
	return v.text, !isBool
}

func (o *object) text(key string) string {
	f, ok := o.get(key)
	if !ok {
		return ""
	}
	s, ok := asText(f.value)
	if !ok {
		o.wrong(f, "text")
	}
	return s
}

// required is text that must be there.
func (o *object) required(key string) string {
	if f, ok := o.get(key); !ok {
		o.l.problems.add(o.place, "%s has no %s", o.what, key)
	} else if f.value.text == "" && f.value.kind == scalar {
		o.wrong(f, "non-empty text")
	}
	return o.text(key)
}

func (o *object) orElse(key, otherwise string) string {
	if s := o.text(key); s != "" {
		return s
	}
	return otherwise
}

// texts reads a list of text. A single text is a list of one.
func (o *object) texts(key string) []string {
	f, ok := o.get(key)
	if !ok {
		return nil
	}
	out, ok := listOfText(f.value)
	if !ok {
		o.wrong(f, "a list of text")
	}
	return out
}

func listOfText(v *value) ([]string, bool) {
	items := v.items
	if v.kind == scalar {
		items = []*value{v}
	}
	out := make([]string, 0, len(items))
	for _, item := range items {
		s, ok := asText(item)
		if !ok || s == "" {
			return nil, false
		}
		out = append(out, s)
	}
	return out, v.kind != mapping
}

func (o *object) number(key string) (float64, bool) {
	f, ok := o.get(key)
	if !ok {
		return 0, false
	}
	switch n := f.value.scalar.(type) {
	case int:
		return float64(n), true
	case float64:
		return n, true
	}
	o.wrong(f, "a number")
	return 0, false
}

// integer reads a whole number between low and high; nil when it is missing.
func (o *object) integer(key string, low, high int) *int {
	f, ok := o.get(key)
	if !ok {
		return nil
	}
	n, ok := f.value.scalar.(int)
	if !ok || n < low || n > high {
		o.l.problems.add(f.place, "%s: %s must be a whole number from %d to %d", o.what, key, low, high)
		return nil
	}
	return &n
}

func (o *object) flag(key string) bool {
	f, ok := o.get(key)
	if !ok {
		return false
	}
	b, ok := f.value.scalar.(bool)
	if !ok {
		o.wrong(f, "true or false")
	}
	return b
}

func (o *object) frequency(key string) time.Duration {
	f, ok := o.get(key)
	if !ok {
		return 0
	}
	d, err := ParseFrequency(f.value.text)
	if err != nil {
		o.wrong(f, "a frequency such as 1d, 12h or 1d6h30m")
	}
	return d
}

// free reads a mapping of free values; nil when it is missing.
func (o *object) free(key string) map[string]any {
	f, ok := o.get(key)
	if !ok {
		return nil
	}
	m, ok := o.l.plain(f.value, 0).(map[string]any)
	if !ok {
		o.wrong(f, "a mapping of keys to values")
	}
	return m
}

// plain gives a value as plain Go data, which shares nothing with any other.
func (l *loader) plain(v *value, depth int) any {
	if depth > maxNesting {
		l.problems.add(v.place, "aliases nest this value more than %d levels deep", maxNesting)
		return nil
	}
	if !spend(&l.budget, 1, v.place, &l.problems) {
		return nil
	}
	switch v.kind {
	case list:
		out := make([]any, 0, len(v.items))
		for _, item := range v.items {
			out = append(out, l.plain(item, depth+1))
		}
		return out
	case mapping:
		out := make(map[string]any, len(v.fields))
		for _, f := range v.fields {
			out[f.key] = l.plain(f.value, depth+1)
		}
		return out
	}
	return v.scalar
}

// order is how the keys of what free reads stand; nil when it is missing.
func (o *object) order(key string) *Order {
	if f, ok := o.get(key); ok {
		return o.l.order(f.value, 0)
	}
	return nil
}

// order is shared by all that share the value: it is never changed.
func (l *loader) order(v *value, depth int) *Order {
	if v.kind == scalar || depth > maxNesting {
		return nil
	}
	if known := l.orders[v]; known != nil {
		return known
	}
	o := &Order{}
	for _, item := range v.items {
		o.Items = append(o.Items, l.order(item, depth+1))
	}
	if v.kind == mapping {
		o.Keys, o.Under = v.order(), map[string]*Order{}
		for _, f := range v.fields {
			if under := l.order(f.value, depth+1); under != nil {
				o.Under[f.key] = under
			}
		}
	}
	l.orders[v] = o
	return o
}

// rules reads the key `rules`; nil when there are none.
func (o *object) rules() *Rules {
	f, ok := o.get("rules")
	if !ok {
		return nil
	}
	r, ok := o.l.object(o.what+".rules", f.place, f.value)
	if !ok {
		return nil
	}
	out := &Rules{Place: f.place, MinVersion: r.version("min_version"), MaxVersion: r.version("max_version"), Frequency: r.frequency("frequency")}
	for _, f := range r.value.fields {
		if slices.Contains(r.asked, f.key) || f.value.isNull() {
			continue
		}
		values, ok := listOfText(f.value)
		if !ok || slices.ContainsFunc(values, func(v string) bool { return strings.TrimLeft(v, "!") == "" }) {
			r.wrong(f, `a list of values, each "x" (allowed) or "!x" (denied)`)
			continue
		}
		out.Lists = append(out.Lists, Rule{Place: f.place, Key: f.key, Values: values})
	}
	return out
}

// maxVersionNumber bounds each part of a kernel version.
const maxVersionNumber = 1 << 20

func (o *object) version(key string) *KernelVersion {
	f, ok := o.get(key)
	if !ok {
		return nil
	}
	v, ok := o.l.object(o.what+"."+key, f.place, f.value)
	if !ok {
		return nil
	}
	defer v.finish()
	major, minor := v.integer("version", 0, maxVersionNumber), v.integer("patchlevel", 0, maxVersionNumber)
	if major == nil {
		o.wrong(f, "a version such as {version: 6, patchlevel: 12}")
		return nil
	}
	out := &KernelVersion{Version: *major}
	if minor != nil {
		out.PatchLevel = *minor
	}
	return out
}
