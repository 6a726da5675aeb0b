package relay

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/kernelflow/kernelflow/shared/bus"
	"github.com/kernelflow/kernelflow/shared/event"
)

// eventLog is what a Watch asks of the store.
type eventLog interface {
	LastSequence(ctx context.Context) (int64, error)
	After(ctx context.Context, sequence int64, f event.Filter, limit int) (events []event.Event, looked int64, err error)
}

// Watch tells when the log may have grown, and what its newest events are.
type Watch struct {
	store    eventLog
	bus      bus.Bus
	interval time.Duration
	log      *slog.Logger
	ctx      context.Context // ends with the Watch
	cancel   context.CancelFunc
	group    sync.WaitGroup
	tail     tail

	mu   sync.Mutex
	grew chan struct{} // closed and replaced at each wake-up
}

// NewWatch starts listening to b. interval is after how long a waiter looks
// again although nobody woke it.
func NewWatch(st eventLog, b bus.Bus, interval time.Duration, log *slog.Logger) *Watch {
	ctx, cancel := context.WithCancel(context.Background())
	w := &Watch{store: st, bus: b, interval: interval, log: log, ctx: ctx, cancel: cancel, grew: make(chan struct{})}
	w.group.Go(func() { w.listen(ctx) })
	return w
}

// Close stops listening; who waits then waits for its interval.
func (w *Watch) Close() error {
	w.tail.mu.Lock()
	w.cancel() // from here on nobody begins to read
	w.tail.mu.Unlock()
	w.group.Wait()
	return nil
}

// Wait returns when the log may hold more than what the caller has seen, or
// when the interval has passed. A caller that has read up to seen misses
// nothing: what was logged before Wait looked is found by looking, what comes
// later wakes it.
func (w *Watch) Wait(ctx context.Context, seen int64) error {
	w.mu.Lock()
	grew := w.grew
	w.mu.Unlock()
	last, err := w.store.LastSequence(ctx)
	if err != nil || last > seen {
		return err
	}
	timer := time.NewTimer(w.interval)
	defer timer.Stop()
	select {
	case <-grew:
		return nil
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Wake wakes everybody who waits in this process.
func (w *Watch) Wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.grew)
	w.grew = make(chan struct{})
}

// listen keeps a subscription for as long as there is a bus to be had.
func (w *Watch) listen(ctx context.Context) {
	for ctx.Err() == nil {
		err := w.relay(ctx)
		if ctx.Err() != nil {
			return
		}
		w.log.Warn("no wake-ups from the bus; looking at the log by the clock", "error", err)
		select {
		case <-time.After(w.interval):
		case <-ctx.Done():
		}
	}
}

func (w *Watch) relay(ctx context.Context) error {
	sub, err := w.bus.Subscribe(ctx, Channel)
	if err != nil {
		return err
	}
	w.Wake() // for what was published before we listened
	for {
		select {
		case _, open := <-sub.Messages():
			if !open {
				return sub.Close()
			}
			w.Wake()
		case <-ctx.Done():
			return sub.Close()
		}
	}
}
