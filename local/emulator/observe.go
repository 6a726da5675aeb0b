package emulator

import (
	"context"

	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/node"
)

// mostUnderWay bounds the checkouts that UnderWay tells of.
const mostUnderWay = 100

// UnderWay gives the checkouts that are not done, each followed by its builds
// and jobs, as if they had just been created as they are: what an earlier run
// left to this one, for showing progress.
func (e *Emulator) UnderWay(ctx context.Context) ([]event.Event, error) {
	unfinished := node.Where("kind", node.KindCheckout).And("state", node.Running, node.Available, node.Closing)
	checkouts, err := e.app.Store.Find(ctx, unfinished.Page(mostUnderWay, 0))
	if err != nil {
		return nil, err
	}
	var events []event.Event
	add := func(n node.Node) error {
		n.Updated = n.Created
		created, err := event.OfCreated(n)
		events = append(events, created)
		return err
	}
	for _, c := range checkouts {
		if err := add(c); err != nil {
			return nil, err
		}
		below := node.Where("treeid", c.TreeID).And("kind", node.KindKbuild, node.KindJob, node.KindProcess)
		for n, err := range e.app.Store.Each(ctx, below) {
			if err != nil {
				return nil, err
			}
			if err := add(n); err != nil {
				return nil, err
			}
		}
	}
	return events, nil
}

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
