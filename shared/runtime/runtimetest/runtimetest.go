// Package runtimetest is the conformance suite of shared/runtime, and a fake of
// the API that jobs report to.
package runtimetest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/runtime"
)

// Instance is a driver under test.
type Instance interface {
	runtime.Runtime
	// Close ends the instance, as the end of its host does; its jobs go on.
	Close() error
}

// Lab is a place where jobs run.
type Lab struct {
	// Open opens an instance of the driver for the lab, as a start of its host
	// does. Several may be open at once. The suite closes it.
	Open func(t *testing.T) Instance
	// Definition is of a job that takes down that it was started, waits until
	// it is released, and passes. {NODE} in it stands for the id of its node.
	Definition string
	// Started says how often the job of a node was started.
	Started func(node.ID) int
	// Release lets the job of a node pass, started or not.
	Release func(node.ID)
	// Collected says that jobs do not report to the API: instances are
	// runtime.Collectors, and what came of a job is collected.
	Collected bool
	// Outside is what can be done to a lab that is another process; nil for a
	// lab that is not.
	Outside *Outside
}

// Outside is a lab beyond a connection that may fail.
type Outside struct {
	// Fault brings the connection between all instances and the lab into a
	// condition. A [Door] does it for what speaks through a socket.
	Fault func(Fault)
	// Orphan hands the job to the lab as an instance does that is killed when
	// the lab has taken it and before anybody knows the lab's id for it.
	Orphan func(t *testing.T, j runtime.Job)
	// Refused is a definition that the lab does not take, and Words is part of
	// what the lab says of it. Without one, the lab takes any.
	Refused, Words string
}

// Run runs the suite. open makes an empty lab with room for two jobs at once,
// whose jobs report to the API or are collected.
func Run(t *testing.T, open func(t *testing.T, api *API) Lab) {
	runAll(t, open, map[string]func(*testing.T, *suite){
		"a job runs and reports with its own token":    testReport,
		"submitting again gives the id and runs once":  testTwice,
		"submitting at once gives one id and runs one": testConcurrent,
		"two instances are one lab":                    testTwoInstances,
		"cancel ends a job":                            testCancel,
		"cancel ends a job that waits":                 testCancelQueued,
		"cancel of an ended job is no error":           testCancelEnded,
		"an unknown id is not found":                   testUnknown,
		"a job that can never run is invalid":          testInvalid,
		"a job outlives a restart":                     testRestart,
		"a job that waits outlives a restart":          testRestartQueued,
		"more jobs than there is room for all run":     testMany,
	})
}

func runAll(t *testing.T, open func(t *testing.T, api *API) Lab, promises map[string]func(*testing.T, *suite)) {
	for promise, run := range promises {
		t.Run(promise, func(t *testing.T) {
			t.Parallel()
			api := NewAPI(t)
			run(t, &suite{api: api, Lab: open(t, api)})
		})
	}
}

type suite struct {
	Lab
	api *API
}

func (s *suite) open(t *testing.T) Instance {
	t.Helper()
	i := s.Open(t)
	t.Cleanup(func() { check(t, i.Close()) })
	return i
}

// job makes a job whose node the API knows.
func (s *suite) job(number int) runtime.Job {
	n := NewNode(node.KindJob, number)
	j := runtime.Job{
		Node: n, Definition: strings.ReplaceAll(s.Definition, "{NODE}", string(n.ID)),
		Token: "token-of-job-" + time.Now().UTC().Format("150405.000000000"), Limit: time.Minute, Holdoff: time.Minute,
	}
	s.api.Add(j.Node, j.Token)
	return j
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func submit(t *testing.T, i Instance, j runtime.Job) string {
	t.Helper()
	id, err := i.Submit(t.Context(), j)
	check(t, err)
	if id == "" {
		t.Fatal("Submit gave no id")
	}
	return id
}

func state(t *testing.T, i Instance, id string) runtime.State {
	t.Helper()
	s, err := i.State(t.Context(), id)
	check(t, err)
	return s
}

func (s *suite) started(t *testing.T, id node.ID) {
	t.Helper()
	Eventually(t, "the job starts", func() bool { return s.Started(id) > 0 })
}

// ends waits for the job's report and checks that it is the only one.
func (s *suite) ends(t *testing.T, i Instance, j runtime.Job, id string, result node.Result, runs int) node.Node {
	t.Helper()
	Eventually(t, "the runtime says that it is finished", func() bool { return state(t, i, id) == runtime.Finished })
	var n node.Node
	if s.Collected {
		n = s.collect(t, i, j, id)
	} else {
		n = s.reported(t, j)
	}
	if n.Result != result {
		t.Errorf("result %s (%v), want %s", n.Result, n.Data["error_msg"], result)
	}
	if n := s.Started(j.Node.ID); n != runs {
		t.Errorf("started %d times, want %d", n, runs)
	}
	return n
}

// reported returns the node as the job's one report left it.
func (s *suite) reported(t *testing.T, j runtime.Job) node.Node {
	t.Helper()
	Eventually(t, "the job reports", func() bool { return s.api.Node(j.Node.ID).State == node.Done })
	if n := len(s.api.Reports(j.Node.ID)); n != 1 {
		t.Errorf("%d reports", n)
	}
	return s.api.Node(j.Node.ID)
}

func testReport(t *testing.T, s *suite) {
	i, j := s.open(t), s.job(10)
	id := submit(t, i, j)
	s.started(t, j.Node.ID)
	Eventually(t, "the job's state is running", func() bool { return state(t, i, id) == runtime.Running })
	s.Release(j.Node.ID)
	n := s.ends(t, i, j, id, node.Pass, 1)
	if !s.Collected && s.api.Log(t, j.Node.ID) == "" {
		t.Error("no log")
	}
	if s.Collected && len(n.Artifacts) == 0 {
		t.Error("no artifact")
	}
}

func testTwice(t *testing.T, s *suite) {
	i, j := s.open(t), s.job(11)
	id := submit(t, i, j)
	s.started(t, j.Node.ID)
	again := j
	again.Token = "another-token"
	if other := submit(t, i, again); other != id {
		t.Errorf("ids %q and %q", id, other)
	}
	s.Release(j.Node.ID)
	s.ends(t, i, j, id, node.Pass, 1)
	if other := submit(t, i, j); other != id {
		t.Errorf("ids %q and, after its end, %q", id, other)
	}
	s.ends(t, i, j, id, node.Pass, 1)
}

func testConcurrent(t *testing.T, s *suite) {
	j := s.job(12)
	s.race(t, j, []Instance{s.open(t)})
}

func testTwoInstances(t *testing.T, s *suite) {
	one, two, j := s.open(t), s.open(t), s.job(13)
	s.race(t, j, []Instance{one, two})
	other := s.job(14)
	id := submit(t, one, other)
	s.started(t, other.Node.ID)
	if got := submit(t, two, other); got != id {
		t.Errorf("ids %q and %q", id, got)
	}
	check(t, two.Cancel(t.Context(), id))
	s.ends(t, one, other, id, node.Incomplete, 1)
}

// race submits a job from many sides at once.
func (s *suite) race(t *testing.T, j runtime.Job, instances []Instance) {
	t.Helper()
	s.Release(j.Node.ID)
	const callers = 8
	ids, problems := make([]string, callers), make([]error, callers)
	var all sync.WaitGroup
	for n := range callers {
		all.Go(func() { ids[n], problems[n] = instances[n%len(instances)].Submit(t.Context(), j) })
	}
	all.Wait()
	check(t, errors.Join(problems...))
	for _, id := range ids {
		if id != ids[0] {
			t.Errorf("ids %q", ids)
		}
	}
	for _, i := range instances {
		s.ends(t, i, j, ids[0], node.Pass, 1)
	}
}

func testCancel(t *testing.T, s *suite) {
	i, j := s.open(t), s.job(15)
	id := submit(t, i, j)
	s.started(t, j.Node.ID)
	check(t, i.Cancel(t.Context(), id))
	if n := s.ends(t, i, j, id, node.Incomplete, 1); n.Data["error_code"] != node.ErrCodeCanceled {
		t.Errorf("error_code %v", n.Data["error_code"])
	}
}

func testCancelQueued(t *testing.T, s *suite) {
	i := s.open(t)
	one, two, j := s.job(16), s.job(17), s.job(18)
	idOne, idTwo := submit(t, i, one), submit(t, i, two)
	s.started(t, one.Node.ID)
	s.started(t, two.Node.ID)
	id := submit(t, i, j)
	if got := state(t, i, id); got != runtime.Queued {
		t.Errorf("state %s of a job that there is no room for", got)
	}
	check(t, i.Cancel(t.Context(), id))
	s.ends(t, i, j, id, node.Incomplete, 0)
	s.Release(one.Node.ID)
	s.Release(two.Node.ID)
	s.ends(t, i, one, idOne, node.Pass, 1)
	s.ends(t, i, two, idTwo, node.Pass, 1)
}

func testCancelEnded(t *testing.T, s *suite) {
	i, j := s.open(t), s.job(19)
	s.Release(j.Node.ID)
	id := submit(t, i, j)
	s.ends(t, i, j, id, node.Pass, 1)
	check(t, i.Cancel(t.Context(), id))
	s.ends(t, i, j, id, node.Pass, 1)
}

func testUnknown(t *testing.T, s *suite) {
	i := s.open(t)
	for _, id := range []string{"", ".", "..", "../..", "nonsense", "0123456789abcdef01234567", "a/b", "\x00"} {
		if _, err := i.State(t.Context(), id); !errors.Is(err, errs.NotFound) {
			t.Errorf("State(%q): %v", id, err)
		}
		if err := i.Cancel(t.Context(), id); !errors.Is(err, errs.NotFound) {
			t.Errorf("Cancel(%q): %v", id, err)
		}
	}
}

func testInvalid(t *testing.T, s *suite) {
	i := s.open(t)
	for what, spoil := range map[string]func(*runtime.Job){
		"no definition":              func(j *runtime.Job) { j.Definition = "" },
		"a definition with a secret": func(j *runtime.Job) { j.Definition += "\n# " + j.Token },
		"no node":                    func(j *runtime.Job) { j.Node.ID = "" },
		"no good node":               func(j *runtime.Job) { j.Node.ID = "../../../../../../etc" },
		"no token":                   func(j *runtime.Job) { j.Token = "" },
		"no limit":                   func(j *runtime.Job) { j.Limit = 0 },
	} {
		j := s.job(20)
		spoil(&j)
		if id, err := i.Submit(t.Context(), j); !errors.Is(err, errs.Invalid) {
			t.Errorf("%s: Submit gave %q, %v", what, id, err)
		}
	}
	// None of them is in the way of the good one.
	j := s.job(20)
	s.Release(j.Node.ID)
	s.ends(t, i, j, submit(t, i, j), node.Pass, 1)
}

func testRestart(t *testing.T, s *suite) {
	first, j := s.open(t), s.job(21)
	id := submit(t, first, j)
	s.started(t, j.Node.ID)
	check(t, first.Close())
	second := s.open(t)
	if got := state(t, second, id); got != runtime.Running {
		t.Errorf("state %s after a restart", got)
	}
	if other := submit(t, second, j); other != id {
		t.Errorf("ids %q and, after a restart, %q", id, other)
	}
	s.Release(j.Node.ID)
	s.ends(t, second, j, id, node.Pass, 1)
}

func testRestartQueued(t *testing.T, s *suite) {
	first := s.open(t)
	jobs, ids := s.crowd(t, first, 22)
	check(t, first.Close())
	if _, err := first.Submit(context.WithoutCancel(t.Context()), s.job(30)); !errors.Is(err, errs.Temporary) {
		t.Errorf("Submit to a closed instance: %v", err)
	}
	second := s.open(t)
	s.drain(t, second, jobs, ids)
}

func testMany(t *testing.T, s *suite) {
	i := s.open(t)
	jobs, ids := s.crowd(t, i, 40)
	s.drain(t, i, jobs, ids)
}

// crowd submits more jobs than run at once; the first two run when it returns.
func (s *suite) crowd(t *testing.T, i Instance, number int) (jobs []runtime.Job, ids []string) {
	t.Helper()
	for n := range 6 {
		j := s.job(number + n)
		jobs, ids = append(jobs, j), append(ids, submit(t, i, j))
	}
	s.started(t, jobs[0].Node.ID)
	s.started(t, jobs[1].Node.ID)
	return jobs, ids
}

// drain lets the jobs end and checks that there were never more than two at
// once.
func (s *suite) drain(t *testing.T, i Instance, jobs []runtime.Job, ids []string) {
	t.Helper()
	for n, j := range jobs {
		running := 0
		for _, id := range ids[n:] {
			if state(t, i, id) == runtime.Running {
				running++
			}
		}
		if running > 2 {
			t.Errorf("%d jobs at once", running)
		}
		s.Release(j.Node.ID)
		s.ends(t, i, j, ids[n], node.Pass, 1)
	}
}
