package mongo

import (
	"context"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// Collect brings the events in the nodes' outboxes to the log.
func (s *Store) Collect(ctx context.Context) (int, error) {
	n, err := s.collect(ctx)
	return n, s.failure(ctx, "mongo.Collect()", err)
}

// outbox is the part of a node's document that Collect reads.
type outbox struct {
	ID     bson.ObjectID `bson:"_id"`
	Events []entry       `bson:"_outbox"`
}

// collectBatch is how many nodes' outboxes are taken at once.
const collectBatch = 200

// collect lets one caller of this instance work at a time: the others would
// only be in its way, and find little left when their turn comes.
func (s *Store) collect(ctx context.Context) (int, error) {
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case s.collecting <- struct{}{}:
	}
	defer func() { <-s.collecting }()
	total := 0
	for {
		boxes, err := s.outboxes(ctx)
		if err != nil || len(boxes) == 0 {
			return total, err
		}
		added, err := s.append(ctx, inOrder(boxes))
		total += added
		if err != nil {
			return total, err
		}
		if err := s.empty(ctx, boxes); err != nil {
			return total, err
		}
	}
}

func (s *Store) outboxes(ctx context.Context) ([]outbox, error) {
	o := options.Find().SetSort(ascending("_pending")).SetLimit(collectBatch).SetProjection(set("_outbox", 1))
	cursor, err := s.nodes.Find(ctx, set("_pending", set("$gt", 0)), o)
	if err != nil {
		return nil, fmt.Errorf("outboxes: %w", err)
	}
	var boxes []outbox
	if err := cursor.All(ctx, &boxes); err != nil {
		return nil, fmt.Errorf("outboxes: %w", err)
	}
	return boxes, nil
}

// inOrder puts the events of all outboxes in the order in which they were put
// there. Those of one node stay as they are, also where the clocks of two
// instances disagree.
func inOrder(boxes []outbox) []entry {
	var list []entry
	for _, box := range boxes {
		after := int64(0)
		for _, e := range box.Events {
			after = max(after, e.Order)
			e.Order = after
			list = append(list, e)
		}
	}
	slices.SortStableFunc(list, func(a, b entry) int { return int(min(max(a.Order-b.Order, -1), 1)) })
	return list
}

// empty takes what the log has out of the outboxes. Where the outbox is still
// as it was read, it goes as a whole; else the events go one by one from its
// front, each only if it is there: others collect too, and writers add.
func (s *Store) empty(ctx context.Context, boxes []outbox) error {
	var writes []mongo.WriteModel
	for _, box := range boxes {
		whole := bson.D{{Key: "_id", Value: box.ID}, {Key: "_outbox", Value: set("$size", len(box.Events))}}
		if n := len(box.Events); n > 0 {
			whole = append(whole, bson.E{Key: fmt.Sprintf("_outbox.%d._event", n-1), Value: box.Events[n-1].Event})
		}
		gone := bson.D{{Key: "_outbox", Value: ""}, {Key: "_pending", Value: ""}}
		writes = append(writes, mongo.NewUpdateOneModel().SetFilter(whole).SetUpdate(set("$unset", gone)))
		for _, e := range box.Events {
			writes = append(writes, mongo.NewUpdateOneModel().
				SetFilter(bson.D{{Key: "_id", Value: box.ID}, {Key: "_outbox.0._event", Value: e.Event}}).
				SetUpdate(set("$pop", set("_outbox", -1))))
		}
	}
	_, err := s.nodes.BulkWrite(ctx, writes)
	return err
}
