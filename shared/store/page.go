package store

import (
	"context"

	"github.com/kernelflow/kernelflow/shared/node"
)

// Pages reads what may be large a page at a time.
type Pages interface {
	// Page returns what q selects, up to its limit (which must be more than 0,
	// else it is Invalid), and where the next page begins, to be put into
	// q.After; "" when this is the last one. Unlike an offset, such a place
	// costs nothing to go to, and neither nodes that are created while a
	// client reads on nor ones that are removed make it miss or repeat any.
	// An After that no store has given is Invalid.
	Page(ctx context.Context, q node.Query) (nodes []node.Node, next string, err error)
}
