package mongo

import (
	"context"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
)

// Remove removes nodes but those whose outbox is not empty. Each document goes
// by itself: killed in between, some are there still.
func (s *Store) Remove(ctx context.Context, ids []node.ID) (int, error) {
	n, err := s.remove(ctx, ids)
	return n, s.failure(ctx, fmt.Sprintf("mongo.Remove(%d nodes)", len(ids)), err)
}

func (s *Store) remove(ctx context.Context, ids []node.ID) (int, error) {
	keys := bson.A{}
	for _, id := range ids {
		if key, err := bson.ObjectIDFromHex(string(id)); err == nil {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return 0, nil
	}
	below := bson.D{{Key: "parent", Value: set("$in", keys)}, {Key: "_id", Value: set("$nin", keys)}}
	orphans, err := s.nodes.CountDocuments(ctx, below, options.Count().SetLimit(1))
	if err != nil {
		return 0, err
	}
	if orphans > 0 {
		return 0, errs.New(errs.Conflict, "other nodes are below them")
	}
	result, err := s.nodes.DeleteMany(ctx, bson.D{{Key: "_id", Value: set("$in", keys)}, {Key: "_pending", Value: nil}})
	if err != nil {
		return 0, err
	}
	return int(result.DeletedCount), nil
}
