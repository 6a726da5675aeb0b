package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
)

const subscriptionColumns = "id, coalesce(subscriber, ''), channel, user, promiscuous, acknowledged, delivered, polled, created"

func scanSubscription(row interface{ Scan(...any) error }) (store.Subscription, error) {
	var s store.Subscription
	var polled, created string
	err := row.Scan(&s.ID, &s.SubscriberID, &s.Channel, &s.User, &s.Promiscuous, &s.Acknowledged, &s.Delivered, &polled, &created)
	if err != nil {
		return s, err
	}
	s.LastPoll, err = keptTime(polled)
	if err != nil {
		return s, err
	}
	s.Created, err = keptTime(created)
	return s, err
}

func keptTime(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	return node.ParseTime(s)
}

// Subscribe implements store.Subscriptions.
func (s *Store) Subscribe(ctx context.Context, sub store.Subscription) (store.Subscription, error) {
	var made store.Subscription
	err := s.writer.submit(ctx, func(ctx context.Context, tx *sql.Tx) (err error) {
		made, err = s.subscribe(ctx, tx, sub)
		return err
	})
	return made, wrap(err, "Subscribe(%q)", sub.Channel)
}

func (s *Store) subscribe(ctx context.Context, tx *sql.Tx, sub store.Subscription) (store.Subscription, error) {
	if sub.SubscriberID != "" {
		old, err := scanSubscription(tx.QueryRowContext(ctx, "SELECT "+subscriptionColumns+" FROM subscription WHERE subscriber = ?", sub.SubscriberID))
		switch {
		case err == nil && old.User != sub.User:
			return store.Subscription{}, errs.New(errs.Denied, "subscriber_id %.80q belongs to another user", sub.SubscriberID)
		case err == nil:
			old.Channel, old.Promiscuous = sub.Channel, sub.Promiscuous
			_, err = tx.ExecContext(ctx, "UPDATE subscription SET channel = ?, promiscuous = ? WHERE id = ?", old.Channel, old.Promiscuous, old.ID)
			return old, err
		case !errors.Is(err, sql.ErrNoRows):
			return store.Subscription{}, err
		}
	}
	if sub.Created.IsZero() {
		sub.Created = s.clock()
	}
	result, err := tx.ExecContext(ctx, `INSERT INTO subscription (subscriber, channel, user, promiscuous, acknowledged, delivered, polled, created)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?)`, nullable(sub.SubscriberID), sub.Channel, sub.User, sub.Promiscuous,
		sub.Acknowledged, sub.Delivered, node.FormatTime(sub.LastPoll), node.FormatTime(sub.Created))
	if err != nil {
		return store.Subscription{}, err
	}
	sub.ID, err = result.LastInsertId()
	return sub, err
}

// Subscription implements store.Subscriptions.
func (s *Store) Subscription(ctx context.Context, id int64) (store.Subscription, error) {
	sub, err := scanSubscription(s.read.QueryRowContext(ctx, "SELECT "+subscriptionColumns+" FROM subscription WHERE id = ?", id))
	return sub, wrap(err, "Subscription(%d)", id)
}

// Polled implements store.Subscriptions.
func (s *Store) Polled(ctx context.Context, id int64, acknowledged, delivered int64, at time.Time) error {
	err := s.change(ctx, `UPDATE subscription SET acknowledged = max(acknowledged, ?), delivered = max(delivered, ?), polled = ? WHERE id = ?`,
		acknowledged, delivered, node.FormatTime(at), id)
	return wrap(err, "Polled(%d)", id)
}

// change runs one statement that must touch something; NotFound otherwise.
func (s *Store) change(ctx context.Context, statement string, args ...any) error {
	return s.writer.submit(ctx, func(ctx context.Context, tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, statement, args...)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n > 0 {
			return err
		}
		return sql.ErrNoRows
	})
}

// Unsubscribe implements store.Subscriptions.
func (s *Store) Unsubscribe(ctx context.Context, id int64) error {
	return wrap(s.change(ctx, "DELETE FROM subscription WHERE id = ?", id), "Unsubscribe(%d)", id)
}

// Subscriptions implements store.Subscriptions.
func (s *Store) Subscriptions(ctx context.Context) ([]store.Subscription, error) {
	rows, err := s.read.QueryContext(ctx, "SELECT "+subscriptionColumns+" FROM subscription ORDER BY id")
	if err != nil {
		return nil, wrap(err, "Subscriptions()")
	}
	defer rows.Close()
	list := []store.Subscription{}
	for rows.Next() {
		sub, err := scanSubscription(rows)
		if err != nil {
			return nil, wrap(err, "Subscriptions()")
		}
		list = append(list, sub)
	}
	return list, wrap(rows.Err(), "Subscriptions()")
}

// Cursor implements store.Cursors.
func (s *Store) Cursor(ctx context.Context, name string) (position int64, err error) {
	err = s.read.QueryRowContext(ctx, "SELECT position FROM cursor WHERE name = ?", name).Scan(&position)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return position, wrap(err, "Cursor(%q)", name)
}

// Advance implements store.Cursors.
func (s *Store) Advance(ctx context.Context, name string, sequence int64) error {
	err := s.writer.submit(ctx, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO cursor (name, position) VALUES (?, ?)
			ON CONFLICT (name) DO UPDATE SET position = max(position, excluded.position)`, name, sequence)
		return err
	})
	return wrap(err, "Advance(%q, %d)", name, sequence)
}

// Claim implements store.Claims. A claim for good has an empty time.
func (s *Store) Claim(ctx context.Context, key, holder string, until time.Time) error {
	now := node.FormatTime(s.clock())
	err := s.writer.submit(ctx, func(ctx context.Context, tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, `INSERT INTO claim (key, holder, until) VALUES (?, ?, ?)
			ON CONFLICT (key) DO UPDATE SET holder = excluded.holder, until = excluded.until
			WHERE claim.holder = excluded.holder OR claim.until <> '' AND claim.until <= ?`,
			key, holder, node.FormatTime(until), now)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n > 0 {
			return err
		}
		return errs.New(errs.Conflict, "held by somebody else")
	})
	return wrap(err, "Claim(%q)", key)
}

// Release implements store.Claims.
func (s *Store) Release(ctx context.Context, key, holder string) error {
	err := s.change(ctx, "DELETE FROM claim WHERE key = ? AND holder = ?", key, holder)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	return wrap(err, "Release(%q)", key)
}

// Bury implements store.DeadLetters.
func (s *Store) Bury(ctx context.Context, d store.DeadLetter) error {
	doc, err := json.Marshal(d)
	if err != nil {
		return wrap(errs.Wrap(errs.Invalid, err), "Bury(%s)", d.Event.ID)
	}
	err = s.writer.submit(ctx, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO dead_letter (function, event, doc) VALUES (?, ?, ?)
			ON CONFLICT (function, event) DO UPDATE SET doc = excluded.doc`, d.Function, d.Event.ID, string(doc))
		return err
	})
	return wrap(err, "Bury(%s)", d.Event.ID)
}

// ListDeadLetters implements store.DeadLetters.
func (s *Store) ListDeadLetters(ctx context.Context, limit int) ([]store.DeadLetter, error) {
	rows, err := s.read.QueryContext(ctx, "SELECT doc FROM dead_letter ORDER BY seq LIMIT ?", limit)
	if err != nil {
		return nil, wrap(err, "ListDeadLetters()")
	}
	defer rows.Close()
	list := []store.DeadLetter{}
	for rows.Next() {
		var doc []byte
		var d store.DeadLetter
		if err := errors.Join(rows.Scan(&doc), json.Unmarshal(doc, &d)); err != nil {
			return nil, wrap(err, "ListDeadLetters()")
		}
		list = append(list, d)
	}
	return list, wrap(rows.Err(), "ListDeadLetters()")
}

// Exhume implements store.DeadLetters.
func (s *Store) Exhume(ctx context.Context, function, eventID string) (store.DeadLetter, error) {
	var d store.DeadLetter
	err := s.writer.submit(ctx, func(ctx context.Context, tx *sql.Tx) error {
		var doc []byte
		err := tx.QueryRowContext(ctx, "DELETE FROM dead_letter WHERE function = ? AND event = ? RETURNING doc", function, eventID).Scan(&doc)
		if err != nil {
			return err
		}
		return json.Unmarshal(doc, &d)
	})
	return d, wrap(err, "Exhume(%s, %s)", function, eventID)
}
