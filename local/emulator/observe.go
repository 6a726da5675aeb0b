package emulator

import (
	"context"

	"github.com/kernelflow/kernelflow/shared/event"
)

// Observe gives every event from now on, in order, until ctx ends, for showing
// progress. A reader that falls behind delays only itself.
func (e *Emulator) Observe(ctx context.Context) <-chan event.Event {
	out := make(chan event.Event)
	go func() {
		defer close(out)
		seen, err := e.app.Store.LastSequence(ctx)
		for err == nil && ctx.Err() == nil {
			seen, err = e.pass(ctx, seen, out)
		}
		if err != nil && ctx.Err() == nil {
			e.app.Log.Error("following the event log for progress", "error", err)
		}
	}()
	return out
}

// pass hands on what the log has behind seen, or waits for it to grow.
func (e *Emulator) pass(ctx context.Context, seen int64, out chan<- event.Event) (int64, error) {
	events, looked, err := e.app.Store.After(ctx, seen, event.Filter{Channel: event.ChannelNode}, window)
	if err != nil {
		return seen, err
	}
	for _, found := range events {
		select {
		case out <- found:
		case <-ctx.Done():
			return looked, nil
		}
	}
	if looked == seen {
		return looked, e.app.Watch.Wait(ctx, looked)
	}
	return looked, nil
}
