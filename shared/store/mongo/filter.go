package mongo

import (
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/kernelflow/kernelflow/shared/node"
)

// selection is a query's conditions as the server takes them.
type selection struct {
	filter bson.D
	exact  bool // the filter selects what matches; else more, and the rest decides
	never  bool // nothing can match
	rest   []node.Condition
}

func plan(conditions []node.Condition) selection {
	var all bson.A
	p := selection{exact: true, filter: bson.D{}}
	for _, c := range conditions {
		one := translate(c)
		if one.never {
			return one
		}
		if len(one.filter) > 0 {
			all = append(all, one.filter)
		}
		if !one.exact {
			p.exact = false
			p.rest = append(p.rest, c)
		}
	}
	if len(all) > 0 {
		p.filter = bson.D{{Key: "$and", Value: all}}
	}
	return p
}

// matcher says whether a node that the server has selected matches. It is
// node.Query.Match for what the server could not decide.
func (p selection) matcher() func(node.Node) bool {
	return node.Query{Where: p.rest}.Match
}

var (
	all   = selection{exact: true}
	none  = selection{never: true}
	later = selection{} // nothing asked of the server
)

// translate gives one condition.
func translate(c node.Condition) selection {
	top, below, isBelow := strings.Cut(c.Field, ".")
	switch {
	case c.Op != node.In && c.Op != node.NotIn && len(c.Values) == 0:
		return none
	case !slices.Contains(node.Fields, top) || isBelow && !slices.Contains(nested, top):
		// Null in every node, whatever else its document has under this name.
		return constant(c)
	case isBelow && slices.Contains(strings.Split(below, "."), ""):
		return later // an empty name has no path in MongoDB
	case c.Field == "id" || c.Field == "parent":
		return ofID(c)
	case slices.Contains(dates, c.Field):
		return ofDate(c)
	case slices.Contains(references, c.Field):
		return ofReference(c)
	case slices.Contains(present, c.Field):
		return ofPresent(c)
	}
	field := top
	if isBelow {
		field += "." + escapePath(below)
	}
	one := compare(field, c)
	if !straight(c.Field) && one.exact {
		one = loosen(one, c)
	}
	return one
}

var (
	dates = []string{"created", "updated", "timeout", "holdoff"}
	// references hold ids: text, or ObjectIds where KernelCI's models made them.
	references = []string{"data.regression", "data.fail_node", "data.pass_node", "data.node_sequence"}
	// present are the fields that are null in no node, though KernelCI's
	// documents may lack them or hold null there.
	present = []string{"path", "artifacts", "data", "debug", "platform_filter", "user_groups", "processed_by_kcidb_bridge", "retry_counter"}
)

// nested are the fields that have others below them.
var nested = []string{"data", "debug", "artifacts"}

func escapePath(path string) string {
	parts := strings.Split(path, ".")
	for i, part := range parts {
		parts[i] = escape(part)
	}
	return strings.Join(parts, ".")
}

// straight says that no list can be on the way to the field: MongoDB looks
// into lists there, Match does not. A valid node's kernel_revision and version
// are objects.
func straight(field string) bool {
	if top, rest, ok := strings.Cut(field, "."); !ok || top == "artifacts" || !strings.Contains(rest, ".") {
		return true
	}
	path, ok := strings.CutPrefix(field, "data.kernel_revision.")
	path = strings.TrimPrefix(path, "version.")
	return ok && !strings.Contains(path, ".")
}

// loosen keeps of an exact translation what selects too much at worst: looking
// into lists finds more, so that the absence of a value proves nothing.
func loosen(one selection, c node.Condition) selection {
	if c.Op == node.NotIn || slices.Contains(c.Values, nil) {
		return later
	}
	one.exact = false
	return one
}

// constant decides on a field that is null in every node.
func constant(c node.Condition) selection {
	if (node.Query{Where: []node.Condition{c}}).Match(node.Node{}) {
		return all
	}
	return none
}

// ofID compares with ids, which are ObjectIds here. Of other comparisons, with
// their text, the server knows nothing.
func ofID(c node.Condition) selection {
	if c.Op != node.In && c.Op != node.NotIn {
		return later
	}
	field, values := c.Field, bson.A{}
	if field == "id" {
		field = "_id"
	}
	for _, v := range c.Values {
		switch v := v.(type) {
		case nil:
			values = append(values, nil)
		case string:
			if id, err := bson.ObjectIDFromHex(v); err == nil && id.Hex() == v {
				values = append(values, id)
			}
		}
	}
	return oneOf(field, c.Op, values)
}

// ofDate compares with BSON dates. A time between two milliseconds is none's,
// and what is before it is what is at or before the millisecond.
func ofDate(c node.Condition) selection {
	var values bson.A
	between := false
	for _, v := range c.Values {
		switch v := v.(type) {
		case nil:
			values = append(values, nil)
		case time.Time:
			between = !stored(v).Equal(v)
			if !between || c.Op != node.In && c.Op != node.NotIn {
				values = append(values, stored(v))
			}
		default:
			return later // text of a time, or of a part of one
		}
	}
	op := c.Op
	switch {
	case op == node.In || op == node.NotIn:
		return oneOf(c.Field, op, values)
	case values[0] == nil || op != node.Lt && op != node.Lte && op != node.Gt && op != node.Gte:
		return none
	case between && op == node.Lt:
		op = node.Lte
	case between && op == node.Gte:
		op = node.Gt
	}
	return selection{filter: set(c.Field, set("$"+string(op), values[0])), exact: true}
}

// ofReference compares with an id in either form.
func ofReference(c node.Condition) selection {
	if c.Op != node.In && c.Op != node.NotIn {
		return later
	}
	var values bson.A
	for _, v := range c.Values {
		if bound, ok := comparable(v); ok {
			values = append(values, bound)
		}
		if s, ok := v.(string); ok {
			if id, err := bson.ObjectIDFromHex(s); err == nil && id.Hex() == s {
				values = append(values, id)
			}
		}
	}
	return oneOf(c.Field, c.Op, values)
}

// ofPresent compares with a field that is null in no node: null in a document
// stands for the default, which is what the zero node has.
func ofPresent(c node.Condition) selection {
	c.Values = slices.DeleteFunc(slices.Clone(c.Values), func(v any) bool { return v == nil })
	if len(c.Values) == 0 && c.Op != node.In && c.Op != node.NotIn {
		return none
	}
	byDefault := (node.Query{Where: []node.Condition{c}}).Match(node.Node{})
	if c.Op == node.In && byDefault || c.Op == node.NotIn && !byDefault {
		c.Values = append(c.Values, nil)
	}
	one := compare(c.Field, c)
	if byDefault && c.Op != node.In && c.Op != node.NotIn {
		one.filter = set("$or", bson.A{one.filter, set(c.Field, nil)})
	}
	return one
}

func oneOf(field string, op node.Op, values bson.A) selection {
	switch {
	case len(values) == 0 && op == node.In:
		return none
	case len(values) == 0:
		return all
	case len(values) == 1 && op == node.In:
		return selection{filter: set(field, set("$eq", values[0])), exact: true}
	}
	return selection{filter: set(field, set("$"+string(op), values)), exact: true}
}

// comparable gives a value of a query as it is stored; false for what equals
// nothing. Numbers are float64, as those of JSON are to Match.
func comparable(v any) (any, bool) {
	switch v := v.(type) {
	case nil, bool, string:
		return v, true
	case int64:
		return float64(v), true
	case time.Time:
		return node.FormatTime(v), true
	}
	return nil, false
}

// compare translates a condition on a field to which the way is straight.
// MongoDB compares within one type only and looks at the elements of a list,
// as Match does.
func compare(field string, c node.Condition) selection {
	switch c.Op {
	case node.In, node.NotIn:
		values := bson.A{}
		for _, v := range c.Values {
			if bound, ok := comparable(v); ok {
				values = append(values, bound)
			}
		}
		return oneOf(field, c.Op, values)
	case node.Re:
		return matching(field, c)
	case node.Lt, node.Lte, node.Gt, node.Gte:
		switch bound, _ := comparable(c.Values[0]); bound.(type) {
		case string, float64:
			return selection{filter: set(field, set("$"+string(c.Op), bound)), exact: true}
		}
	}
	return none
}

// matching asks the server for what begins with, or contains, the text with
// which every match begins. Its own regular expressions are not RE2: they mean
// other things and may take time without end.
func matching(field string, c node.Condition) selection {
	pattern, ok := c.Values[0].(string)
	re, err := regexp.Compile(pattern)
	if !ok || err != nil {
		return none
	}
	anchor, begin := "^", prefix(pattern)
	if begin == "" {
		anchor = ""
		begin, _ = re.LiteralPrefix()
	}
	if begin == "" || strings.Contains(begin, "\x00") {
		return later
	}
	return selection{filter: set(field, bson.Regex{Pattern: anchor + regexp.QuoteMeta(begin)})}
}

// prefix is the text with which everything begins that the pattern finds.
func prefix(pattern string) string {
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return ""
	}
	parsed = parsed.Simplify()
	if parsed.Op != syntax.OpConcat || parsed.Sub[0].Op != syntax.OpBeginText || parsed.Sub[1].Op != syntax.OpLiteral {
		return ""
	}
	if parsed.Sub[1].Flags&syntax.FoldCase != 0 {
		return ""
	}
	return string(parsed.Sub[1].Rune)
}
