package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
)

const insertEvent = `INSERT INTO event (seq, id, channel, type, source, time, owner, treeid, attributes,
	op, kind, state, result, name, "group", path, node, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`

// log appends e, unless its id is there. Only the writer gives sequences, one
// transaction at a time, and a failed operation gives its own back: they are
// dense and become visible in order.
func (t *tx) log(e event.Event) error {
	var known bool
	if err := t.queryRow("SELECT EXISTS (SELECT 1 FROM event WHERE id = ?)", e.ID).Scan(&known); err != nil || known {
		return err
	}
	var attributes any
	if len(e.Attributes) > 0 {
		b, err := json.Marshal(e.Attributes)
		if err != nil {
			return err
		}
		attributes = string(b)
	}
	args := append([]any{t.last + 1, e.ID, e.Channel, e.Type, e.Source, node.FormatTime(e.Time), e.Owner, e.TreeID, attributes}, about(e)...)
	if _, err := t.exec(insertEvent, append(args, string(e.Data))...); err != nil {
		return fmt.Errorf("event %s: %w", e.ID, err)
	}
	t.last++
	return nil
}

// about gives what filters ask of an event's data; nulls when it is not about
// a node.
func about(e event.Event) []any {
	var p event.Node
	if json.Unmarshal(e.Data, &p) != nil {
		return make([]any, 8)
	}
	var result, group any
	if p.Result != nil {
		result = string(*p.Result)
	}
	if p.Group != nil {
		group = *p.Group
	}
	return []any{string(p.Op), string(p.Kind), string(p.State), result, p.Name, group, strings.Join(p.Path, "."), string(p.ID)}
}

// Append logs events that no node write caused.
func (s *Store) Append(ctx context.Context, events ...event.Event) error {
	err := s.writer.do(ctx, func(_ *operation, t *tx) error {
		for _, e := range events {
			if err := t.log(e); err != nil {
				return err
			}
		}
		return nil
	})
	return s.failure(ctx, "sqlite.Append()", err)
}

// Collect returns 0: here an event is in the log with the commit that caused it.
func (s *Store) Collect(context.Context) (int, error) { return 0, nil }

const selectEvent = "SELECT seq, id, channel, type, source, time, owner, treeid, attributes, data FROM event"

// After returns up to limit events behind sequence that pass the filter.
func (s *Store) After(ctx context.Context, sequence int64, f event.Filter, limit int) ([]event.Event, int64, error) {
	call := fmt.Sprintf("sqlite.After(%d)", sequence)
	// Asked before the events are: what comes in between is looked at twice,
	// never missed.
	last, err := s.LastSequence(ctx)
	if err != nil {
		return nil, sequence, err
	}
	var w filter
	w.add("seq > ?", sequence)
	w.add("seq <= ?", last)
	w.equal("channel", f.Channel)
	w.oneOf("op", texts(f.Ops))
	w.oneOf("kind", texts(f.Kinds))
	w.oneOf("state", texts(f.States))
	events, err := s.events(ctx, selectEvent+w.text+" ORDER BY seq LIMIT ?", append(w.args, orAll(limit)))
	switch {
	case err != nil:
		return nil, sequence, s.failure(ctx, call, err)
	case limit > 0 && len(events) == limit:
		return events, events[limit-1].Sequence, nil
	}
	return events, max(last, sequence), nil
}

// LastSequence returns the sequence of the newest event.
func (s *Store) LastSequence(ctx context.Context) (int64, error) {
	var last int64
	err := s.read.QueryRowContext(ctx, "SELECT last FROM log").Scan(&last)
	return last, s.failure(ctx, "sqlite.LastSequence()", err)
}

const historyLimit = 1000

// History returns events by their content, oldest first.
func (s *Store) History(ctx context.Context, h store.History) ([]event.Event, error) {
	if _, err := regexp.Compile(h.PathRe); err != nil {
		return nil, s.failure(ctx, "sqlite.History()", errs.New(errs.Invalid, "path: %s", err))
	}
	var w filter
	if !h.From.IsZero() {
		w.add("time >= ?", node.FormatTime(h.From))
	}
	w.equal("channel", h.Channel)
	w.equal("owner", h.Owner)
	w.equal("kind", string(h.Kind))
	w.equal("state", string(h.State))
	w.equal("result", string(h.Result))
	w.equal("op", string(h.Op))
	w.equal("name", h.Name)
	w.equal(`"group"`, h.Group)
	w.equal("node", string(h.NodeID))
	w.oneOf("id", h.IDs)
	if h.PathRe != "" {
		w.add("re(?, path)", h.PathRe)
	}
	limit := h.Limit
	if limit <= 0 {
		limit = historyLimit
	}
	events, err := s.events(ctx, selectEvent+w.text+" ORDER BY seq LIMIT ?", append(w.args, limit))
	return events, s.failure(ctx, "sqlite.History()", err)
}

// Prune removes up to limit events from before the time, oldest first.
func (s *Store) Prune(ctx context.Context, before time.Time, limit int) (int, error) {
	var removed int64
	err := s.writer.do(ctx, func(_ *operation, t *tx) error {
		result, err := t.exec("DELETE FROM event WHERE seq IN (SELECT seq FROM event WHERE time < ? ORDER BY time, seq LIMIT ?)",
			node.FormatTime(before), limit)
		if err == nil {
			removed, err = result.RowsAffected()
		}
		return err
	})
	return int(removed), s.failure(ctx, "sqlite.Prune()", err)
}

func (s *Store) events(ctx context.Context, text string, args []any) ([]event.Event, error) {
	rows, err := s.read.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	events := []event.Event{}
	for rows.Next() {
		e, err := scanEvent(rows)
		if err != nil {
			return nil, err
		}
		events = append(events, e)
	}
	return events, rows.Err()
}

func scanEvent(rows *sql.Rows) (event.Event, error) {
	var e event.Event
	var at, data string
	var attributes sql.NullString
	err := rows.Scan(&e.Sequence, &e.ID, &e.Channel, &e.Type, &e.Source, &at, &e.Owner, &e.TreeID, &attributes, &data)
	if err != nil {
		return e, err
	}
	if data != "" {
		e.Data = json.RawMessage(data)
	}
	if attributes.Valid {
		if err := json.Unmarshal([]byte(attributes.String), &e.Attributes); err != nil {
			return e, err
		}
	}
	e.Time, err = parseTime(at)
	return e, err
}

// parseTime reads what timeOrNull or node.FormatTime wrote.
func parseTime(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	return time.Parse(node.TimeLayout, s)
}

// filter collects the conditions of a statement on the log.
type filter struct {
	text string
	args []any
}

func (w *filter) add(condition string, args ...any) {
	if w.text == "" {
		w.text = " WHERE "
	} else {
		w.text += " AND "
	}
	w.text += condition
	w.args = append(w.args, args...)
}

func (w *filter) equal(column, value string) {
	if value != "" {
		w.add(column+" = ?", value)
	}
}

func (w *filter) oneOf(column string, values []string) {
	if len(values) == 0 {
		return
	}
	args := make([]any, len(values))
	for i, v := range values {
		args[i] = v
	}
	w.add(column+" IN ("+strings.TrimSuffix(strings.Repeat("?, ", len(args)), ", ")+")", args...)
}

func texts[T ~string](list []T) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = string(v)
	}
	return out
}
