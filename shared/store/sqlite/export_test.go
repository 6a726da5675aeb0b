package sqlite

import (
	"context"

	"github.com/kernelflow/kernelflow/shared/node"
)

// Explain says how SQLite goes about a page of q, a list of all and a count: a
// line for each step.
func (s *Store) Explain(ctx context.Context, q node.Query) ([]string, error) {
	p, err := s.plan(ctx, q.Where)
	if err != nil {
		return nil, err
	}
	var steps []string
	page, pageArgs := p.selection(q.Page(50, 0))
	all, allArgs := p.selection(q)
	count, countArgs := p.count()
	for _, query := range []clause{{page, pageArgs}, {all, allArgs}, {count, countArgs}} {
		rows, err := s.read.QueryContext(ctx, "EXPLAIN QUERY PLAN "+query.text, query.args...)
		if err != nil {
			return nil, err
		}
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				return nil, err
			}
			steps = append(steps, detail)
		}
		if err := rows.Close(); err != nil {
			return nil, err
		}
	}
	return steps, nil
}
