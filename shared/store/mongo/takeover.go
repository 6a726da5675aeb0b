package mongo

import (
	"context"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// takeOver prepares what KernelCI has left for use. It is safe to run again and
// from several instances at once: what is prepared is left alone.
func (s *Store) takeOver(ctx context.Context) error {
	if err := s.takeOverLog(ctx); err != nil {
		return fmt.Errorf("the log: %w", err)
	}
	if err := s.takeOverUsers(ctx); err != nil {
		return fmt.Errorf("users: %w", err)
	}
	return nil
}

// takenOver is the counter of how far the log had come when the database was
// opened first. KernelCI's services have dealt with all that.
const takenOver = "kernelci"

// takeOverLog notes how far KernelCI has come. Its counter is in Redis; a
// durable subscriber may have seen events that a TTL index has removed since.
func (s *Store) takeOverLog(ctx context.Context) error {
	last, err := s.lastOf(ctx, s.newest)
	if err != nil {
		return err
	}
	var furthest place
	err = s.subscribers.FindOne(ctx, bson.D{}, options.FindOne().SetSort(set("last_event_id", -1))).Decode(&furthest)
	if err != nil && !noDocument(err) {
		return err
	}
	last = max(last, furthest.Acknowledged)
	err = again(func() error {
		first := set("$setOnInsert", set("value", last))
		_, err := s.counters.UpdateOne(ctx, byID(takenOver), first, options.UpdateOne().SetUpsert(true))
		return err
	})
	if err != nil || last == 0 {
		return err
	}
	return s.raise(ctx, s.counters, pruned, last)
}

// takeOverUsers gives accounts the names by which they are found whatever the
// case. Where KernelCI has two that differ by case alone, the second one keeps
// to its exact name.
func (s *Store) takeOverUsers(ctx context.Context) error {
	for _, field := range []struct{ from, to string }{{"username", "_username"}, {"email", "_email"}} {
		cursor, err := s.users.Find(ctx, set(field.to, nil), options.Find().SetSort(ascending("_id")).SetProjection(set(field.from, 1)))
		if err != nil {
			return err
		}
		var bare []bson.M
		if err := cursor.All(ctx, &bare); err != nil {
			return err
		}
		for _, doc := range bare {
			name, _ := doc[field.from].(string)
			if name == "" {
				continue
			}
			_, err := s.users.UpdateOne(ctx, byID(doc["_id"]), set("$set", set(field.to, key(name))))
			if isDuplicate(err) {
				s.log.Warn("two accounts differ by case alone", "field", field.from, "account", doc["_id"])
			} else if err != nil {
				return err
			}
		}
	}
	return nil
}
