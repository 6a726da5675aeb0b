package store

import (
	"context"

	"github.com/kernelflow/kernelflow/shared/node"
)

// Removal takes old nodes away.
type Removal interface {
	// Remove removes nodes for good and returns how many there were; nobody is
	// told by an event. A node must not lose its parent: when one that is not
	// in the list is below one that is, nothing is removed and the error is
	// Conflict. A node whose event is still on its way to the log may be left.
	Remove(ctx context.Context, ids []node.ID) (int, error)
}
