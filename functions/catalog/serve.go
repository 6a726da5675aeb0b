package catalog

import (
	"context"
	"fmt"
	"net/http"
	"runtime/debug"
	"time"

	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/event"
)

// Status is what a function's error means to whoever delivered the event: 5xx
// is "again", 4xx is "never, put it with the dead letters".
func Status(err error) int {
	if status := errs.Status(err); errs.Retry(err) == (status >= http.StatusInternalServerError) {
		return status
	}
	return http.StatusInternalServerError
}

// Handler serves the function over HTTP as a cloud does: an HTTP function as
// it is, an event function by POST of a CloudEvent in binary or structured
// mode, a scheduled one by an empty POST. The status tells the sender whether
// to deliver again (see [Status]); each invocation is bounded by the function's
// timeout.
//
// The event is decoded by the CloudEvents SDK, but not received by it: its
// receiver (client.EventReceiver, which functions-framework-go uses for
// CloudEvent functions) passes messages of concurrent requests through one
// channel, where the goroutine of a request may take another's message and
// leave with its own request's end. A request then waits for ever.
func (f Function) Handler(h Handler) http.Handler {
	switch {
	case h.HTTP != nil:
		return h.HTTP
	case h.Tick != nil:
		return f.invoked(func(ctx context.Context, _ *http.Request) error { return h.Tick(ctx) })
	}
	return f.invoked(func(ctx context.Context, r *http.Request) error {
		ce, err := cehttp.NewEventFromHTTPRequest(r)
		if err != nil {
			return errs.Wrap(errs.Invalid, err)
		}
		e, err := event.FromCloudEvent(*ce)
		if err != nil {
			return err
		}
		return h.Event(ctx, e)
	})
}

// maxEvent bounds what an invocation carries, bytes.
const maxEvent = 64 << 20

// invoked answers a POST with what becomes of do.
func (f Function) invoked(do func(context.Context, *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			http.Error(w, "a function is invoked with POST", http.StatusMethodNotAllowed)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), f.Timeout.Duration())
		defer cancel()
		r.Body = http.MaxBytesReader(w, r.Body, maxEvent)
		if err := recovered(func() error { return do(ctx, r) }); err != nil {
			http.Error(w, f.Name+": "+err.Error(), Status(err))
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
}

// recovered turns a panic into an error.
func recovered(do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return do()
}

// Backoff is how long to wait before the attempt after the given one (from 1):
// doubling from a fifth of a second up to half a minute.
func Backoff(attempt int) time.Duration {
	const first, most = 200 * time.Millisecond, 30 * time.Second
	if attempt > 8 {
		return most
	}
	return min(first<<(attempt-1), most)
}

// Attempts is how often an event is delivered before it becomes a dead letter.
const Attempts = 8
