package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
)

// record is a node ready for its row.
type record struct {
	node node.Node
	doc  []byte
}

// settle brings n to the form that is stored: valid, defaults filled, updated
// now, and reading the same before and after.
func (s *Store) settle(n node.Node) (record, error) {
	n = n.Clone()
	n.Updated = s.now()
	n.SetDefaults(n.Updated)
	if _, err := node.ParseID(string(n.ID)); err != nil {
		return record{}, fmt.Errorf("id: %w", err)
	}
	if err := n.Validate(); err != nil {
		return record{}, err
	}
	doc, err := json.Marshal(n)
	if err != nil {
		return record{}, errs.Wrap(errs.Invalid, err)
	}
	r := record{doc: doc}
	return r, json.Unmarshal(doc, &r.node)
}

// Create stores a new node with its event.
func (s *Store) Create(ctx context.Context, n node.Node, opts ...store.Option) (node.Node, error) {
	call := fmt.Sprintf("sqlite.Create(%s)", n.ID)
	r, err := s.settle(n)
	if err != nil {
		return node.Node{}, s.failure(ctx, call, err)
	}
	e, err := event.OfCreated(r.node)
	if err != nil {
		return node.Node{}, s.failure(ctx, call, err)
	}
	silent := store.Apply(opts).Silent
	err = s.writer.do(ctx, func(_ *operation, t *tx) error {
		if _, err := t.insertNode(r); err != nil || silent {
			return err
		}
		return t.log(e)
	})
	if err != nil {
		return node.Node{}, s.failure(ctx, call, err)
	}
	return r.node, nil
}

// Update reads the node, lets change work on a copy and writes it with its
// event, inside one transaction.
func (s *Store) Update(ctx context.Context, id node.ID, change func(*node.Node) error, opts ...store.Option) (node.Node, error) {
	var u update
	silent := store.Apply(opts).Silent
	err := s.writer.do(ctx, func(o *operation, t *tx) error {
		var err error
		if u.before, u.revision, err = t.node(id); err != nil {
			return err
		}
		if err := o.onCaller(func() error { return s.change(&u, change, false) }); err != nil {
			return err
		}
		return t.write(&u, silent)
	})
	if err != nil {
		return node.Node{}, s.changed(ctx, &u, fmt.Sprintf("sqlite.Update(%s)", id), err)
	}
	return u.after.node, nil
}

// update is one node's way from before to after.
type update struct {
	before   node.Node
	revision int64
	after    record
	event    event.Event
	refused  error // what the caller's change returned
}

// changed gives the caller his own error as it is, and any other with its call.
func (s *Store) changed(ctx context.Context, u *update, call string, err error) error {
	if u.refused != nil {
		return u.refused
	}
	return s.failure(ctx, call, err)
}

// change lets the caller's function decide and checks what it made.
func (s *Store) change(u *update, change func(*node.Node) error, hierarchy bool) error {
	n := u.before.Clone()
	if u.refused = change(&n); u.refused != nil {
		return u.refused
	}
	n.ID, n.Created = u.before.ID, u.before.Created
	if err := node.CheckTransition(u.before.State, n.State); err != nil {
		return err
	}
	var err error
	if u.after, err = s.settle(n); err != nil {
		return err
	}
	u.event, err = event.OfUpdated(u.before, u.after.node, u.revision+1, hierarchy)
	return err
}

// PutHierarchy updates the root and adds its descendants in one transaction.
func (s *Store) PutHierarchy(ctx context.Context, root node.ID, request string,
	change func(root *node.Node) ([]node.Node, error), opts ...store.Option) ([]node.Node, error) {
	var u update
	var all []node.Node
	silent := store.Apply(opts).Silent
	err := s.writer.do(ctx, func(o *operation, t *tx) error {
		var err error
		if u.before, u.revision, err = t.node(root); err != nil {
			return err
		}
		var done bool
		if all, done, err = t.hierarchy(u.before, request); done || err != nil {
			return err
		}
		var below []record
		if err := o.onCaller(func() error { below, err = s.grow(&u, change); return err }); err != nil {
			return err
		}
		all, err = t.writeHierarchy(&u, request, below, silent)
		return err
	})
	if err != nil {
		return nil, s.changed(ctx, &u, fmt.Sprintf("sqlite.PutHierarchy(%s, %s)", root, request), err)
	}
	return all, nil
}

// grow is change for a root that gets descendants.
func (s *Store) grow(u *update, change func(*node.Node) ([]node.Node, error)) ([]record, error) {
	var descendants []node.Node
	err := s.change(u, func(n *node.Node) (err error) { descendants, err = change(n); return err }, true)
	if err != nil {
		return nil, err
	}
	below := make([]record, len(descendants))
	for i, n := range descendants {
		if below[i], err = s.settle(n); err != nil {
			return nil, fmt.Errorf("descendant %s: %w", n.ID, err)
		}
	}
	return below, nil
}

func (t *tx) writeHierarchy(u *update, request string, below []record, silent bool) ([]node.Node, error) {
	if err := t.write(u, silent); err != nil {
		return nil, err
	}
	all := []node.Node{u.after.node}
	first, last := int64(1), int64(0)
	for i, r := range below {
		seq, err := t.insertNode(r)
		if err != nil {
			return nil, fmt.Errorf("descendant %s: %w", r.node.ID, err)
		}
		if i == 0 {
			first = seq
		}
		last = seq
		all = append(all, r.node)
	}
	_, err := t.exec("INSERT INTO hierarchy (root, request, first, last) VALUES (?, ?, ?, ?)", string(u.before.ID), request, first, last)
	return all, err
}

// hierarchy returns what an earlier call with the same request has written; a
// request's descendants lie side by side.
func (t *tx) hierarchy(root node.Node, request string) (all []node.Node, done bool, err error) {
	var first, last int64
	err = t.queryRow("SELECT first, last FROM hierarchy WHERE root = ? AND request = ?", string(root.ID), request).Scan(&first, &last)
	if err == sql.ErrNoRows {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	all = []node.Node{root}
	err = t.each("SELECT doc FROM node WHERE seq BETWEEN ? AND ? ORDER BY seq", []any{first, last}, func(doc string) error {
		n, err := decode(doc)
		all = append(all, n)
		return err
	})
	return all, true, err
}

func (t *tx) each(text string, args []any, use func(doc string) error) error {
	stmt, err := t.prepared(text)
	if err != nil {
		return err
	}
	rows, err := stmt.QueryContext(context.Background(), args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var doc string
		if err := rows.Scan(&doc); err != nil {
			return err
		}
		if err := use(doc); err != nil {
			return err
		}
	}
	return rows.Err()
}

// node reads a node and its write counter.
func (t *tx) node(id node.ID) (node.Node, int64, error) {
	var doc string
	var revision int64
	err := t.queryRow("SELECT doc, rev FROM node WHERE id = ?", string(id)).Scan(&doc, &revision)
	if err != nil {
		return node.Node{}, 0, orNotFound(err, "node %s", id)
	}
	n, err := decode(doc)
	return n, revision, err
}

var insertNode = "INSERT INTO node (rev, " + quotedList(columns) + ", doc) VALUES (1" + strings.Repeat(", ?", len(columns)+1) + ")"

func (t *tx) insertNode(r record) (int64, error) {
	args := make([]any, 0, len(columns)+1)
	for _, column := range columns {
		args = append(args, fieldOf(&r.node, column))
	}
	result, err := t.exec(insertNode, append(args, string(r.doc))...)
	if err != nil {
		return 0, orTaken(err)
	}
	return result.LastInsertId()
}

// orTaken says what a broken unique key of the node table means.
func orTaken(err error) error {
	err = kinded(err)
	if errs.KindOf(err) != errs.Conflict {
		return err
	}
	return errs.Wrap(errs.Conflict, fmt.Errorf("a node with this id, or a job with this parent, name, runtime, platform and retry_counter, exists: %w", err))
}

// write stores an update and logs its event. It names only the columns that
// differ, so that the other indexes are left alone.
func (t *tx) write(u *update, silent bool) error {
	text := "UPDATE node SET rev = rev + 1, doc = ?"
	args := []any{string(u.after.doc)}
	for _, column := range columns {
		v := fieldOf(&u.after.node, column)
		if !same(v, fieldOf(&u.before, column)) {
			text += ", " + quoted(column) + " = ?"
			args = append(args, v)
		}
	}
	if _, err := t.exec(text+" WHERE id = ?", append(args, string(u.before.ID))...); err != nil {
		return orTaken(err)
	}
	if silent {
		return nil
	}
	return t.log(u.event)
}
