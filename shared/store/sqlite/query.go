package sqlite

import (
	"database/sql/driver"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"modernc.org/sqlite"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
)

// lists are the fields that hold lists; every other field below the top level
// may hold one too, but none of those that are indexed does.
var lists = []string{"path", "jobfilter", "platform_filter", "user_groups"}

// selectNodes builds the query for q: what is a list of result columns.
func selectNodes(what string, q node.Query) (string, []any) {
	var b strings.Builder
	b.WriteString("SELECT " + what + " FROM node")
	args := where(&b, q.Where)
	if q.Newest {
		b.WriteString(" ORDER BY seq DESC")
	} else {
		b.WriteString(" ORDER BY seq")
	}
	if q.Limit > 0 || q.Offset > 0 {
		limit := q.Limit
		if limit <= 0 {
			limit = -1
		}
		b.WriteString(" LIMIT ? OFFSET ?")
		args = append(args, limit, q.Offset)
	}
	return b.String(), args
}

func where(b *strings.Builder, conditions []node.Condition) []any {
	var args []any
	for i, c := range conditions {
		if i == 0 {
			b.WriteString(" WHERE ")
		} else {
			b.WriteString(" AND ")
		}
		text, more := condition(c)
		b.WriteString(text)
		args = append(args, more...)
	}
	return args
}

// expression is how a field is read from the document; the indexes are over
// the same text. The form of a field was checked by node.ParseQuery; what code
// asks for is quoted all the same.
func expression(field string) string {
	if field == "id" {
		return "id"
	}
	return "doc->>'" + path(field) + "'"
}

func path(field string) string {
	var b strings.Builder
	b.WriteString("$")
	for part := range strings.SplitSeq(field, ".") {
		plain := strings.NewReplacer(`'`, "", `"`, "").Replace(part)
		if strings.ContainsAny(plain, "-") {
			plain = `"` + plain + `"`
		}
		b.WriteString("." + plain)
	}
	return b.String()
}

// plain says whether a field never holds a list.
func plain(field string) bool {
	if slices.Contains(lists, field) {
		return false
	}
	if !strings.Contains(field, ".") {
		return true
	}
	return slices.ContainsFunc(indexed, func(fields []string) bool { return slices.Contains(fields, field) })
}

func condition(c node.Condition) (string, []any) {
	if !plain(c.Field) {
		return elementCondition(c)
	}
	x := expression(c.Field)
	switch c.Op {
	case node.In:
		return oneOf(x, c.Values)
	case node.NotIn:
		text, args := oneOf(x, c.Values)
		return "(" + text + ") IS NOT TRUE", args
	case node.Re:
		return "typeof(" + x + ") = 'text' AND re2(?, " + x + ")", c.Values
	}
	bound, typed := compared(x, c)
	return bound + typed, []any{argument(c.Values[0])}
}

var order = map[node.Op]string{node.Lt: "<", node.Lte: "<=", node.Gt: ">", node.Gte: ">="}

// compared keeps an order comparison among values of one type: SQLite puts all
// numbers before all text.
func compared(x string, c node.Condition) (bound, typed string) {
	bound = x + " " + order[c.Op] + " ?"
	_, number := c.Values[0].(int64)
	switch {
	case number && (c.Op == node.Gt || c.Op == node.Gte):
		return bound, " AND typeof(" + x + ") <> 'text'"
	case !number && (c.Op == node.Lt || c.Op == node.Lte):
		return bound, " AND typeof(" + x + ") = 'text'"
	}
	return bound, ""
}

// oneOf compares x with each value. JSON's booleans read as the numbers 1 and
// 0, so a number and a boolean are told apart by the type of x's JSON.
func oneOf(x string, values []any) (string, []any) {
	var marks []string
	var args []any
	null := false
	for _, v := range values {
		if v == nil {
			null = true
			continue
		}
		marks = append(marks, "?")
		args = append(args, argument(v))
	}
	var text string
	switch len(marks) {
	case 0:
	case 1:
		text = x + " = ?"
	default:
		text = x + " IN (" + strings.Join(marks, ", ") + ")"
	}
	switch {
	case null && text != "":
		text = "(" + x + " IS NULL OR " + text + ")"
	case null:
		text = x + " IS NULL"
	case text == "":
		text = "0"
	}
	return text, args
}

// elementCondition is for a field that may be a list: it holds when it does
// for the field itself or for an element.
func elementCondition(c node.Condition) (string, []any) {
	in := c
	if c.Op == node.NotIn {
		in.Op = node.In
	}
	text, args := elementTest(in)
	// json_each would walk the values of an object, which is no list.
	from := "(coalesce(json_type(doc, '" + path(c.Field) + "'), '') <> 'object' AND EXISTS (SELECT 1 FROM json_each(doc, '" +
		path(c.Field) + "') AS e WHERE " + text + "))"
	if in.Op == node.In && slices.Contains(c.Values, nil) {
		from = "(" + expression(c.Field) + " IS NULL OR " + from + ")"
	}
	if c.Op == node.NotIn {
		from = "NOT " + from
	}
	return from, args
}

func elementTest(c node.Condition) (string, []any) {
	switch c.Op {
	case node.In:
		return elementOneOf(c.Values)
	case node.Re:
		return "e.type = 'text' AND re2(?, e.value)", c.Values
	}
	kind := "e.type = 'text'"
	if _, number := c.Values[0].(int64); number {
		kind = "e.type IN ('integer', 'real')"
	}
	return kind + " AND e.value " + order[c.Op] + " ?", []any{argument(c.Values[0])}
}

func elementOneOf(values []any) (string, []any) {
	tests := []string{}
	var args []any
	for _, v := range values {
		switch v := v.(type) {
		case nil:
			tests = append(tests, "e.type = 'null'")
		case bool:
			tests = append(tests, fmt.Sprintf("e.type = '%t'", v))
		case int64:
			tests = append(tests, "e.type IN ('integer', 'real') AND e.value = ?")
			args = append(args, v)
		default:
			tests = append(tests, "e.type = 'text' AND e.value = ?")
			args = append(args, argument(v))
		}
	}
	if len(tests) == 0 {
		return "0", nil
	}
	return strings.Join(tests, " OR "), args
}

func argument(v any) any {
	switch v := v.(type) {
	case time.Time:
		return node.FormatTime(v)
	case bool:
		if v {
			return int64(1)
		}
		return int64(0)
	}
	return v
}

// patterns keeps what was compiled; expressions come from few clients and
// repeat. It is emptied rather than grown without bound.
var patterns = struct {
	sync.Mutex
	compiled map[string]*regexp.Regexp
}{compiled: map[string]*regexp.Regexp{}}

const maxPatterns = 256

func compile(pattern string) (*regexp.Regexp, error) {
	patterns.Lock()
	defer patterns.Unlock()
	if re := patterns.compiled[pattern]; re != nil {
		return re, nil
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, errs.New(errs.Invalid, "regular expression %.80q: %s", pattern, err)
	}
	if len(patterns.compiled) >= maxPatterns {
		clear(patterns.compiled)
	}
	patterns.compiled[pattern] = re
	return re, nil
}

// re2 is the SQL function re2(pattern, text): linear in the text whatever the
// pattern.
func init() {
	sqlite.MustRegisterDeterministicScalarFunction("re2", 2, func(_ *sqlite.FunctionContext, args []driver.Value) (driver.Value, error) {
		pattern, _ := args[0].(string)
		text, ok := args[1].(string)
		if !ok {
			return int64(0), nil
		}
		re, err := compile(pattern)
		if err != nil {
			return nil, err
		}
		if re.MatchString(text) {
			return int64(1), nil
		}
		return int64(0), nil
	})
}
