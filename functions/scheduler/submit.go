package scheduler

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/jobdef"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/runtime"
	"github.com/kernelflow/kernelflow/shared/store"
	"github.com/kernelflow/kernelflow/shared/telemetry"
)

// artifact is the name of a job's definition among its artifacts.
const artifact = "job_definition"

// grace is how long a job's token outlives its node's timeout: uploads under
// way end well.
const grace = 10 * time.Minute

// errSettled ends an update that has nothing to change.
var errSettled = errors.New("nothing to change")

// submitAll hands the jobs to their runtimes, to all of these at once: a runtime
// that is slow delays its own jobs alone, and Handle for no longer than the
// allowance. What is not handed over by then waits for the next pass (Tick).
func (f *Function) submitAll(ctx context.Context, jobs []*job) error {
	ways := map[string][]*job{}
	for _, j := range jobs {
		ways[j.Runtime.Name] = append(ways[j.Runtime.Name], j)
	}
	var group sync.WaitGroup
	var mu sync.Mutex
	var problems []error
	for _, way := range ways {
		group.Go(func() {
			within, cancel := context.WithTimeout(ctx, f.Allowance)
			defer cancel()
			err := f.each(ctx, way, atOnce, func(ctx context.Context, j *job) error { return f.submit(ctx, within, j) })
			mu.Lock()
			defer mu.Unlock()
			problems = append(problems, err)
		})
	}
	group.Wait()
	f.flush(ctx, jobs)
	return errors.Join(problems...)
}

// submit renders the job, stores its definition, hands it to its runtime and
// records that, unless all of this was done before. The runtime may be asked while
// within lasts.
func (f *Function) submit(ctx, within context.Context, j *job) error {
	if j.node == nil {
		return nil
	}
	n, way := *j.node, f.lanes[j.Runtime.Name]
	if n.State != node.Running {
		return f.link(ctx, j)
	}
	if n.Text("job_id") != "" {
		return nil
	}
	left := n.Timeout.Sub(f.Now())
	if left <= 0 {
		f.Log.InfoContext(ctx, "job not submitted", "node", n.ID, "job", n.Name, "reason", "its timeout has lapsed")
		return nil
	}
	if !way.open() || within.Err() != nil {
		return f.postpone(ctx, j, "", errWaits)
	}
	params, err := f.params(ctx, j)
	if err != nil {
		return f.fail(ctx, n.ID, node.ErrCodeJobParams, "", err)
	}
	definition, err := f.Renderer.Render(params)
	if err != nil {
		return f.fail(ctx, n.ID, node.ErrCodeJobGeneration, "", err)
	}
	url, err := f.Storage.Upload(ctx, definitionPath(j), "text/plain; charset=utf-8", strings.NewReader(definition))
	if err != nil {
		return f.fail(ctx, n.ID, node.ErrCodeSubmit, "", err)
	}
	token, err := f.Token(n.ID, left+grace)
	if err != nil {
		return f.fail(ctx, n.ID, node.ErrCodeSubmit, url, err)
	}
	id, err := way.submit(within, runtime.Job{
		Node: n, Definition: definition, Token: token, Limit: limitWithin(left), Holdoff: f.Holdoff,
	})
	if err != nil {
		return f.postpone(ctx, j, url, without(token, err))
	}
	f.tell(j, telemetry.JobSubmission, map[telemetry.Field]string{telemetry.JobID: id})
	f.Log.InfoContext(ctx, "job submitted", "node", n.ID, "job", n.Name, "runtime", j.Runtime.Name, "platform", j.Platform.Name, "job_id", id)
	return f.record(ctx, n.ID, id, url)
}

// link adds the definition to a job that ended before its submission was written
// down, because somebody was killed in between: it is stored before the job is
// submitted.
func (f *Function) link(ctx context.Context, j *job) error {
	if j.node.Artifacts[artifact] != "" {
		return nil
	}
	path := definitionPath(j)
	file, _, err := f.Storage.Open(ctx, path)
	if errors.Is(err, errs.NotFound) {
		return nil // it ended before there was one
	}
	if err != nil {
		return fmt.Errorf("node %s: %w", j.node.ID, err)
	}
	return errors.Join(file.Close(), f.record(ctx, j.node.ID, "", f.Storage.URL(path)))
}

// definitionPath is where a job's definition is in storage.
func definitionPath(j *job) string { return string(j.node.ID) + "/" + fileName(j.Runtime.LabType) }

// room says whether the runtime has room for one more job of this kind of
// device. A job that has a node already had it when that was made.
func (f *Function) room(ctx context.Context, j *job, n node.Node) (bool, error) {
	if _, throttles := f.Runtimes[j.Runtime.Name].(runtime.Throttle); !throttles {
		return true, nil
	}
	if _, err := f.Store.Get(ctx, n.ID); !errors.Is(err, errs.NotFound) {
		return err == nil, err
	}
	device, ok := j.Job.Params["device_type"].(string)
	if !ok || device == "" {
		device = j.Platform.Name
	}
	reason, err := f.lanes[j.Runtime.Name].full(ctx, device, float64(jobdef.Urgency(n, j.Job))/100)
	switch {
	case err != nil: // the submission will tell
		f.Log.WarnContext(ctx, "the queue of a runtime is not known", "runtime", j.Runtime.Name, "device_type", device, "error", err)
	case reason != "":
		j.refuse("runtime "+j.Runtime.Name, "max_queue_depth", reason)
		f.tell(j, telemetry.JobSkip, map[telemetry.Field]string{telemetry.ErrorType: "queue_depth", telemetry.ErrorMsg: reason})
		return false, nil
	}
	return true, nil
}

// patience is how long a job waits for a runtime that does not answer, before it
// ends; the rules of retries say what comes then.
const patience = 30 * time.Minute

// postpone leaves a job to the next pass, or ends it when there were enough of
// them. Its error is nil then: an event that came again would hold up those
// behind it, which are about other runtimes.
func (f *Function) postpone(ctx context.Context, j *job, url string, cause error) error {
	n := j.node
	if !errors.Is(cause, errWaits) {
		err := f.fail(ctx, n.ID, node.ErrCodeSubmit, url, cause)
		f.tell(j, telemetry.RuntimeError, map[telemetry.Field]string{telemetry.ErrorType: node.ErrCodeSubmit, telemetry.ErrorMsg: bounded(cause.Error())})
		if err == nil || errors.Is(ctx.Err(), context.Canceled) {
			return err
		}
		f.Log.WarnContext(ctx, "job waits for its runtime", "node", n.ID, "job", n.Name, "runtime", j.Runtime.Name, "error", err)
		return nil
	}
	if f.Now().Sub(n.Created) > patience && !f.lanes[j.Runtime.Name].open() {
		return f.fail(ctx, n.ID, node.ErrCodeSubmit, url, errs.New(errs.Invalid, "runtime %s does not answer: the job has waited for it since %s UTC", j.Runtime.Name, node.FormatTime(n.Created)))
	}
	return nil
}

// fileName is what a definition is called in storage.
func fileName(labType string) string {
	switch labType {
	case "shell", "docker", "ssh":
		return "job.sh"
	case "lava", "kubernetes":
		return "job.yaml"
	case "pull_labs":
		return "job.json"
	}
	return "job.txt"
}

// limitWithin leaves a job some time to report before its node's timeout.
func limitWithin(left time.Duration) time.Duration {
	return left - min(time.Minute, left/10)
}

// record writes down that the job is with its runtime. The job may have
// reported already: its state and what it wrote stay as they are.
func (f *Function) record(ctx context.Context, id node.ID, jobID, url string) error {
	return f.update(ctx, id, func(n *node.Node) error {
		settled := true
		if n.Text("job_id") == "" && jobID != "" {
			n.Set("job_id", jobID)
			settled = false
		}
		if define(n, url) {
			settled = false
		}
		if settled {
			return errSettled
		}
		return nil
	})
}

// define adds the job definition to the artifacts; false when it is there.
func define(n *node.Node, url string) bool {
	if url == "" || n.Artifacts[artifact] != "" {
		return false
	}
	if n.Artifacts == nil {
		n.Artifacts = map[string]string{}
	}
	n.Artifacts[artifact] = url
	return true
}

// tries is where the job's debug data counts submissions that failed for what
// may pass.
const tries = "submit_attempts"

// fail ends the job's node for a reason that will not pass, or that did not pass
// as often as a submission is tried; else it returns the reason.
func (f *Function) fail(ctx context.Context, id node.ID, code, url string, cause error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("node %s: %w", id, cause) // the host is stopping: nobody is at fault
	}
	ctx = context.WithoutCancel(ctx)
	if errs.Retry(cause) {
		last, err := f.count(ctx, id)
		if err != nil || !last {
			return fmt.Errorf("node %s: %w", id, errors.Join(cause, err))
		}
	}
	f.Log.WarnContext(ctx, "job cannot run", "node", id, "error_code", code, "error", cause)
	return f.update(ctx, id, func(n *node.Node) error {
		if n.State != node.Running || n.Text("job_id") != "" {
			return errSettled
		}
		define(n, url)
		n.SetError(node.Incomplete, code, bounded(cause.Error()))
		return nil
	})
}

// count takes down that a submission failed, and says whether it was the last.
func (f *Function) count(ctx context.Context, id node.ID) (last bool, err error) {
	_, err = f.Store.Update(ctx, id, func(n *node.Node) error {
		met, _ := n.Debug[tries].(float64)
		n.Debug[tries] = met + 1
		last = int(met)+1 >= f.Attempts
		return nil
	}, store.Silent)
	if errors.Is(err, errs.NotFound) {
		err = nil
	}
	return last, err
}

// update changes a node that somebody may have removed or settled.
func (f *Function) update(ctx context.Context, id node.ID, change func(*node.Node) error) error {
	_, err := f.Store.Update(ctx, id, change)
	if errors.Is(err, errSettled) || errors.Is(err, errs.NotFound) {
		return nil
	}
	return err
}

// without keeps a token out of an error that quotes it.
func without(token string, err error) error {
	if token == "" || !strings.Contains(err.Error(), token) {
		return err
	}
	text := strings.ReplaceAll(err.Error(), token, "[token]")
	if kind := errs.KindOf(err); kind != nil {
		return errs.New(kind, "%s", text)
	}
	return errors.New(text)
}
