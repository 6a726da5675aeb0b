package results

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/runtime"
)

// Bounds of what one runtime is asked in one pass.
const (
	atOnce    = 4
	batch     = 500         // jobs; the others come with the next pass
	allowance = time.Minute // for all of them
)

// Tick asks for the jobs that are overdue. A runtime that does not answer is
// logged and is no error: the next pass asks again.
func (f *Function) Tick(ctx context.Context) error {
	now := node.Time(f.Now())
	q := node.RunningJobs(now)
	overdue := map[string][]node.Node{}
	for n, err := range f.Store.Each(ctx, q) {
		if err != nil {
			return fmt.Errorf("results.Tick: %w", err)
		}
		lab := n.Text("runtime")
		_, collects := f.Runtimes[lab].(runtime.Collector)
		if collects && n.Text("job_id") != "" && f.due(n, now) && len(overdue[lab]) < batch {
			overdue[lab] = append(overdue[lab], n)
		}
	}
	var group sync.WaitGroup
	for lab, nodes := range overdue {
		group.Go(func() { f.ask(ctx, lab, nodes) })
	}
	group.Wait()
	return nil
}

// due says whether the job of a node is to be asked for in the pass of now. Nodes
// of one age are spread over the passes.
func (f *Function) due(n node.Node, now time.Time) bool {
	age := now.Sub(n.Created)
	every := int64(1)
	switch {
	case age < f.After:
		return false
	case age > 6*time.Hour:
		every = 15
	case age > time.Hour:
		every = 5
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(n.ID)) // never fails
	return (now.UnixNano()/int64(f.Period)+int64(h.Sum32()))%every == 0
}

// ask asks one lab for its jobs, until it fails to answer.
func (f *Function) ask(ctx context.Context, lab string, nodes []node.Node) {
	ctx, cancel := context.WithTimeout(ctx, allowance)
	defer cancel()
	group, within := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for _, n := range nodes {
		group.Go(func() error {
			if err := within.Err(); err != nil {
				return err
			}
			return f.collect(within, n)
		})
	}
	if err := group.Wait(); err != nil {
		f.Log.WarnContext(ctx, "a lab does not tell what came of its jobs", "runtime", lab, "jobs", len(nodes), "error", err)
	}
}

// collect takes up what came of one job, if it has ended. Its error says that
// asking on is of no use.
func (f *Function) collect(ctx context.Context, n node.Node) error {
	c, _ := f.Runtimes[n.Text("runtime")].(runtime.Collector)
	h, err := c.Collect(ctx, n, f.keeper(n))
	switch {
	case errors.Is(err, errs.Conflict): // it goes on
		return nil
	case errors.Is(err, errs.NotFound):
		h = node.Hierarchy{Node: n.Clone()}
		h.Node.SetError(node.Incomplete, node.ErrCodeInfrastructure, fmt.Sprintf("runtime %s does not know its job %s any more", n.Text("runtime"), n.Text("job_id")))
	case errors.Is(err, errs.Temporary):
		return err
	case err != nil: // about this job alone
		f.Log.ErrorContext(ctx, "the results of a job cannot be collected", "node", n.ID, "error", err)
		return nil
	}
	err = f.put(ctx, n.ID, n.Text("job_id"), func(root node.Node) (node.Hierarchy, error) {
		if root.State != node.Running || !root.Updated.Equal(n.Updated) {
			return node.Hierarchy{}, errSettled // the next pass sees it as it is then
		}
		return h, nil
	})
	if err != nil {
		f.Log.ErrorContext(ctx, "the results of a job cannot be stored", "node", n.ID, "error", err)
	}
	return nil
}
