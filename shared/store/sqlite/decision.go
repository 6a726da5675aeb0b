package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
)

const decisionTable = `
CREATE TABLE decision (seq INTEGER PRIMARY KEY, event TEXT NOT NULL UNIQUE, node TEXT NOT NULL, time TEXT NOT NULL, body BLOB NOT NULL);
CREATE INDEX decision_node ON decision (node, time, event);
CREATE INDEX decision_time ON decision (time);
`

// PutDecided keeps what was decided about an event.
func (s *Store) PutDecided(ctx context.Context, d store.Decided) error {
	err := s.writer.do(ctx, func(_ *operation, t *tx) error {
		_, err := t.exec("INSERT OR REPLACE INTO decision (event, node, time, body) VALUES (?, ?, ?, ?)",
			d.Event, string(d.Node), node.FormatTime(d.Time), d.Body)
		return err
	})
	return s.failure(ctx, fmt.Sprintf("sqlite.PutDecided(%s)", d.Event), err)
}

// FindDecided returns what was decided about the events of a node.
func (s *Store) FindDecided(ctx context.Context, of node.ID, limit, offset int) ([]store.Decided, int64, error) {
	page, total, err := s.findDecided(ctx, of, limit, offset)
	return page, total, s.failure(ctx, fmt.Sprintf("sqlite.FindDecided(%s)", of), err)
}

// pageDecided and countDecided are by index alone: see the test of plans.
const (
	pageDecided  = "SELECT event, time, body FROM decision WHERE node = ? ORDER BY time DESC, event DESC LIMIT ? OFFSET ?"
	countDecided = "SELECT count(*) FROM decision WHERE node = ?"
	oldDecided   = "SELECT seq FROM decision WHERE time < ? ORDER BY time LIMIT ?"
)

func (s *Store) findDecided(ctx context.Context, of node.ID, limit, offset int) ([]store.Decided, int64, error) {
	rows, err := s.read.QueryContext(ctx, pageDecided, string(of), max(limit, 0), max(offset, 0))
	if err != nil {
		return nil, 0, err
	}
	defer rows.Close()
	page := []store.Decided{}
	for rows.Next() {
		d, at := store.Decided{Node: of}, ""
		if err := rows.Scan(&d.Event, &at, &d.Body); err != nil {
			return nil, 0, err
		}
		if d.Time, err = parseTime(at); err != nil {
			return nil, 0, err
		}
		page = append(page, d)
	}
	if err := rows.Err(); err != nil {
		return nil, 0, err
	}
	var total int64
	err = s.read.QueryRowContext(ctx, countDecided, string(of)).Scan(&total)
	return page, total, err
}

// PruneDecided removes up to limit of what is from before the time.
func (s *Store) PruneDecided(ctx context.Context, before time.Time, limit int) (int, error) {
	var removed int64
	err := s.writer.do(ctx, func(_ *operation, t *tx) error {
		result, err := t.exec("DELETE FROM decision WHERE seq IN ("+oldDecided+")", node.FormatTime(before), max(limit, 0))
		if err == nil {
			removed, err = result.RowsAffected()
		}
		return err
	})
	return int(removed), s.failure(ctx, "sqlite.PruneDecided()", err)
}
