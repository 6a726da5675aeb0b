// Package relay takes what the store has committed to whoever waits for it.
//
// [Relay] is a store.Store around another one: functions know the store alone,
// and each commit of theirs is published at once. Publishing has two parts:
// bringing events to the log where the database could not do so with the
// commit (store.Events.Collect), and a wake-up on the bus that says that the
// log has grown. Neither delays a write by more than its own time nor makes it
// fail: what is committed is acknowledged, and what a crash or a dead bus left
// unpublished is published by the scheduled relay function.
//
// [Watch] is the other end: it waits until the log may have grown. One
// subscription a process serves any number of waiters; since wake-ups may be
// lost, a waiter looks again by itself after a while. For those who wait for
// an event of some kind it reads the log once and keeps the newest events in
// memory ([Watch.Next]).
//
// Safe to run twice and from any number of instances, because events have ids
// and sequences of their own and a wake-up carries nothing.
//
// Decisions. Wake-ups are coalesced: while one is on its way, all commits that
// come meanwhile share the next. The price is that a wake-up says only "look".
// The newest events are kept in memory, because else each of a thousand waiting
// listeners would ask the store at each wake-up; the price is up to 8 MB, and
// that a process reads every event while somebody listens to a few of them.
package relay

import (
	"context"
	"log/slog"
	"time"

	"github.com/kernelflow/kernelflow/shared/bus"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
)

// Channel is the bus channel of the wake-ups.
const Channel = "events"

// Relay publishes what is written through it.
type Relay struct {
	store.Store
	bus    bus.Bus
	log    *slog.Logger
	wake   chan struct{} // of one place: a wake-up that waits for the one under way
	cancel context.CancelFunc
	ended  chan struct{}
}

var _ store.Store = (*Relay)(nil)

// New wraps st. Close closes st too, but not the bus.
func New(st store.Store, b bus.Bus, log *slog.Logger) *Relay {
	ctx, cancel := context.WithCancel(context.Background())
	r := &Relay{Store: st, bus: b, log: log, wake: make(chan struct{}, 1), cancel: cancel, ended: make(chan struct{})}
	go r.run(ctx)
	return r
}

// Flush publishes everything committed so far and returns when that is done,
// for a host that freezes its process after answering. Errors are those of the
// store and the bus.
func (r *Relay) Flush(ctx context.Context) error {
	if _, err := r.Store.Collect(ctx); err != nil {
		return err
	}
	return r.bus.Publish(ctx, Channel, nil)
}

// Close stops publishing and closes the store.
func (r *Relay) Close() error {
	r.cancel()
	<-r.ended
	return r.Store.Close()
}

// committed is called after each write that may have caused an event.
func (r *Relay) committed() {
	select {
	case r.wake <- struct{}{}:
	default: // one waits already, and will see this commit too
	}
}

// quiet is the least time between two complaints about the same trouble.
const quiet = 30 * time.Second

func (r *Relay) run(ctx context.Context) {
	defer close(r.ended)
	var complained time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		}
		err := r.Flush(ctx)
		if err != nil && ctx.Err() == nil && time.Since(complained) > quiet {
			complained = time.Now()
			r.log.Warn("publishing events; the relay function will do it later", "error", err)
		}
	}
}

// Create implements store.Writer.
func (r *Relay) Create(ctx context.Context, n node.Node, opts ...store.Option) (node.Node, error) {
	n, err := r.Store.Create(ctx, n, opts...)
	if err == nil {
		r.committed()
	}
	return n, err
}

// Update implements store.Writer.
func (r *Relay) Update(ctx context.Context, id node.ID, change func(*node.Node) error, opts ...store.Option) (node.Node, error) {
	n, err := r.Store.Update(ctx, id, change, opts...)
	if err == nil {
		r.committed()
	}
	return n, err
}

// PutHierarchy implements store.Writer.
func (r *Relay) PutHierarchy(ctx context.Context, root node.ID, request string, change func(*node.Node) ([]node.Node, error), opts ...store.Option) ([]node.Node, error) {
	all, err := r.Store.PutHierarchy(ctx, root, request, change, opts...)
	if err == nil {
		r.committed()
	}
	return all, err
}

// Append implements store.Events.
func (r *Relay) Append(ctx context.Context, events ...event.Event) error {
	err := r.Store.Append(ctx, events...)
	if err == nil {
		r.committed()
	}
	return err
}
