package emulator

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"

	"github.com/kernelflow/kernelflow/functions/catalog"
	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/store"
)

// eventLog is what the dispatcher needs of the store.
type eventLog interface {
	store.Events
	store.Cursors
	store.DeadLetters
}

// waiter tells when the log may have grown.
type waiter interface {
	Wait(ctx context.Context, seen int64) error
}

// window bounds the events that one function has been given but not finished.
const window = 512

// dispatcher delivers the events of the log to one function.
type dispatcher struct {
	function catalog.Function
	url      string
	log      eventLog
	watch    waiter
	client   *http.Client
	now      func() time.Time
	speed    time.Duration // divides the waits between attempts
	logger   *slog.Logger

	slots chan struct{} // one per invocation that may run at once

	mu      sync.Mutex
	changed *sync.Cond
	lanes   map[string][]event.Event // per tree: what waits behind the event under way
	pending map[int64]struct{}       // sequences given out, not finished
	looked  int64                    // how far the log has been read
	saved   int64                    // the cursor in the store
	buried  int
}

func newDispatcher(f catalog.Function, url string, log eventLog, watch waiter, client *http.Client, now func() time.Time, speed int, logger *slog.Logger) *dispatcher {
	d := &dispatcher{
		function: f, url: url, log: log, watch: watch, client: client, now: now,
		speed: time.Duration(max(speed, 1)), logger: logger.With("function", f.Name),
		slots: make(chan struct{}, f.Concurrency), lanes: map[string][]event.Event{}, pending: map[int64]struct{}{},
	}
	d.changed = sync.NewCond(&d.mu)
	return d
}

// run delivers until ctx ends, and returns when nothing is under way any more.
func (d *dispatcher) run(ctx context.Context) error {
	start, err := d.log.Cursor(ctx, d.cursor())
	if err != nil {
		return fmt.Errorf("dispatcher %s: %w", d.function.Name, err)
	}
	d.mu.Lock()
	d.looked, d.saved = start, start
	d.mu.Unlock()
	stop := context.AfterFunc(ctx, d.wake)
	defer stop()
	var group sync.WaitGroup
	defer group.Wait()
	group.Go(func() { d.saveCursor(ctx) })
	for ctx.Err() == nil {
		if err := d.step(ctx, &group); err != nil && ctx.Err() == nil {
			d.logger.Error("reading the event log", "error", err)
			pause(ctx, catalog.Backoff(3)/d.speed)
		}
	}
	return nil
}

func (d *dispatcher) cursor() string { return "function/" + d.function.Name }

func (d *dispatcher) wake() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.changed.Broadcast()
}

// step reads one batch of events and gives them out, or waits for some.
func (d *dispatcher) step(ctx context.Context, group *sync.WaitGroup) error {
	d.mu.Lock()
	for len(d.pending) >= window && ctx.Err() == nil {
		d.changed.Wait()
	}
	from := d.looked
	d.mu.Unlock()
	events, looked, err := d.log.After(ctx, from, *d.function.Trigger.Events, window/2)
	if err != nil {
		return err
	}
	d.mu.Lock()
	for _, e := range events {
		d.pending[e.Sequence] = struct{}{}
		d.enqueue(ctx, group, e)
	}
	d.looked = looked
	d.changed.Broadcast()
	d.mu.Unlock()
	if looked == from {
		return d.watch.Wait(ctx, looked)
	}
	return nil
}

// enqueue puts e behind the events of its tree; d.mu is held.
func (d *dispatcher) enqueue(ctx context.Context, group *sync.WaitGroup, e event.Event) {
	key := e.TreeID
	if key == "" {
		key = e.ID
	}
	waiting, busy := d.lanes[key]
	if busy {
		d.lanes[key] = append(waiting, e)
		return
	}
	d.lanes[key] = nil
	group.Go(func() { d.work(ctx, key, e) })
}

// work delivers e and then whatever has queued up behind it in its tree.
func (d *dispatcher) work(ctx context.Context, key string, e event.Event) {
	for {
		if !d.deliver(ctx, e) {
			return // stopped: e stays pending, so the cursor stays behind it
		}
		d.mu.Lock()
		delete(d.pending, e.Sequence)
		d.changed.Broadcast()
		waiting := d.lanes[key]
		if len(waiting) == 0 {
			delete(d.lanes, key)
			d.mu.Unlock()
			return
		}
		e, d.lanes[key] = waiting[0], waiting[1:]
		d.mu.Unlock()
	}
}

// deliver tries e until the function takes it or it is buried. It returns
// false when ctx ended first.
func (d *dispatcher) deliver(ctx context.Context, e event.Event) bool {
	for attempt := 1; ; attempt++ {
		err := d.post(ctx, e)
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		if !errs.Retry(err) || attempt >= catalog.Attempts {
			return d.bury(ctx, e, err, attempt)
		}
		d.logger.Warn("delivering again", "event", e.ID, "sequence", e.Sequence, "attempt", attempt, "error", err)
		if !pause(ctx, catalog.Backoff(attempt)/d.speed) {
			return false
		}
	}
}

func (d *dispatcher) post(ctx context.Context, e event.Event) error {
	select {
	case d.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-d.slots }()
	// An invocation under way is not cut off by the end of the host's own
	// context: it gets its time, as in a cloud; Shutdown waits for it a little.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.function.Timeout.Duration())
	defer cancel()
	request, err := d.request(ctx, e)
	if err != nil {
		return err
	}
	response, err := d.client.Do(request)
	if err != nil {
		return fmt.Errorf("%s: %w", d.function.Name, errs.Wrap(errs.Temporary, err))
	}
	defer response.Body.Close()
	return answer(d.function.Name, response)
}

func (d *dispatcher) request(ctx context.Context, e event.Event) (*http.Request, error) {
	ce, err := e.CloudEvent()
	if err != nil {
		return nil, err
	}
	request, err := cehttp.NewHTTPRequestFromEvent(ctx, d.url, ce)
	if err != nil {
		return nil, fmt.Errorf("event %s: %w", e.ID, errs.Wrap(errs.Invalid, err))
	}
	return request, nil
}

// answer turns a function's response into an error, of a kind that says
// whether to try again.
func answer(function string, response *http.Response) error {
	if response.StatusCode < 300 {
		_, err := io.Copy(io.Discard, response.Body)
		return errs.Wrap(errs.Temporary, err)
	}
	text, _ := io.ReadAll(io.LimitReader(response.Body, 4096))
	kind := errs.Invalid
	if response.StatusCode >= 500 || response.StatusCode == http.StatusTooManyRequests || response.StatusCode == http.StatusRequestTimeout {
		kind = errs.Temporary
	}
	return errs.New(kind, "%s: %s: %s", function, response.Status, text)
}

func (d *dispatcher) bury(ctx context.Context, e event.Event, cause error, attempts int) bool {
	d.logger.Error("giving an event up", "event", e.ID, "sequence", e.Sequence, "attempts", attempts, "error", cause)
	letter := store.DeadLetter{Function: d.function.Name, Event: e, Error: cause.Error(), Attempts: attempts, Time: d.now().UTC()}
	for attempt := 1; ; attempt++ {
		err := d.log.Bury(ctx, letter)
		if err == nil {
			d.mu.Lock()
			d.buried++
			d.mu.Unlock()
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		d.logger.Error("keeping a dead letter", "event", e.ID, "error", err)
		if !pause(ctx, catalog.Backoff(attempt)/d.speed) {
			return false
		}
	}
}

// finished is the sequence up to which everything is done; d.mu is held.
func (d *dispatcher) finished() int64 {
	done := d.looked
	for sequence := range d.pending {
		done = min(done, sequence-1)
	}
	return done
}

// saveCursor writes the cursor whenever it can move. One write covers all that
// finished during the write before it.
func (d *dispatcher) saveCursor(ctx context.Context) {
	for {
		d.mu.Lock()
		for d.finished() == d.saved && ctx.Err() == nil {
			d.changed.Wait()
		}
		to := d.finished()
		d.mu.Unlock()
		if to == d.saved {
			return
		}
		if err := d.log.Advance(context.WithoutCancel(ctx), d.cursor(), to); err != nil {
			d.logger.Error("saving the cursor", "error", err)
			if !pause(ctx, catalog.Backoff(3)/d.speed) {
				return
			}
			continue
		}
		d.mu.Lock()
		d.saved = to
		d.mu.Unlock()
	}
}

// idleAt says whether everything up to sequence is done.
func (d *dispatcher) idleAt(sequence int64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.pending) == 0 && d.looked >= sequence
}

func (d *dispatcher) deadLetters() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.buried
}

// pause waits; false when ctx ended first.
func pause(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
