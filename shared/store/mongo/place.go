package mongo

import (
	"context"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/kernelflow/kernelflow/shared/errs"
)

// Cursor returns the sequence up to which name has done all. Of what KernelCI
// has left in the log, nothing is to do.
func (s *Store) Cursor(ctx context.Context, name string) (int64, error) {
	var at counter
	err := s.cursors.FindOne(ctx, byID(name)).Decode(&at)
	if noDocument(err) {
		err = s.counters.FindOne(ctx, byID(takenOver)).Decode(&at)
	}
	if noDocument(err) {
		err = nil
	}
	return at.Value, s.failure(ctx, fmt.Sprintf("mongo.Cursor(%s)", name), err)
}

// Advance moves the cursor forward.
func (s *Store) Advance(ctx context.Context, name string, sequence int64) error {
	return s.failure(ctx, fmt.Sprintf("mongo.Advance(%s, %d)", name, sequence), s.raise(ctx, s.cursors, name, sequence))
}

// raise lifts a counter to value, if it is lower.
func (s *Store) raise(ctx context.Context, counters *mongo.Collection, name string, value int64) error {
	return again(func() error {
		_, err := counters.UpdateOne(ctx, byID(name), set("$max", set("value", value)), options.UpdateOne().SetUpsert(true))
		return err
	})
}

// again repeats an upsert that met another one of the same new key: the second
// time the document is there.
func again(upsert func() error) error {
	err := upsert()
	if isDuplicate(err) {
		return upsert()
	}
	return err
}

// Claim takes key for holder until the time.
func (s *Store) Claim(ctx context.Context, key, holder string, until time.Time) error {
	free := bson.D{{Key: "_id", Value: key}, {Key: "$or", Value: bson.A{
		set("holder", holder), set("until", set("$lte", stored(s.now()))),
	}}}
	taken := bson.D{{Key: "holder", Value: holder}, {Key: "until", Value: dateOrNull(until)}}
	err := again(func() error {
		_, err := s.claims.UpdateOne(ctx, free, set("$set", taken), options.UpdateOne().SetUpsert(true))
		return err
	})
	if isDuplicate(err) {
		err = errs.New(errs.Conflict, "another holder has it")
	}
	return s.failure(ctx, fmt.Sprintf("mongo.Claim(%s, %s)", key, holder), err)
}

// Release gives the key back.
func (s *Store) Release(ctx context.Context, key, holder string) error {
	_, err := s.claims.DeleteOne(ctx, bson.D{{Key: "_id", Value: key}, {Key: "holder", Value: holder}})
	return s.failure(ctx, fmt.Sprintf("mongo.Release(%s, %s)", key, holder), err)
}
