package sqlite

import (
	"context"

	"github.com/kernelflow/kernelflow/shared/node"
)

// TallyNodes counts the nodes that q selects by fields.
func (s *Store) TallyNodes(ctx context.Context, q node.Query, by ...string) ([]node.Tally, error) {
	tallies, err := s.tallyNodes(ctx, q, by)
	return tallies, s.failure(ctx, "sqlite.TallyNodes()", err)
}

func (s *Store) tallyNodes(ctx context.Context, q node.Query, by []string) ([]node.Tally, error) {
	if err := node.CheckCountable(by); err != nil {
		return nil, err
	}
	all, err := s.tallies(ctx, q.Where, by)
	if err != nil {
		return nil, err
	}
	rows, err := s.read.QueryContext(ctx, all.text, all.args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var t node.Tallier
	var count int64
	values := make([]any, len(by))
	targets := []any{&count}
	for i := range values {
		targets = append(targets, &values[i])
	}
	for rows.Next() {
		if err := rows.Scan(targets...); err != nil {
			return nil, err
		}
		if count == 0 {
			continue // the only row of a question without fields
		}
		if err := t.Add(values, count); err != nil {
			return nil, err
		}
	}
	return t.Tallies(), rows.Err()
}

// tallies needs no order, so that all conditions may be looked up by whatever
// index has most of them, and of what is counted.
func (s *Store) tallies(ctx context.Context, conditions []node.Condition, by []string) (clause, error) {
	conditions, err := s.prepare(ctx, conditions)
	if err != nil {
		return clause{}, err
	}
	all := make([]clause, len(conditions))
	for i, c := range conditions {
		all[i] = condition(c)
	}
	where := join(all, " AND ")
	if where.text != "" {
		where.text = " WHERE " + where.text
	}
	columns, groups := "count(*)", ""
	if len(by) > 0 {
		columns, groups = columns+", "+quotedList(by), " GROUP BY "+quotedList(by)
	}
	return clause{"SELECT " + columns + " FROM node" + where.text + groups, where.args}, nil
}
