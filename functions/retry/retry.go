// Package retry is the function that has builds and jobs tried again. A build or
// job that is done and incomplete, or a boot test (its name begins with
// "baseline") that fails, is asked for again, up to three times. The request
// travels as an event on channel "retry" and the scheduler creates the next
// attempt, as it does when a person asks for one.
//
// Each attempt knows the one before it (debug.retry_by) and the first
// (debug.retry_first). The last one counts: a report lists the others as retries,
// and no regression is made of them. A checkout stays open until each node that
// asks for a retry has got one, or was refused one by the configuration.
//
// Safe to run twice and at once: the id of a request follows from the node that
// is tried again, and the log takes an id once; the attempt's node has a place
// that the store gives once.
//
// # Decisions
//
// KernelCI looks for the kernel build above a job, so that a job which a checkout
// or another job started is never tried again, and its request has the job run on
// each runtime that has an entry for it. Here the node that started the job is
// asked again, for the runtime where the attempt before ran (or another of its
// type, when the entry leaves that open).
//
// Nothing is tried again below a checkout that is done: its report is out, or it
// ran out of time.
package retry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/node"
)

// Store is what the function needs of the store.
type Store interface {
	Get(ctx context.Context, id node.ID) (node.Node, error)
	Append(ctx context.Context, events ...event.Event) error
}

// Options are the parts of the function.
type Options struct {
	Store Store
	Owner string // of the pipeline's nodes, whom the scheduler listens to
	Now   func() time.Time
	Log   *slog.Logger
}

// Function handles events of builds and jobs.
type Function struct{ Options }

// New builds the function.
func New(o Options) (*Function, error) {
	if o.Store == nil || o.Owner == "" || o.Now == nil || o.Log == nil {
		return nil, errs.New(errs.Invalid, "retry.New: a part is missing")
	}
	return &Function{o}, nil
}

// space is the namespace of the ids of requests: a UUID of this function's own,
// made once.
var space = uuid.NewSHA1(uuid.NameSpaceURL, []byte("https://github.com/kernelflow/kernelflow/retry"))

// Handle asks for another attempt at the event's node, if it wants one.
func (f *Function) Handle(ctx context.Context, e event.Event) error {
	p, err := e.Node()
	if err != nil {
		return err
	}
	n, err := f.Store.Get(ctx, p.ID)
	if errors.Is(err, errs.NotFound) || err == nil && (!n.WantsRetry() || n.Retried() || n.Parent == "") {
		return nil
	}
	if err == nil {
		err = f.ask(ctx, n)
	}
	if err != nil {
		return fmt.Errorf("retry of node %s: %w", p.ID, err)
	}
	return nil
}

func (f *Function) ask(ctx context.Context, n node.Node) error {
	input, err := f.Store.Get(ctx, n.Parent)
	if errors.Is(err, errs.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	over, err := f.over(ctx, input)
	if err != nil || over {
		return err
	}
	attempt := n.RetryCounter + 1
	request := event.Retry{Input: input, Of: n, Attempt: attempt, Jobs: []string{n.Name}}
	id := uuid.NewSHA1(space, []byte(n.ID)).String()
	asked, err := request.Event(id, f.Owner, f.Now())
	if err != nil {
		return err
	}
	f.Log.InfoContext(ctx, "tried again", "node", n.ID, "name", n.Name, "result", n.Result, "error_code", n.Text("error_code"), "attempt", attempt)
	return f.Store.Append(ctx, asked)
}

// maxDepth bounds the way up to the root.
const maxDepth = 32

// over says whether the root above n is done.
func (f *Function) over(ctx context.Context, n node.Node) (bool, error) {
	for range maxDepth {
		if n.Parent == "" {
			break
		}
		above, err := f.Store.Get(ctx, n.Parent)
		if errors.Is(err, errs.NotFound) {
			break
		}
		if err != nil {
			return false, err
		}
		n = above
	}
	return n.State == node.Done, nil
}
