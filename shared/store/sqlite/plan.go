package sqlite

import (
	"context"
	"slices"
	"strings"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
)

const (
	// maxBranches is how many streams, each in order by its index, are merged.
	// More alternatives are looked up together and sorted.
	maxBranches = 16
	// maxMatches is how many values of a column a regular expression may stand
	// for and still be looked up by them.
	maxMatches = 1000
)

// plan is a query's conditions as SQL. Nodes come in the order of seq, and an
// index gives that order for one value of its column only. So the condition
// that selects least is split into its alternatives: each is a stream in order,
// and SQLite merges them as far as the page reaches instead of sorting all.
type plan struct {
	branches []clause // one holds; empty: all
	rest     []clause // all hold
	lists    string   // the index that finds the nodes of the last branch, whose value is a list; "": there is no such branch
}

func (s *Store) plan(ctx context.Context, conditions []node.Condition) (plan, error) {
	conditions, err := s.prepare(ctx, conditions)
	if err != nil {
		return plan{}, err
	}
	var p plan
	leading := leader(conditions)
	for i, c := range conditions {
		if i == leading {
			p.branches = alternatives(c)
			if !slices.Contains(scalars, c.Field) {
				p.lists = "node:" + c.Field
			}
			continue
		}
		p.rest = append(p.rest, keepingOrder(c))
		p.rest = append(p.rest, zones(c)...)
	}
	if leading >= 0 && len(p.branches) == 0 {
		p.rest = append(p.rest, clause{text: "FALSE"})
	}
	return p, nil
}

// prepare brings the conditions into forms that an index can answer.
func (s *Store) prepare(ctx context.Context, conditions []node.Condition) ([]node.Condition, error) {
	conditions = slices.Clone(conditions)
	for i, c := range conditions {
		if strings.ContainsAny(c.Field, "\"\\\x00") {
			return nil, errs.New(errs.Invalid, "%.60q: no such field of a node to filter on", c.Field)
		}
		conditions[i] = positive(c)
	}
	if leader(conditions) >= 0 {
		return conditions, nil
	}
	for i, c := range conditions {
		values, err := s.matching(ctx, c)
		if err != nil {
			return nil, err
		}
		if values != nil {
			conditions[i] = node.Condition{Field: c.Field, Op: node.In, Values: values}
			break
		}
	}
	return conditions, nil
}

// closed lists all values of the fields that have few.
var closed = map[string][]any{
	"kind": anys(node.Kinds), "state": anys(node.States), "result": append(anys(node.Results), nil),
	"processed_by_kcidb_bridge": {true, false},
}

func anys[T ~string](list []T) []any {
	out := make([]any, len(list))
	for i, v := range list {
		out[i] = string(v)
	}
	return out
}

// positive turns "none of these" into "one of the others" where those are
// known.
func positive(c node.Condition) node.Condition {
	all, ok := closed[c.Field]
	if !ok || c.Op != node.NotIn {
		return c
	}
	others := slices.DeleteFunc(slices.Clone(all), func(v any) bool { return slices.Contains(c.Values, v) })
	return node.Condition{Field: c.Field, Op: node.In, Values: others}
}

// leader returns the equality that selects least by an index; -1: there is none.
func leader(conditions []node.Condition) int {
	best, least := -1, 0
	for i, c := range conditions {
		share, indexed := shares[c.Field]
		if !indexed || c.Op != node.In || len(c.Values) > maxBranches {
			continue
		}
		if n := share * len(c.Values); best < 0 || n < least {
			best, least = i, n
		}
	}
	return best
}

// zones adds to a bound on the creation time the stretch of the table in which
// it can hold: the table is in the order of creation, more or less.
func zones(c node.Condition) []clause {
	if c.Field != "created" || len(c.Values) == 0 {
		return nil
	}
	bound, ok := comparable(c.Values[0])
	if !ok || c.Op == node.Re || c.Op == node.NotIn || len(c.Values) > 1 {
		return nil
	}
	after := clause{"seq >= (SELECT ifnull(min(block), 1 << 40) << 10 FROM zone WHERE high >= ?)", []any{bound}}
	before := clause{"seq < (SELECT ifnull(max(block), -1) + 1 << 10 FROM zone WHERE low <= ?)", []any{bound}}
	switch c.Op {
	case node.Gt, node.Gte:
		return []clause{after}
	case node.Lt, node.Lte:
		return []clause{before}
	}
	return []clause{after, before}
}

// keepingOrder is condition for a list in the order of seq, which an index on the
// time of creation does not give: zones find the part that matters in order.
func keepingOrder(c node.Condition) clause {
	one := condition(c)
	if c.Field == "created" {
		one.text = strings.ReplaceAll(one.text, quoted(c.Field), "+"+quoted(c.Field)) // a term that no index answers
	}
	return one
}

// where gives the conditions of one branch.
func (p plan) where(branch ...clause) clause {
	all := join(append(slices.Clip(branch), p.rest...), " AND ")
	if all.text != "" {
		all.text = " WHERE " + all.text
	}
	return all
}

// union selects columns from all branches.
func (p plan) union(columns string) clause {
	if len(p.branches) == 0 {
		all := p.where()
		return clause{"SELECT " + columns + " FROM node" + all.text, all.args}
	}
	selects := make([]clause, len(p.branches))
	for i, branch := range p.branches {
		selects[i] = p.where(branch)
		selects[i].text = "SELECT " + columns + " FROM node" + p.hint(i) + selects[i].text
	}
	return join(selects, " UNION ALL ")
}

// hint keeps SQLite from going through the whole table for the sake of its
// order: lists are few, so finding all of them by their index and sorting what
// is left is less.
func (p plan) hint(branch int) string {
	if p.lists == "" || branch < len(p.branches)-1 {
		return ""
	}
	return " INDEXED BY " + quoted(p.lists)
}

// selection gives the documents that q selects, in its order. A page is found
// by seq first: documents are read for what is on it only.
func (p plan) selection(q node.Query) (string, []any) {
	order := " ORDER BY seq"
	if q.Newest {
		order += " DESC"
	}
	if q.Limit <= 0 && q.Offset <= 0 {
		all := p.union("seq, doc")
		return "SELECT seq, doc FROM (" + all.text + ")" + order, all.args
	}
	page := p.union("seq")
	return "SELECT seq, doc FROM node WHERE seq IN (" + page.text + order + " LIMIT ? OFFSET ?)" + order,
		append(page.args, orAll(q.Limit), max(q.Offset, 0))
}

func (p plan) count() (string, []any) {
	all := p.union("1")
	if len(p.branches) == 0 {
		return strings.Replace(all.text, "SELECT 1", "SELECT count(*)", 1), all.args
	}
	return "SELECT count(*) FROM (" + all.text + ")", all.args
}

// orAll is a LIMIT: SQLite takes a negative one for none.
func orAll(limit int) int {
	if limit <= 0 {
		return -1
	}
	return limit
}
