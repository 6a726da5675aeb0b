package emulator

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/kernelflow/kernelflow/shared/node"
)

// broken lists the error codes of nodes that mean that the pipeline, not the
// code under test, is at fault.
var broken = []any{node.ErrCodeGitCheckout, node.ErrCodeJobParams, node.ErrCodeJobGeneration, node.ErrCodeSubmit}

// RunOnce makes one trigger pass over all build configs and runs until nothing
// is pending: every event handled, every node done. It returns what went wrong
// in the pipeline itself, one line each, also before this run in what it takes
// over from an earlier one; a failing test is a result, not a fault.
func (e *Emulator) RunOnce(ctx context.Context) (faults []string, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	since, err := e.oldestPending(ctx)
	if err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	others := slices.DeleteFunc(slices.Clone(e.tickers), func(t *ticker) bool { return t == e.trigger })
	go func() { ended <- e.run(ctx, others) }()
	if err := e.trigger.invoke(ctx); err != nil {
		faults = append(faults, err.Error())
	}
	waitErr := e.waitUntilIdle(ctx)
	stopped := ctx.Err() != nil
	if !stopped && waitErr == nil {
		faults, waitErr = e.faults(ctx, since, faults)
	}
	cancel()
	if err := <-ended; err != nil {
		return faults, err
	}
	return faults, waitErr
}

func oldestUnfinished() node.Query {
	return node.Where("state", node.Running, node.Available, node.Closing).Page(1, 0)
}

// oldestPending is when the oldest node that is not done was created; now when
// there is none.
func (e *Emulator) oldestPending(ctx context.Context) (time.Time, error) {
	nodes, err := e.app.Store.Find(ctx, oldestUnfinished())
	if err != nil || len(nodes) == 0 {
		return e.app.Now(), err
	}
	return nodes[0].Created, nil
}

// look is how often it is checked whether anything is pending.
const look = 50 * time.Millisecond

func (e *Emulator) waitUntilIdle(ctx context.Context) error {
	for {
		idle, err := e.idle(ctx)
		if err != nil || idle {
			return err
		}
		if !pause(ctx, look) {
			return ctx.Err()
		}
	}
}

// idle says whether nothing is pending. The log is looked at again at the end:
// a node write that slips in between leaves an event there.
func (e *Emulator) idle(ctx context.Context) (bool, error) {
	last, err := e.logEnd(ctx)
	if err != nil {
		return false, err
	}
	for _, d := range e.dispatchers {
		if !d.idleAt(last) {
			return false, nil
		}
	}
	nodes, err := e.app.Store.Find(ctx, oldestUnfinished())
	if err != nil || len(nodes) > 0 {
		return false, err
	}
	now, err := e.logEnd(ctx)
	return now == last, err
}

// logEnd is the sequence of the newest event, with those counted that committed
// writes have left beside the log.
func (e *Emulator) logEnd(ctx context.Context) (int64, error) {
	if _, err := e.app.Store.Collect(ctx); err != nil {
		return 0, err
	}
	return e.app.Store.LastSequence(ctx)
}

// faults adds what the run left behind: dead letters, and nodes that the
// pipeline could not carry through.
func (e *Emulator) faults(ctx context.Context, since time.Time, faults []string) ([]string, error) {
	for _, d := range e.dispatchers {
		if n := d.deadLetters(); n > 0 {
			faults = append(faults, fmt.Sprintf("%s gave up %d events, which /latest/dead-letters tells of and delivers again", d.function.Name, n))
		}
	}
	q := node.Where("data.error_code", broken...).Cond("updated", node.Gte, since)
	for n, err := range e.app.Store.Each(ctx, q) {
		if err != nil {
			return faults, err
		}
		of := ""
		if r, ok := n.Revision(); ok {
			of = " of " + r.Tree + "/" + r.Branch
		}
		faults = append(faults, fmt.Sprintf("%s %s%s: %s: %s", n.Kind, n.Name, of, n.Text("error_code"), n.Text("error_msg")))
	}
	return faults, nil
}
