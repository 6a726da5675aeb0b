package mongo

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
)

// PutHierarchy writes the descendants and then the root, whose one write
// carries the event and notes the request: before it nobody is told, after it
// nothing is written again. A transaction makes all of it one.
func (s *Store) PutHierarchy(ctx context.Context, root node.ID, request string,
	change func(root *node.Node) ([]node.Node, error), opts ...store.Option) ([]node.Node, error) {
	call := fmt.Sprintf("mongo.PutHierarchy(%s, %s)", root, request)
	if request == "" {
		return nil, errs.New(errs.Invalid, "%s: the request has no name", call)
	}
	var u update
	var below []node.Node
	err := s.together(ctx, func(ctx context.Context) (err error) {
		u = update{id: root, silent: store.Apply(opts).Silent, request: request}
		below, err = s.put(ctx, &u, change)
		return err
	})
	if errors.Is(err, errDone) {
		u.after = u.before
		below, err = s.madeBy(ctx, made(root, request))
	}
	switch {
	case u.refused != nil:
		return nil, u.refused
	case err != nil:
		return nil, s.failure(ctx, call, err)
	}
	return append([]node.Node{u.after}, below...), nil
}

// put takes the steps of a hierarchy once; errDone when the request has been
// committed before.
func (s *Store) put(ctx context.Context, u *update, change func(*node.Node) ([]node.Node, error)) (below []node.Node, err error) {
	err = s.update(ctx, u, func() (err error) {
		if slices.Contains(u.record.Requests, u.request) {
			return errDone
		}
		below, err = s.grow(ctx, u, change)
		return err
	})
	return below, err
}

// made names the hierarchy that a node came with. A root's id has a fixed
// length, so that no two hierarchies share a name.
func made(root node.ID, request string) string { return string(root) + "/" + request }

// grow is change for a root that gets descendants: it checks all before it
// writes any.
func (s *Store) grow(ctx context.Context, u *update, change func(*node.Node) ([]node.Node, error)) ([]node.Node, error) {
	var descendants []node.Node
	err := s.change(u, func(n *node.Node) (err error) { descendants, err = change(n); return err })
	if err != nil {
		return nil, err
	}
	seq := s.stamp(len(descendants))
	records := make([]record, len(descendants))
	for i := range descendants {
		n, err := s.settle(descendants[i], nil)
		if err == nil {
			records[i], err = encode(n, seq+int64(i))
		}
		if err != nil {
			return nil, fmt.Errorf("descendant %s: %w", descendants[i].ID, err)
		}
		descendants[i] = n
		records[i].Made, records[i].Place = made(u.id, u.request), i+1
	}
	kept, err := s.plant(ctx, records)
	for i, n := range kept {
		descendants[i] = n
	}
	return descendants, err
}

// plant stores descendants. One that an earlier attempt at the same request
// has left is replaced; one that somebody has changed since is kept, and
// returned by its place in the list. In a transaction, which does not outlive a
// key that is taken, that key is the error.
func (s *Store) plant(ctx context.Context, records []record) (kept map[int]node.Node, err error) {
	if len(records) == 0 {
		return nil, nil
	}
	_, err = s.nodes.InsertMany(ctx, records, options.InsertMany().SetOrdered(false))
	var failed mongo.BulkWriteException
	if err == nil || inTransaction(ctx) || !errors.As(err, &failed) || failed.WriteConcernError != nil {
		return nil, err
	}
	kept = map[int]node.Node{}
	for _, one := range failed.WriteErrors {
		r := &records[one.Index]
		if !isDuplicate(one) {
			return nil, fmt.Errorf("descendant %s: %w", r.ID.Hex(), err)
		}
		if err := s.replant(ctx, r, one.Index, kept); err != nil {
			return nil, fmt.Errorf("descendant %s: %w", r.ID.Hex(), err)
		}
	}
	return kept, nil
}

func (s *Store) replant(ctx context.Context, r *record, place int, kept map[int]node.Node) error {
	unchanged := bson.D{{Key: "_id", Value: r.ID}, {Key: "_rev", Value: 1}, {Key: "_made", Value: r.Made}}
	result, err := s.nodes.ReplaceOne(ctx, unchanged, r)
	if err != nil || result.MatchedCount > 0 {
		return orTaken(err)
	}
	there, err := s.read(ctx, node.ID(r.ID.Hex()))
	switch {
	case errors.Is(err, errs.NotFound) || err == nil && there.Made != r.Made:
		return errs.New(errs.Conflict, "a node with this id, or a job with this parent, name, runtime, platform and retry_counter, exists")
	case err != nil:
		return err
	}
	kept[place] = decode(&there)
	return nil
}

// madeBy returns the descendants that a hierarchy came with, in order.
func (s *Store) madeBy(ctx context.Context, made string) ([]node.Node, error) {
	below := []node.Node{}
	err := s.each(ctx, set("_made", made), options.Find().SetSort(ascending("_place")), func(_ *record, n node.Node) bool {
		below = append(below, n)
		return true
	})
	return below, err
}
