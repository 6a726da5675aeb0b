package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
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
