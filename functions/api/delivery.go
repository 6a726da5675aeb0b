package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/store"
)

const (
	markLasts      = 2 * time.Second       // after its instance's death
	markRenewed    = markLasts / 4         // how often, before
	markPatience   = time.Second           // for the bus to take a mark or tell of one
	notePatience   = 10 * time.Second      // for the store to note a delivery
	settlePatience = 10 * time.Second      // of a poll, for the delivery before it
	firstLook      = time.Millisecond / 4  // between two looks at a mark, growing
	lastLook       = 50 * time.Millisecond // up to this
)

// deliver answers with an event. It is noted once it is written out whole;
// until then a mark keeps the next poll, wherever it comes, from taking the
// event for one that nobody was given.
func (f *Function) deliver(ctx context.Context, w http.ResponseWriter, sub store.Subscription, e event.Event, answer []byte) {
	defer f.mark(ctx, sub.ID)()
	if writeWhole(w, answer) == nil {
		f.note(ctx, sub, e)
	} // else the client has gone, and is given the event when it polls again
}

// writeWhole returns when the last byte of the answer has been given to the
// connection, or the error. A server that keeps answers back until the handler
// has returned (Lambda's) cannot tell.
func writeWhole(w http.ResponseWriter, answer []byte) error {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
	if _, err := w.Write(answer); err != nil {
		return err
	}
	if err := http.NewResponseController(w).Flush(); !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}

// note writes down that an event was delivered, also for a client that has
// hung up since. What cannot be noted is delivered again.
func (f *Function) note(ctx context.Context, sub store.Subscription, e event.Event) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), notePatience)
	defer cancel()
	err := f.store.Polled(ctx, sub.ID, sub.Delivered, e.Sequence, f.now())
	if err != nil && !errors.Is(err, errs.NotFound) { // it may have been ended meanwhile
		f.log.Warn("a delivery is not noted and will be repeated", "subscription", sub.ID, "sequence", e.Sequence, "error", err)
	}
}

// mark says to this instance and to the others that an event of the
// subscription is being delivered, until the returned function is called or
// this instance has been dead for markLasts. The others are not told while the
// bus is away.
func (f *Function) mark(ctx context.Context, id int64) (remove func()) {
	end := f.underWay.begin(id)
	ctx = context.WithoutCancel(ctx)
	holder, err := f.newUUID()
	if err == nil {
		err = f.hold(ctx, id, holder)
	}
	if err != nil {
		return end
	}
	renewing, stop := context.WithCancel(ctx)
	var renewal sync.WaitGroup
	renewal.Go(func() { f.renew(renewing, id, holder) })
	return func() {
		stop()
		renewal.Wait()
		ctx, cancel := context.WithTimeout(ctx, markPatience)
		defer cancel()
		_ = f.bus.Release(ctx, markOf(id), holder) // a mark that stays is forgotten soon
		end()
	}
}

func markOf(id int64) string { return fmt.Sprint("delivery:", id) }

func (f *Function) hold(ctx context.Context, id int64, holder string) error {
	ctx, cancel := context.WithTimeout(ctx, markPatience)
	defer cancel()
	return f.bus.Hold(ctx, markOf(id), holder, markLasts)
}

// renew keeps the mark of a delivery that takes long.
func (f *Function) renew(ctx context.Context, id int64, holder string) {
	for {
		select {
		case <-time.After(markRenewed):
			_ = f.hold(ctx, id, holder) // there are more attempts
		case <-ctx.Done():
			return
		}
	}
}

// settle waits until no event of the subscription is being delivered, so that
// its place is known; not for ever, because an event that is delivered twice
// does less harm than a client that hears nothing more.
func (f *Function) settle(ctx context.Context, id int64) error {
	bounded, cancel := context.WithTimeout(ctx, settlePatience)
	defer cancel()
	f.underWay.wait(bounded, id)
	for pause := firstLook; f.marked(bounded, id); pause = min(2*pause, lastLook) {
		select {
		case <-time.After(pause):
		case <-bounded.Done():
		}
	}
	return ctx.Err()
}

// marked says whether another instance is known to deliver an event.
func (f *Function) marked(ctx context.Context, id int64) bool {
	ctx, cancel := context.WithTimeout(ctx, markPatience)
	defer cancel()
	held, err := f.bus.Held(ctx, markOf(id))
	return held && err == nil
}

// deliveries are those under way at this instance, by subscription.
type deliveries struct {
	mu sync.Mutex
	of map[int64]*delivering
}

type delivering struct {
	count int
	ended chan struct{} // closed with the last
}

func (d *deliveries) begin(id int64) (end func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	u := d.of[id]
	if u == nil {
		u = &delivering{ended: make(chan struct{})}
		d.of[id] = u
	}
	u.count++
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if u.count--; u.count == 0 {
			delete(d.of, id)
			close(u.ended)
		}
	}
}

// wait returns when none is under way, or ctx ends.
func (d *deliveries) wait(ctx context.Context, id int64) {
	d.mu.Lock()
	u := d.of[id]
	d.mu.Unlock()
	if u == nil {
		return
	}
	select {
	case <-u.ended:
	case <-ctx.Done():
	}
}
