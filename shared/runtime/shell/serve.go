package shell

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/job"
)

// lookAgain is how often it is looked whether a slot, or a job, that another
// process has is free.
const lookAgain = time.Second

// A supervisor that failed gets its successor after firstPause, each further one
// after twice the time, up to longestPause.
const (
	firstPause   = 50 * time.Millisecond
	longestPause = 30 * time.Second
)

// logFile, in a job's folder, gets what its supervisors say.
const logFile = "supervisor.log"

// entry is a job that may have something left to do.
type entry struct {
	id       string
	waits    bool      // for a slot: without one there is no need to look at it
	child    bool      // has a supervisor that this instance started
	failures int       // of supervisors, one after another
	after    time.Time // when the next supervisor may start
}

// add has the job looked at, now.
func (r *Runtime) add(id string) {
	r.mu.Lock()
	i := slices.IndexFunc(r.jobs, func(e *entry) bool { return e.id == id })
	if i < 0 {
		r.jobs = append(r.jobs, &entry{id: id})
	} else {
		r.jobs[i].waits = false
	}
	r.mu.Unlock()
	r.nudge()
}

// nudge has serve look at the jobs.
func (r *Runtime) nudge() {
	select {
	case r.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// serve starts supervisors until ctx ends.
func (r *Runtime) serve(ctx context.Context) {
	defer close(r.stopped)
	for {
		next := r.pass(ctx)
		var tick <-chan time.Time
		if next > 0 {
			tick = time.After(next)
		}
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		case <-tick:
		}
	}
}

// pass looks at all jobs once and returns when to look again; 0: when something
// happens.
func (r *Runtime) pass(ctx context.Context) time.Duration {
	jobs := r.list()
	if len(jobs) == 0 {
		return 0
	}
	var next time.Duration
	slot := r.takeSlot()
	for _, e := range jobs {
		if ctx.Err() != nil {
			break
		}
		took, again := r.look(e, slot)
		if again > 0 && (next == 0 || again < next) {
			next = again
		}
		if took {
			slot = r.takeSlot()
		}
	}
	if slot != nil {
		_ = slot.Close() // gives the lock back, whatever it says
	}
	return next
}

// list returns the jobs without a supervisor of ours.
func (r *Runtime) list() []*entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(r.jobs), func(e *entry) bool { return e.child })
}

// look does what is to be done for one job now. took says that the slot is in
// use, again when to look at the job once more; 0: not by the clock.
func (r *Runtime) look(e *entry, slot *os.File) (took bool, again time.Duration) {
	if again := r.glance(e, slot != nil); again > 0 {
		return false, again
	}
	dir := r.dir(e.id)
	work, err := job.Remaining(dir)
	switch {
	case errors.Is(err, errs.NotFound) || err == nil && work == job.Nothing:
		r.drop(e)
		return false, 0
	case err != nil:
		r.log.Error("a job cannot be looked at", "job", e.id, "error", err)
		return false, r.failed(e)
	case job.Supervised(dir):
		r.set(e, func() { e.waits = false })
		return false, lookAgain
	case work == job.Execute && slot == nil:
		return false, lookAgain
	case work != job.Execute:
		slot = nil
	}
	if err := r.start(e, slot); err != nil {
		r.log.Error("a supervisor cannot be started", "job", e.id, "error", err)
		return false, r.failed(e)
	}
	return slot != nil, 0
}

// glance says whether there is a reason to look at the job's folder: 0, or when
// there will be one.
func (r *Runtime) glance(e *entry, slot bool) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.waits && !slot {
		return lookAgain
	}
	if wait := time.Until(e.after); wait > 0 {
		return wait
	}
	// Set before the folder is looked at: what add says from now on counts.
	e.waits = !slot
	return 0
}

func (r *Runtime) set(e *entry, change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

func (r *Runtime) drop(e *entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.jobs = slices.DeleteFunc(r.jobs, func(other *entry) bool { return other == e })
}

// failed notes that a supervisor came to nothing and returns how long its
// successor waits.
func (r *Runtime) failed(e *entry) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	pause := min(firstPause<<min(e.failures, 20), longestPause)
	e.failures, e.after = e.failures+1, time.Now().Add(pause)
	e.child, e.waits = false, false
	return pause
}

// takeSlot returns the lock of a free slot; nil when there is none.
func (r *Runtime) takeSlot() *os.File {
	for n := range r.options.Parallel {
		slot, err := job.TryLock(filepath.Join(r.options.Dir, fmt.Sprintf(".slot-%d", n)))
		if err != nil {
			r.log.Error("a slot cannot be taken", "slot", n, "error", err)
		}
		if slot != nil {
			return slot
		}
	}
	return nil
}

// start starts a supervisor of the job, which gets the slot, and returns.
func (r *Runtime) start(e *entry, slot *os.File) error {
	dir := r.dir(e.id)
	output, err := os.OpenFile(filepath.Join(dir, logFile), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = output.Close() }() // the supervisor has its own
	command := append(slices.Clone(r.options.Supervisor), dir)
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir, cmd.Env = r.options.Dir, r.environment()
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if slot != nil {
		cmd.ExtraFiles = []*os.File{slot}
		cmd.Env = append(cmd.Env, job.SlotEnv+"=3")
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if slot != nil {
		_ = slot.Close() // the supervisor has its own
	}
	r.set(e, func() { e.child, e.waits = true, false })
	go r.await(e, cmd)
	return nil
}

// await waits for the end of a supervisor and has the next job, or the same one
// again, looked at.
func (r *Runtime) await(e *entry, cmd *exec.Cmd) {
	err := cmd.Wait()
	work, problem := job.Remaining(r.dir(e.id))
	if problem == nil && work == job.Nothing {
		r.drop(e)
		r.tellLost(e)
	} else if pause := r.failed(e); err != nil {
		r.log.Warn("a supervisor ended before its job", "job", e.id, "error", err, "next", pause)
	}
	r.nudge()
}

// tellLost tells of a job that could not report: its folder alone says so, and
// its node waits for its timeout.
func (r *Runtime) tellLost(e *entry) {
	if status, err := job.Load(r.dir(e.id)); err == nil && status.Phase == job.Lost {
		r.log.Error("a job could not report and its node ends at its timeout", "job", e.id, "reason", status.Reason)
	}
}

// environment is all that a supervisor sees of the host's: none of the
// pipeline's secrets is in it.
func (r *Runtime) environment() []string {
	var env []string
	for _, name := range append([]string{"PATH", "HOME", "LANG", "TMPDIR"}, r.options.PassEnv...) {
		if value, ok := os.LookupEnv(name); ok && name != job.SlotEnv && !strings.HasPrefix(name, "KCI_") {
			env = append(env, name+"="+value)
		}
	}
	return env
}
