package mongo

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
)

// decision is a document of the collection of that name; its id is the event's.
type decision struct {
	Event string        `bson:"_id"`
	Node  bson.ObjectID `bson:"node"`
	Time  time.Time     `bson:"time"`
	Body  []byte        `bson:"body"`
}

// PutDecided keeps what was decided about an event.
func (s *Store) PutDecided(ctx context.Context, d store.Decided) error {
	return s.failure(ctx, fmt.Sprintf("mongo.PutDecided(%s)", d.Event), s.putDecided(ctx, d))
}

func (s *Store) putDecided(ctx context.Context, d store.Decided) error {
	id, err := bson.ObjectIDFromHex(string(d.Node))
	if err != nil {
		return errs.New(errs.Invalid, "node: %.40q is not a valid ObjectId", d.Node)
	}
	_, err = s.decisions.ReplaceOne(ctx, byID(d.Event), decision{d.Event, id, d.Time, d.Body}, options.Replace().SetUpsert(true))
	return err
}

// FindDecided returns what was decided about the events of a node.
func (s *Store) FindDecided(ctx context.Context, of node.ID, limit, offset int) ([]store.Decided, int64, error) {
	page, total, err := s.findDecided(ctx, of, limit, offset)
	return page, total, s.failure(ctx, fmt.Sprintf("mongo.FindDecided(%s)", of), err)
}

func (s *Store) findDecided(ctx context.Context, of node.ID, limit, offset int) ([]store.Decided, int64, error) {
	page := []store.Decided{}
	id, err := bson.ObjectIDFromHex(string(of))
	if err != nil {
		return page, 0, nil // nothing was ever decided about it
	}
	total, err := s.decisions.CountDocuments(ctx, set("node", id))
	if err != nil || limit <= 0 {
		return page, total, err
	}
	newest := bson.D{{Key: "time", Value: -1}, {Key: "_id", Value: -1}}
	cursor, err := s.decisions.Find(ctx, set("node", id), options.Find().SetSort(newest).SetLimit(int64(limit)).SetSkip(int64(max(offset, 0))))
	if err != nil {
		return nil, 0, err
	}
	var found []decision
	if err := cursor.All(ctx, &found); err != nil {
		return nil, 0, fmt.Errorf("stored decisions: %w", err)
	}
	for _, d := range found {
		page = append(page, store.Decided{Event: d.Event, Node: of, Time: d.Time.UTC(), Body: d.Body})
	}
	return page, total, nil
}

// PruneDecided removes up to limit of what is from before the time.
func (s *Store) PruneDecided(ctx context.Context, before time.Time, limit int) (int, error) {
	n, err := s.pruneDecided(ctx, before, limit)
	return n, s.failure(ctx, "mongo.PruneDecided()", err)
}

func (s *Store) pruneDecided(ctx context.Context, before time.Time, limit int) (int, error) {
	if limit <= 0 {
		return 0, nil
	}
	o := options.Find().SetSort(ascending("time", "_id")).SetProjection(set("_id", 1)).SetLimit(int64(limit))
	cursor, err := s.decisions.Find(ctx, set("time", set("$lt", before)), o)
	if err != nil {
		return 0, err
	}
	var old []struct {
		ID any `bson:"_id"`
	}
	if err := cursor.All(ctx, &old); err != nil {
		return 0, err
	}
	removed := 0
	for part := range slices.Chunk(old, pruneBatch) {
		ids := make(bson.A, len(part))
		for i := range part {
			ids[i] = part[i].ID
		}
		result, err := s.decisions.DeleteMany(ctx, byID(set("$in", ids)))
		if err != nil {
			return removed, err
		}
		removed += int(result.DeletedCount)
	}
	return removed, nil
}
