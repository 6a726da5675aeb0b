// Package timeout is the function that closes nodes, on its schedule:
//
//   - A node whose timeout has lapsed is done: incomplete unless it has a
//     result, with error code node_timeout.
//   - An available node whose holdoff has lapsed is done, or closing while
//     anything below it is not.
//   - A closing node with nothing left to do below it is done.
//
// "Below" is the whole subtree. A node waits, too, until the scheduler has
// dealt with it and with each build and job below it (see node.Scheduled and
// node.Retried): when events are late, after a crash say, jobs are still to come, and a
// checkout must not be reported without them. Where no scheduler marks nodes,
// they close half an hour after their holdoff.
//
// Safe to run twice and from any number of instances: each change is guarded by
// what the node is at that moment, and a node that has moved on is left alone.
// A pass closes what it finds; what becomes closable by that is closed by the
// next one.
package timeout

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
)

// patience is how long after its holdoff a node waits for the scheduler.
const patience = 30 * time.Minute

// Store is what the function needs of the node store.
type Store interface {
	Get(ctx context.Context, id node.ID) (node.Node, error)
	Each(ctx context.Context, q node.Query) iter.Seq2[node.Node, error]
	Update(ctx context.Context, id node.ID, change func(*node.Node) error, opts ...store.Option) (node.Node, error)
}

// Options are the parts of the function.
type Options struct {
	Store Store
	Now   func() time.Time
	Log   *slog.Logger
}

// Function closes nodes.
type Function struct{ Options }

// New builds the function.
func New(o Options) (*Function, error) {
	if o.Store == nil || o.Now == nil || o.Log == nil {
		return nil, errs.New(errs.Invalid, "timeout.New: a part is missing")
	}
	return &Function{o}, nil
}

// errMoved ends an update of a node that is not any more as it was found.
var errMoved = errs.New(errs.Conflict, "the node has moved on")

// Tick makes one pass. Trouble with one node does not stop the others.
func (f *Function) Tick(ctx context.Context) error {
	now := node.Time(f.Now())
	if err := errors.Join(f.lapse(ctx, now), f.closeAll(ctx, now)); err != nil {
		return fmt.Errorf("timeout.Tick: %w", err)
	}
	return nil
}

// lapse ends what has run out of time.
func (f *Function) lapse(ctx context.Context, now time.Time) error {
	q := node.Where("state", node.Running, node.Available, node.Closing).Cond("timeout", node.Lt, now)
	return f.each(ctx, q, func(n node.Node) error {
		return f.change(ctx, n.ID, func(n *node.Node) error {
			if n.State == node.Done || !n.Timeout.Before(now) {
				return errMoved
			}
			result := n.Result
			if result == node.None {
				result = node.Incomplete
			}
			n.SetError(result, node.ErrCodeTimeout, "not done before its timeout at "+node.FormatTime(n.Timeout)+" UTC")
			return nil
		})
	})
}

// closeAll closes what has waited long enough.
func (f *Function) closeAll(ctx context.Context, now time.Time) error {
	held := node.Where("state", node.Available).Cond("holdoff", node.Lt, now)
	forest := map[string]*forest{}
	closable := func(n node.Node) error {
		left, err := f.left(ctx, forest, n, now)
		if err != nil {
			return err
		}
		to := node.Done
		if left {
			to = node.Closing
		}
		if to == n.State {
			return nil
		}
		return f.change(ctx, n.ID, func(found *node.Node) error {
			if found.State != n.State || !found.Holdoff.Equal(n.Holdoff) {
				return errMoved
			}
			found.State = to
			return nil
		})
	}
	return errors.Join(f.each(ctx, held, closable), f.each(ctx, node.Where("state", node.Closing), closable))
}

// each calls do for the nodes of q and joins what is worth another try.
func (f *Function) each(ctx context.Context, q node.Query, do func(node.Node) error) error {
	var problems []error
	for n, err := range f.Store.Each(ctx, q) {
		if err != nil {
			return errors.Join(append(problems, err)...)
		}
		if err := do(n); err != nil {
			f.Log.WarnContext(ctx, "a node could not be closed", "id", n.ID, "error", err)
			problems = append(problems, fmt.Errorf("node %s: %w", n.ID, err))
		}
	}
	return errors.Join(problems...)
}

func (f *Function) change(ctx context.Context, id node.ID, change func(*node.Node) error) error {
	n, err := f.Store.Update(ctx, id, change)
	switch {
	case errors.Is(err, errMoved) || errors.Is(err, errs.NotFound):
		return nil
	case err != nil:
		return err
	}
	f.Log.InfoContext(ctx, "closed", "id", n.ID, "kind", n.Kind, "name", n.Name, "state", n.State, "result", n.Result)
	return nil
}

// left says whether there may be something to do below n.
func (f *Function) left(ctx context.Context, forests map[string]*forest, n node.Node, now time.Time) (bool, error) {
	key := n.TreeID
	if key == "" {
		key = "node/" + string(n.ID) // what has no tree is surveyed by itself
	}
	trees, ok := forests[key]
	if !ok {
		var err error
		if trees, err = f.survey(ctx, n); err != nil {
			return false, err
		}
		forests[key] = trees
	}
	if trees.busy[n.ID] {
		return true, nil
	}
	late := !n.Holdoff.IsZero() && now.Sub(n.Holdoff) > patience
	expecting := !n.Scheduled(node.Available) || trees.expecting[n.ID]
	return expecting && !late, nil
}

// forest is what is known of the nodes of one treeid: which have an unfinished
// node below them, and which have one that the scheduler has not dealt with.
type forest struct{ busy, expecting map[node.ID]bool }

// survey reads the unfinished nodes of n's tree, and its builds and jobs.
func (f *Function) survey(ctx context.Context, n node.Node) (*forest, error) {
	trees := &forest{busy: map[node.ID]bool{}, expecting: map[node.ID]bool{}}
	parents := map[node.ID]node.ID{}
	tree := node.Where("treeid", n.TreeID)
	if n.TreeID == "" {
		tree = node.Where("parent", n.ID) // nodes of old clients: one level
	}
	kinds := make([]any, len(node.SchedulableKinds))
	for i, k := range node.SchedulableKinds {
		kinds[i] = k
	}
	for m, err := range f.Store.Each(ctx, tree.And("kind", kinds...)) {
		if err != nil {
			return nil, err
		}
		parents[m.ID] = m.Parent
		if m.State == node.Done && (!m.Scheduled(node.Done) || m.WantsRetry() && !m.Retried()) {
			if err := f.mark(ctx, trees.expecting, parents, m.Parent); err != nil {
				return nil, err
			}
		}
	}
	for m, err := range f.Store.Each(ctx, tree.And("state", node.Running, node.Available, node.Closing)) {
		if err != nil {
			return nil, err
		}
		if err := f.mark(ctx, trees.busy, parents, m.Parent); err != nil {
			return nil, err
		}
	}
	return trees, nil
}

// mark sets id and everything above it. A parent that is not known yet is read.
func (f *Function) mark(ctx context.Context, set map[node.ID]bool, parents map[node.ID]node.ID, id node.ID) error {
	for id != "" && !set[id] {
		set[id] = true
		parent, known := parents[id]
		if !known {
			n, err := f.Store.Get(ctx, id)
			if err != nil && !errors.Is(err, errs.NotFound) {
				return err
			}
			parent = n.Parent
			parents[id] = parent
		}
		id = parent
	}
	return nil
}
