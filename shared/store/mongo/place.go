package mongo

import (
	"context"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
)

// Cursor returns the sequence up to which name has done all.
func (s *Store) Cursor(ctx context.Context, name string) (int64, error) {
	var at counter
	err := s.cursors.FindOne(ctx, byID(name)).Decode(&at)
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
		set("holder", holder), set("until", set("$lte", node.FormatTime(s.now()))),
	}}}
	taken := bson.D{{Key: "holder", Value: holder}, {Key: "until", Value: timeOrNull(until)}}
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

// place is a subscription's document.
type place struct {
	ID           int64   `bson:"_id"`
	Channel      string  `bson:"channel"`
	User         string  `bson:"user"`
	Promiscuous  bool    `bson:"promiscuous"`
	Subscriber   string  `bson:"subscriber,omitempty"`
	Acknowledged int64   `bson:"acknowledged"`
	Delivered    int64   `bson:"delivered"`
	Polled       *string `bson:"polled"`
	Created      *string `bson:"created"`
}

func (p *place) subscription() (store.Subscription, error) {
	sub := store.Subscription{
		ID: p.ID, Channel: p.Channel, User: p.User, Promiscuous: p.Promiscuous, SubscriberID: p.Subscriber,
		Acknowledged: p.Acknowledged, Delivered: p.Delivered,
	}
	var err error
	if sub.LastPoll, err = parseTime(text(p.Polled)); err == nil {
		sub.Created, err = parseTime(text(p.Created))
	}
	return sub, err
}

// Subscribe makes a subscription, or finds the durable one.
func (s *Store) Subscribe(ctx context.Context, sub store.Subscription) (store.Subscription, error) {
	made, err := s.subscribe(ctx, sub)
	for attempts := 0; isDuplicate(err); attempts++ { // the same subscriber came at the same time
		if err = pause(ctx, attempts); err == nil {
			made, err = s.subscribe(ctx, sub)
		}
	}
	return made, s.failure(ctx, fmt.Sprintf("mongo.Subscribe(%s)", sub.Channel), err)
}

func (s *Store) subscribe(ctx context.Context, sub store.Subscription) (store.Subscription, error) {
	if sub.SubscriberID != "" {
		known, err := s.resume(ctx, sub)
		if !noDocument(err) {
			return known, err
		}
	}
	id, err := s.count(ctx, "subscription")
	if err != nil {
		return store.Subscription{}, err
	}
	if sub.Created.IsZero() {
		sub.Created = s.now()
	}
	p := place{
		ID: id, Channel: sub.Channel, User: sub.User, Promiscuous: sub.Promiscuous, Subscriber: sub.SubscriberID,
		Acknowledged: sub.Acknowledged, Delivered: sub.Delivered, Polled: timeOrNull(sub.LastPoll), Created: timeOrNull(sub.Created),
	}
	if _, err := s.subscriptions.InsertOne(ctx, p); err != nil {
		return store.Subscription{}, err
	}
	return p.subscription()
}

// count gives the next number of a counter. One that its taker never uses is
// lost.
func (s *Store) count(ctx context.Context, name string) (int64, error) {
	var next counter
	err := again(func() error {
		o := options.FindOneAndUpdate().SetUpsert(true).SetReturnDocument(options.After)
		return s.counters.FindOneAndUpdate(ctx, byID(name), set("$inc", set("value", int64(1))), o).Decode(&next)
	})
	return next.Value, err
}

// resume returns the durable subscription that is there, with the channel and
// promiscuity of sub, at the place up to which all was acknowledged.
func (s *Store) resume(ctx context.Context, sub store.Subscription) (store.Subscription, error) {
	for attempts := 0; ; attempts++ {
		var p place
		if err := s.subscriptions.FindOne(ctx, set("subscriber", sub.SubscriberID)).Decode(&p); err != nil {
			return store.Subscription{}, err
		}
		if p.User != sub.User {
			return store.Subscription{}, errs.New(errs.Denied, "subscriber_id %.40q belongs to another user", sub.SubscriberID)
		}
		as := bson.D{{Key: "_id", Value: p.ID}, {Key: "acknowledged", Value: p.Acknowledged}, {Key: "delivered", Value: p.Delivered}}
		p.Channel, p.Promiscuous, p.Delivered = sub.Channel, sub.Promiscuous, p.Acknowledged
		change := bson.D{{Key: "channel", Value: p.Channel}, {Key: "promiscuous", Value: p.Promiscuous}, {Key: "delivered", Value: p.Delivered}}
		result, err := s.subscriptions.UpdateOne(ctx, as, set("$set", change))
		if err != nil {
			return store.Subscription{}, err
		}
		if result.MatchedCount > 0 {
			return p.subscription()
		}
		if err := pause(ctx, attempts); err != nil {
			return store.Subscription{}, err
		}
	}
}

// Subscription returns one.
func (s *Store) Subscription(ctx context.Context, id int64) (store.Subscription, error) {
	var p place
	var sub store.Subscription
	err := s.subscriptions.FindOne(ctx, byID(id)).Decode(&p)
	if err == nil {
		sub, err = p.subscription()
	}
	return sub, s.failure(ctx, fmt.Sprintf("mongo.Subscription(%d)", id), orNotFound(err, "subscription %d", id))
}

// Polled notes a poll.
func (s *Store) Polled(ctx context.Context, id, acknowledged, delivered int64, at time.Time) error {
	forward := bson.D{{Key: "acknowledged", Value: acknowledged}, {Key: "delivered", Value: delivered}}
	result, err := s.subscriptions.UpdateOne(ctx, byID(id), bson.D{
		{Key: "$max", Value: forward}, {Key: "$set", Value: set("polled", timeOrNull(at))},
	})
	if err == nil && result.MatchedCount == 0 {
		err = mongo.ErrNoDocuments
	}
	return s.failure(ctx, fmt.Sprintf("mongo.Polled(%d)", id), orNotFound(err, "subscription %d", id))
}

// Unsubscribe removes one.
func (s *Store) Unsubscribe(ctx context.Context, id int64) error {
	result, err := s.subscriptions.DeleteOne(ctx, byID(id))
	if err == nil && result.DeletedCount == 0 {
		err = mongo.ErrNoDocuments
	}
	return s.failure(ctx, fmt.Sprintf("mongo.Unsubscribe(%d)", id), orNotFound(err, "subscription %d", id))
}

// Subscriptions lists all, by id.
func (s *Store) Subscriptions(ctx context.Context) ([]store.Subscription, error) {
	list, err := s.listSubscriptions(ctx)
	return list, s.failure(ctx, "mongo.Subscriptions()", err)
}

func (s *Store) listSubscriptions(ctx context.Context) ([]store.Subscription, error) {
	cursor, err := s.subscriptions.Find(ctx, bson.D{}, options.Find().SetSort(ascending("_id")))
	if err != nil {
		return nil, err
	}
	var places []place
	if err := cursor.All(ctx, &places); err != nil {
		return nil, err
	}
	list := make([]store.Subscription, len(places))
	for i := range places {
		if list[i], err = places[i].subscription(); err != nil {
			return nil, err
		}
	}
	return list, nil
}
