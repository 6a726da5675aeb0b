package store

import (
	"context"

	"github.com/kernelflow/kernelflow/shared/node"
)

// Tallies counts nodes by what they say, without reading them.
type Tallies interface {
	// TallyNodes counts the nodes that q selects for each combination of what
	// they have in the fields by, in no order; limit, offset and After do not
	// count. A field that is not one of [node.Countable] is Invalid; more than
	// [node.MostTallies] combinations are [node.ErrTooManyTallies].
	TallyNodes(ctx context.Context, q node.Query, by ...string) ([]node.Tally, error)
}
