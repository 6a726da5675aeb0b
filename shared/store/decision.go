package store

import (
	"context"
	"time"

	"github.com/kernelflow/kernelflow/shared/node"
)

// Decided is what was decided about an event.
type Decided struct {
	Event string    // id of the CloudEvent
	Node  node.ID   // that the event is about
	Time  time.Time // of the decision, UTC
	Body  []byte    // the decisions, of which the store knows nothing
}

// Decisions keeps for each event that started or could have started jobs what
// was decided and why, until it is pruned.
type Decisions interface {
	// PutDecided keeps d in place of what is there for the same event, which
	// may be decided again after a crash.
	PutDecided(ctx context.Context, d Decided) error
	// FindDecided returns what was decided about the events of a node, never
	// nil, the newest first; and how much there is in all.
	FindDecided(ctx context.Context, of node.ID, limit, offset int) (page []Decided, total int64, err error)
	// PruneDecided removes up to limit of what is from before the time, the
	// oldest first, and returns how much.
	PruneDecided(ctx context.Context, before time.Time, limit int) (int, error)
}
