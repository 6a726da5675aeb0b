package callback

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/node"
)

// jobRetry asks the scheduler for another attempt at a job.
func (f *Function) jobRetry(ctx context.Context, r request) (answer, error) {
	var id string
	if err := object(r.body, map[string]func(*json.Decoder) error{"nodeid": text(&id, "nodeid")}); err != nil {
		return answer{}, err
	}
	if err := needed(id, "nodeid"); err != nil {
		return answer{}, err
	}
	job, err := f.node(ctx, id)
	if err != nil {
		return answer{}, err
	}
	build, err := f.buildOf(ctx, job)
	if err != nil {
		return answer{}, err
	}
	attempt, err := f.nextAttempt(ctx, build, job)
	if err == nil && attempt > 0 {
		err = f.ask(ctx, build, job, attempt)
	}
	return answer{Message: "OK"}, err
}

// buildOf returns the kernel build that the job ran on, which must be a good one.
func (f *Function) buildOf(ctx context.Context, job node.Node) (node.Node, error) {
	if job.Kind != node.KindJob {
		return node.Node{}, errs.New(errs.Invalid, "Node is not a job")
	}
	build, err := f.above(ctx, job, node.KindKbuild)
	switch {
	case errors.Is(err, errs.NotFound):
		return build, errs.New(errs.NotFound, "Kernel build not found")
	case err != nil:
		return build, err
	case build.State != node.Done:
		return build, errs.New(errs.Invalid, "Kernel build is not done")
	case build.Result != node.Pass:
		return build, errs.New(errs.Invalid, "Kernel build result is not pass")
	}
	return build, nil
}

// maxAttempts bounds how many attempts are looked through, the newest ones.
const maxAttempts = 100

// nextAttempt is the first number that no attempt at the job has; 0 when one that
// came after it is under way.
func (f *Function) nextAttempt(ctx context.Context, build, job node.Node) (int, error) {
	q := node.Where("parent", build.ID).And("name", job.Name).And("data.platform", job.Data["platform"]).Page(maxAttempts, 0)
	q.Newest = true
	attempts, err := f.Store.Find(ctx, q)
	if err != nil {
		return 0, err
	}
	last := job.RetryCounter
	for _, n := range attempts {
		if n.RetryCounter > job.RetryCounter && n.State != node.Done {
			return 0, nil
		}
		last = max(last, n.RetryCounter)
	}
	return last + 1, nil
}

// ask sends the request to the scheduler: the build, as if it had just ended,
// with the job that is to run.
func (f *Function) ask(ctx context.Context, build, job node.Node, attempt int) error {
	id, err := uuid.NewRandomFromReader(f.Rand)
	if err != nil {
		return errs.Wrap(errs.Temporary, err)
	}
	request := event.Retry{Input: build, Of: job, Attempt: attempt, Jobs: []string{build.Name, job.Name}}
	e, err := request.Event(id.String(), f.Owner, f.Now())
	if err == nil {
		err = f.Store.Append(ctx, e)
	}
	if err != nil {
		return fmt.Errorf("retry of %s: %w", job.ID, err)
	}
	return nil
}
