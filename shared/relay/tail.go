package relay

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/kernelflow/kernelflow/shared/event"
)

const (
	tailEvents = 1024    // kept in memory, at most
	tailBytes  = 8 << 20 // of data kept in memory, about
	tailBatch  = 256     // read at a time
)

// tail is the newest events of the log, in order.
type tail struct {
	mu     sync.Mutex
	events []event.Event // all that the log has behind from, up to to
	from   int64
	to     int64
	bytes  int
	grew   chan struct{} // closed and replaced when events come; nil before anybody listens
}

// Look returns the first event behind seen that passes the filter, nil when
// there is none yet, and how far it has looked: to there nothing else passes.
// Errors are those of the store.
func (w *Watch) Look(ctx context.Context, seen int64, f event.Filter) (*event.Event, int64, error) {
	found, looked, _, err := w.look(ctx, seen, f)
	return found, looked, err
}

// Next is Look, but waits for the event until ctx ends, with ctx's error, or
// until the Watch is closed, with context.Canceled.
func (w *Watch) Next(ctx context.Context, seen int64, f event.Filter) (*event.Event, int64, error) {
	for {
		found, looked, grew, err := w.look(ctx, seen, f)
		if found != nil || err != nil {
			return found, looked, err
		}
		seen = looked
		select {
		case <-grew:
		case <-ctx.Done():
			return nil, seen, ctx.Err()
		case <-w.ctx.Done():
			return nil, seen, w.ctx.Err()
		}
	}
}

// look reads what is new from memory, where it is read from the log once for
// all who wait; only who is further behind than that reads by itself. Without
// an event it returns what is closed when there is more to see.
func (w *Watch) look(ctx context.Context, seen int64, f event.Filter) (*event.Event, int64, <-chan struct{}, error) {
	if err := w.follow(ctx); err != nil {
		return nil, seen, nil, err
	}
	for {
		found, looked, grew := w.tail.look(seen, f)
		if grew != nil {
			return found, looked, grew, nil
		}
		events, looked, err := w.store.After(ctx, seen, f, 1)
		switch {
		case err != nil:
			return nil, seen, nil, err
		case len(events) > 0:
			return &events[0], events[0].Sequence, nil, nil
		}
		seen = looked
	}
}

// look finds an event in memory. Without one it returns what is closed when
// there is more to see; nil when the memory does not reach back to seen.
func (t *tail) look(seen int64, f event.Filter) (found *event.Event, looked int64, grew <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if seen < t.from {
		return nil, seen, nil
	}
	first, _ := slices.BinarySearchFunc(t.events, seen+1, func(e event.Event, sequence int64) int { return int(e.Sequence - sequence) })
	for _, e := range t.events[first:] {
		if f.Match(e) {
			return &e, e.Sequence, t.grew
		}
	}
	return nil, max(seen, t.to), t.grew
}

// add takes what the log has behind the last.
func (t *tail) add(events []event.Event, to int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.events, t.to = append(t.events, events...), to
	for _, e := range events {
		t.bytes += len(e.Data)
	}
	for len(t.events) > 0 && (len(t.events) > tailEvents || t.bytes > tailBytes) {
		t.from, t.bytes = t.events[0].Sequence, t.bytes-len(t.events[0].Data)
		t.events[0] = event.Event{} // lets go of its data
		t.events = t.events[1:]
	}
	close(t.grew)
	t.grew = make(chan struct{})
}

// follow begins to read the log at its end, once: a process without listeners
// does not.
func (w *Watch) follow(ctx context.Context) error {
	w.tail.mu.Lock()
	defer w.tail.mu.Unlock()
	if w.tail.grew != nil {
		return nil
	}
	if err := w.ctx.Err(); err != nil {
		return err
	}
	end, err := w.store.LastSequence(ctx)
	if err != nil {
		return err
	}
	w.tail.from, w.tail.to, w.tail.grew = end, end, make(chan struct{})
	w.group.Go(func() { w.read(end) })
	return nil
}

// read keeps the memory at the end of the log, of which it has what is up to
// seen.
func (w *Watch) read(seen int64) {
	var complained time.Time
	for w.ctx.Err() == nil {
		events, looked, err := w.store.After(w.ctx, seen, event.Filter{}, tailBatch)
		if err == nil && looked == seen {
			err = w.Wait(w.ctx, seen)
		} else if err == nil {
			w.tail.add(events, looked)
			seen = looked
		}
		if err == nil || w.ctx.Err() != nil {
			continue
		}
		if time.Since(complained) > quiet {
			complained = time.Now()
			w.log.Warn("reading the log for those who listen", "error", err)
		}
		select {
		case <-time.After(w.interval):
		case <-w.ctx.Done():
		}
	}
}
