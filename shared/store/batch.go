package store

import (
	"context"

	"github.com/kernelflow/kernelflow/shared/node"
)

// Batch writes to many nodes in few steps.
type Batch interface {
	// MarkProcessed sets processed_by_kcidb_bridge of the nodes where it is not
	// so already, as Update does silently: nobody is told by an event. Those
	// that do not exist are passed over. A call that did not end well may have
	// set some; the same call again sets the others.
	MarkProcessed(ctx context.Context, ids []node.ID, processed bool) error
}
