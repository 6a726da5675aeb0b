package lava

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/lavaresult"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/runtime"
)

// Claims lets one of many submit a job; store.Claims says more.
type Claims interface {
	Claim(ctx context.Context, key, holder string, until time.Time) error
	Release(ctx context.Context, key, holder string) error
}

// Options configure a Runtime.
type Options struct {
	Name       string // the runtime's name in the configuration
	URL        string // of the lab, without /api
	Tokens     runtime.Tokens
	Claims     Claims
	Holder     string            // names this instance among all
	QueueDepth int               // jobs of a device type that may wait, for each device; 0: as many as come
	Factor     float64           // by which a job of the highest priority may go beyond that; less than 1: none
	Transport  http.RoundTripper // nil: the standard one
	Now        func() time.Time
}

// Runtime implements runtime.Collector. It is safe for concurrent use.
type Runtime struct {
	options Options
	lab     *client
	closed  atomic.Bool
	calls   atomic.Int64 // numbers the holders of claims
	mark    mark
	queues  queues
}

var _ runtime.Collector = (*Runtime)(nil)

// New opens a runtime. The lab is not asked anything yet.
func New(o Options) (*Runtime, error) {
	if o.Name == "" || o.Claims == nil || o.Holder == "" || o.Now == nil {
		return nil, errs.New(errs.Invalid, "lava.New(%s): a part is missing", o.Name)
	}
	if o.Transport == nil {
		o.Transport = http.DefaultTransport
	}
	lab, err := newClient(o.Name, o.URL, o.Tokens, o.Transport)
	if err != nil {
		return nil, err
	}
	return &Runtime{options: o, lab: lab, queues: queues{known: map[string]*queue{}}}, nil
}

// Close ends the submission of jobs.
func (r *Runtime) Close() error {
	r.closed.Store(true)
	return nil
}

// How long a submission may take, and how long its claim holds when it is never
// given back; the difference is for clocks that differ.
const (
	submitTime = 2 * time.Minute
	claimTime  = 3 * time.Minute
	claimPoll  = 50 * time.Millisecond
)

// Submit implements runtime.Runtime.
func (r *Runtime) Submit(ctx context.Context, j runtime.Job) (string, error) {
	if err := r.check(j); err != nil {
		return "", fmt.Errorf("lava.Submit: %w", err)
	}
	if r.closed.Load() {
		return "", errs.New(errs.Temporary, "lava.Submit(%s): the runtime %q is closed", j.Node.ID, r.options.Name)
	}
	ctx, cancel := context.WithTimeout(ctx, submitTime)
	defer cancel()
	release, err := r.claim(ctx, j.Node.ID)
	if err != nil {
		return "", fmt.Errorf("lava.Submit(%s): %w", j.Node.ID, err)
	}
	defer release()
	id, err := r.find(ctx, j.Node)
	if err == nil && id == "" {
		id, err = r.post(ctx, j.Definition)
	}
	if errors.Is(err, errs.NotFound) { // whatever answers there is not LAVA
		err = errs.New(errs.Temporary, "%s", err)
	}
	if err != nil {
		return "", runtime.Without(fmt.Errorf("lava.Submit(%s): %w", j.Node.ID, err), j.Token)
	}
	return id, nil
}

// check says what is wrong with a job before the lab sees it.
func (r *Runtime) check(j runtime.Job) error {
	if err := j.Check(); err != nil {
		return err
	}
	for _, secret := range []string{r.options.Tokens.Runtime, r.options.Tokens.Callback} {
		if secret != "" && strings.Contains(j.Definition, secret) {
			return errs.New(errs.Invalid, "job of node %s: definition: holds a token of the lab; name it by its description in LAVA", j.Node.ID)
		}
	}
	if !names(j.Definition, j.Node.ID) {
		return errs.New(errs.Invalid, "job of node %s: definition: metadata.node_id must be the node's id", j.Node.ID)
	}
	return nil
}

var nodeID = regexp.MustCompile(`node_id["']?\s*:\s*["']?([0-9a-f]{24})\b`)

// names says whether a definition is of the node's job.
func names(definition string, id node.ID) bool {
	for _, found := range nodeID.FindAllStringSubmatch(definition, -1) {
		if found[1] == string(id) {
			return true
		}
	}
	return false
}

// claim waits until this call alone may submit the job of the node.
func (r *Runtime) claim(ctx context.Context, id node.ID) (release func(), err error) {
	key := "lava/" + r.options.Name + "/" + string(id)
	holder := fmt.Sprintf("%s/%d", r.options.Holder, r.calls.Add(1))
	again := time.NewTicker(claimPoll)
	defer again.Stop()
	for {
		err := r.options.Claims.Claim(ctx, key, holder, r.options.Now().Add(claimTime))
		if err == nil {
			return func() { _ = r.options.Claims.Release(context.WithoutCancel(ctx), key, holder) }, nil // else it ends by itself
		}
		if !errors.Is(err, errs.Conflict) {
			return nil, errs.Wrap(errs.Temporary, err)
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return nil, errs.New(errs.Temporary, "another instance is submitting it: %s", ctx.Err())
		}
	}
}

// job is what the lab says of one of its jobs.
type job struct {
	ID         int64   `json:"id"`
	State      string  `json:"state"`
	Health     string  `json:"health"`
	Device     *string `json:"actual_device"`
	Definition string  `json:"definition"`
}

// page is one of a list.
type page[T any] struct {
	Count   int     `json:"count"`
	Next    *string `json:"next"`
	Results []T     `json:"results"`
}

// skew is how far the clocks of lab and pipeline may be apart.
const skew = time.Hour

// find looks for the job of a node in the lab, the oldest; "" when there is none.
func (r *Runtime) find(ctx context.Context, n node.Node) (string, error) {
	query := url.Values{
		"definition__contains": {string(n.ID)}, "ordering": {"id"}, "limit": {"20"},
		"submit_time__gt": {n.Created.Add(-skew).UTC().Format("2006-01-02T15:04:05Z")},
	}
	newest, err := r.mark.before(ctx, r, n.Created)
	if err != nil {
		return "", err
	}
	if newest > 0 {
		query.Set("id__gt", fmt.Sprint(newest))
	}
	var found page[job]
	if err := r.lab.do(ctx, http.MethodGet, "jobs/", query, nil, &found); err != nil {
		return "", err
	}
	for _, j := range found.Results {
		if names(j.Definition, n.ID) {
			return fmt.Sprint(j.ID), nil
		}
	}
	return "", nil
}

// mark is the newest job of the lab at some time.
type mark struct {
	mu sync.Mutex
	at time.Time
	id int64
}

// before returns an id that was there before the time; 0 when none is known.
func (m *mark) before(ctx context.Context, r *Runtime, t time.Time) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.at.IsZero() {
		at := r.options.Now()
		var newest page[job]
		if err := r.lab.do(ctx, http.MethodGet, "jobs/", url.Values{"ordering": {"-id"}, "limit": {"1"}}, nil, &newest); err != nil {
			return 0, err
		}
		m.at = at
		for _, j := range newest.Results {
			m.id = j.ID
		}
	}
	if t.Before(m.at.Add(time.Minute)) {
		return 0, nil
	}
	return m.id, nil
}

// post hands the definition over.
func (r *Runtime) post(ctx context.Context, definition string) (string, error) {
	var answer struct {
		IDs []any `json:"job_ids"` // numbers; texts of a multinode job
	}
	err := r.lab.do(ctx, http.MethodPost, "jobs/", nil, map[string]string{"definition": definition}, &answer)
	if err != nil {
		return "", err
	}
	if len(answer.IDs) > 0 {
		if id := fmt.Sprint(answer.IDs[0]); valid.MatchString(id) {
			return id, nil
		}
		if id, ok := answer.IDs[0].(float64); ok {
			return fmt.Sprintf("%.0f", id), nil
		}
	}
	return "", r.lab.fail(errs.Temporary, "POST jobs/", "no id of a job in the answer")
}

var valid = regexp.MustCompile(`^[0-9]{1,18}(\.[0-9]{1,4})?$`)

// get returns a job; NotFound.
func (r *Runtime) get(ctx context.Context, id string) (job, error) {
	if !valid.MatchString(id) {
		return job{}, errs.New(errs.NotFound, "lab %s has no job %.40q", r.options.Name, id)
	}
	var j job
	err := r.lab.do(ctx, http.MethodGet, "jobs/"+id+"/", nil, nil, &j)
	return j, err
}

// State implements runtime.Runtime.
func (r *Runtime) State(ctx context.Context, id string) (runtime.State, error) {
	j, err := r.get(ctx, id)
	if err != nil {
		return "", fmt.Errorf("lava.State: %w", err)
	}
	switch j.State {
	case "Submitted", "Scheduling", "Scheduled":
		return runtime.Queued, nil
	case "Running", "Canceling":
		return runtime.Running, nil
	case "Finished":
		return runtime.Finished, nil
	}
	return "", errs.New(errs.Temporary, "lava.State: lab %s: job %s is in an unknown state %.40q", r.options.Name, id, j.State)
}

// Cancel implements runtime.Runtime.
func (r *Runtime) Cancel(ctx context.Context, id string) error {
	// LAVA answers a cancellation of what is not there with a fault of its own.
	j, err := r.get(ctx, id)
	if err == nil && j.State != "Finished" {
		var said map[string]any
		err = r.lab.do(ctx, http.MethodGet, "jobs/"+id+"/cancel/", nil, nil, &said)
	}
	if err != nil {
		return fmt.Errorf("lava.Cancel: %w", err)
	}
	return nil
}

// Collect implements runtime.Collector.
func (r *Runtime) Collect(ctx context.Context, n node.Node, keep runtime.Keep) (node.Hierarchy, error) {
	h, err := r.collect(ctx, n, keep)
	if err != nil {
		return node.Hierarchy{}, fmt.Errorf("lava.Collect(%s): %w", n.ID, err)
	}
	return h, nil
}

var healths = map[string]int{"Complete": lavaresult.Complete, "Canceled": lavaresult.Canceled}

func (r *Runtime) collect(ctx context.Context, n node.Node, keep runtime.Keep) (node.Hierarchy, error) {
	id := n.Text("job_id")
	j, err := r.get(ctx, id)
	if err != nil {
		return node.Hierarchy{}, err
	}
	if j.State != "Finished" {
		return node.Hierarchy{}, errs.New(errs.Conflict, "lab %s: job %s is %s", r.options.Name, id, strings.ToLower(j.State))
	}
	report := lavaresult.Report{Head: lavaresult.Head{Job: id, Status: lavaresult.Incomplete}}
	if status, known := healths[j.Health]; known {
		report.Status = status
	}
	if j.Device != nil {
		report.Device = *j.Device
	}
	if err := r.results(ctx, id, &report); err != nil {
		return node.Hierarchy{}, err
	}
	artifacts, err := r.log(ctx, id, keep)
	if err != nil {
		return node.Hierarchy{}, err
	}
	return report.Tree(n, artifacts), nil
}

// results reads the results of a job into the report.
func (r *Runtime) results(ctx context.Context, id string, report *lavaresult.Report) error {
	response, err := r.lab.send(ctx, http.MethodGet, "jobs/"+id+"/yaml/", nil, nil)
	if errors.Is(err, errs.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, lavaresult.MaxResults+1))
	if err != nil {
		return r.lab.fail(errs.Temporary, "GET jobs/"+id+"/yaml/", "the answer breaks off: %s", err)
	}
	if len(text) > lavaresult.MaxResults {
		report.Problem = fmt.Sprintf("they are longer than %d bytes", lavaresult.MaxResults)
		return nil
	}
	if report.Cases, err = lavaresult.Cases("", text); err != nil {
		report.Problem = err.Error()
	}
	return nil
}

// log keeps the log of a job.
func (r *Runtime) log(ctx context.Context, id string, keep runtime.Keep) (map[string]string, error) {
	response, err := r.lab.send(ctx, http.MethodGet, "jobs/"+id+"/logs/", nil, nil)
	if errors.Is(err, errs.NotFound) {
		return nil, nil // it never started
	}
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	artifacts, err := lavaresult.KeepLog(ctx, response.Body, keep)
	return artifacts, errs.Wrap(errs.Temporary, err)
}
