package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"iter"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
)

// Get returns the node; NotFound when there is none.
func (s *Store) Get(ctx context.Context, id node.ID) (node.Node, error) {
	var doc string
	err := s.read.QueryRowContext(ctx, "SELECT doc FROM node WHERE id = ?", string(id)).Scan(&doc)
	if err == nil {
		var n node.Node
		n, err = decode(doc)
		return n, s.failure(ctx, fmt.Sprintf("sqlite.Get(%s)", id), err)
	}
	return node.Node{}, s.failure(ctx, fmt.Sprintf("sqlite.Get(%s)", id), orNotFound(err, "node %s", id))
}

// orNotFound turns "no row" into NotFound of what the words name.
func orNotFound(err error, format string, args ...any) error {
	if err == sql.ErrNoRows {
		return errs.New(errs.NotFound, format+" not found", args...)
	}
	return err
}

func decode(doc string) (node.Node, error) {
	var n node.Node
	if err := json.Unmarshal([]byte(doc), &n); err != nil {
		return node.Node{}, fmt.Errorf("a stored node: %w", err)
	}
	return n, nil
}

// Find returns what q selects, never nil.
func (s *Store) Find(ctx context.Context, q node.Query) ([]node.Node, error) {
	found := []node.Node{}
	for n, err := range s.Each(ctx, q) {
		if err != nil {
			return nil, err
		}
		found = append(found, n)
	}
	return found, nil
}

// Each streams what q selects.
func (s *Store) Each(ctx context.Context, q node.Query) iter.Seq2[node.Node, error] {
	return func(yield func(node.Node, error) bool) {
		err := s.eachNode(ctx, q, func(_ int64, n node.Node) bool { return yield(n, nil) })
		if err != nil {
			yield(node.Node{}, s.failure(ctx, "sqlite.Each()", err))
		}
	}
}

// eachNode calls use with each node that q selects, and its place in the order
// of creation, until it says no.
func (s *Store) eachNode(ctx context.Context, q node.Query, use func(seq int64, n node.Node) bool) error {
	p, err := s.plan(ctx, q.Where)
	if err != nil {
		return err
	}
	if err := p.begin(q); err != nil {
		return err
	}
	text, args := p.selection(q)
	rows, err := s.read.QueryContext(ctx, text, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var seq int64
		var doc string
		if err := rows.Scan(&seq, &doc); err != nil {
			return err
		}
		n, err := decode(doc)
		if err != nil || !use(seq, n) {
			return err
		}
	}
	return rows.Err()
}

// eachDoc calls use with the first column of each row until it says no.
func (s *Store) eachDoc(ctx context.Context, text string, args []any, use func(doc string) (bool, error)) error {
	rows, err := s.read.QueryContext(ctx, text, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var doc string
		if err := rows.Scan(&doc); err != nil {
			return err
		}
		if more, err := use(doc); err != nil || !more {
			return err
		}
	}
	return rows.Err()
}

// Count returns how many nodes q selects; limit and offset do not count.
func (s *Store) Count(ctx context.Context, q node.Query) (int64, error) {
	var n int64
	p, err := s.plan(ctx, q.Where)
	if err == nil {
		text, args := p.count()
		err = s.read.QueryRowContext(ctx, text, args...).Scan(&n)
	}
	return n, s.failure(ctx, "sqlite.Count()", err)
}
