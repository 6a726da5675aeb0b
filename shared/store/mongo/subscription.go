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
	Number       int64         `bson:"_subscription"` // what clients know it by; 0: unsubscribed, or KernelCI's and not yet back
	Delivered    int64         `bson:"_delivered"`
	Seen         *time.Time    `bson:"_seen"` // when its listener was heard of last
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
		Seen: dateOrNull(sub.Created),
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
			{Key: "_subscription", Value: p.Number}, {Key: "_delivered", Value: p.Delivered}, {Key: "_seen", Value: stored(s.now())},
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
		{Key: "$set", Value: bson.D{{Key: "last_poll", Value: dateOrNull(at)}, {Key: "_seen", Value: dateOrNull(at)}}},
	}
	err := s.eachPlaces(func(places *mongo.Collection) (bool, error) {
		result, err := places.UpdateOne(ctx, byNumber(id), change)
		return err == nil && result.MatchedCount > 0, err
	})
	return s.failure(ctx, fmt.Sprintf("mongo.Polled(%d)", id), orNotFound(err, "subscription %d", id))
}

// Unsubscribe ends one.
func (s *Store) Unsubscribe(ctx context.Context, id int64) error {
	ended := bson.D{{Key: "$unset", Value: set("_subscription", "")}, {Key: "$set", Value: set("_seen", stored(s.now()))}}
	err := s.eachPlaces(func(places *mongo.Collection) (bool, error) {
		if places == s.listeners {
			result, err := places.DeleteOne(ctx, byNumber(id))
			return err == nil && result.DeletedCount > 0, err
		}
		result, err := places.UpdateOne(ctx, byNumber(id), ended)
		return err == nil && result.MatchedCount > 0, err
	})
	return s.failure(ctx, fmt.Sprintf("mongo.Unsubscribe(%d)", id), orNotFound(err, "subscription %d", id))
}

// Forget removes those that have not been heard of. Who KernelCI knows and we
// never heard of stays.
func (s *Store) Forget(ctx context.Context, passing, durable time.Time, limit int) (int, error) {
	n, err := forget(ctx, s.listeners, passing, limit)
	if err == nil && n < limit {
		var more int
		more, err = forget(ctx, s.subscribers, durable, limit-n)
		n += more
	}
	return n, s.failure(ctx, "mongo.Forget()", err)
}

func forget(ctx context.Context, places *mongo.Collection, before time.Time, limit int) (int, error) {
	silent := set("_seen", set("$lt", ceil(before)))
	cursor, err := places.Find(ctx, silent, options.Find().SetSort(ascending("_seen")).SetProjection(set("_id", 1)).SetLimit(int64(limit)))
	if err != nil {
		return 0, err
	}
	var old []place
	if err := cursor.All(ctx, &old); err != nil || len(old) == 0 {
		return 0, err
	}
	ids := bson.A{}
	for _, p := range old {
		ids = append(ids, p.ID)
	}
	result, err := places.DeleteMany(ctx, append(byID(set("$in", ids)), silent...)) // unless it has come back
	if err != nil {
		return 0, err
	}
	return int(result.DeletedCount), nil
}

// Subscriptions returns a page of them, by id.
func (s *Store) Subscriptions(ctx context.Context, after int64, limit int) ([]store.Subscription, error) {
	list := []store.Subscription{}
	for _, places := range []*mongo.Collection{s.subscribers, s.listeners} {
		some, err := placesOf(ctx, places, set("_subscription", set("$gt", after)), "_subscription", limit)
		if err != nil {
			return nil, s.failure(ctx, fmt.Sprintf("mongo.Subscriptions(%d)", after), err)
		}
		list = append(list, some...)
	}
	slices.SortFunc(list, func(a, b store.Subscription) int { return cmp.Compare(a.ID, b.ID) })
	return list[:min(limit, len(list))], nil
}

// Durable returns the durable ones that are furthest behind.
func (s *Store) Durable(ctx context.Context, limit int) ([]store.Subscription, error) {
	list, err := placesOf(ctx, s.subscribers, bson.D{}, "last_event_id", limit)
	return list, s.failure(ctx, "mongo.Durable()", err)
}

func placesOf(ctx context.Context, places *mongo.Collection, filter bson.D, order string, limit int) ([]store.Subscription, error) {
	cursor, err := places.Find(ctx, filter, options.Find().SetSort(ascending(order)).SetLimit(int64(limit)))
	if err != nil {
		return nil, err
	}
	var some []place
	if err := cursor.All(ctx, &some); err != nil {
		return nil, err
	}
	list := make([]store.Subscription, len(some))
	for i := range some {
		list[i] = some[i].subscription()
	}
	return list, nil
}
