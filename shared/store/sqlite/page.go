package sqlite

import (
	"context"
	"strconv"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
)

// Page returns what q selects, up to its limit, and where the next page begins.
func (s *Store) Page(ctx context.Context, q node.Query) ([]node.Node, string, error) {
	const call = "sqlite.Page()"
	if q.Limit <= 0 {
		return nil, "", s.failure(ctx, call, errs.New(errs.Invalid, "a page has a limit"))
	}
	limit, next, last := q.Limit, "", int64(0)
	q.Limit++ // one more tells whether there is another page
	nodes := []node.Node{}
	err := s.eachNode(ctx, q, func(seq int64, n node.Node) bool {
		if len(nodes) == limit {
			next = strconv.FormatInt(last, 36)
			return false
		}
		nodes, last = append(nodes, n), seq
		return true
	})
	if err != nil {
		return nil, "", s.failure(ctx, call, err)
	}
	return nodes, next, nil
}

// begin makes the plan begin behind the place where an earlier page ended.
func (p *plan) begin(q node.Query) error {
	if q.After == "" {
		return nil
	}
	seq, err := strconv.ParseInt(q.After, 36, 64)
	if err != nil || seq < 0 {
		return errs.New(errs.Invalid, "%.40q is not where a page has ended", q.After)
	}
	c := clause{"seq > ?", []any{seq}}
	if q.Newest {
		c.text = "seq < ?"
	}
	p.rest = append(p.rest, c)
	return nil
}
