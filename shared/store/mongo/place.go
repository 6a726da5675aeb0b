package mongo

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/store"
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

// place is a listener's document: in `subscriber_state`, under KernelCI's
// names, when it is durable; else in `subscription`, which KernelCI has not.
type place struct {
	ID           bson.ObjectID `bson:"_id,omitempty"`
	SubscriberID string        `bson:"subscriber_id,omitempty"`
	Channel      string        `bson:"channel"`
	User         string        `bson:"user"`
	Promiscuous  bool          `bson:"promiscuous"`
	Acknowledged int64         `bson:"last_event_id,minsize"`
	Created      *time.Time    `bson:"created_at"`
	LastPoll     *time.Time    `bson:"last_poll"`
	Number       int64         `bson:"_subscription"` // what clients know it by; 0: KernelCI's, not yet back
	Delivered    int64         `bson:"_delivered"`
}

func (p *place) subscription() store.Subscription {
	return store.Subscription{
		ID: p.Number, Channel: p.Channel, User: p.User, Promiscuous: p.Promiscuous, SubscriberID: p.SubscriberID,
		Acknowledged: p.Acknowledged, Delivered: max(p.Delivered, p.Acknowledged), LastPoll: dateOf(p.LastPoll), Created: dateOf(p.Created),
	}
}

func byNumber(id int64) bson.D { return set("_subscription", id) }

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
	number, err := s.count(ctx, "subscription")
	if err != nil {
		return store.Subscription{}, err
	}
	if sub.Created.IsZero() {
		sub.Created = s.now()
	}
	p := place{
		Number: number, Channel: sub.Channel, User: sub.User, Promiscuous: sub.Promiscuous, SubscriberID: sub.SubscriberID,
		Acknowledged: sub.Acknowledged, Delivered: sub.Delivered, LastPoll: dateOrNull(sub.LastPoll), Created: dateOrNull(sub.Created),
	}
	kept := s.listeners
	if sub.SubscriberID != "" {
		kept = s.subscribers
	}
	_, err = kept.InsertOne(ctx, p)
	return p.subscription(), err
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
// promiscuity of sub, at the place up to which all was acknowledged. One of
// KernelCI's gets its number here.
func (s *Store) resume(ctx context.Context, sub store.Subscription) (store.Subscription, error) {
	for attempts := 0; ; attempts++ {
		var p place
		if err := s.subscribers.FindOne(ctx, set("subscriber_id", sub.SubscriberID)).Decode(&p); err != nil {
			return store.Subscription{}, err
		}
		if p.User != sub.User {
			return store.Subscription{}, errs.New(errs.Denied, "subscriber_id %.40q belongs to another user", sub.SubscriberID)
		}
		as := bson.D{{Key: "_id", Value: p.ID}, {Key: "last_event_id", Value: orZero(p.Acknowledged)},
			{Key: "_subscription", Value: orZero(p.Number)}, {Key: "_delivered", Value: orZero(p.Delivered)}}
		if p.Number == 0 {
			var err error
			if p.Number, err = s.count(ctx, "subscription"); err != nil {
				return store.Subscription{}, err
			}
		}
		p.Channel, p.Promiscuous, p.Delivered = sub.Channel, sub.Promiscuous, p.Acknowledged
		result, err := s.subscribers.UpdateOne(ctx, as, set("$set", bson.D{
			{Key: "channel", Value: p.Channel}, {Key: "promiscuous", Value: p.Promiscuous},
			{Key: "_subscription", Value: p.Number}, {Key: "_delivered", Value: p.Delivered},
		}))
		if err != nil {
			return store.Subscription{}, err
		}
		if result.MatchedCount > 0 {
			return p.subscription(), nil
		}
		if err := pause(ctx, attempts); err != nil {
			return store.Subscription{}, err
		}
	}
}

// eachPlaces does to the one collection and then to the other, until one says
// that it had what was asked for; mongo.ErrNoDocuments when none had.
func (s *Store) eachPlaces(do func(*mongo.Collection) (had bool, err error)) error {
	for _, places := range []*mongo.Collection{s.subscribers, s.listeners} {
		if had, err := do(places); had || err != nil {
			return err
		}
	}
	return mongo.ErrNoDocuments
}

// Subscription returns one.
func (s *Store) Subscription(ctx context.Context, id int64) (store.Subscription, error) {
	var p place
	err := s.eachPlaces(func(places *mongo.Collection) (bool, error) {
		err := places.FindOne(ctx, byNumber(id)).Decode(&p)
		if noDocument(err) {
			return false, nil
		}
		return true, err
	})
	return p.subscription(), s.failure(ctx, fmt.Sprintf("mongo.Subscription(%d)", id), orNotFound(err, "subscription %d", id))
}

// Polled notes a poll.
func (s *Store) Polled(ctx context.Context, id, acknowledged, delivered int64, at time.Time) error {
	change := bson.D{
		{Key: "$max", Value: bson.D{{Key: "last_event_id", Value: whole(acknowledged)}, {Key: "_delivered", Value: delivered}}},
		{Key: "$set", Value: set("last_poll", dateOrNull(at))},
	}
	err := s.eachPlaces(func(places *mongo.Collection) (bool, error) {
		result, err := places.UpdateOne(ctx, byNumber(id), change)
		return err == nil && result.MatchedCount > 0, err
	})
	return s.failure(ctx, fmt.Sprintf("mongo.Polled(%d)", id), orNotFound(err, "subscription %d", id))
}

// Unsubscribe removes one.
func (s *Store) Unsubscribe(ctx context.Context, id int64) error {
	err := s.eachPlaces(func(places *mongo.Collection) (bool, error) {
		result, err := places.DeleteOne(ctx, byNumber(id))
		return err == nil && result.DeletedCount > 0, err
	})
	return s.failure(ctx, fmt.Sprintf("mongo.Unsubscribe(%d)", id), orNotFound(err, "subscription %d", id))
}

// Subscriptions lists all, by id. A durable one of KernelCI's has none until it
// comes back.
func (s *Store) Subscriptions(ctx context.Context) ([]store.Subscription, error) {
	list, err := s.listSubscriptions(ctx)
	return list, s.failure(ctx, "mongo.Subscriptions()", err)
}

func (s *Store) listSubscriptions(ctx context.Context) ([]store.Subscription, error) {
	list := []store.Subscription{}
	for _, places := range []*mongo.Collection{s.subscribers, s.listeners} {
		cursor, err := places.Find(ctx, set("_subscription", set("$gt", 0)))
		if err != nil {
			return nil, err
		}
		var some []place
		if err := cursor.All(ctx, &some); err != nil {
			return nil, err
		}
		for i := range some {
			list = append(list, some[i].subscription())
		}
	}
	slices.SortFunc(list, func(a, b store.Subscription) int { return cmp.Compare(a.ID, b.ID) })
	return list, nil
}
