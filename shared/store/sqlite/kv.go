package sqlite

import (
	"context"
	"fmt"
)

const kvTable = `
CREATE TABLE kv (namespace TEXT, key TEXT, value TEXT NOT NULL, PRIMARY KEY (namespace, key)) WITHOUT ROWID;
`

// KV returns the value of a key; NotFound.
func (s *Store) KV(ctx context.Context, namespace, key string) (string, error) {
	var value string
	err := s.read.QueryRowContext(ctx, "SELECT value FROM kv WHERE namespace = ? AND key = ?", namespace, key).Scan(&value)
	return value, s.failure(ctx, fmt.Sprintf("sqlite.KV(%q, %q)", namespace, key), orNotFound(err, "key %q of namespace %q", key, namespace))
}

// SetKV stores a value, in place of what was there.
func (s *Store) SetKV(ctx context.Context, namespace, key, value string) error {
	err := s.writer.do(ctx, func(_ *operation, t *tx) error {
		_, err := t.exec("INSERT OR REPLACE INTO kv (namespace, key, value) VALUES (?, ?, ?)", namespace, key, value)
		return err
	})
	return s.failure(ctx, fmt.Sprintf("sqlite.SetKV(%q, %q)", namespace, key), err)
}

// DeleteKV removes a key; nothing happens when it is not there.
func (s *Store) DeleteKV(ctx context.Context, namespace, key string) error {
	err := s.writer.do(ctx, func(_ *operation, t *tx) error {
		_, err := t.exec("DELETE FROM kv WHERE namespace = ? AND key = ?", namespace, key)
		return err
	})
	return s.failure(ctx, fmt.Sprintf("sqlite.DeleteKV(%q, %q)", namespace, key), err)
}
