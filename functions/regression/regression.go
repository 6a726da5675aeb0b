// Package regression is the function that compares a finished checkout with
// the one before it. A build, job or test that passed on the previous checkout
// of the same tree and branch (same path, platform, arch, defconfig and
// compiler) and fails now makes a regression node: its result is fail while it
// is active and pass once what it is about has passed again. Failing again
// while it is active adds to its node_sequence. What was found is taken down in
// the checkout's data.regressions, {"new", "active", "fixed"}, which is what the
// report waits for.
//
// "Previous" goes by the time the checkouts were made, not by when they ended.
// Runs that were skipped or incomplete tell nothing and are looked past. A node
// that has a failing one below it makes no regression of its own: the deepest
// failure is the one to look at. Of several attempts at a job the last that came
// to a result counts, with all below it (see node.Attempts).
// Only checkouts of the same owner and submitter are compared: what a person asked
// for is no part of the history of the pipeline's own.
//
// A patchset is compared with the checkout that it was made of, and with nothing
// else. What passed there and fails here is new; what it mends changes no known
// regression, since the tree itself is as it was.
//
// Checkouts may be done in any order, so what a failure is follows from the runs
// in the store, not from which regressions are there: it belongs to the first
// failure after the last pass. When that one is on an earlier checkout that is
// not done yet, its regression is made now, under the id that it would get then.
//
// Safe to run twice and at once: the id of a regression follows from the node
// that fails; what was found is written into the checkout once, by whoever is
// first, and regressions are made inactive only after that and only from what
// is written there. Each event of the finished checkout goes through that last
// step again, so a crash in between is mended by the next delivery.
//
// Decisions. All is done when the checkout is done, rather than at each job's
// end: only then is it known which failure is the deepest, and one pass reads
// each node once. The price is that a regression is known when the report goes
// out and not before.
package regression

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
)

// Store is what the function needs of the node store.
type Store interface {
	Get(ctx context.Context, id node.ID) (node.Node, error)
	Find(ctx context.Context, q node.Query) ([]node.Node, error)
	Each(ctx context.Context, q node.Query) iter.Seq2[node.Node, error]
	Create(ctx context.Context, n node.Node, opts ...store.Option) (node.Node, error)
	Update(ctx context.Context, id node.ID, change func(*node.Node) error, opts ...store.Option) (node.Node, error)
}

// Options are the parts of the function.
type Options struct {
	Store Store
	Log   *slog.Logger
}

// Function handles events of checkouts.
type Function struct{ Options }

// New builds the function.
func New(o Options) (*Function, error) {
	if o.Store == nil || o.Log == nil {
		return nil, errs.New(errs.Invalid, "regression.New: a part is missing")
	}
	return &Function{o}, nil
}

// findings are the ids of the regressions that a checkout knows, by what
// became of them on it.
type findings struct {
	New    []node.ID `json:"new"`
	Active []node.ID `json:"active"`
	Fixed  []node.ID `json:"fixed"`
	// Runs tells for each active one which node failed again.
	Runs map[node.ID]node.ID `json:"runs,omitempty"`
	// Ended are those that began here and that a newer checkout, which was
	// done earlier, has mended.
	Ended []node.ID `json:"ended,omitempty"`
}

// again takes down that a known regression's test failed again, as node n.
func (f *findings) again(id, n node.ID) {
	if _, ok := f.Runs[id]; !ok {
		f.Active = append(f.Active, id)
	}
	f.Runs[id] = n
}

const findingsKey = "regressions"

// Handle compares the checkout of the event with the one before it.
func (f *Function) Handle(ctx context.Context, e event.Event) error {
	p, err := e.Node()
	if err != nil {
		return err
	}
	checkout, err := f.Store.Get(ctx, p.ID)
	if errors.Is(err, errs.NotFound) || err == nil && (checkout.Kind != node.KindCheckout || checkout.State != node.Done) {
		return nil
	}
	if err == nil && checkout.Data[findingsKey] == nil {
		checkout, err = f.compare(ctx, checkout)
	}
	if err == nil {
		err = f.apply(ctx, checkout)
	}
	if err != nil {
		return fmt.Errorf("regressions of checkout %s: %w", p.ID, err)
	}
	return nil
}

// compare finds the regressions and writes them down.
func (f *Function) compare(ctx context.Context, checkout node.Node) (node.Node, error) {
	c := comparison{
		store: f.Store, checkout: checkout, runs: map[string]run{}, open: map[string][]opened{},
		checkouts: map[string]node.Node{checkout.TreeID: checkout},
	}
	c.revision, _ = checkout.Revision()
	if c.patchset() {
		base, err := f.Store.Get(ctx, checkout.Parent)
		if err != nil && !errors.Is(err, errs.NotFound) {
			return checkout, err
		}
		c.base = base
	}
	if err := c.read(ctx); err != nil {
		return checkout, err
	}
	found, err := c.known(ctx)
	if err == nil {
		err = c.failing(ctx, found)
	}
	if err != nil {
		return checkout, err
	}
	return f.write(ctx, checkout.ID, found)
}

// errWritten ends an update of a checkout whose findings another instance has
// written.
var errWritten = errs.New(errs.Conflict, "the findings are written already")

func (f *Function) write(ctx context.Context, id node.ID, found *findings) (node.Node, error) {
	b, err := json.Marshal(found)
	if err != nil {
		return node.Node{}, err
	}
	var value map[string]any
	if err := json.Unmarshal(b, &value); err != nil {
		return node.Node{}, err
	}
	n, err := f.Store.Update(ctx, id, func(n *node.Node) error {
		if n.Data[findingsKey] != nil {
			return errWritten
		}
		n.Set(findingsKey, value)
		return nil
	})
	if errors.Is(err, errWritten) {
		return f.Store.Get(ctx, id)
	}
	if err == nil {
		f.Log.InfoContext(ctx, "regressions", "checkout", id, "new", len(found.New), "active", len(found.Active), "fixed", len(found.Fixed))
	}
	return n, err
}

// errSame ends an update that has nothing to change.
var errSame = errs.New(errs.Conflict, "nothing to change")

// apply brings the regressions to what the checkout's findings say.
func (f *Function) apply(ctx context.Context, checkout node.Node) error {
	b, err := json.Marshal(checkout.Data[findingsKey])
	if err != nil {
		return err
	}
	var found findings
	if err := json.Unmarshal(b, &found); err != nil {
		return errs.Wrap(errs.Invalid, err)
	}
	var problems []error
	for _, id := range slices.Concat(found.Fixed, found.Ended) {
		problems = append(problems, f.change(ctx, id, func(r *node.Node) error {
			if r.Result == node.Pass {
				return errSame
			}
			r.Result = node.Pass
			return nil
		}))
	}
	for _, id := range found.Active {
		again := found.Runs[id]
		problems = append(problems, f.change(ctx, id, func(r *node.Node) error {
			sequence, _ := r.Data["node_sequence"].([]any)
			if again == "" || slices.Contains(sequence, any(string(again))) {
				return errSame
			}
			sequence = append(slices.Clip(sequence), string(again))
			// Sorted, so that it does not tell which checkout was done first.
			slices.SortFunc(sequence, func(a, b any) int { return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
			r.Set("node_sequence", sequence)
			return nil
		}), f.point(ctx, again, id))
	}
	for _, id := range found.New {
		r, err := f.Store.Get(ctx, id)
		if err == nil {
			err = f.point(ctx, r.Parent, id)
		}
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// point makes a failing node name its regression.
func (f *Function) point(ctx context.Context, failing, regression node.ID) error {
	if failing == "" {
		return nil
	}
	return f.change(ctx, failing, func(n *node.Node) error {
		if n.Text("regression") == string(regression) {
			return errSame
		}
		n.Set("regression", string(regression))
		return nil
	}, store.Silent)
}

func (f *Function) change(ctx context.Context, id node.ID, change func(*node.Node) error, opts ...store.Option) error {
	_, err := f.Store.Update(ctx, id, change, opts...)
	if errors.Is(err, errSame) || errors.Is(err, errs.NotFound) {
		return nil
	}
	return err
}

// identity says what a run is a run of: two nodes with the same identity on two
// checkouts can be compared.
func identity(kind node.Kind, path []string, group string, data map[string]any) string {
	parts := []any{kind, node.Below(path), group, data["arch"], data["defconfig"], data["compiler"], data["platform"]}
	b, err := json.Marshal(parts)
	if err != nil {
		return string(kind) + strings.Join(path, "/")
	}
	return string(b)
}
