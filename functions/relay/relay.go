// Package relay is the function that runs behind all others, on a schedule: it
// publishes what a crash left unpublished, and drops what is older than its
// retention: events, telemetry, the reasons of decisions, finished checkouts
// with all that is below them and their files, and the places of listeners that
// have not been heard of for long.
//
// Safe to run twice and from any number of instances: each of its steps is.
//
// Decisions. A checkout goes from below, level by level, and itself last:
// killed at any moment, every node that is left still has its parent, and the
// next run finds the checkout and goes on. All in one transaction would stop
// the other writers for seconds, and MongoDB has none. It goes only as a
// whole: when it and everything below it, regressions that live on included,
// is done and was last written before the time. The newest checkout of a
// branch stays whatever its age: by it the trigger knows that the commit was
// tested, and the next one is compared with it. The files in a node's own folder
// of the storage go before the node does: killed in between, a node that nobody
// needs any more has lost its files, and none is left behind that no node names.
package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/storage"
	"github.com/kernelflow/kernelflow/shared/store"
)

// Store is what the function needs of the store.
type Store interface {
	store.Reader
	store.Removal
	Prune(ctx context.Context, before time.Time, limit int) (int, error)
	PruneTelemetry(ctx context.Context, before time.Time, limit int) (int, error)
	PruneDecided(ctx context.Context, before time.Time, limit int) (int, error)
	Forget(ctx context.Context, passing, durable time.Time, limit int) (int, error)
}

// Storage is what the function needs of the storage.
type Storage interface {
	List(ctx context.Context, prefix, after string, limit int) ([]storage.Info, error)
	Delete(ctx context.Context, path string) error
	URL(path string) string
}

// Options are the parts of the function.
type Options struct {
	Store     Store
	Storage   Storage
	Flush     func(context.Context) error // publishes everything committed so far
	Events    time.Duration               // how long events are kept
	Telemetry time.Duration               // how long telemetry is kept
	Schedule  time.Duration               // how long it is kept why jobs were created or not
	Nodes     time.Duration               // how long finished checkouts are kept; 0: for ever
	Now       func() time.Time
	Log       *slog.Logger
}

// Function publishes and cleans up.
type Function struct {
	Options
	rested atomic.Int64 // until when nobody looks for old checkouts, Unix seconds
}

// New builds the function.
func New(o Options) (*Function, error) {
	if o.Store == nil || o.Storage == nil || o.Flush == nil || o.Events <= 0 || o.Telemetry <= 0 || o.Schedule <= 0 || o.Nodes < 0 || o.Now == nil || o.Log == nil {
		return nil, errs.New(errs.Invalid, "relay.New: a part is missing")
	}
	return &Function{Options: o}, nil
}

const (
	// How many rows are dropped at a time, so that nobody waits long for the
	// database: telemetry has more indexes.
	eventBatch     = 5000
	telemetryBatch = 500
	scheduleBatch  = 500
	// silence is after how long a listener that keeps no place is gone.
	silence = time.Hour
	// absence is after how long one that keeps its place is gone, as in KernelCI.
	absence = 30 * 24 * time.Hour
)

// Tick does all of it once.
func (f *Function) Tick(ctx context.Context) error {
	err := errors.Join(f.Flush(ctx), f.prune(ctx, f.Store.Prune, eventBatch, f.Events),
		f.prune(ctx, f.Store.PruneTelemetry, telemetryBatch, f.Telemetry), f.prune(ctx, f.Store.PruneDecided, scheduleBatch, f.Schedule),
		f.forget(ctx), f.expire(ctx))
	if err != nil {
		return fmt.Errorf("relay.Tick: %w", err)
	}
	return nil
}

func (f *Function) prune(ctx context.Context, drop func(context.Context, time.Time, int) (int, error), batch int, retention time.Duration) error {
	before := f.Now().Add(-retention)
	for {
		n, err := drop(ctx, before, batch)
		if err != nil || n < batch {
			return err
		}
	}
}

func (f *Function) forget(ctx context.Context) error {
	for {
		n, err := f.Store.Forget(ctx, f.Now().Add(-silence), f.Now().Add(-absence), eventBatch)
		if err != nil || n < eventBatch {
			return err
		}
	}
}
