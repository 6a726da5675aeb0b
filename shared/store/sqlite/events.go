package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
)

// log adds an event inside tx. One that is there already stays as it is.
func log(ctx context.Context, tx *sql.Tx, e event.Event) error {
	var last int64
	if err := tx.QueryRowContext(ctx, "SELECT last FROM sequence").Scan(&last); err != nil {
		return err
	}
	e.Sequence, e.Time = last+1, node.Time(e.Time)
	doc, err := json.Marshal(e)
	if err != nil {
		return errs.Wrap(errs.Invalid, err)
	}
	var p event.Node
	if e.Channel == event.ChannelNode {
		p, _ = e.Node() // an event of another shape has no node to be found by
	}
	added, err := tx.ExecContext(ctx, `INSERT INTO event (seq, id, time, channel, owner, node, kind, state, name, doc)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`,
		e.Sequence, e.ID, node.FormatTime(e.Time), e.Channel, e.Owner, nullable(p.ID), nullable(p.Kind), nullable(p.State), nullable(p.Name), string(doc))
	if err != nil {
		return err
	}
	if n, err := added.RowsAffected(); err != nil || n == 0 {
		return err
	}
	_, err = tx.ExecContext(ctx, "UPDATE sequence SET last = ?", e.Sequence)
	return err
}

func nullable[T ~string](v T) any {
	if v == "" {
		return nil
	}
	return string(v)
}

// Append implements store.Events.
func (s *Store) Append(ctx context.Context, events ...event.Event) error {
	err := s.writer.submit(ctx, func(ctx context.Context, tx *sql.Tx) error {
		for _, e := range events {
			if err := log(ctx, tx, e); err != nil {
				return err
			}
		}
		return nil
	})
	return wrap(err, "Append(%d events)", len(events))
}

// Collect implements store.Events: every commit reaches the log by itself.
func (s *Store) Collect(context.Context) (int, error) { return 0, nil }

// After implements store.Events.
func (s *Store) After(ctx context.Context, sequence int64, f event.Filter, limit int) ([]event.Event, int64, error) {
	rows, err := s.read.QueryContext(ctx, "SELECT doc FROM event WHERE seq > ? ORDER BY seq LIMIT ?", sequence, limit)
	if err != nil {
		return nil, sequence, wrap(err, "After(%d)", sequence)
	}
	all, err := scanEvents(rows)
	if err != nil {
		return nil, sequence, wrap(err, "After(%d)", sequence)
	}
	looked := sequence
	if len(all) > 0 {
		looked = all[len(all)-1].Sequence
	}
	return slices.DeleteFunc(all, func(e event.Event) bool { return !f.Match(e) }), looked, nil
}

func scanEvents(rows *sql.Rows) (events []event.Event, err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	events = []event.Event{}
	for rows.Next() {
		var doc sql.RawBytes
		if err := rows.Scan(&doc); err != nil {
			return nil, err
		}
		var e event.Event
		if err := json.Unmarshal(doc, &e); err != nil {
			return nil, err
		}
		events = append(events, e)
	}
	return events, rows.Err()
}

// LastSequence implements store.Events.
func (s *Store) LastSequence(ctx context.Context) (last int64, err error) {
	err = s.read.QueryRowContext(ctx, "SELECT last FROM sequence").Scan(&last)
	return last, wrap(err, "LastSequence()")
}

// defaultHistory is how many events History returns when not told.
const defaultHistory = 1000

// History implements store.Events.
func (s *Store) History(ctx context.Context, h store.History) ([]event.Event, error) {
	if h.PathRe != "" {
		if _, err := compile(h.PathRe); err != nil {
			return nil, wrap(err, "History()")
		}
	}
	text, args := historyQuery(h)
	rows, err := s.read.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, wrap(err, "History()")
	}
	events, err := scanEvents(rows)
	return events, wrap(err, "History()")
}

func historyQuery(h store.History) (string, []any) {
	var tests []string
	var args []any
	add := func(test, value string) {
		if value != "" {
			tests, args = append(tests, test), append(args, value)
		}
	}
	add("time >= ?", node.FormatTime(h.From))
	add("channel = ?", h.Channel)
	add("owner = ?", h.Owner)
	add("kind = ?", string(h.Kind))
	add("state = ?", string(h.State))
	add("doc->>'$.data.result' = ?", string(h.Result))
	add("doc->>'$.data.op' = ?", string(h.Op))
	add("name = ?", h.Name)
	add("doc->>'$.data.group' = ?", h.Group)
	add("node = ?", string(h.NodeID))
	add("re2(?, (SELECT group_concat(value, '.') FROM json_each(doc, '$.data.path')))", h.PathRe)
	if len(h.IDs) > 0 {
		tests = append(tests, "id IN (?"+strings.Repeat(", ?", len(h.IDs)-1)+")")
		for _, id := range h.IDs {
			args = append(args, id)
		}
	}
	text := "SELECT doc FROM event"
	if len(tests) > 0 {
		text += " WHERE " + strings.Join(tests, " AND ")
	}
	limit := h.Limit
	if limit <= 0 {
		limit = defaultHistory
	}
	return text + " ORDER BY seq LIMIT ?", append(args, limit)
}

// Prune implements store.Events.
func (s *Store) Prune(ctx context.Context, before time.Time, limit int) (int, error) {
	var removed int64
	err := s.writer.submit(ctx, func(ctx context.Context, tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, `DELETE FROM event WHERE seq IN
			(SELECT seq FROM event WHERE time < ? ORDER BY time, seq LIMIT ?)`, node.FormatTime(before), limit)
		if err != nil {
			return err
		}
		removed, err = result.RowsAffected()
		return err
	})
	return int(removed), wrap(err, "Prune(%s)", node.FormatTime(before))
}
