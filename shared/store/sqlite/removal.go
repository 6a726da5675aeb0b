package sqlite

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
)

// Remove removes nodes, in one transaction.
func (s *Store) Remove(ctx context.Context, ids []node.ID) (int, error) {
	call := fmt.Sprintf("sqlite.Remove(%d nodes)", len(ids))
	list, err := json.Marshal(ids)
	if err != nil || len(ids) == 0 {
		return 0, s.failure(ctx, call, err)
	}
	var removed int64
	err = s.writer.do(ctx, func(_ *operation, t *tx) (err error) {
		removed, err = t.remove(string(list))
		return err
	})
	return int(removed), s.failure(ctx, call, err)
}

// remove takes the ids as a JSON list.
func (t *tx) remove(ids string) (int64, error) {
	var orphans int
	err := t.queryRow("SELECT count(*) FROM node WHERE parent IN (SELECT value FROM json_each(?1)) AND id NOT IN (SELECT value FROM json_each(?1))", ids).Scan(&orphans)
	if err != nil {
		return 0, err
	}
	if orphans > 0 {
		return 0, errs.New(errs.Conflict, "%d other nodes are below them", orphans)
	}
	if _, err := t.exec("DELETE FROM hierarchy WHERE root IN (SELECT value FROM json_each(?))", ids); err != nil {
		return 0, err
	}
	result, err := t.exec("DELETE FROM node WHERE id IN (SELECT value FROM json_each(?))", ids)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}
