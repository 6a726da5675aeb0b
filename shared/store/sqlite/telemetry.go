package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
	"github.com/kernelflow/kernelflow/shared/telemetry"
)

// telemetryIndexes are the fields that are asked for and tell events apart;
// the others are looked for within a span of time. Each index goes on with the
// time, which is the order of a page, and leaves out what lacks the field.
var telemetryIndexes = []telemetry.Field{
	telemetry.Kind, telemetry.Runtime, telemetry.DeviceType, telemetry.DeviceID, telemetry.JobName, telemetry.JobID,
	telemetry.NodeID, telemetry.Tree, telemetry.ErrorType,
}

func telemetryTable() string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE TABLE telemetry (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, ts TEXT NOT NULL, is_infra_error INTEGER NOT NULL, %s TEXT, rest TEXT);\n",
		strings.Join(texts(telemetry.Fields), " TEXT, "))
	b.WriteString("CREATE INDEX telemetry_ts ON telemetry (ts, id);\nCREATE INDEX telemetry_infra ON telemetry (ts, id) WHERE is_infra_error = 1;\n")
	for _, f := range telemetryIndexes {
		fmt.Fprintf(&b, "CREATE INDEX telemetry_%s ON telemetry (%[1]s, ts, id) WHERE %[1]s IS NOT NULL;\n", f)
	}
	return b.String()
}

var addTelemetry = fmt.Sprintf("INSERT INTO telemetry (id, ts, is_infra_error, %s, rest) VALUES (?, ?, ?%s, ?) ON CONFLICT (id) DO NOTHING",
	strings.Join(texts(telemetry.Fields), ", "), strings.Repeat(", ?", len(telemetry.Fields)))

// AddTelemetry stores events in one transaction.
func (s *Store) AddTelemetry(ctx context.Context, events []telemetry.Event) error {
	rows := make([][]any, len(events))
	for i, e := range events {
		rows[i] = []any{string(e.ID), node.FormatTime(telemetry.Millisecond(e.Time)), e.InfraError}
		for _, f := range telemetry.Fields {
			rows[i] = append(rows[i], orNull(e.Texts[f]))
		}
		rest, err := json.Marshal(e.Rest)
		if err != nil {
			return s.failure(ctx, "sqlite.AddTelemetry()", errs.Wrap(errs.Invalid, err))
		}
		rows[i] = append(rows[i], string(rest))
	}
	err := s.writer.do(ctx, func(_ *operation, t *tx) error {
		for _, row := range rows {
			if _, err := t.exec(addTelemetry, row...); err != nil {
				return err
			}
		}
		return nil
	})
	return s.failure(ctx, "sqlite.AddTelemetry()", err)
}

// conditions turns a filter into SQL. A field's name is one of a fixed list.
func conditions(f telemetry.Filter) filter {
	var w filter
	if !f.Since.IsZero() {
		w.add("ts >= ?", node.FormatTime(f.Since))
	}
	if !f.Until.IsZero() {
		w.add("ts <= ?", node.FormatTime(f.Until))
	}
	// A literal, without which SQLite does not see that the index fits.
	if f.InfraError != nil {
		w.add(fmt.Sprintf("is_infra_error = %d", map[bool]int{true: 1}[*f.InfraError]))
	}
	for _, field := range slices.Sorted(maps.Keys(f.Is)) {
		values := f.Is[field]
		set := slices.DeleteFunc(slices.Clone(values), func(v string) bool { return v == "" })
		switch {
		case len(values) == 0:
			w.add("0")
		case len(set) == len(values):
			w.oneOf(string(field), values)
		case len(set) == 0:
			w.add(string(field) + " IS NULL")
		default:
			var or filter
			or.oneOf(string(field), set)
			w.add("("+string(field)+" IS NULL OR"+strings.TrimPrefix(or.text, " WHERE")+")", or.args...)
		}
	}
	for _, field := range f.Set {
		w.add(string(field) + " IS NOT NULL")
	}
	return w
}

// FindTelemetry returns a page of the events that f selects.
func (s *Store) FindTelemetry(ctx context.Context, f telemetry.Filter, p store.TelemetryPage) ([]telemetry.Event, error) {
	text, args := telemetryPage(f, p)
	events, err := s.findTelemetry(ctx, text, args)
	return events, s.failure(ctx, "sqlite.FindTelemetry()", err)
}

func telemetryPage(f telemetry.Filter, p store.TelemetryPage) (string, []any) {
	w := conditions(f)
	order := "ts, id"
	if p.NewestFirst {
		order = "ts DESC, id DESC"
	}
	return fmt.Sprintf("SELECT id, ts, is_infra_error, %s, rest FROM telemetry%s ORDER BY %s LIMIT ? OFFSET ?",
		strings.Join(texts(telemetry.Fields), ", "), w.text, order), append(w.args, orAll(p.Limit), max(p.Offset, 0))
}

func (s *Store) findTelemetry(ctx context.Context, text string, args []any) ([]telemetry.Event, error) {
	rows, err := s.read.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	events := []telemetry.Event{}
	for rows.Next() {
		e, err := scanTelemetry(rows)
		if err != nil {
			return nil, err
		}
		events = append(events, e)
	}
	return events, rows.Err()
}

func scanTelemetry(rows *sql.Rows) (telemetry.Event, error) {
	e := telemetry.Event{Texts: map[telemetry.Field]string{}}
	var at, rest string
	found := make([]sql.NullString, len(telemetry.Fields))
	to := []any{&e.ID, &at, &e.InfraError}
	for i := range found {
		to = append(to, &found[i])
	}
	if err := rows.Scan(append(to, &rest)...); err != nil {
		return e, err
	}
	for i, f := range telemetry.Fields {
		if found[i].Valid {
			e.Texts[f] = found[i].String
		}
	}
	if err := json.Unmarshal([]byte(rest), &e.Rest); err != nil {
		return e, fmt.Errorf("the stored telemetry %s: %w", e.ID, err)
	}
	var err error
	e.Time, err = parseTime(at)
	return e, err
}

// CountTelemetry returns how many events f selects.
func (s *Store) CountTelemetry(ctx context.Context, f telemetry.Filter) (int64, error) {
	var n int64
	w := conditions(f)
	err := s.read.QueryRowContext(ctx, "SELECT count(*) FROM telemetry"+w.text, w.args...).Scan(&n)
	return n, s.failure(ctx, "sqlite.CountTelemetry()", err)
}

// TallyTelemetry counts the events that f selects by fields.
func (s *Store) TallyTelemetry(ctx context.Context, f telemetry.Filter, by []telemetry.Field) ([]telemetry.Tally, error) {
	tallies, err := s.tallyTelemetry(ctx, f, by)
	return tallies, s.failure(ctx, "sqlite.TallyTelemetry()", err)
}

func tallies(f telemetry.Filter, by []telemetry.Field) (string, []any) {
	columns, group := "", ""
	if len(by) > 0 {
		list := strings.Join(texts(by), ", ")
		columns, group = list+", ", " GROUP BY "+list
	}
	w := conditions(f)
	return "SELECT " + columns + "count(*), count(*) FILTER (WHERE result = 'pass'), count(*) FILTER (WHERE result = 'fail')," +
		" count(*) FILTER (WHERE result = 'incomplete'), count(*) FILTER (WHERE result = 'skip'), count(*) FILTER (WHERE is_infra_error = 1)" +
		" FROM telemetry" + w.text + group, w.args
}

func (s *Store) tallyTelemetry(ctx context.Context, f telemetry.Filter, by []telemetry.Field) ([]telemetry.Tally, error) {
	text, args := tallies(f, by)
	rows, err := s.read.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	list := []telemetry.Tally{}
	for rows.Next() {
		t := telemetry.Tally{Key: map[telemetry.Field]string{}}
		keys := make([]sql.NullString, len(by))
		var to []any
		for i := range keys {
			to = append(to, &keys[i])
		}
		if err := rows.Scan(append(to, &t.Total, &t.Pass, &t.Fail, &t.Incomplete, &t.Skip, &t.InfraError)...); err != nil {
			return nil, err
		}
		for i, field := range by {
			t.Key[field] = keys[i].String
		}
		if t.Total > 0 { // without fields there is one row of nothing
			list = append(list, t)
		}
		if len(list) > telemetry.MostTallies {
			return nil, telemetry.ErrTooMany
		}
	}
	slices.SortFunc(list, telemetry.ByTotal)
	return list, rows.Err()
}

// PruneTelemetry removes up to limit events from before the time, oldest first.
func (s *Store) PruneTelemetry(ctx context.Context, before time.Time, limit int) (int, error) {
	var removed int64
	err := s.writer.do(ctx, func(_ *operation, t *tx) error {
		result, err := t.exec("DELETE FROM telemetry WHERE seq IN (SELECT seq FROM telemetry WHERE ts < ? ORDER BY ts, id LIMIT ?)",
			node.FormatTime(before), max(limit, 0))
		if err == nil {
			removed, err = result.RowsAffected()
		}
		return err
	})
	return int(removed), s.failure(ctx, "sqlite.PruneTelemetry()", err)
}
