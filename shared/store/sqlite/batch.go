package sqlite

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
)

// markBatch is how many nodes one transaction writes, so that other writers
// need not wait long.
const markBatch = 500

// MarkProcessed sets processed_by_kcidb_bridge of many nodes.
func (s *Store) MarkProcessed(ctx context.Context, ids []node.ID, processed bool) error {
	for part := range slices.Chunk(ids, markBatch) {
		err := s.writer.do(ctx, func(_ *operation, t *tx) error {
			for _, id := range part {
				if err := s.markProcessed(t, id, processed); err != nil && !errors.Is(err, errs.NotFound) {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return s.failure(ctx, fmt.Sprintf("sqlite.MarkProcessed(%d nodes)", len(ids)), err)
		}
	}
	return nil
}

func (s *Store) markProcessed(t *tx, id node.ID, processed bool) error {
	var u update
	var err error
	if u.before, u.revision, err = t.node(id); err != nil || u.before.KCIDBProcessed == processed {
		return err
	}
	if err := s.change(&u, func(n *node.Node) error { n.KCIDBProcessed = processed; return nil }, false); err != nil {
		return err
	}
	return t.write(&u, true)
}
