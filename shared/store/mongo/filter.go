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
