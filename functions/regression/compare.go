package regression

import (
	"context"
	"errors"
	"slices"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
)

// comparison is one checkout held against what came before it.
type comparison struct {
	store     Store
	checkout  node.Node
	base      node.Node // of a patchset: the checkout without the patches
	revision  node.Revision
	runs      map[string]run       // by identity
	open      map[string][]opened  // by identity: active regressions that began on an earlier checkout
	checkouts map[string]node.Node // by treeid; one without an id is none to compare with
}

// run is the last attempt at something on this checkout that passed or failed.
type run struct {
	id      node.ID
	result  node.Result
	attempt int
	node    *node.Node // of a failure that counts
}

// opened is a regression that is active.
type opened struct {
	id     node.ID
	origin node.ID // the node that failed first
}

// comparable are the kinds that take part.
var comparable = []any{node.KindKbuild, node.KindJob, node.KindTest}

// read goes through all that has run on the checkout. Only the failures are
// kept whole.
func (c *comparison) read(ctx context.Context) error {
	superseded, err := c.superseded(ctx)
	if err != nil {
		return err
	}
	parents := map[node.ID]node.ID{}
	var failures []node.Node
	for n, err := range c.store.Each(ctx, node.Where("treeid", c.checkout.TreeID).And("kind", comparable...)) {
		if err != nil {
			return err
		}
		parents[n.ID] = n.Parent
		if superseded[n.ID] || superseded[n.Parent] {
			superseded[n.ID] = true // nodes come in the order of creation: its parent was here before
			continue
		}
		if n.Result != node.Pass && n.Result != node.Fail {
			continue
		}
		key := identity(n.Kind, n.Path, n.Group, n.Data)
		if last, ok := c.runs[key]; ok && last.attempt > n.RetryCounter {
			continue
		}
		c.runs[key] = run{id: n.ID, result: n.Result, attempt: n.RetryCounter}
		if n.Result == node.Fail {
			failures = append(failures, n)
		}
	}
	above := map[node.ID]bool{}
	for _, n := range failures {
		for id := n.Parent; id != "" && !above[id]; id = parents[id] {
			above[id] = true
		}
	}
	for i, n := range failures {
		key := identity(n.Kind, n.Path, n.Group, n.Data)
		if r := c.runs[key]; r.id == n.ID && !above[n.ID] {
			r.node = &failures[i]
			c.runs[key] = r
		}
	}
	return nil
}

// superseded finds the runs on this checkout that were tried again.
func (c *comparison) superseded(ctx context.Context) (map[node.ID]bool, error) {
	var attempts node.Attempts
	for n, err := range c.store.Each(ctx, node.Where("treeid", c.checkout.TreeID).And("kind", node.KindKbuild, node.KindJob)) {
		if err != nil {
			return nil, err
		}
		attempts.Add(n)
	}
	return attempts.Superseded(), nil
}

// known finds the active regressions that began on an earlier checkout, and
// which of them have passed again here.
//
// A patchset tells nothing of them: what it mends is not mended in the tree.
func (c *comparison) known(ctx context.Context) (*findings, error) {
	found := &findings{New: []node.ID{}, Active: []node.ID{}, Fixed: []node.ID{}, Runs: map[node.ID]node.ID{}}
	if c.patchset() {
		return found, nil
	}
	q := node.Where("kind", node.KindRegression).And("result", node.Fail).
		And("data.kernel_revision.tree", c.revision.Tree).And("data.kernel_revision.branch", c.revision.Branch)
	for r, err := range c.store.Each(ctx, q) {
		if err != nil {
			return nil, err
		}
		key := identity(node.Kind(r.Text("fail_kind")), r.Path, r.Group, r.Data)
		now, ok := c.runs[key]
		if !ok {
			continue
		}
		began, err := c.at(ctx, r.TreeID)
		if err != nil {
			return nil, err
		}
		switch {
		case began.ID == c.checkout.ID && now.result == node.Pass:
			found.Ended = append(found.Ended, r.ID) // of an attempt that was not the last
		case !before(began, c.checkout):
		case now.result == node.Pass:
			found.Fixed = append(found.Fixed, r.ID)
		case now.node == nil:
			found.again(r.ID, now.id) // something below it fails now
		default:
			c.open[key] = append(c.open[key], opened{id: r.ID, origin: r.Parent})
		}
	}
	return found, nil
}

// failing says of each failure that counts whether it is a regression, in a
// fixed order, so that two passes give the same.
func (c *comparison) failing(ctx context.Context, found *findings) error {
	var failures []*node.Node
	for _, r := range c.runs {
		if r.node != nil {
			failures = append(failures, r.node)
		}
	}
	slices.SortFunc(failures, func(a, b *node.Node) int {
		if order := slices.Compare(a.Path, b.Path); order != 0 {
			return order
		}
		return slices.Compare([]byte(a.ID), []byte(b.ID))
	})
	for _, n := range failures {
		if err := c.judge(ctx, n, found); err != nil {
			return err
		}
	}
	return nil
}

// judge goes back from a failure to the last time that it passed. The first
// failure after that is the regression's, whichever checkout is looked at
// first: the regression is made here if that one's turn has not come.
func (c *comparison) judge(ctx context.Context, n *node.Node, found *findings) error {
	past, err := c.history(ctx, n)
	if err != nil {
		return err
	}
	open := c.open[identity(n.Kind, n.Path, n.Group, n.Data)]
	failed := []*node.Node{n}
	var passed *node.Node
	mended := false
	for i := range past { // newest first
		r := &past[i]
		on := c.checkouts[r.TreeID]
		if before(c.checkout, on) {
			mended = mended || r.Result == node.Pass && on.Data[findingsKey] != nil
			continue
		}
		if r.Result == node.Pass {
			passed = r
			break
		}
		if at := slices.IndexFunc(open, func(o opened) bool { return o.origin == r.ID }); at >= 0 {
			found.again(open[at].id, n.ID)
			return nil
		}
		failed = append(failed, r)
	}
	if passed == nil {
		if len(open) > 0 { // it began further back than was looked
			found.again(open[len(open)-1].id, n.ID)
		}
		return nil
	}
	return c.settle(ctx, n, failed, passed, mended, found)
}

// settle makes the regression of what failed, newest first, after it passed.
func (c *comparison) settle(ctx context.Context, n *node.Node, failed []*node.Node, passed *node.Node, mended bool, found *findings) error {
	origin, err := c.first(ctx, failed)
	if err != nil {
		return err
	}
	id, err := c.create(ctx, origin, passed)
	if err != nil {
		return err
	}
	if mended {
		found.Ended = append(found.Ended, id)
	}
	if origin == n {
		found.New = append(found.New, id)
	} else {
		found.again(id, n.ID)
	}
	return nil
}

// first is the oldest of the failures that is one of its own, not the sum of
// failures below it. The newest is known to be.
func (c *comparison) first(ctx context.Context, failed []*node.Node) (*node.Node, error) {
	for _, r := range slices.Backward(failed[1:]) {
		below, err := c.store.Find(ctx, node.Where("parent", r.ID).And("kind", comparable...).And("result", node.Fail).Page(1, 0))
		if err != nil || len(below) == 0 {
			return r, err
		}
	}
	return failed[0], nil
}

// lookBack is how many runs of the same name are looked through.
const lookBack = 200

// history is the runs of the same thing on other checkouts that passed or
// failed, the last attempt of each, by the age of the checkouts, newest first.
func (c *comparison) history(ctx context.Context, n *node.Node) ([]node.Node, error) {
	q := node.Where("kind", n.Kind).And("name", n.Name).
		And("data.kernel_revision.tree", c.revision.Tree).And("data.kernel_revision.branch", c.revision.Branch).
		And("data.platform", n.Data["platform"]).And("data.arch", n.Data["arch"]).And("data.compiler", n.Data["compiler"]).
		And("result", node.Pass, node.Fail).Page(lookBack, 0)
	if c.patchset() {
		q = q.And("treeid", c.base.TreeID)
	}
	q.Newest = true
	found, err := c.store.Find(ctx, q)
	if err != nil {
		return nil, err
	}
	key := identity(n.Kind, n.Path, n.Group, n.Data)
	last := map[string]int{} // by treeid
	var runs []node.Node
	for _, r := range found {
		if r.TreeID == c.checkout.TreeID || identity(r.Kind, r.Path, r.Group, r.Data) != key {
			continue
		}
		if on, err := c.at(ctx, r.TreeID); err != nil {
			return nil, err
		} else if on.ID == "" {
			continue
		}
		if i, ok := last[r.TreeID]; !ok {
			last[r.TreeID] = len(runs)
			runs = append(runs, r)
		} else if r.RetryCounter > runs[i].RetryCounter {
			runs[i] = r
		}
	}
	slices.SortStableFunc(runs, func(a, b node.Node) int {
		if before(c.checkouts[b.TreeID], c.checkouts[a.TreeID]) {
			return -1
		}
		return 1
	})
	return runs, nil
}

// patchset says whether the checkout has patches on it.
func (c *comparison) patchset() bool { return c.checkout.Name == node.NamePatchset }

// counts says whether what ran on n can be compared with what ran on the
// checkout. Anybody may make a checkout that names this tree and branch: one of
// another owner or submitter, and one with patches, is no part of its history.
func (c *comparison) counts(n node.Node) bool {
	if c.patchset() {
		return n.ID == c.base.ID
	}
	return n.Owner == c.checkout.Owner && n.Submitter == c.checkout.Submitter && n.Name == c.checkout.Name
}

// at returns the checkout of that treeid, or nothing when there is none that
// counts.
func (c *comparison) at(ctx context.Context, treeID string) (node.Node, error) {
	n, ok := c.checkouts[treeID]
	if ok {
		return n, nil
	}
	list, err := c.store.Find(ctx, node.Where("treeid", treeID).And("kind", node.KindCheckout).Page(1, 0))
	if err != nil {
		return node.Node{}, err
	}
	if len(list) > 0 && c.counts(list[0]) {
		n = list[0]
	}
	c.checkouts[treeID] = n
	return n, nil
}

// before says whether checkout a was made before b.
func before(a, b node.Node) bool {
	if a.ID == "" || a.Created.Equal(b.Created) {
		return a.ID != "" && a.ID < b.ID
	}
	return a.Created.Before(b.Created)
}

// copied are the keys of a failing node's data that its regression has too.
var copied = []string{"arch", "defconfig", "config_full", "compiler", "platform", "device", "error_code", "error_msg"}

// create makes the regression of n, which passed as before.
func (c *comparison) create(ctx context.Context, n, before *node.Node) (node.ID, error) {
	r := node.Node{
		ID: node.DeriveID(n.ID, "regression"), Kind: node.KindRegression, Name: n.Name, Path: n.Path, Group: n.Group, Parent: n.ID,
		State: node.Done, Result: node.Fail, TreeID: n.TreeID, Owner: n.Owner, Submitter: n.Submitter, UserGroups: n.UserGroups,
		Timeout: n.Timeout, Data: map[string]any{},
	}
	for _, key := range copied {
		if v := n.Data[key]; v != nil {
			r.Set(key, v)
		}
	}
	r.Set("fail_node", string(n.ID))
	r.Set("pass_node", string(before.ID))
	r.Set("fail_kind", string(n.Kind))
	r.Set("node_sequence", []any{})
	for _, key := range []string{"failed_kernel_revision", "kernel_revision"} {
		r.Set(key, c.checkouts[n.TreeID].Data["kernel_revision"])
	}
	_, err := c.store.Create(ctx, r.Clone())
	if errors.Is(err, errs.Conflict) {
		err = nil // made by an earlier delivery
	}
	return r.ID, err
}
