package scheduler

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/runtime"
	"github.com/kernelflow/kernelflow/shared/store"
	"github.com/kernelflow/kernelflow/shared/telemetry"
)

// labs is a configuration of two labs, each with the same ten jobs.
func labs() string {
	text := "runtimes:\n  good: {lab_type: lava, url: \"https://good.example.org/\"}\n  bad: {lab_type: lava, url: \"https://bad.example.org/\"}\nplatforms:\n  shell: {}\njobs:\n"
	for n := range 10 {
		text += fmt.Sprintf("  job-%d: {template: x.jinja2, kind: job}\n", n)
	}
	text += "scheduler:\n"
	for n := range 10 {
		for _, lab := range []string{"good", "bad"} {
			text += fmt.Sprintf("  - {job: job-%d, event: {channel: node, kind: checkout, state: available}, runtime: {name: %s}, platforms: [shell]}\n", n, lab)
		}
	}
	return text
}

// drive gives the function a runtime.
func (s *setup) drive(name string, r runtime.Runtime) {
	s.Runtimes[name] = r
	s.lanes[name] = newLane(name, r, newGauges(s.Metrics), s.Now)
}

// hanging is a lab that answers nothing.
type hanging struct {
	lab
	called chan struct{}
}

func (h *hanging) Submit(ctx context.Context, _ runtime.Job) (string, error) {
	select {
	case h.called <- struct{}{}:
	default:
	}
	<-ctx.Done()
	return "", ctx.Err()
}

// jobsIn returns the jobs of a checkout in one lab.
func (s *setup) jobsIn(id node.ID, runtime string) []node.Node {
	s.t.Helper()
	list, err := s.store.Find(s.t.Context(), node.Where("parent", id).And("data.runtime", runtime))
	if err != nil {
		s.t.Fatal(err)
	}
	return list
}

func newLab() *lab { return &lab{jobs: map[node.ID]runtime.Job{}} }

// twoLabs is a function with a good lab and another.
func twoLabs(t *testing.T, other runtime.Runtime) (*setup, *lab) {
	t.Helper()
	s, good := newSetup(t, labs()), newLab()
	s.Runtimes = map[string]runtime.Runtime{"good": good, "bad": other}
	var err error
	s.Function, err = New(s.Options)
	if err != nil {
		t.Fatal(err)
	}
	return s, good
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	late := time.After(30 * time.Second)
	for tick := time.NewTicker(5 * time.Millisecond); !holds(); {
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("waited in vain: " + what)
		}
	}
}

func (l *lab) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.jobs)
}

func TestALabThatHangsDelaysNoOther(t *testing.T) {
	bad := &hanging{called: make(chan struct{}, 1)}
	s, good := twoLabs(t, bad)
	s.Allowance = time.Hour // the test, not the clock, ends it
	parent, e := s.checkout("one")
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Handle(ctx, e) }()
	select {
	case <-bad.called:
	case err := <-done:
		t.Fatalf("the event ended before its jobs were submitted: %v", err)
	}
	eventually(t, "the good lab's jobs are recorded", func() bool {
		recorded := 0
		for _, n := range s.jobsIn(parent.ID, "good") {
			if n.Text("job_id") != "" {
				recorded++
			}
		}
		return recorded == 10 && good.size() == 10
	})
	select {
	case err := <-done:
		t.Fatalf("the event ended, %v", err)
	default:
	}
	stop()
	if err := <-done; err == nil {
		t.Error("a host that stops has handled the event")
	}
}

func TestALabThatHangsHoldsAnEventForItsAllowanceAtMost(t *testing.T) {
	s, _ := twoLabs(t, &hanging{})
	s.Allowance = 50 * time.Millisecond
	parent, e := s.checkout("one")
	s.handle(e)
	waiting := 0
	for _, n := range s.jobsIn(parent.ID, "bad") {
		if n.State == node.Running && n.Text("job_id") == "" {
			waiting++
		}
	}
	if waiting != 10 {
		t.Errorf("%d jobs wait, want 10", waiting)
	}
}

func TestALabThatIsDownIsLeftAloneAndTakesItsJobsLater(t *testing.T) {
	bad := newLab()
	bad.err = errs.New(errs.Temporary, "the line is down")
	s, good := twoLabs(t, bad)
	_, e := s.checkout("one")
	s.handle(e)
	if good.size() != 10 || bad.calls < trips || bad.calls >= 10+atOnce {
		t.Errorf("%d jobs in the good lab, the other one was asked %d times", good.size(), bad.calls)
	}
	asked := bad.calls
	_, second := s.checkout("two")
	s.handle(second)
	if bad.calls != asked || good.size() != 20 {
		t.Errorf("asked %d times more, %d jobs in the good lab", bad.calls-asked, good.size())
	}
	if got := s.measured("kernelflow_runtime_up"); got["bad"] != 0 || got["good"] != 1 {
		t.Errorf("up: %v", got)
	}
	if got := s.measured("kernelflow_runtime_submitted_total"); got["good"] != 20 || got["bad"] != 0 {
		t.Errorf("submitted: %v", got)
	}
	if got := s.measured("kernelflow_runtime_failed_total"); got["bad"] != float64(asked) {
		t.Errorf("failed: %v, asked %d", got, asked)
	}
	// It comes back: one job tries, and then all are taken.
	bad.mu.Lock()
	bad.err = nil
	bad.mu.Unlock()
	for range 20 {
		s.clock.Add(coolest)
		if err := s.Tick(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if bad.size() != 20 || good.size() != 20 {
		t.Errorf("%d and %d jobs", bad.size(), good.size())
	}
	if got := s.measured("kernelflow_runtime_up"); got["bad"] != 1 {
		t.Errorf("up: %v", got)
	}
}

// measured returns a metric, by runtime.
func (s *setup) measured(name string) map[string]float64 {
	s.t.Helper()
	families, err := s.Metrics.(*prometheus.Registry).Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name {
				out[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return out
}

func TestAJobThatNoLabTakesEndsAsASubmitError(t *testing.T) {
	bad := newLab()
	bad.err = errs.New(errs.Temporary, "the line is down")
	s, _ := twoLabs(t, bad)
	parent, e := s.checkout("one")
	s.handle(e)
	for range 40 {
		s.clock.Add(time.Minute)
		if err := s.Tick(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	said := map[string]int{}
	for _, n := range s.jobsIn(parent.ID, "bad") {
		if n.State != node.Done || n.Result != node.Incomplete || n.Text("error_code") != node.ErrCodeSubmit {
			t.Errorf("%s: %s %s %v", n.Name, n.State, n.Result, n.Data)
		}
		for _, words := range []string{"the line is down", "runtime bad does not answer"} {
			if strings.Contains(n.Text("error_msg"), words) {
				said[words]++
			}
		}
	}
	if said["the line is down"]+said["runtime bad does not answer"] != 10 {
		t.Errorf("%v", said)
	}
}

func TestASubmissionThatNeverGetsThroughEndsItsJob(t *testing.T) {
	s := newSetup(t, small)
	parent, e := s.checkout("one")
	s.lab.err = errs.New(errs.Temporary, "the line is down")
	s.handle(e)
	for range 25 { // minutes, fewer than the patience
		s.clock.Add(time.Minute)
		if err := s.Tick(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for name, n := range s.children(parent.ID) {
		if n.State != node.Done || n.Result != node.Incomplete || n.Text("error_code") != node.ErrCodeSubmit || !strings.Contains(n.Text("error_msg"), "the line is down") {
			t.Errorf("%s: %s %s %v", name, n.State, n.Result, n.Data)
		}
	}
	if s.lab.calls != 2*s.Attempts {
		t.Errorf("%d submissions of two jobs, want %d each", s.lab.calls, s.Attempts)
	}
}

func TestAJobWhoseCreatorDiedIsSubmittedByThePass(t *testing.T) {
	s := newSetup(t, small)
	parent, e := s.checkout("one")
	sub, err := s.subject(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	_, jobs := s.decide(sub)
	if err := s.each(t.Context(), jobs, creators, s.create); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time, nothing is left to do
		if err := s.Tick(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s.lab.calls != 0 && s.lab.calls != 2 {
			t.Errorf("%d submissions", s.lab.calls)
		}
		s.clock.Add(settling)
	}
	if err := s.Tick(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, n := range s.children(parent.ID) {
		if n.Text("job_id") == "" {
			t.Errorf("%s has no job", name)
		}
	}
	if s.lab.calls != 2 {
		t.Errorf("%d submissions", s.lab.calls)
	}
}

func TestThePassTakesUpOnlyWhatTheSchedulerMade(t *testing.T) {
	for _, tc := range []struct {
		name   string
		forge  func(*node.Node)
		submit bool
	}{
		{"as made", func(*node.Node) {}, true},
		{"below a person's checkout", func(n *node.Node) { n.Submitter = "user:alice@example.org" }, true},
		{"another id", func(n *node.Node) { n.ID = "0123456789abcdef01234567" }, false},
		{"another owner", func(n *node.Node) { n.Owner = "mallory" }, false},
		{"another runtime than its id says", func(n *node.Node) { n.Set("runtime", "bad") }, false},
		{"an unknown job", func(n *node.Node) { n.Name = "nothing" }, false},
		{"ended", func(n *node.Node) { n.State = node.Done }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			other := newLab()
			s, good := twoLabs(t, other)
			parent, e := s.checkout("one")
			sub, err := s.subject(t.Context(), e)
			if err != nil {
				t.Fatal(err)
			}
			_, jobs := s.decide(sub)
			n := s.jobNode(jobs[0])
			tc.forge(&n)
			if _, err := s.store.Create(t.Context(), n); err != nil {
				t.Fatal(err)
			}
			s.clock.Add(settling)
			if err := s.Tick(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := good.size() + other.size(); (got == 1) != tc.submit || (s.below(parent.ID)[0].Text("job_id") != "") != tc.submit {
				t.Errorf("%d jobs, node %v", got, s.below(parent.ID)[0].Data)
			}
		})
	}
}

func TestTwoSchedulersAndEveryEventTwiceGiveEachJobOnce(t *testing.T) {
	bad := newLab()
	first, good := twoLabs(t, bad)
	var runs sync.Map
	for _, l := range []*lab{good, bad} {
		l.before = func(j runtime.Job) { runs.Store(j.Node.ID, true) }
	}
	second, err := New(first.Options)
	if err != nil {
		t.Fatal(err)
	}
	parent, e := first.checkout("one")
	var all sync.WaitGroup
	for range 2 {
		for _, f := range []*Function{first.Function, second} {
			all.Go(func() {
				if err := f.Handle(t.Context(), e); err != nil {
					t.Error(err)
				}
			})
			all.Go(func() {
				if err := f.Tick(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
	}
	all.Wait()
	children, err := first.store.Find(t.Context(), node.Where("parent", parent.ID))
	if err != nil || len(children) != 20 || good.size() != 10 || bad.size() != 10 {
		t.Errorf("%d nodes, %d and %d jobs, %v", len(children), good.size(), bad.size(), err)
	}
	for _, n := range children {
		if n.Text("job_id") != "lab-"+string(n.ID) {
			t.Errorf("%s has job %q", n.Name, n.Text("job_id"))
		}
	}
}

// full is a lab that says how full it is.
type full struct {
	*lab
	reason string
	err    error
	asked  map[string]float64
}

func (f *full) Full(_ context.Context, deviceType string, priority float64) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked[deviceType] = priority
	return f.reason, f.err
}

func TestAFullQueueGetsNoMoreJobs(t *testing.T) {
	const config = `
runtimes:
  good: {lab_type: lava, url: "https://good.example.org/"}
platforms: {shell: {}}
trees: {mainline: {url: "https://example.org/linux.git"}}
build_configs: {mainline: {tree: mainline, branch: master, priority: high}}
jobs:
  one: {template: x.jinja2, kind: job, priority: low, params: {device_type: bbb}}
  two: {template: x.jinja2, kind: job}
scheduler:
  - {job: one, event: &e {channel: node, kind: checkout, state: available}, runtime: {name: good}, platforms: [shell]}
  - {job: two, event: *e, runtime: {name: good}, platforms: [shell]}
`
	for what, tc := range map[string]struct {
		reason string
		err    error
		jobs   int
	}{
		"full":      {"device type bbb has no online devices", nil, 0},
		"room":      {"", nil, 2},
		"no answer": {"", errs.New(errs.Temporary, "away"), 2},
	} {
		t.Run(what, func(t *testing.T) {
			s := newSetup(t, config)
			l := &full{lab: newLab(), reason: tc.reason, err: tc.err, asked: map[string]float64{}}
			s.drive("good", l)
			parent, e := s.checkout("one")
			s.handle(e)
			if len(s.children(parent.ID)) != tc.jobs || l.size() != tc.jobs {
				t.Errorf("%d nodes, %d jobs", len(s.children(parent.ID)), l.size())
			}
			if l.asked["bbb"] != 0.6 || l.asked["shell"] != 0.6 {
				t.Errorf("asked %v", l.asked)
			}
			if kept := s.decided(parent.ID)[0].Outcomes[0]; kept.Reason != tc.reason {
				t.Errorf("kept: %+v", kept)
			}
			told, err := s.store.FindTelemetry(t.Context(), telemetry.Filter{Is: map[telemetry.Field][]string{telemetry.Runtime: {"good"}}}, store.TelemetryPage{Limit: 10})
			if err != nil {
				t.Fatal(err)
			}
			for _, told := range told {
				if kind := told.Texts[telemetry.Kind]; (kind == telemetry.JobSkip) != (tc.jobs == 0) || told.Texts[telemetry.Tree] != "mainline" {
					t.Errorf("told %v", told.Texts)
				}
			}
			if len(told) != 2 {
				t.Errorf("%d events of telemetry", len(told))
			}
		})
	}
}

func TestARefusalIsNoFailureOfTheLab(t *testing.T) {
	bad := newLab()
	bad.err = errs.New(errs.Invalid, "cannot parse")
	s, _ := twoLabs(t, bad)
	parent, e := s.checkout("one")
	s.handle(e)
	ended := 0
	for _, n := range s.jobsIn(parent.ID, "bad") {
		if n.Text("error_code") == node.ErrCodeSubmit {
			ended++
		}
	}
	if got := s.measured("kernelflow_runtime_up"); got["bad"] != 1 || ended != 10 {
		t.Errorf("up %v, %d jobs refused", got, ended)
	}
}
