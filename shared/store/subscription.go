package store

import (
	"context"
	"time"
)

// Subscription is a listener's place in the log. One with a SubscriberID is
// durable: its place outlasts it.
type Subscription struct {
	ID           int64     `json:"id"`
	Channel      string    `json:"channel"`
	User         string    `json:"user"`
	Promiscuous  bool      `json:"promiscuous"`
	SubscriberID string    `json:"-"` // "": not durable
	Acknowledged int64     `json:"-"` // all up to this sequence has been dealt with
	Delivered    int64     `json:"-"` // handed out last, not yet acknowledged
	LastPoll     time.Time `json:"-"` // UTC; zero before the first
	Created      time.Time `json:"-"` // UTC
}

// Subscriptions keeps the listeners' places, so that any instance can answer
// the next poll.
type Subscriptions interface {
	// Subscribe makes a subscription and gives it an id. A durable one that
	// exists is returned, with its place and the channel and promiscuity given
	// now; what was delivered and not acknowledged will be delivered again, so
	// Delivered goes back to Acknowledged. Denied when it belongs to another
	// user.
	Subscribe(ctx context.Context, s Subscription) (Subscription, error)
	// Subscription returns one; NotFound.
	Subscription(ctx context.Context, id int64) (Subscription, error)
	// Polled notes a poll: everything up to acknowledged is dealt with, and
	// delivered was handed out. Neither goes backwards here.
	Polled(ctx context.Context, id int64, acknowledged, delivered int64, at time.Time) error
	// Unsubscribe ends one; NotFound. The place of a durable one is kept: it
	// has no id until it subscribes again.
	Unsubscribe(ctx context.Context, id int64) error
	// Forget removes up to limit whose listeners have not been heard of since
	// the times, with their places, and returns how many: those that keep no
	// place since passing, durable ones since durable, both UTC.
	Forget(ctx context.Context, passing, durable time.Time, limit int) (int, error)
	// Subscriptions returns up to limit with a higher id than after, by id.
	Subscriptions(ctx context.Context, after int64, limit int) ([]Subscription, error)
	// Durable returns up to limit durable places, also of those that have
	// unsubscribed, the furthest behind first.
	Durable(ctx context.Context, limit int) ([]Subscription, error)
}
