package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"strings"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
)

// eventTable: History finds events by an index for each of its filters, which
// goes on in the order of its answer; listeners by channel and owner.
func eventTable() string {
	var b strings.Builder
	b.WriteString(`CREATE TABLE event (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, channel TEXT NOT NULL, type TEXT NOT NULL, source TEXT NOT NULL,
	time TEXT NOT NULL, owner TEXT NOT NULL, treeid TEXT NOT NULL, attributes TEXT,
	op TEXT, kind TEXT, state TEXT, result TEXT, name TEXT, "group" TEXT, path TEXT, node TEXT, data TEXT NOT NULL);
CREATE INDEX event_time ON event (time);
CREATE INDEX event_listener ON event (channel);
CREATE INDEX event_own_listener ON event (channel, owner);
`)
	for _, c := range selective {
		fmt.Fprintf(&b, "CREATE INDEX event_%s ON event (%s, time) WHERE %s IS NOT NULL;\n", c, quoted(c), quoted(c))
	}
	return b.String()
}

// selective are the columns that History filters on, the one that leaves the
// fewest events first: the first that is asked for is looked up.
var selective = []string{"node", "name", "group", "owner", "result", "kind", "state", "op", "channel"}

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
	text, args := between(sequence, last, f)
	events, all, err := s.events(ctx, text, args, limit)
	switch {
	case err != nil:
		return nil, sequence, s.failure(ctx, call, err)
	case !all:
		return events, events[len(events)-1].Sequence, nil
	}
	return events, max(last, sequence), nil
}

// between asks for the events behind one sequence up to another.
func between(sequence, last int64, f event.Filter) (string, []any) {
	var w filter
	w.add("seq > ?", sequence)
	w.add("seq <= ?", last)
	w.equal("channel", f.Channel)
	w.equal("owner", f.Owner)
	w.oneOf("op", texts(f.Ops))
	w.oneOf("kind", texts(f.Kinds))
	w.oneOf("state", texts(f.States))
	return selectEvent + inOrder(f) + w.text + " ORDER BY seq", w.args
}

// inOrder names the index that gives a channel's events by sequence. The
// planner would take one that has to be sorted.
func inOrder(f event.Filter) string {
	switch {
	case f.Channel == "":
		return " NOT INDEXED"
	case f.Owner == "":
		return " INDEXED BY event_listener"
	}
	return " INDEXED BY event_own_listener"
}

// LastSequence returns the sequence of the newest event.
func (s *Store) LastSequence(ctx context.Context) (int64, error) {
	var last int64
	err := s.read.QueryRowContext(ctx, "SELECT last FROM log").Scan(&last)
	return last, s.failure(ctx, "sqlite.LastSequence()", err)
}

const historyLimit = 1000

// History returns events by their content, in the order of time.
func (s *Store) History(ctx context.Context, h store.History) ([]event.Event, error) {
	if _, err := regexp.Compile(h.PathRe); err != nil {
		return nil, s.failure(ctx, "sqlite.History()", errs.New(errs.Invalid, "path: %s", err))
	}
	limit := h.Limit
	if limit <= 0 {
		limit = historyLimit
	}
	text, args := asked(h)
	events, _, err := s.events(ctx, text, args, limit)
	return events, s.failure(ctx, "sqlite.History()", err)
}

// asked asks for the events that h selects.
func asked(h store.History) (string, []any) {
	var w filter
	index := " INDEXED BY event_time"
	values := map[string]string{
		"node": string(h.NodeID), "name": h.Name, "group": h.Group, "owner": h.Owner, "result": string(h.Result), "kind": string(h.Kind),
		"state": string(h.State), "op": string(h.Op), "channel": h.Channel,
	}
	for _, c := range selective {
		if values[c] != "" && w.text == "" {
			index = " INDEXED BY event_" + c
		}
		w.equal(quoted(c), values[c])
	}
	from := h.FromSequence
	if from == 0 {
		from = math.MaxInt64
	}
	w.add("(time, seq) > (?, ?)", node.FormatTime(h.From), from)
	if len(h.Keys) > 0 {
		index = " NOT INDEXED"
		w.sequences(h.Keys)
	}
	if h.PathRe != "" {
		w.add("re(?, path)", h.PathRe)
	}
	return selectEvent + index + w.text + " ORDER BY time, seq", w.args
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

// mostBytes is about how much data of events is read at a time.
const mostBytes = 8 << 20

// events reads up to limit events (0: all), or fewer when they are large. all
// says that there are no more.
func (s *Store) events(ctx context.Context, text string, args []any, limit int) (events []event.Event, all bool, err error) {
	rows, err := s.read.QueryContext(ctx, text+" LIMIT ?", append(args, orAll(limit))...)
	if err != nil {
		return nil, false, err
	}
	defer rows.Close()
	events = []event.Event{}
	for size := 0; rows.Next(); {
		e, err := scanEvent(rows)
		if err != nil {
			return nil, false, err
		}
		events = append(events, e)
		if size += len(e.Data); size > mostBytes || len(events) == limit {
			return events, false, nil
		}
	}
	return events, true, rows.Err()
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

// sequences selects by the keys of events.
func (w *filter) sequences(keys []node.ID) {
	args := make([]any, len(keys))
	for i, key := range keys {
		args[i] = event.SequenceOf(key)
	}
	w.add("seq IN ("+strings.TrimSuffix(strings.Repeat("?, ", len(args)), ", ")+")", args...)
}

func texts[T ~string](list []T) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = string(v)
	}
	return out
}
