package scheduler

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/jobdef"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/pipeline"
	"github.com/kernelflow/kernelflow/shared/runtime"
	"github.com/kernelflow/kernelflow/shared/schedule"
	"github.com/kernelflow/kernelflow/shared/storage"
	"github.com/kernelflow/kernelflow/shared/store"
	"github.com/kernelflow/kernelflow/shared/telemetry"
)

// Store is what the function needs of the node store.
type Store interface {
	Get(ctx context.Context, id node.ID) (node.Node, error)
	Find(ctx context.Context, q node.Query) ([]node.Node, error)
	Each(ctx context.Context, q node.Query) iter.Seq2[node.Node, error]
	Create(ctx context.Context, n node.Node, opts ...store.Option) (node.Node, error)
	Update(ctx context.Context, id node.ID, change func(*node.Node) error, opts ...store.Option) (node.Node, error)
	PutDecided(ctx context.Context, d store.Decided) error
	AddTelemetry(ctx context.Context, events []telemetry.Event) error
}

// Storage keeps the job definitions.
type Storage interface {
	Upload(ctx context.Context, path, contentType string, r io.Reader) (url string, err error)
	Open(ctx context.Context, path string) (io.ReadSeekCloser, storage.Info, error)
	URL(path string) string
}

// Renderer makes job definitions.
type Renderer interface {
	Render(p jobdef.Params) (string, error)
}

// Options are the parts of the function.
type Options struct {
	Config   *pipeline.Config
	Store    Store
	Storage  Storage
	Renderer Renderer
	// Runtimes holds the drivers by the name of the runtime. A runtime that is
	// not among them gets no job.
	Runtimes map[string]runtime.Runtime
	// Token makes a token that edits one node and is good for a while.
	Token      func(id node.ID, life time.Duration) (string, error)
	APIURL     string
	StorageURL string
	InstanceID string
	// InstanceCallback and ImagePrefix are for job templates.
	InstanceCallback string
	ImagePrefix      string
	// Fetch reads an artifact of a kernel build. Its errors are Invalid, or
	// Temporary when another try may help. nil: platforms with a device tree get
	// no job.
	Fetch    func(ctx context.Context, url string) ([]byte, error)
	Holdoff  time.Duration // how long a node that ends available stays so
	Attempts int           // how often a submission is tried before its job ends
	// Allowance is what one runtime may take for the jobs of an event; 0: half a
	// minute.
	Allowance time.Duration
	Owner     string // the user who owns the pipeline's nodes
	Metrics   prometheus.Registerer
	Now       func() time.Time
	Log       *slog.Logger
}

// Function handles events.
type Function struct {
	Options
	schedule *schedule.Schedule
	files    files
	lanes    map[string]*lane // by the name of the runtime
}

// New checks the parts and indexes the configuration.
func New(o Options) (*Function, error) {
	switch {
	case o.Config == nil, o.Store == nil, o.Storage == nil, o.Renderer == nil:
		return nil, errors.New("scheduler: no configuration, store, storage or renderer")
	case o.Token == nil, o.Now == nil, o.Log == nil, o.Metrics == nil:
		return nil, errors.New("scheduler: no token maker, clock, log or metrics")
	case o.Owner == "":
		return nil, errors.New("scheduler: no owner")
	case o.Attempts < 1:
		return nil, errors.New("scheduler: no attempts")
	}
	if o.Allowance <= 0 {
		o.Allowance = allowance
	}
	driven := func(r *pipeline.Runtime) bool { return o.Runtimes[r.Name] != nil }
	f := &Function{Options: o, schedule: schedule.New(o.Config, driven), lanes: map[string]*lane{}}
	measured := newGauges(o.Metrics)
	for name, r := range o.Runtimes {
		f.lanes[name] = newLane(name, r, measured, o.Now)
	}
	return f, nil
}

// creators is how many jobs are created at once: creations share a commit of the
// store.
const creators = 32

// Handle creates and submits every job that the event starts. Its error is what
// is worth another try; each job that was done by then stays done.
func (f *Function) Handle(ctx context.Context, e event.Event) error {
	if err := f.run(ctx, e); err != nil {
		return err
	}
	return f.mark(ctx, e)
}

// mark takes down in the node that all jobs of this event are created, so that
// the timeout function knows that nothing more is to come.
func (f *Function) mark(ctx context.Context, e event.Event) error {
	if e.Channel == event.ChannelRetry {
		return f.markRetried(ctx, e)
	}
	if e.Channel != event.ChannelNode {
		return nil
	}
	p, err := e.Node()
	if err != nil || !slices.Contains(node.SchedulableKinds, p.Kind) {
		return err
	}
	entered := p.PreviousState == nil || *p.PreviousState != p.State
	if !entered || p.State != node.Available && p.State != node.Done {
		return nil
	}
	_, err = f.Store.Update(ctx, p.ID, func(n *node.Node) error {
		if n.Scheduled(p.State) {
			return errMarked
		}
		n.SetScheduled(p.State)
		return nil
	}, store.Silent)
	if errors.Is(err, errMarked) || errors.Is(err, errs.NotFound) {
		return nil
	}
	return err
}

// markRetried takes down in the attempt before that the one after it is created,
// or is not to be.
func (f *Function) markRetried(ctx context.Context, e event.Event) error {
	if e.Owner != f.Owner {
		return nil
	}
	request, err := e.Request()
	if err != nil || request.By == "" {
		return err
	}
	_, err = f.Store.Update(ctx, request.By, func(n *node.Node) error {
		if n.Retried() {
			return errMarked
		}
		n.SetRetried()
		return nil
	}, store.Silent)
	if errors.Is(err, errMarked) || errors.Is(err, errs.NotFound) {
		return nil
	}
	return err
}

var errMarked = errors.New("marked already")

func (f *Function) run(ctx context.Context, e event.Event) error {
	sub, err := f.subject(ctx, e)
	if err != nil || sub == nil {
		return err
	}
	outcomes, jobs := f.decide(sub)
	created := f.each(ctx, jobs, creators, f.create)
	var recorded error
	var group sync.WaitGroup
	group.Go(func() { recorded = f.keep(ctx, e, sub, outcomes) })
	submitted := f.submitAll(ctx, jobs)
	group.Wait()
	if err := errors.Join(created, recorded, submitted); err != nil {
		return fmt.Errorf("scheduler.Handle(%s of %s): %w", e.ID, sub.Node.ID, err)
	}
	return nil
}

// decide asks the configuration, and returns the jobs that are to run besides
// all that was decided.
func (f *Function) decide(sub *schedule.Subject) ([]schedule.Outcome, []*job) {
	decisions := f.schedule.Decide(*sub)
	outcomes := make([]schedule.Outcome, len(decisions))
	var jobs []*job
	for i, d := range decisions {
		outcomes[i] = schedule.OutcomeOf(d)
		if d.Run {
			jobs = append(jobs, &job{Decision: d, sub: sub, outcome: &outcomes[i]})
		}
	}
	return outcomes, jobs
}

// keep writes down what was decided, while the jobs are submitted: their writes
// and this one share the store's commits.
func (f *Function) keep(ctx context.Context, e event.Event, sub *schedule.Subject, outcomes []schedule.Outcome) error {
	r := schedule.Record{
		Event: e.ID, Channel: e.Channel, Time: node.Time(f.Now()), Node: sub.Node.ID, Kind: sub.Event.Kind, Name: sub.Event.Name,
		State: sub.Event.State, Retry: sub.Retry, Outcomes: outcomes,
	}
	if sub.Event.Result != nil {
		r.Result = *sub.Event.Result
	}
	if sub.Event.PreviousState != nil {
		r.Previous = *sub.Event.PreviousState
	}
	body, err := r.Pack()
	if err != nil {
		return err
	}
	return f.Store.PutDecided(ctx, store.Decided{Event: r.Event, Node: r.Node, Time: r.Time, Body: body})
}

// job is one job of one event on its way.
type job struct {
	schedule.Decision
	sub     *schedule.Subject
	outcome *schedule.Outcome // what is kept of the decision
	node    *node.Node        // as stored; nil when there is nothing to submit
	told    []telemetry.Event // of it
}

// refuse takes down that the job does not run after all.
func (j *job) refuse(of, rule, reason string) {
	j.outcome.Reason = reason
	j.outcome.Checks = append(slices.Clip(j.outcome.Checks), schedule.Check{Of: of, Rule: rule, Reason: reason})
}

// each calls do for the jobs, some at once, and joins the errors that are worth
// another try. The others are logged: they are that job's alone.
func (f *Function) each(ctx context.Context, jobs []*job, limit int, do func(context.Context, *job) error) error {
	failures := make([]error, len(jobs))
	var group errgroup.Group
	group.SetLimit(limit)
	for i, j := range jobs {
		group.Go(func() error {
			err := do(ctx, j)
			if err == nil {
				return nil
			}
			err = fmt.Errorf("job %s on %s, %s: %w", j.Job.Name, j.Runtime.Name, j.Platform.Name, err)
			if errs.Retry(err) {
				failures[i] = err
			} else {
				f.Log.ErrorContext(ctx, "job given up", "error", err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return errors.Join(failures...)
}

// maxDepth bounds the way up to the root.
const maxDepth = 32

// subject reads what a decision needs; nil when the event starts nothing.
func (f *Function) subject(ctx context.Context, e event.Event) (*schedule.Subject, error) {
	sub, err := f.request(ctx, e)
	if err != nil || sub == nil || !sub.Again && !f.schedule.Fires(sub.Event) {
		return nil, err
	}
	sub.Node, err = f.Store.Get(ctx, sub.Event.ID)
	if errors.Is(err, errs.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("scheduler.Handle(%s): %w", e.ID, err)
	}
	for at := sub.Node; at.Parent != "" && len(sub.Ancestors) < maxDepth; {
		at, err = f.Store.Get(ctx, at.Parent)
		if errors.Is(err, errs.NotFound) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("scheduler.Handle(%s): %w", e.ID, err)
		}
		sub.Ancestors = append(sub.Ancestors, at)
	}
	return sub, nil
}

// request reads the event; nil when it is none for this function.
func (f *Function) request(ctx context.Context, e event.Event) (*schedule.Subject, error) {
	if e.Channel != event.ChannelNode && e.Channel != event.ChannelRetry {
		return nil, nil
	}
	if e.Channel == event.ChannelRetry && e.Owner != f.Owner {
		f.Log.WarnContext(ctx, "retry request of another user ignored", "event", e.ID, "user", e.Owner)
		return nil, nil
	}
	ev, err := e.Node()
	if err != nil {
		return nil, fmt.Errorf("scheduler.Handle: %w", err)
	}
	sub := &schedule.Subject{Event: ev}
	if e.Channel == event.ChannelNode {
		return sub, nil
	}
	request, err := e.Request()
	if err != nil {
		return nil, fmt.Errorf("scheduler.Handle: %w", err)
	}
	// A request has no "before": what it asks for is to match again.
	sub.Event.PreviousState, sub.Event.PreviousResult = nil, nil
	sub.Again, sub.Retry, sub.JobFilter, sub.PlatformFilter = true, max(0, ev.RetryCounter), ev.JobFilter, request.Platforms
	sub.By, sub.First, sub.Runtime = request.By, request.First, request.Runtime
	return sub, nil
}
