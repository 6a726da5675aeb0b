package mongo

import (
	"context"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/kernelflow/kernelflow/shared/node"
)

// markBatch is how many nodes are written in one message.
const markBatch = 1000

// MarkProcessed sets processed_by_kcidb_bridge of many nodes, each guarded by
// its write counter. Those that somebody was faster to write are read again.
func (s *Store) MarkProcessed(ctx context.Context, ids []node.ID, processed bool) error {
	keys := bson.A{}
	for _, id := range ids {
		if key, err := bson.ObjectIDFromHex(string(id)); err == nil {
			keys = append(keys, key)
		}
	}
	for part := range slices.Chunk(keys, markBatch) {
		if err := s.markProcessed(ctx, part, processed); err != nil {
			return s.failure(ctx, fmt.Sprintf("mongo.MarkProcessed(%d nodes)", len(ids)), err)
		}
	}
	return nil
}

func (s *Store) markProcessed(ctx context.Context, keys bson.A, processed bool) error {
	others := bson.D{{Key: "_id", Value: set("$in", keys)}, {Key: "processed_by_kcidb_bridge", Value: set("$ne", processed)}}
	for attempts := 0; ; attempts++ {
		cursor, err := s.nodes.Find(ctx, others, options.Find().SetProjection(set("_rev", 1)))
		if err != nil {
			return err
		}
		var found []struct {
			ID  any   `bson:"_id"`
			Rev int64 `bson:"_rev"`
		}
		if err := cursor.All(ctx, &found); err != nil || len(found) == 0 {
			return err
		}
		writes := make([]mongo.WriteModel, len(found))
		for i, r := range found {
			change := bson.D{
				{Key: "processed_by_kcidb_bridge", Value: processed}, {Key: "updated", Value: dateOrNull(s.now())}, {Key: "_rev", Value: s.next(r.Rev)},
			}
			writes[i] = mongo.NewUpdateOneModel().SetFilter(bson.D{{Key: "_id", Value: r.ID}, {Key: "_rev", Value: orZero(r.Rev)}}).SetUpdate(set("$set", change))
		}
		if _, err := s.nodes.BulkWrite(ctx, writes, options.BulkWrite().SetOrdered(false)); err != nil {
			return err
		}
		if err := pause(ctx, attempts); err != nil {
			return err
		}
	}
}
