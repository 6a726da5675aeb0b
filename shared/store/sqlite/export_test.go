package sqlite

import (
	"context"
	"math"

	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
	"github.com/kernelflow/kernelflow/shared/telemetry"
)

// Explain says how SQLite goes about a page of q, a list of all and a count: a
// line for each step.
func (s *Store) Explain(ctx context.Context, q node.Query) ([]string, error) {
	p, err := s.plan(ctx, q.Where)
	if err != nil {
		return nil, err
	}
	if err := p.begin(q); err != nil {
		return nil, err
	}
	page, pageArgs := p.selection(q.Page(50, 0))
	all, allArgs := p.selection(q)
	count, countArgs := p.count()
	return s.steps(ctx, clause{page, pageArgs}, clause{all, allArgs}, clause{count, countArgs})
}

func (s *Store) steps(ctx context.Context, queries ...clause) ([]string, error) {
	var steps []string
	for _, query := range queries {
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

// ExplainTelemetry is Explain for a page of the telemetry that f selects and
// for counting it by a field.
func (s *Store) ExplainTelemetry(ctx context.Context, f telemetry.Filter, p store.TelemetryPage) ([]string, error) {
	page, pageArgs := telemetryPage(f, p)
	tally, tallyArgs := tallies(f, []telemetry.Field{telemetry.Arch})
	return s.steps(ctx, clause{page, pageArgs}, clause{tally, tallyArgs})
}

// ExplainTally is Explain for counting the nodes of q by fields.
func (s *Store) ExplainTally(ctx context.Context, q node.Query, by ...string) ([]string, error) {
	all, err := s.tallies(ctx, q.Where, by)
	if err != nil {
		return nil, err
	}
	return s.steps(ctx, all)
}

// ExplainHistory is Explain for what History asks.
func (s *Store) ExplainHistory(ctx context.Context, h store.History) ([]string, error) {
	text, args := asked(h)
	return s.steps(ctx, clause{text, args})
}

// ExplainAfter is Explain for what After asks.
func (s *Store) ExplainAfter(ctx context.Context, f event.Filter) ([]string, error) {
	text, args := between(1, math.MaxInt64, f)
	return s.steps(ctx, clause{text, args})
}
