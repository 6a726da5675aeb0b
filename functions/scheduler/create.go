package scheduler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/pipeline"
	"github.com/kernelflow/kernelflow/shared/schedule"
)

// submitter is who submits what nobody has asked for.
const submitter = "service:pipeline"

// create stores the job's node, or finds the one that an earlier delivery of
// the event has stored.
func (f *Function) create(ctx context.Context, j *job) error {
	n := f.jobNode(j)
	due, err := f.due(ctx, j, n)
	if err == nil && due {
		due, err = f.room(ctx, j, n)
	}
	if err != nil || !due {
		return err
	}
	stored, err := f.createOrFind(ctx, n)
	if err != nil {
		return err
	}
	j.node, j.outcome.Node = &stored, stored.ID
	return nil
}

// maxTries bounds how often a node is looked for.
const maxTries = 100

// createOrFind stores n, or returns the node that has its place. A store may
// refuse n for one that another instance is about to commit and that nobody
// can read yet, or that is undone: then it is tried again, for a job must not
// be submitted before its node is there for good.
func (f *Function) createOrFind(ctx context.Context, n node.Node) (node.Node, error) {
	for range maxTries {
		stored, err := f.Store.Create(ctx, n)
		if !errors.Is(err, errs.Conflict) {
			return stored, err
		}
		found, err := f.existing(ctx, n)
		if !errors.Is(err, errs.NotFound) {
			return found, err
		}
	}
	return node.Node{}, errs.New(errs.Temporary, "node %s: the store refuses it for one that is not there", n.ID)
}

// existing returns the node that has the place of n; NotFound.
func (f *Function) existing(ctx context.Context, n node.Node) (node.Node, error) {
	found, err := f.Store.Get(ctx, n.ID)
	if !errors.Is(err, errs.NotFound) {
		return found, err
	}
	list, err := f.Store.Find(ctx, node.Where("parent", n.Parent).And("name", n.Name).And("data.runtime", n.Text("runtime")).
		And("data.platform", n.Text("platform")).And("retry_counter", n.RetryCounter).Page(1, 0))
	if err != nil {
		return node.Node{}, err
	}
	if len(list) == 0 {
		return node.Node{}, errs.New(errs.NotFound, "node %s: nothing has its place", n.ID)
	}
	return list[0], nil
}

// due says whether the least time since the job's last run has passed. A job
// that has a node already was due when that was made.
func (f *Function) due(ctx context.Context, j *job, n node.Node) (bool, error) {
	if j.Every <= 0 || j.sub.Retry > 0 {
		return true, nil
	}
	_, err := f.Store.Get(ctx, n.ID)
	if !errors.Is(err, errs.NotFound) {
		return err == nil, err
	}
	last, err := f.Store.Find(ctx, node.Where("kind", n.Kind).And("name", n.Name).
		And("data.kernel_revision.tree", n.Get("kernel_revision.tree")).And("data.kernel_revision.branch", n.Get("kernel_revision.branch")).
		And("data.platform", n.Text("platform")).Cond("created", node.Gte, n.Created.Add(-j.Every)).
		Cond("parent", node.NotIn, n.Parent).Page(1, 0))
	if err != nil || len(last) == 0 {
		return err == nil, err
	}
	j.refuse("job "+n.Name, "frequency", fmt.Sprintf("run less than %s ago: node %s", j.Every, last[0].ID))
	return false, nil
}

// jobID is the id of a job's node, the same whoever makes it.
func jobID(parent node.ID, d *schedule.Decision, attempt int) node.ID {
	return node.DeriveID(parent, "job", d.Job.Name, d.Runtime.Name, d.Platform.Name, strconv.Itoa(attempt))
}

// jobNode is the node of a job that is to run; one that ends before it starts
// when the job's parameters make no sense.
func (f *Function) jobNode(j *job) node.Node {
	parent, now := j.sub.Node.Clone(), node.Time(f.Now())
	n := node.Node{
		ID:   jobID(parent.ID, &j.Decision, j.sub.Retry),
		Kind: node.Kind(j.Job.Kind), Name: j.Job.Name, Group: j.Job.Name, Path: append(slices.Clip(parent.Path), j.Job.Name),
		Parent: parent.ID, State: node.Running, TreeID: parent.TreeID, Owner: f.Owner, Submitter: cmp.Or(parent.Submitter, submitter),
		JobFilter: parent.JobFilter, PlatformFilter: parent.PlatformFilter, RetryCounter: j.sub.Retry,
		Artifacts: parent.Artifacts, Created: now, Updated: now,
		Data: map[string]any{"runtime": j.Runtime.Name, "platform": j.Platform.Name},
	}
	if j.sub.By != "" {
		n.SetRetryOf(j.sub.By, cmp.Or(j.sub.First, j.sub.By))
	}
	maps.DeleteFunc(n.Artifacts, func(name, _ string) bool { return name == "log" || name == artifact })
	if revision := parent.Data["kernel_revision"]; revision != nil {
		n.Set("kernel_revision", revision)
	}
	if r, ok := n.Revision(); ok {
		if priority := treePriority(f.Config, r); priority != "" {
			n.Set("tree_priority", priority)
		}
	}
	limit, err := limitOf(j.Job)
	if err == nil {
		err = describe(&n, parent, j)
	}
	n.Timeout = now.Add(limit)
	atWork := parent.State != node.Done && parent.Timeout.After(now)
	if atWork && parent.Timeout.Before(n.Timeout) {
		n.Timeout = parent.Timeout
	}
	if err != nil {
		n.SetError(node.Incomplete, node.ErrCodeJobParams, bounded(err.Error()))
	}
	return n
}

// limitOf reads params.timeout: how long the job may take.
func limitOf(job *pipeline.Job) (time.Duration, error) {
	var limit time.Duration
	switch v := job.Params["timeout"].(type) {
	case nil:
		return node.DefaultTimeout, nil
	case int:
		limit = seconds(float64(v))
	case float64:
		limit = seconds(v)
	case string:
		var err error
		if limit, err = time.ParseDuration(v); err != nil {
			limit, err = pipeline.ParseFrequency(v)
		}
		if err != nil {
			limit = 0
		}
	}
	if limit <= 0 || limit > maxLimit {
		return node.DefaultTimeout, errs.New(errs.Invalid, "params.timeout %.40q is neither seconds nor a time such as 1h30m, up to %s", asText(job.Params["timeout"]), maxLimit)
	}
	return limit, nil
}

// maxLimit is the longest a job may be given.
const maxLimit = 30 * 24 * time.Hour

// seconds is n seconds; 0 for what no duration can hold.
func seconds(n float64) time.Duration {
	if n > maxLimit.Seconds() {
		return 0
	}
	return time.Duration(n * float64(time.Second))
}
