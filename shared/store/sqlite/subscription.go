package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
)

const subscriptionTable = `
CREATE TABLE subscription (id INTEGER PRIMARY KEY AUTOINCREMENT, channel TEXT NOT NULL, user TEXT NOT NULL, promiscuous INTEGER NOT NULL,
	subscriber TEXT UNIQUE, acknowledged INTEGER NOT NULL, delivered INTEGER NOT NULL, ended INTEGER NOT NULL DEFAULT 0, polled TEXT, created TEXT NOT NULL,
	seen TEXT NOT NULL);
CREATE INDEX subscription_seen ON subscription (seen);
CREATE INDEX subscription_durable ON subscription (acknowledged) WHERE subscriber IS NOT NULL;
`

const selectSubscription = `SELECT id, channel, user, promiscuous, ifnull(subscriber, ''), acknowledged, delivered, ifnull(polled, ''), created FROM subscription`

// Subscribe makes a subscription, or finds the durable one.
func (s *Store) Subscribe(ctx context.Context, sub store.Subscription) (store.Subscription, error) {
	if sub.Created.IsZero() {
		sub.Created = s.now()
	}
	sub.Created, sub.LastPoll = node.Time(sub.Created), node.Time(sub.LastPoll)
	err := s.writer.do(ctx, func(_ *operation, t *tx) error {
		if sub.SubscriberID != "" {
			known, err := t.resume(sub)
			if err != sql.ErrNoRows {
				sub = known
				return err
			}
		}
		result, err := t.exec(`INSERT INTO subscription (channel, user, promiscuous, subscriber, acknowledged, delivered, polled, created, seen)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`, sub.Channel, sub.User, sub.Promiscuous, orNull(sub.SubscriberID),
			sub.Acknowledged, sub.Delivered, timeOrNull(sub.LastPoll), node.FormatTime(sub.Created), node.FormatTime(sub.Created))
		if err == nil {
			sub.ID, err = result.LastInsertId()
		}
		return err
	})
	return sub, s.failure(ctx, fmt.Sprintf("sqlite.Subscribe(%s)", sub.Channel), err)
}

// resume returns the durable subscription that is there, with the channel and
// promiscuity of sub, at the place up to which all was acknowledged.
func (t *tx) resume(sub store.Subscription) (store.Subscription, error) {
	known, err := scanSubscription(t.queryRow(selectSubscription+" WHERE subscriber = ?", sub.SubscriberID))
	if err != nil {
		return known, err
	}
	if known.User != sub.User {
		return store.Subscription{}, errs.New(errs.Denied, "subscriber_id %.40q belongs to another user", sub.SubscriberID)
	}
	known.Channel, known.Promiscuous, known.Delivered = sub.Channel, sub.Promiscuous, known.Acknowledged
	_, err = t.exec("UPDATE subscription SET channel = ?, promiscuous = ?, delivered = acknowledged, ended = 0, seen = ? WHERE id = ?",
		known.Channel, known.Promiscuous, node.FormatTime(sub.Created), known.ID)
	return known, err
}

func scanSubscription(from interface{ Scan(...any) error }) (store.Subscription, error) {
	var sub store.Subscription
	var polled, created string
	err := from.Scan(&sub.ID, &sub.Channel, &sub.User, &sub.Promiscuous, &sub.SubscriberID, &sub.Acknowledged, &sub.Delivered, &polled, &created)
	if err != nil {
		return sub, err
	}
	if sub.LastPoll, err = parseTime(polled); err != nil {
		return sub, err
	}
	sub.Created, err = parseTime(created)
	return sub, err
}

// Subscription returns one.
func (s *Store) Subscription(ctx context.Context, id int64) (store.Subscription, error) {
	sub, err := scanSubscription(s.read.QueryRowContext(ctx, selectSubscription+" WHERE id = ? AND NOT ended", id))
	return sub, s.failure(ctx, fmt.Sprintf("sqlite.Subscription(%d)", id), orNotFound(err, "subscription %d", id))
}

// Polled notes a poll.
func (s *Store) Polled(ctx context.Context, id, acknowledged, delivered int64, at time.Time) error {
	err := s.changeOne(ctx, fmt.Sprintf("subscription %d", id),
		`UPDATE subscription SET acknowledged = max(acknowledged, ?), delivered = max(delivered, ?), polled = ?, seen = ? WHERE id = ? AND NOT ended`,
		acknowledged, delivered, timeOrNull(at), node.FormatTime(at), id)
	return s.failure(ctx, fmt.Sprintf("sqlite.Polled(%d)", id), err)
}

// Unsubscribe ends one.
func (s *Store) Unsubscribe(ctx context.Context, id int64) error {
	what := fmt.Sprintf("subscription %d", id)
	err := s.changeOne(ctx, what, "UPDATE subscription SET ended = 1, seen = max(seen, ?) WHERE id = ? AND NOT ended", node.FormatTime(s.now()), id)
	return s.failure(ctx, fmt.Sprintf("sqlite.Unsubscribe(%d)", id), err)
}

// Forget removes those that have not been heard of.
func (s *Store) Forget(ctx context.Context, passing, durable time.Time, limit int) (int, error) {
	var removed int64
	err := s.writer.do(ctx, func(_ *operation, t *tx) error {
		result, err := t.exec(`DELETE FROM subscription WHERE id IN (SELECT id FROM subscription INDEXED BY subscription_seen
			WHERE seen < max(?, ?) AND seen < iif(subscriber IS NULL, ?, ?) ORDER BY seen LIMIT ?)`,
			node.FormatTime(passing), node.FormatTime(durable), node.FormatTime(passing), node.FormatTime(durable), limit)
		if err == nil {
			removed, err = result.RowsAffected()
		}
		return err
	})
	return int(removed), s.failure(ctx, "sqlite.Forget()", err)
}

// changeOne runs a statement that must find its row; what names it otherwise.
func (s *Store) changeOne(ctx context.Context, what, text string, args ...any) error {
	return s.writer.do(ctx, func(_ *operation, t *tx) error {
		result, err := t.exec(text, args...)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); n > 0 || err != nil {
			return err
		}
		return errs.New(errs.NotFound, "%s not found", what)
	})
}

// Subscriptions returns a page of them, by id.
func (s *Store) Subscriptions(ctx context.Context, after int64, limit int) ([]store.Subscription, error) {
	list, err := s.subscriptions(ctx, " WHERE id > ? AND NOT ended ORDER BY id LIMIT ?", after, limit)
	return list, s.failure(ctx, fmt.Sprintf("sqlite.Subscriptions(%d)", after), err)
}

// Durable returns the durable ones that are furthest behind.
func (s *Store) Durable(ctx context.Context, limit int) ([]store.Subscription, error) {
	list, err := s.subscriptions(ctx, " WHERE subscriber IS NOT NULL ORDER BY acknowledged, id LIMIT ?", limit)
	return list, s.failure(ctx, "sqlite.Durable()", err)
}

func (s *Store) subscriptions(ctx context.Context, which string, args ...any) ([]store.Subscription, error) {
	rows, err := s.read.QueryContext(ctx, selectSubscription+which, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	list := []store.Subscription{}
	for rows.Next() {
		sub, err := scanSubscription(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, sub)
	}
	return list, rows.Err()
}
