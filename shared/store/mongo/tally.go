package mongo

import (
	"context"
	"fmt"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/kernelflow/kernelflow/shared/node"
)

// TallyNodes counts the nodes that q selects by fields: the server does, where
// it can tell what q selects.
func (s *Store) TallyNodes(ctx context.Context, q node.Query, by ...string) ([]node.Tally, error) {
	tallies, err := s.tallyNodes(ctx, q, by)
	return tallies, s.failure(ctx, "mongo.TallyNodes()", err)
}

func (s *Store) tallyNodes(ctx context.Context, q node.Query, by []string) ([]node.Tally, error) {
	if err := node.CheckCountable(by); err != nil {
		return nil, err
	}
	var t node.Tallier
	var err error
	switch p := plan(q.Where); {
	case p.never:
	case p.exact:
		err = s.group(ctx, p.filter, by, t.Add)
	default:
		err = s.tallyHere(ctx, q, by, &t)
	}
	return t.Tallies(), err
}

// tallyHere counts what only Match can tell.
func (s *Store) tallyHere(ctx context.Context, q node.Query, by []string, t *node.Tallier) error {
	var refused error
	err := s.sift(ctx, node.Query{Where: q.Where}, func(_ *record, n node.Node) bool {
		values := make([]any, len(by))
		for i, field := range by {
			values[i] = countable(n, field)
		}
		refused = t.Add(values, 1)
		return refused == nil
	})
	if refused != nil {
		return refused
	}
	return err
}

func countable(n node.Node, field string) any {
	switch field {
	case "kind":
		return string(n.Kind)
	case "state":
		return string(n.State)
	case "result":
		return string(n.Result)
	case "treeid":
		return n.TreeID
	}
	return n.Get(strings.TrimPrefix(field, "data."))
}

// group hands each combination of values to add. The keys of a group cannot
// have dots: they are numbered.
func (s *Store) group(ctx context.Context, filter bson.D, by []string, add func([]any, int64) error) error {
	key := bson.D{}
	for i, field := range by {
		key = append(key, bson.E{Key: fmt.Sprint("k", i), Value: "$" + field})
	}
	cursor, err := s.nodes.Aggregate(ctx, mongo.Pipeline{
		set("$match", filter),
		set("$group", bson.D{{Key: "_id", Value: key}, {Key: "count", Value: set("$sum", 1)}}),
	})
	if err != nil {
		return err
	}
	defer closeQuietly(ctx, cursor)
	for cursor.Next(ctx) {
		var part struct {
			Key   bson.M `bson:"_id"`
			Count int64  `bson:"count"`
		}
		if err := cursor.Decode(&part); err != nil {
			return fmt.Errorf("counted nodes: %w", err)
		}
		values := make([]any, len(by))
		for i := range by {
			values[i] = part.Key[fmt.Sprint("k", i)]
		}
		if err := add(values, part.Count); err != nil {
			return err
		}
	}
	return cursor.Err()
}
