package sqlite

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kernelflow/kernelflow/shared/node"
)

// clause is a piece of SQL with what its question marks stand for.
type clause struct {
	text string
	args []any
}

// join puts clauses in a row.
func join(list []clause, between string) clause {
	var out clause
	for i, c := range list {
		if i > 0 {
			out.text += between
		}
		out.text += c.text
		out.args = append(out.args, c.args...)
	}
	return out
}

// scalars are the columns that can hold no list.
var scalars = columns[:slices.Index(columns, "data.kernel_revision.tree")]

// expression gives a field in the form in which its values are compared: null,
// number and text as they are, a list as a blob of its JSON, a bool like the
// list of only it, an object like an empty list. So the types that a query
// tells apart never meet in one comparison, and all lists are one range of an
// index. Columns hold this form already: see fieldOf.
func expression(field string) string {
	if slices.Contains(columns, field) {
		return quoted(field)
	}
	path := `'$."` + strings.ReplaceAll(strings.ReplaceAll(field, "'", "''"), ".", `"."`) + `"'`
	return "CASE json_type(doc, " + path + ")" +
		" WHEN 'true' THEN CAST('[true]' AS BLOB) WHEN 'false' THEN CAST('[false]' AS BLOB)" +
		" WHEN 'object' THEN CAST('[]' AS BLOB) WHEN 'array' THEN CAST(json_extract(doc, " + path + ") AS BLOB)" +
		" ELSE json_extract(doc, " + path + ") END"
}

// comparable gives a value of a query in that form; false for null and for
// what equals nothing.
func comparable(v any) (any, bool) {
	switch v := v.(type) {
	case int64:
		return float64(v), true
	case string:
		return v, true
	case time.Time:
		return node.FormatTime(v), true
	case bool:
		return stored(v), true
	}
	return nil, false
}

// alternatives gives c as clauses of which at most one holds for any node:
// that it is null, that it is one value, that it is a list with such an
// element. NotIn is what none of them holds for.
func alternatives(c node.Condition) []clause {
	x := expression(c.Field)
	var list []clause
	switch c.Op {
	case node.In, node.NotIn:
		list = equalities(x, c.Values)
	default:
		list = []clause{comparison(x, c)}
	}
	if !slices.Contains(scalars, c.Field) {
		list = append(list, inList(x, c))
	}
	return list
}

// condition gives c as one clause.
func condition(c node.Condition) clause {
	list := alternatives(c)
	if len(list) == 0 {
		list = []clause{{text: "FALSE"}}
	}
	out := join(list, " OR ")
	out.text = "(" + out.text + ")"
	if c.Op == node.NotIn {
		out.text += " IS NOT TRUE"
	}
	return out
}

func equalities(x string, values []any) []clause {
	var list []clause
	if slices.Contains(values, nil) {
		list = append(list, clause{text: x + " IS NULL"})
	}
	bounds := bounds(values)
	if len(bounds) <= maxBranches {
		for _, v := range bounds {
			list = append(list, clause{x + " = ?", []any{v}})
		}
		return list
	}
	return append(list, clause{x + " IN (" + marks(len(bounds)) + ")", bounds})
}

// bounds gives each value once, without null.
func bounds(values []any) []any {
	var out []any
	for _, v := range values {
		bound, ok := comparable(v)
		if ok && !slices.ContainsFunc(out, func(have any) bool { return same(have, bound) }) {
			out = append(out, bound)
		}
	}
	return out
}

func marks(n int) string { return strings.TrimSuffix(strings.Repeat("?, ", n), ", ") }

// inList says that x is a list with an element for which c holds.
func inList(x string, c node.Condition) clause {
	var inside clause
	if c.Op == node.In || c.Op == node.NotIn {
		inside = elementIsOneOf(c.Values)
	} else {
		inside = comparison("each.value", c)
		inside.text = "each.type IN ('integer', 'real', 'text') AND " + inside.text
	}
	inside.text = x + " >= x'' AND EXISTS (SELECT 1 FROM json_each(CAST(" + x + " AS TEXT)) AS each WHERE " + inside.text + ")"
	return inside
}

// elementIsOneOf tells the types apart by name: JSON's booleans read as 1 and
// 0 here.
func elementIsOneOf(values []any) clause {
	list := []clause{{text: "FALSE"}}
	plain := clause{text: "each.type IN ('integer', 'real', 'text') AND each.value IN ("}
	for _, v := range values {
		switch v := v.(type) {
		case nil:
			list = append(list, clause{text: "each.type = 'null'"})
		case bool:
			list = append(list, clause{text: fmt.Sprintf("each.type = '%t'", v)})
		default:
			if bound, ok := comparable(v); ok {
				plain.args = append(plain.args, bound)
			}
		}
	}
	plain.text += marks(len(plain.args)) + ")"
	return join(append(list, plain), " OR ")
}

var signs = map[node.Op]string{node.Lt: "<", node.Lte: "<=", node.Gt: ">", node.Gte: ">="}

// comparison is an order comparison, kept to the type of its bound (numbers
// come before all text, text before all lists), or a match.
func comparison(x string, c node.Condition) clause {
	never := clause{text: "FALSE"}
	if len(c.Values) == 0 {
		return never
	}
	bound, ok := comparable(c.Values[0])
	_, isText := bound.(string)
	sign, known := signs[c.Op]
	switch {
	case c.Op == node.Re && isText:
		return clause{x + " >= '' AND " + x + " < x'' AND re(?, " + x + ")", []any{bound}}
	case !ok || !known || blob(bound):
		return never
	case isText && sign[0] == '<':
		return clause{x + " >= '' AND " + x + " " + sign + " ?", []any{bound}}
	case isText:
		return clause{x + " " + sign + " ? AND " + x + " < x''", []any{bound}}
	case sign[0] == '<':
		return clause{x + " " + sign + " ?", []any{bound}}
	}
	return clause{x + " " + sign + " ? AND " + x + " < ''", []any{bound}}
}
