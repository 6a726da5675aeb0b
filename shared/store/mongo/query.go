package mongo

import (
	"context"
	"fmt"
	"iter"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/kernelflow/kernelflow/shared/node"
)

// Get returns the node; NotFound when there is none.
func (s *Store) Get(ctx context.Context, id node.ID) (node.Node, error) {
	r, err := s.read(ctx, id)
	if err != nil {
		return node.Node{}, s.failure(ctx, fmt.Sprintf("mongo.Get(%s)", id), err)
	}
	return decode(&r), nil
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

// Each streams what q selects. A node that is written meanwhile comes as it
// was or as it is, once.
func (s *Store) Each(ctx context.Context, q node.Query) iter.Seq2[node.Node, error] {
	return func(yield func(node.Node, error) bool) {
		if err := s.sift(ctx, q, func(_ *record, n node.Node) bool { return yield(n, nil) }); err != nil {
			yield(node.Node{}, s.failure(ctx, "mongo.Each()", err))
		}
	}
}

// hidden leaves out what a node's document has beside the node.
var hidden = bson.D{{Key: "_outbox", Value: 0}, {Key: "_requests", Value: 0}}

// sift hands the nodes of q to use, until that says no: those that the server
// selects, where its selection is exact; else those of them that match.
func (s *Store) sift(ctx context.Context, q node.Query, use func(*record, node.Node) bool) error {
	p := plan(q.Where)
	if p.never {
		return nil
	}
	filter, err := behind(p.filter, q)
	if err != nil {
		return err
	}
	direction := 1
	if q.Newest {
		direction = -1
	}
	o := options.Find().SetProjection(hidden).SetSort(bson.D{{Key: "_seq", Value: direction}, {Key: "_id", Value: direction}})
	skip, left := max(q.Offset, 0), q.Limit
	if p.exact {
		if q.Limit > 0 {
			o.SetLimit(int64(q.Limit))
		}
		o.SetSkip(int64(skip))
		return s.each(ctx, filter, o, use)
	}
	matches := p.matcher()
	return s.each(ctx, filter, o, func(r *record, n node.Node) bool {
		if !matches(n) {
			return true
		}
		if skip > 0 {
			skip--
			return true
		}
		left--
		return use(r, n) && left != 0 // a limit of 0 is none: left is negative then
	})
}

// each hands the nodes of a filter to use, until that says no.
func (s *Store) each(ctx context.Context, filter bson.D, o *options.FindOptionsBuilder, use func(*record, node.Node) bool) error {
	cursor, err := s.nodes.Find(ctx, filter, o)
	if err != nil {
		return err
	}
	defer closeQuietly(ctx, cursor)
	for cursor.Next(ctx) {
		var r record
		if err := cursor.Decode(&r); err != nil {
			return fmt.Errorf("a stored node: %w", err)
		}
		if !use(&r, decode(&r)) {
			return nil
		}
	}
	return cursor.Err()
}

// closeQuietly frees a cursor, also after its context has ended. What there was
// to say, its Err has said.
func closeQuietly(ctx context.Context, cursor *mongo.Cursor) {
	_ = cursor.Close(context.WithoutCancel(ctx))
}

// Count returns how many nodes q selects; limit and offset do not count.
func (s *Store) Count(ctx context.Context, q node.Query) (int64, error) {
	var n int64
	var err error
	switch p := plan(q.Where); {
	case p.never:
	case p.exact:
		n, err = s.nodes.CountDocuments(ctx, p.filter)
	default:
		err = s.sift(ctx, node.Query{Where: q.Where}, func(*record, node.Node) bool { n++; return true })
	}
	return n, s.failure(ctx, "mongo.Count()", err)
}
