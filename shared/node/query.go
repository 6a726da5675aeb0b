package node

import (
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/kernelflow/kernelflow/shared/errs"
)

// Op is how a condition compares.
type Op string

// The operators. In and NotIn carry any number of values; the others one.
const (
	In    Op = "in"  // the field, or an element of it when it is a list, is one of the values
	NotIn Op = "nin" // the opposite of In
	Lt    Op = "lt"
	Lte   Op = "lte"
	Gt    Op = "gt"
	Gte   Op = "gte"
	Re    Op = "re" // an RE2 expression found anywhere in the field's text
)

// Condition is one test of one field. Field is dotted ("data.arch"). A value
// is nil (null or missing), a bool, an int64, a string or a time.Time (UTC).
// An order comparison holds between values of one type only; a list satisfies
// it when one of its elements does.
type Condition struct {
	Field  string
	Op     Op
	Values []any
}

// Query selects nodes: all conditions must hold. Nodes come in the order in
// which they were created, or the reverse with Newest. Limit 0 is no limit.
// After is where an earlier page of the same query ended, in the words of the
// store that gave it: what comes behind is selected, whatever was created
// meanwhile. Offset counts from there.
type Query struct {
	Where  []Condition
	Newest bool
	Limit  int
	Offset int
	After  string
}

// Where starts a query of one equality, for use in code:
// node.Where("parent", id).And("state", node.Running, node.Available).
func Where(field string, values ...any) Query { return Query{}.And(field, values...) }

// RunningJobs asks for the nodes of every kind of job that run and have time left.
func RunningJobs(now time.Time) Query {
	return Where("state", Running).And("kind", KindJob, KindKbuild, KindProcess, KindTest).Cond("timeout", Gt, Time(now))
}

// And adds a condition: the field is one of the values. IDs, kinds, states and
// results may be given as they are.
func (q Query) And(field string, values ...any) Query { return q.Cond(field, In, values...) }

// Cond adds a condition.
func (q Query) Cond(field string, op Op, values ...any) Query {
	c := Condition{Field: field, Op: op, Values: make([]any, len(values))}
	for i, v := range values {
		c.Values[i] = normal(v)
	}
	q.Where = append(slices.Clip(q.Where), c)
	return q
}

// Page sets limit and offset.
func (q Query) Page(limit, offset int) Query {
	q.Limit, q.Offset = limit, offset
	return q
}

func normal(v any) any {
	switch v := v.(type) {
	case ID:
		return emptyIsNull(string(v))
	case Result:
		return emptyIsNull(string(v))
	case Kind:
		return string(v)
	case State:
		return string(v)
	case int:
		return int64(v)
	case time.Time:
		return Time(v)
	}
	return v
}

func emptyIsNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// Limits on what a client may ask.
const (
	maxConditions = 64
	maxPattern    = 512
	maxField      = 200
	maxValues     = 1000
)

var (
	timeFields = []string{"created", "updated", "timeout", "holdoff"}
	idFields   = []string{"id", "parent", "data.regression", "data.fail_node", "data.pass_node"}
	intFields  = []string{"retry_counter"}
	boolFields = []string{"processed_by_kcidb_bridge"}
	fieldForm  = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_\-]*(\.[A-Za-z0-9_][A-Za-z0-9_\-]*)*$`)
	// Fields are the top-level fields that a query may name; data, debug and
	// artifacts lead on to anything below them.
	Fields = []string{"id", "kind", "name", "path", "group", "parent", "state", "result", "artifacts", "data", "debug",
		"jobfilter", "platform_filter", "created", "updated", "timeout", "holdoff", "owner", "submitter", "treeid",
		"user_groups", "processed_by_kcidb_bridge", "retry_counter"}
)

// ParseQuery reads the filters of a request: field=value and field__op=value
// with op one of lt, lte, gt, gte, ne, re, in, nin, int. Of a parameter that is
// given twice the last one counts, as in KernelCI. The names in skip are not
// filters. Errors are errs.Invalid and name the parameter.
func ParseQuery(params url.Values, skip ...string) (Query, error) {
	var q Query
	for _, key := range sortedKeys(params) {
		values := params[key]
		if len(values) == 0 || slices.Contains(skip, key) {
			continue
		}
		value := values[len(values)-1]
		if !utf8.ValidString(value) || strings.ContainsRune(value, 0) {
			return Query{}, errs.New(errs.Invalid, "%.60q: must be UTF-8 without NUL", key)
		}
		c, err := parseCondition(key, value)
		if err != nil {
			return Query{}, err
		}
		q.Where = append(q.Where, c)
	}
	if len(q.Where) > maxConditions {
		return Query{}, errs.New(errs.Invalid, "%d filters given, %d are the most", len(q.Where), maxConditions)
	}
	return q, nil
}

func sortedKeys(v url.Values) []string {
	keys := make([]string, 0, len(v))
	for k := range v {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func parseCondition(key, text string) (Condition, error) {
	field, op, _ := strings.Cut(key, "__")
	if field == "_id" {
		field = "id"
	}
	top, _, _ := strings.Cut(field, ".")
	if len(field) > maxField || !fieldForm.MatchString(field) || !slices.Contains(Fields, top) {
		return Condition{}, errs.New(errs.Invalid, "%.60q: no such field of a node to filter on", key)
	}
	switch op {
	case "":
		values, err := equalTo(field, text)
		return Condition{field, In, values}, err
	case "ne":
		values, err := equalTo(field, text)
		return Condition{field, NotIn, values}, err
	case "in", "nin":
		values, err := listOf(field, text)
		return Condition{field, Op(op), values}, err
	case "lt", "lte", "gt", "gte":
		v, err := bound(key, field, text)
		return Condition{field, Op(op), []any{v}}, err
	case "int":
		n, err := integerOf(key, text)
		return Condition{field, In, []any{n}}, err
	case "re":
		if len(text) > maxPattern {
			return Condition{}, errs.New(errs.Invalid, "%s: the regular expression is longer than %d bytes", key, maxPattern)
		}
		if _, err := regexp.Compile(text); err != nil {
			return Condition{}, errs.New(errs.Invalid, "%s: %s", key, err)
		}
		return Condition{field, Re, []any{text}}, nil
	}
	return Condition{}, errs.New(errs.Invalid, "%.60q: unknown operator %.20q, use lt, lte, gt, gte, ne, re, in, nin or int", key, op)
}

// equalTo gives the values that a plain text stands for: a number may be
// stored as a number or as text in free-form data.
func equalTo(field, text string) ([]any, error) {
	if text == "null" {
		return []any{nil}, nil
	}
	switch {
	case slices.Contains(timeFields, field):
		t, err := ParseTime(text)
		return []any{t}, inField(field, err)
	case slices.Contains(idFields, field):
		id, err := ParseID(text)
		return []any{string(id)}, inField(field, err)
	case slices.Contains(intFields, field):
		n, err := integerOf(field, text)
		return []any{n}, err
	case slices.Contains(boolFields, field) || freeForm(field) && isBool(text):
		if !isBool(text) {
			return nil, errs.New(errs.Invalid, "%s: %.40q is neither true nor false", field, text)
		}
		return []any{strings.EqualFold(text, "true")}, nil
	case freeForm(field):
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return []any{text, n}, nil
		}
	}
	return []any{text}, nil
}

func isBool(text string) bool {
	return strings.EqualFold(text, "true") || strings.EqualFold(text, "false")
}

func integerOf(key, text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, errs.New(errs.Invalid, "%s: %.40q is not a 64-bit integer", key, text)
	}
	return n, nil
}

func freeForm(field string) bool {
	return strings.HasPrefix(field, "data.") || strings.HasPrefix(field, "debug.")
}

func listOf(field, text string) ([]any, error) {
	var values []any
	for part := range strings.SplitSeq(text, ",") {
		v, err := equalTo(field, strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		values = append(values, v...)
	}
	if len(values) > maxValues {
		return nil, errs.New(errs.Invalid, "%s: more than %d values", field, maxValues)
	}
	return values, nil
}

// decimals is what KernelCI takes for a number in an order comparison.
var decimals = regexp.MustCompile(`^-?[0-9]+$`)

func bound(key, field, text string) (any, error) {
	if slices.Contains(timeFields, field) {
		t, err := ParseTime(text)
		return t, inField(field, err)
	}
	if decimals.MatchString(text) {
		n, err := integerOf(key, text)
		return n, err
	}
	return text, nil
}

func inField(field string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", field, err)
}

// Match says whether n satisfies every condition. It is the meaning of a
// query: a store may answer faster, never differently.
func (q Query) Match(n Node) bool {
	b, err := json.Marshal(n)
	if err != nil {
		return false
	}
	var doc map[string]any
	if json.Unmarshal(b, &doc) != nil {
		return false
	}
	for _, c := range q.Where {
		if !c.match(lookup(doc, c.Field)) {
			return false
		}
	}
	return true
}

func lookup(doc map[string]any, field string) any {
	var v any = doc
	for key := range strings.SplitSeq(field, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[key]
	}
	return v
}

func (c Condition) match(v any) bool {
	switch c.Op {
	case In:
		return isOneOf(v, c.Values)
	case NotIn:
		return !isOneOf(v, c.Values)
	}
	if list, ok := v.([]any); ok {
		return slices.ContainsFunc(list, c.compare)
	}
	return c.compare(v)
}

func isOneOf(v any, values []any) bool {
	for _, want := range values {
		if equal(v, want) {
			return true
		}
		if list, ok := v.([]any); ok && slices.ContainsFunc(list, func(e any) bool { return equal(e, want) }) {
			return true
		}
	}
	return false
}

func equal(v, want any) bool {
	switch want := want.(type) {
	case nil:
		return v == nil
	case int64:
		f, ok := v.(float64)
		return ok && f == float64(want)
	case time.Time:
		return v == FormatTime(want)
	case string, bool:
		return v == want
	}
	return false
}

func (c Condition) compare(v any) bool {
	if c.Op == Re {
		s, ok := v.(string)
		re, err := regexp.Compile(c.Values[0].(string))
		return ok && err == nil && re.MatchString(s)
	}
	order, ok := orderOf(v, c.Values[0])
	if !ok {
		return false
	}
	switch c.Op {
	case Lt:
		return order < 0
	case Lte:
		return order <= 0
	case Gt:
		return order > 0
	case Gte:
		return order >= 0
	}
	return false
}

func orderOf(v, bound any) (int, bool) {
	switch bound := bound.(type) {
	case int64:
		f, ok := v.(float64)
		return int(sign(f - float64(bound))), ok
	case string:
		s, ok := v.(string)
		return strings.Compare(s, bound), ok
	case time.Time:
		s, ok := v.(string)
		return strings.Compare(s, FormatTime(bound)), ok
	}
	return 0, false
}

func sign(f float64) float64 {
	switch {
	case f < 0:
		return -1
	case f > 0:
		return 1
	}
	return 0
}
