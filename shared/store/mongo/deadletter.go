package mongo

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
)

// letter is a dead letter's document. Its key is the function and the event,
// so that the same ones replace it.
type letter struct {
	ID   string    `bson:"_id"`
	Time time.Time `bson:"time"`
	Doc  string    `bson:"doc"` // JSON
}

func letterID(function, eventID string) string {
	return fmt.Sprintf("%d:%s/%s", len(function), function, eventID)
}

func (l *letter) deadLetter() (store.DeadLetter, error) {
	var d store.DeadLetter
	if err := json.Unmarshal([]byte(l.Doc), &d); err != nil {
		return d, fmt.Errorf("a stored dead letter: %w", err)
	}
	return d, nil
}

// Bury keeps a dead letter; the same function and event replace it.
func (s *Store) Bury(ctx context.Context, d store.DeadLetter) error {
	call := fmt.Sprintf("mongo.Bury(%s, %s)", d.Function, d.Event.ID)
	if d.Time.IsZero() {
		d.Time = s.now()
	}
	d.Time, d.Event.Time = node.Time(d.Time), node.Time(d.Event.Time)
	doc, err := json.Marshal(d)
	if err != nil {
		return s.failure(ctx, call, errs.Wrap(errs.Invalid, err))
	}
	l := letter{letterID(d.Function, d.Event.ID), d.Time, string(doc)}
	return s.failure(ctx, call, again(func() error {
		_, err := s.deadLetters.ReplaceOne(ctx, byID(l.ID), l, options.Replace().SetUpsert(true))
		return err
	}))
}

// ListDeadLetters returns the oldest ones first; all when limit is 0.
func (s *Store) ListDeadLetters(ctx context.Context, limit int) ([]store.DeadLetter, error) {
	list, err := s.listDeadLetters(ctx, limit)
	return list, s.failure(ctx, "mongo.ListDeadLetters()", err)
}

func (s *Store) listDeadLetters(ctx context.Context, limit int) ([]store.DeadLetter, error) {
	cursor, err := s.deadLetters.Find(ctx, bson.D{}, options.Find().SetSort(ascending("time", "_id")).SetLimit(int64(max(limit, 0))))
	if err != nil {
		return nil, err
	}
	var letters []letter
	if err := cursor.All(ctx, &letters); err != nil {
		return nil, err
	}
	list := make([]store.DeadLetter, len(letters))
	for i := range letters {
		if list[i], err = letters[i].deadLetter(); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// Exhume removes one and returns it.
func (s *Store) Exhume(ctx context.Context, function, eventID string) (store.DeadLetter, error) {
	var l letter
	var d store.DeadLetter
	err := s.deadLetters.FindOneAndDelete(ctx, byID(letterID(function, eventID))).Decode(&l)
	if err == nil {
		d, err = l.deadLetter()
	}
	return d, s.failure(ctx, fmt.Sprintf("mongo.Exhume(%s, %s)", function, eventID), orNotFound(err, "dead letter of %s for event %s", function, eventID))
}
