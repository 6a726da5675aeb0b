package scheduler

import (
	"context"
	"fmt"
	"time"

	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/schedule"
)

// settling is how long a new job is left to whoever creates it.
const settling = time.Minute

// batch is how many waiting jobs of one runtime a pass looks at; the others come
// when these are gone.
const batch = 200

// Tick submits the jobs that are still without an id of their runtime: it did
// not answer, or whoever created them died. All runtimes are served at once, and
// each gets the allowance.
func (f *Function) Tick(ctx context.Context) error {
	now := node.Time(f.Now())
	q := node.RunningJobs(now)
	var jobs []*job
	waiting := map[string]int{}
	for n, err := range f.Store.Each(ctx, q) {
		if err != nil {
			return fmt.Errorf("scheduler.Tick: %w", err)
		}
		j := f.job(n)
		if j == nil || n.Text("job_id") != "" || now.Sub(n.Created) < settling || waiting[j.Runtime.Name] >= batch {
			continue
		}
		waiting[j.Runtime.Name]++
		jobs = append(jobs, j)
	}
	if err := f.submitAll(ctx, jobs); err != nil {
		return fmt.Errorf("scheduler.Tick: %w", err)
	}
	return nil
}

// job finds what a node was made of; nil when this function did not make it, for
// a job may write below its own node whatever it likes, and when the configuration
// has it no more: then the node's timeout ends it.
func (f *Function) job(n node.Node) *job {
	d := schedule.Decision{Job: f.Config.Jobs[n.Name], Runtime: f.Config.Runtimes[n.Text("runtime")], Platform: f.Config.Platforms[n.Text("platform")]}
	if n.Owner != f.Owner || d.Job == nil || d.Runtime == nil || d.Platform == nil || f.lanes[d.Runtime.Name] == nil {
		return nil
	}
	if n.ID != jobID(n.Parent, &d, n.RetryCounter) {
		return nil
	}
	return &job{Decision: d, node: &n}
}
