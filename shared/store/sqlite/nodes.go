package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"iter"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
)

// Get implements store.Reader.
func (s *Store) Get(ctx context.Context, id node.ID) (node.Node, error) {
	n, _, err := get(ctx, s.read, id)
	return n, wrap(err, "Get(%q)", id)
}

// querier is a database or a transaction.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func get(ctx context.Context, from querier, id node.ID) (n node.Node, rev int64, err error) {
	var doc []byte
	if err := from.QueryRowContext(ctx, "SELECT rev, doc FROM node WHERE id = ?", string(id)).Scan(&rev, &doc); err != nil {
		return node.Node{}, 0, err
	}
	err = json.Unmarshal(doc, &n)
	return n, rev, err
}

// Find implements store.Reader.
func (s *Store) Find(ctx context.Context, q node.Query) ([]node.Node, error) {
	list := []node.Node{}
	for n, err := range s.Each(ctx, q) {
		if err != nil {
			return nil, err
		}
		list = append(list, n)
	}
	return list, nil
}

// Each implements store.Reader.
func (s *Store) Each(ctx context.Context, q node.Query) iter.Seq2[node.Node, error] {
	return func(yield func(node.Node, error) bool) {
		text, args := selectNodes("doc", q)
		rows, err := s.read.QueryContext(ctx, text, args...)
		if err != nil {
			yield(node.Node{}, wrap(err, "Each(%v)", q.Where))
			return
		}
		defer rows.Close()
		for rows.Next() {
			n, err := scanNode(rows)
			if !yield(n, wrap(err, "Each(%v)", q.Where)) || err != nil {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(node.Node{}, wrap(err, "Each(%v)", q.Where))
		}
	}
}

func scanNode(rows *sql.Rows) (n node.Node, err error) {
	var doc sql.RawBytes
	if err := rows.Scan(&doc); err != nil {
		return node.Node{}, err
	}
	err = json.Unmarshal(doc, &n)
	return n, err
}

// Count implements store.Reader.
func (s *Store) Count(ctx context.Context, q node.Query) (count int64, err error) {
	q.Limit, q.Offset = 0, 0
	text, args := selectNodes("1", q)
	err = s.read.QueryRowContext(ctx, "SELECT count(*) FROM ("+text+")", args...).Scan(&count)
	return count, wrap(err, "Count(%v)", q.Where)
}

// Create implements store.Writer.
func (s *Store) Create(ctx context.Context, n node.Node, opts ...store.Option) (node.Node, error) {
	n = n.Clone()
	n.SetDefaults(s.clock())
	if err := n.Validate(); err != nil {
		return node.Node{}, fmt.Errorf("sqlite.Create(%q): %w", n.Name, err)
	}
	if _, err := node.ParseID(string(n.ID)); err != nil {
		return node.Node{}, fmt.Errorf("sqlite.Create(%q): id: %w", n.Name, err)
	}
	err := s.writer.submit(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if err := insert(ctx, tx, n); err != nil {
			return err
		}
		if store.Apply(opts).Silent {
			return nil
		}
		e, err := event.OfCreated(n)
		if err != nil {
			return err
		}
		return log(ctx, tx, e)
	})
	if err != nil {
		return node.Node{}, wrap(err, "Create(%s %q)", n.ID, n.Name)
	}
	return n, nil
}

func insert(ctx context.Context, tx *sql.Tx, n node.Node) error {
	doc, err := json.Marshal(n)
	if err != nil {
		return errs.Wrap(errs.Invalid, err)
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO node (id, rev, doc) VALUES (?, 1, ?)", string(n.ID), string(doc))
	return err
}

// Update implements store.Writer.
func (s *Store) Update(ctx context.Context, id node.ID, change func(*node.Node) error, opts ...store.Option) (node.Node, error) {
	var after node.Node
	err := s.writer.submit(ctx, func(ctx context.Context, tx *sql.Tx) (err error) {
		after, err = s.update(ctx, tx, id, false, change, opts)
		return err
	})
	if err != nil {
		return node.Node{}, wrap(err, "Update(%s)", id)
	}
	return after, nil
}

// update reads, changes and writes one node with its event inside tx.
func (s *Store) update(ctx context.Context, tx *sql.Tx, id node.ID, hierarchy bool, change func(*node.Node) error, opts []store.Option) (node.Node, error) {
	before, rev, err := get(ctx, tx, id)
	if err != nil {
		return node.Node{}, err
	}
	after := before.Clone()
	after.Updated = s.clock()
	if err := change(&after); err != nil {
		return node.Node{}, err
	}
	if err := settle(before, &after); err != nil {
		return node.Node{}, err
	}
	doc, err := json.Marshal(after)
	if err != nil {
		return node.Node{}, errs.Wrap(errs.Invalid, err)
	}
	if _, err := tx.ExecContext(ctx, "UPDATE node SET rev = ?, doc = ? WHERE id = ?", rev+1, string(doc), string(id)); err != nil {
		return node.Node{}, err
	}
	if store.Apply(opts).Silent {
		return after, nil
	}
	e, err := event.OfUpdated(before, after, rev+1, hierarchy)
	if err != nil {
		return node.Node{}, err
	}
	return after, log(ctx, tx, e)
}

// settle puts back what an update may not change, and checks the rest.
func settle(before node.Node, after *node.Node) error {
	after.ID, after.Created = before.ID, before.Created
	after.SetDefaults(after.Updated)
	if err := node.CheckTransition(before.State, after.State); err != nil {
		return err
	}
	return after.Validate()
}

// PutHierarchy implements store.Writer.
func (s *Store) PutHierarchy(ctx context.Context, root node.ID, request string, change func(*node.Node) ([]node.Node, error), opts ...store.Option) ([]node.Node, error) {
	var all []node.Node
	err := s.writer.submit(ctx, func(ctx context.Context, tx *sql.Tx) (err error) {
		all, err = s.putHierarchy(ctx, tx, root, request, change, opts)
		return err
	})
	if err != nil {
		return nil, wrap(err, "PutHierarchy(%s)", root)
	}
	return all, nil
}

func (s *Store) putHierarchy(ctx context.Context, tx *sql.Tx, root node.ID, request string, change func(*node.Node) ([]node.Node, error), opts []store.Option) ([]node.Node, error) {
	if all, done, err := repeated(ctx, tx, root, request); err != nil || done {
		return all, err
	}
	var children []node.Node
	after, err := s.update(ctx, tx, root, true, func(n *node.Node) (err error) {
		children, err = change(n)
		return err
	}, opts)
	if err != nil {
		return nil, err
	}
	ids := make([]node.ID, len(children))
	for i, child := range children {
		child.SetDefaults(after.Updated)
		if err := child.Validate(); err != nil {
			return nil, fmt.Errorf("descendant %q: %w", child.Name, err)
		}
		if err := insert(ctx, tx, child); err != nil {
			return nil, fmt.Errorf("descendant %q: %w", child.Name, err)
		}
		children[i], ids[i] = child, child.ID
	}
	names, err := json.Marshal(ids)
	if err != nil {
		return nil, err
	}
	if _, err := tx.ExecContext(ctx, "INSERT INTO request (root, name, nodes) VALUES (?, ?, ?)", string(root), request, string(names)); err != nil {
		return nil, err
	}
	return append([]node.Node{after}, children...), nil
}

// repeated returns what an earlier call of the same request has left.
func repeated(ctx context.Context, tx *sql.Tx, root node.ID, request string) ([]node.Node, bool, error) {
	var names []byte
	err := tx.QueryRowContext(ctx, "SELECT nodes FROM request WHERE root = ? AND name = ?", string(root), request).Scan(&names)
	if err == sql.ErrNoRows {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	var ids []node.ID
	if err := json.Unmarshal(names, &ids); err != nil {
		return nil, false, err
	}
	all := make([]node.Node, 0, len(ids)+1)
	for _, id := range append([]node.ID{root}, ids...) {
		n, _, err := get(ctx, tx, id)
		if err != nil {
			return nil, false, err
		}
		all = append(all, n)
	}
	return all, true, nil
}
