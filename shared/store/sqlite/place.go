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

// Cursor returns the sequence up to which name has done all.
func (s *Store) Cursor(ctx context.Context, name string) (int64, error) {
	var seq int64
	err := s.read.QueryRowContext(ctx, "SELECT seq FROM cursor WHERE name = ?", name).Scan(&seq)
	if err == sql.ErrNoRows {
		err = nil
	}
	return seq, s.failure(ctx, fmt.Sprintf("sqlite.Cursor(%s)", name), err)
}

// Advance moves the cursor forward.
func (s *Store) Advance(ctx context.Context, name string, sequence int64) error {
	err := s.writer.do(ctx, func(_ *operation, t *tx) error {
		_, err := t.exec("INSERT INTO cursor (name, seq) VALUES (?, ?) ON CONFLICT DO UPDATE SET seq = max(seq, excluded.seq)", name, sequence)
		return err
	})
	return s.failure(ctx, fmt.Sprintf("sqlite.Advance(%s, %d)", name, sequence), err)
}

// Claim takes key for holder until the time.
func (s *Store) Claim(ctx context.Context, key, holder string, until time.Time) error {
	err := s.writer.do(ctx, func(_ *operation, t *tx) error {
		result, err := t.exec(`INSERT INTO claim (key, holder, until) VALUES (?, ?, ?)
			ON CONFLICT DO UPDATE SET holder = excluded.holder, until = excluded.until WHERE holder = excluded.holder OR until <= ?`,
			key, holder, timeOrNull(until), node.FormatTime(s.now()))
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); n > 0 || err != nil {
			return err
		}
		return errs.New(errs.Conflict, "another holder has it")
	})
	return s.failure(ctx, fmt.Sprintf("sqlite.Claim(%s, %s)", key, holder), err)
}

// Release gives the key back.
func (s *Store) Release(ctx context.Context, key, holder string) error {
	err := s.writer.do(ctx, func(_ *operation, t *tx) error {
		_, err := t.exec("DELETE FROM claim WHERE key = ? AND holder = ?", key, holder)
		return err
	})
	return s.failure(ctx, fmt.Sprintf("sqlite.Release(%s, %s)", key, holder), err)
}

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
		result, err := t.exec(`INSERT INTO subscription (channel, user, promiscuous, subscriber, acknowledged, delivered, polled, created)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?)`, sub.Channel, sub.User, sub.Promiscuous, orNull(sub.SubscriberID),
			sub.Acknowledged, sub.Delivered, timeOrNull(sub.LastPoll), node.FormatTime(sub.Created))
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
	_, err = t.exec("UPDATE subscription SET channel = ?, promiscuous = ?, delivered = acknowledged WHERE id = ?", known.Channel, known.Promiscuous, known.ID)
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
	sub, err := scanSubscription(s.read.QueryRowContext(ctx, selectSubscription+" WHERE id = ?", id))
	return sub, s.failure(ctx, fmt.Sprintf("sqlite.Subscription(%d)", id), orNotFound(err, "subscription %d", id))
}

// Polled notes a poll.
func (s *Store) Polled(ctx context.Context, id, acknowledged, delivered int64, at time.Time) error {
	err := s.changeOne(ctx, fmt.Sprintf("subscription %d", id),
		`UPDATE subscription SET acknowledged = max(acknowledged, ?), delivered = max(delivered, ?), polled = ? WHERE id = ?`,
		acknowledged, delivered, timeOrNull(at), id)
	return s.failure(ctx, fmt.Sprintf("sqlite.Polled(%d)", id), err)
}

// Unsubscribe removes one.
func (s *Store) Unsubscribe(ctx context.Context, id int64) error {
	err := s.changeOne(ctx, fmt.Sprintf("subscription %d", id), "DELETE FROM subscription WHERE id = ?", id)
	return s.failure(ctx, fmt.Sprintf("sqlite.Unsubscribe(%d)", id), err)
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

// Subscriptions lists all, by id.
func (s *Store) Subscriptions(ctx context.Context) ([]store.Subscription, error) {
	list, err := s.subscriptions(ctx)
	return list, s.failure(ctx, "sqlite.Subscriptions()", err)
}

func (s *Store) subscriptions(ctx context.Context) ([]store.Subscription, error) {
	rows, err := s.read.QueryContext(ctx, selectSubscription+" ORDER BY id")
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
