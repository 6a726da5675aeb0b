package relay

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
)

const (
	// checkoutBatch is how many checkouts are looked at in one list.
	checkoutBatch = 50
	// nodeBatch is how many nodes are looked below, or removed, at a time.
	nodeBatch = 200
	// expireBudget is after how many nodes a run leaves the rest to the next.
	expireBudget = 20_000
	// expirePause is how long nobody looks for old checkouts after all were
	// found: those that must stay would be looked at again and again.
	expirePause = time.Hour
)

// expire removes checkouts that are older than their retention, the oldest
// first.
func (f *Function) expire(ctx context.Context) error {
	now := f.Now()
	if f.Nodes == 0 || now.Unix() < f.rested.Load() {
		return nil
	}
	before := now.Add(-f.Nodes)
	old := node.Where("parent", nil).And("kind", node.KindCheckout).And("state", node.Done).Cond("updated", node.Lt, before)
	for removed, kept := 0, 0; removed < expireBudget; {
		checkouts, err := f.Store.Find(ctx, old.Page(checkoutBatch, kept))
		if err != nil {
			return err
		}
		for _, c := range checkouts {
			n, gone, err := f.expireOne(ctx, c, before)
			if err != nil {
				return err
			}
			removed += n
			if !gone {
				kept++
			}
		}
		if len(checkouts) < checkoutBatch {
			f.rested.Store(now.Add(expirePause).Unix())
			return nil
		}
	}
	return nil
}

// expireOne removes a checkout with all below it, unless one of them is needed.
func (f *Function) expireOne(ctx context.Context, checkout node.Node, before time.Time) (removed int, gone bool, err error) {
	newest, err := f.newest(ctx, checkout)
	if err != nil || newest {
		return 0, false, err
	}
	levels, finished, err := f.levels(ctx, checkout, before)
	if err != nil || !finished {
		return 0, false, err
	}
	last := 0
	for _, level := range slices.Backward(levels) {
		for part := range slices.Chunk(level, nodeBatch) {
			if err := f.removeFiles(ctx, part); err != nil {
				return removed, false, err
			}
			last, err = f.Store.Remove(ctx, part)
			removed += last
			if errors.Is(err, errs.Conflict) {
				f.Log.InfoContext(ctx, "an old checkout has got a new node, or an event on its way", "checkout", checkout.ID, "error", err)
				return removed, false, nil
			}
			if err != nil {
				return removed, false, fmt.Errorf("removing checkout %s: %w", checkout.ID, err)
			}
		}
	}
	f.Log.InfoContext(ctx, "an old checkout is removed", "checkout", checkout.ID, "treeid", checkout.TreeID, "nodes", removed)
	return removed, last > 0, nil
}

// newest says whether no later checkout of the same branch exists.
func (f *Function) newest(ctx context.Context, checkout node.Node) (bool, error) {
	revision, _ := checkout.Revision()
	later, err := f.Store.Find(ctx, node.Where("kind", node.KindCheckout).And("data.kernel_revision.tree", revision.Tree).
		And("data.kernel_revision.branch", revision.Branch).And("parent", nil).Cond("created", node.Gt, checkout.Created).Page(1, 0))
	return len(later) == 0, err
}

// levels returns the ids of a checkout and of all below it, those of one depth
// together, the checkout first; and whether all of them are done and were last
// written before the time.
func (f *Function) levels(ctx context.Context, checkout node.Node, before time.Time) (levels [][]node.ID, finished bool, err error) {
	for level := []node.ID{checkout.ID}; len(level) > 0; {
		levels = append(levels, level)
		var below []node.ID
		for part := range slices.Chunk(level, nodeBatch) {
			parents := make([]any, len(part))
			for i, id := range part {
				parents[i] = id
			}
			for n, err := range f.Store.Each(ctx, node.Where("parent", parents...)) {
				if err != nil || n.State != node.Done || !n.Updated.Before(before) {
					return nil, false, err
				}
				below = append(below, n.ID)
			}
		}
		level = below
	}
	return levels, true, nil
}

// fileBatch is how many files are removed at a time.
const fileBatch = 100

// removeFiles removes what is in the folders of the nodes.
func (f *Function) removeFiles(ctx context.Context, ids []node.ID) error {
	values := make([]any, len(ids))
	for i, id := range ids {
		values[i] = id
	}
	for n, err := range f.Store.Each(ctx, node.Where("id", values...)) {
		if err != nil {
			return err
		}
		for _, folder := range f.folders(n) {
			if err := f.removeFolder(ctx, folder); err != nil {
				return fmt.Errorf("removing the files of node %s: %w", n.ID, err)
			}
		}
	}
	return nil
}

// folders are those that n's artifacts are in and that are its own: a folder of
// a node is called ID, or NAME-ID.
func (f *Function) folders(n node.Node) []string {
	var found []string
	for _, link := range n.Artifacts {
		escaped, ours := strings.CutPrefix(link, f.Storage.URL(""))
		first, _, below := strings.Cut(escaped, "/")
		folder, err := url.PathUnescape(first)
		if !ours || !below || err != nil || slices.Contains(found, folder) {
			continue
		}
		if id, err := node.ParseID(folder[strings.LastIndex(folder, "-")+1:]); err == nil && id == n.ID {
			found = append(found, folder)
		}
	}
	return found
}

func (f *Function) removeFolder(ctx context.Context, folder string) error {
	for {
		found, err := f.Storage.List(ctx, folder+"/", "", fileBatch)
		if err != nil {
			return err
		}
		for _, file := range found {
			if err := f.Storage.Delete(ctx, file.Path); err != nil {
				return err
			}
		}
		if len(found) < fileBatch {
			return nil
		}
	}
}
