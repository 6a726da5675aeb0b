package sqlite

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
)

// Bury keeps a dead letter; the same function and event replace it.
func (s *Store) Bury(ctx context.Context, d store.DeadLetter) error {
	call := fmt.Sprintf("sqlite.Bury(%s, %s)", d.Function, d.Event.ID)
	if d.Time.IsZero() {
		d.Time = s.now()
	}
	d.Time, d.Event.Time = node.Time(d.Time), node.Time(d.Event.Time)
	doc, err := json.Marshal(d)
	if err != nil {
		return s.failure(ctx, call, errs.Wrap(errs.Invalid, err))
	}
	err = s.writer.do(ctx, func(_ *operation, t *tx) error {
		_, err := t.exec("INSERT OR REPLACE INTO dead_letter (function, event, time, doc) VALUES (?, ?, ?, ?)",
			d.Function, d.Event.ID, node.FormatTime(d.Time), string(doc))
		return err
	})
	return s.failure(ctx, call, err)
}

// ListDeadLetters returns the oldest ones first; all when limit is 0.
func (s *Store) ListDeadLetters(ctx context.Context, limit int) ([]store.DeadLetter, error) {
	list := []store.DeadLetter{}
	err := s.eachDoc(ctx, "SELECT doc FROM dead_letter ORDER BY time, function, event LIMIT ?", []any{orAll(limit)}, func(doc string) (bool, error) {
		d, err := decodeDeadLetter(doc)
		list = append(list, d)
		return true, err
	})
	return list, s.failure(ctx, "sqlite.ListDeadLetters()", err)
}

func decodeDeadLetter(doc string) (store.DeadLetter, error) {
	var d store.DeadLetter
	if err := json.Unmarshal([]byte(doc), &d); err != nil {
		return d, fmt.Errorf("a stored dead letter: %w", err)
	}
	return d, nil
}

// Exhume removes one and returns it.
func (s *Store) Exhume(ctx context.Context, function, eventID string) (store.DeadLetter, error) {
	var d store.DeadLetter
	err := s.writer.do(ctx, func(_ *operation, t *tx) error {
		var doc string
		err := t.queryRow("DELETE FROM dead_letter WHERE function = ? AND event = ? RETURNING doc", function, eventID).Scan(&doc)
		if err != nil {
			return orNotFound(err, "dead letter of %s for event %s", function, eventID)
		}
		d, err = decodeDeadLetter(doc)
		return err
	})
	return d, s.failure(ctx, fmt.Sprintf("sqlite.Exhume(%s, %s)", function, eventID), err)
}
