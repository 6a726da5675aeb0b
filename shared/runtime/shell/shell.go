package shell

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/job"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/runtime"
)

// Options configure a Runtime.
type Options struct {
	Name       string       // the runtime's name in the configuration, for the log
	Dir        string       // the folder of the jobs' folders; made if need be
	Supervisor []string     // the command that runs job.Run on the folder that is appended to it
	APIURL     string       // where jobs report, without /latest
	StorageURL string       // where jobs upload and read artifacts
	Parallel   int          // how many scripts run at once; less than 1: one
	PassEnv    []string     // variables of the host that the scripts see
	Log        *slog.Logger // nil: none
}

// Runtime implements runtime.Runtime. It is safe for concurrent use.
type Runtime struct {
	options Options
	log     *slog.Logger
	wake    chan struct{}
	stop    context.CancelFunc
	stopped chan struct{}

	mu     sync.Mutex
	closed bool
	jobs   []*entry // that may have something left to do, in the order of their turn
}

var _ runtime.Runtime = (*Runtime)(nil)

// New opens a runtime, which starts the jobs that are submitted to it until it is
// closed. For those that an earlier host left call Resume.
func New(o Options) (*Runtime, error) {
	if len(o.Supervisor) == 0 || o.Dir == "" {
		return nil, errs.New(errs.Invalid, "shell.New(%s): the folder and the supervisor's command must not be empty", o.Name)
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("shell.New(%s): %w", o.Name, err)
	}
	program, err := exec.LookPath(o.Supervisor[0])
	if err == nil {
		program, err = filepath.Abs(program)
	}
	if err != nil {
		return nil, fmt.Errorf("shell.New(%s): %w", o.Name, err)
	}
	// Job folders hold tokens: they are nobody else's to read.
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("shell.New(%s): %w", o.Name, err)
	}
	o.Dir, o.Parallel = dir, max(1, o.Parallel)
	o.Supervisor = append([]string{program}, o.Supervisor[1:]...)
	o.PassEnv = slices.Clone(o.PassEnv)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &Runtime{
		options: o, log: o.Log.With("runtime", o.Name),
		wake: make(chan struct{}, 1), stop: stop, stopped: make(chan struct{}),
	}
	go r.serve(ctx)
	return r, nil
}

// Close ends the starting of jobs. Those that run go on, those that wait are
// started by the next Resume.
func (r *Runtime) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.stop()
	<-r.stopped
	return nil
}

// Submit implements runtime.Runtime. The id is the node's.
func (r *Runtime) Submit(ctx context.Context, j runtime.Job) (string, error) {
	id, err := node.ParseID(string(j.Node.ID))
	if err != nil {
		return "", fmt.Errorf("shell.Submit: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return "", fmt.Errorf("shell.Submit(%s): %w", id, errs.Wrap(errs.Temporary, err))
	}
	if r.isClosed() {
		return "", errs.New(errs.Temporary, "shell.Submit(%s): the runtime %q is closed", id, r.options.Name)
	}
	j.Node.ID = id
	spec := job.Spec{
		Node: j.Node, JobID: string(id), Token: j.Token, APIURL: r.options.APIURL, StorageURL: r.options.StorageURL,
		Limit: j.Limit, Holdoff: j.Holdoff, PassEnv: r.options.PassEnv,
	}
	err = job.Prepare(r.dir(string(id)), spec, j.Definition)
	if err != nil && !errors.Is(err, errs.Conflict) {
		return "", fmt.Errorf("shell.Submit(%s): %w", id, err)
	}
	// Also for one that is there already: whoever prepared it may be dead.
	r.add(string(id))
	return string(id), nil
}

// Cancel implements runtime.Runtime.
func (r *Runtime) Cancel(ctx context.Context, id string) error {
	dir, work, err := r.find(id)
	if err != nil {
		return fmt.Errorf("shell.Cancel: %w", err)
	}
	if work == job.Nothing {
		return nil
	}
	if _, err := job.Cancel(dir); err != nil {
		return fmt.Errorf("shell.Cancel(%s): %w", id, errs.Wrap(errs.Temporary, err))
	}
	// A job without a supervisor gets one, which reports that it is cancelled.
	r.add(id)
	return nil
}

// State implements runtime.Runtime.
func (r *Runtime) State(ctx context.Context, id string) (runtime.State, error) {
	dir, _, err := r.find(id)
	if err != nil {
		return "", fmt.Errorf("shell.State: %w", err)
	}
	status, err := job.Load(dir)
	if err != nil {
		return "", fmt.Errorf("shell.State(%s): %w", id, err)
	}
	switch status.Phase {
	case job.Ready:
		return runtime.Queued, nil
	case job.Running:
		return runtime.Running, nil
	case job.Lost:
		return runtime.Lost, nil
	}
	return runtime.Finished, nil
}

// Resume takes over the jobs that an earlier host left: those that are not over
// are started or reported, at the addresses that the API and the storage have
// now. What is wrong with one job is no reason to forget the others: the error
// names all that could not be taken over.
func (r *Runtime) Resume(ctx context.Context) error {
	// A Prepare takes milliseconds, and one that is overtaken fails cleanly.
	problems := []error{job.Sweep(r.options.Dir, time.Now().Add(-time.Minute))}
	found, err := os.ReadDir(r.options.Dir)
	problems = append(problems, err)
	var list []left
	for _, f := range found {
		if id, err := node.ParseID(f.Name()); err != nil || string(id) != f.Name() {
			continue
		}
		if err := ctx.Err(); err != nil {
			problems = append(problems, err)
			break
		}
		dir := r.dir(f.Name())
		work, err := job.Remaining(dir)
		if err == nil && work != job.Nothing {
			list = append(list, left{f.Name(), work, job.Submitted(dir)})
			err = job.Retarget(dir, r.options.APIURL, r.options.StorageURL)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("job %s: %w", f.Name(), err))
		}
	}
	slices.SortStableFunc(list, left.compare)
	for _, l := range list {
		r.add(l.id)
	}
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("shell.Resume(%s): %w", r.options.Name, err)
	}
	return nil
}

// left is a job that an earlier host left.
type left struct {
	id        string
	work      job.Work
	submitted time.Time
}

// compare puts half done jobs first, then those that wait longest.
func (l left) compare(other left) int {
	if l.work != other.work {
		return int(l.work) - int(other.work)
	}
	return l.submitted.Compare(other.submitted)
}

func (r *Runtime) dir(id string) string { return filepath.Join(r.options.Dir, id) }

// find returns the folder of a job and what is left to do for it.
func (r *Runtime) find(id string) (dir string, work job.Work, err error) {
	parsed, err := node.ParseID(id)
	if err != nil || string(parsed) != id {
		return "", job.Nothing, errs.New(errs.NotFound, "runtime %q has no job %.40q", r.options.Name, id)
	}
	dir = r.dir(id)
	work, err = job.Remaining(dir)
	if errors.Is(err, errs.NotFound) {
		err = errs.New(errs.NotFound, "runtime %q has no job %s", r.options.Name, id)
	}
	return dir, work, err
}

func (r *Runtime) isClosed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closed
}
