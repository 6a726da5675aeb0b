package scheduler

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/jobdef"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/pipeline"
	"github.com/kernelflow/kernelflow/shared/runtime"
	"github.com/kernelflow/kernelflow/shared/schedule"
	"github.com/kernelflow/kernelflow/shared/storage"
	"github.com/kernelflow/kernelflow/shared/store"
	"github.com/kernelflow/kernelflow/shared/store/sqlite"
)

const small = `
runtimes:
  shell: {lab_type: shell}
  gone: {lab_type: lava, url: "https://lab.example.org/"}
platforms:
  shell: {params: {flavour: plain}}
  board: {arch: arm64}
jobs:
  kver: {template: kver.jinja2, kind: job}
  kbuild: {template: kbuild.jinja2, kind: kbuild, params: {arch: arm64, compiler: gcc-14, defconfig: [defconfig, "{flavour}-{krev}"], fragments: ["x{{y}}"], timeout: 1h}}
  ktest: {template: ktest.jinja2, kind: job}
scheduler:
  - {job: kver, event: &checkout {channel: node, kind: checkout, state: available}, runtime: {name: shell}}
  - {job: kbuild, event: *checkout, runtime: {name: shell}}
  - {job: kver, event: *checkout, runtime: {name: gone}}
  - {job: ktest, event: {channel: node, kind: kbuild, state: available}, runtime: {name: shell}, platforms: [shell, board]}
`

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// clock is a clock that a test moves.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// lab is a runtime that keeps the promise to run a node's job once.
type lab struct {
	mu     sync.Mutex
	jobs   map[node.ID]runtime.Job
	err    error
	before func(runtime.Job) // runs within Submit
	calls  int
}

func (l *lab) Submit(_ context.Context, j runtime.Job) (string, error) {
	if l.before != nil {
		l.before(j)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls++
	if errors.Is(l.err, errs.Invalid) {
		return "", fmt.Errorf("%w %s", l.err, j.Token)
	}
	if l.err != nil {
		return "", l.err
	}
	if _, ok := l.jobs[j.Node.ID]; !ok {
		l.jobs[j.Node.ID] = j
	}
	return "lab-" + string(j.Node.ID), nil
}

func (l *lab) Cancel(context.Context, string) error                 { return nil }
func (l *lab) State(context.Context, string) (runtime.State, error) { return runtime.Running, nil }

type shelf struct {
	mu    sync.Mutex
	files map[string]string
	err   error
}

func (s *shelf) Upload(_ context.Context, path, _ string, r io.Reader) (string, error) {
	b, err := io.ReadAll(r)
	if err = errors.Join(err, s.err); err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[path] = string(b)
	return s.URL(path), nil
}

func (s *shelf) Open(_ context.Context, path string) (io.ReadSeekCloser, storage.Info, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text, ok := s.files[path]
	if !ok {
		return nil, storage.Info{}, errs.New(errs.NotFound, "no %s", path)
	}
	return struct {
		io.ReadSeeker
		io.Closer
	}{strings.NewReader(text), io.NopCloser(nil)}, storage.Info{}, nil
}

func (s *shelf) URL(path string) string { return "http://storage.example.org/" + path }

type renderer struct{ errs map[string]error }

func (r renderer) Render(p jobdef.Params) (string, error) {
	if err := r.errs[p.Job.Name]; err != nil {
		return "", err
	}
	return fmt.Sprintf("#!/bin/sh\n# %s on %s, %s for %s at %s\n", p.Job.Name, p.Runtime.Name, p.Platform.Name, p.Node.ID, p.APIURL), nil
}

// setup is the function with all that is around it.
type setup struct {
	*Function
	t        testing.TB
	clock    *clock
	store    *sqlite.Store
	lab      *lab
	storage  *shelf
	renderer renderer
	logged   *bytes.Buffer
}

func newSetup(t testing.TB, config string) *setup {
	t.Helper()
	cfg, _, err := pipeline.Load(fstest.MapFS{"all.yaml": {Data: []byte(config)}}, pipeline.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return newSetupOf(t, cfg)
}

func newSetupOf(t testing.TB, cfg *pipeline.Config) *setup {
	t.Helper()
	s := &setup{
		t: t, clock: &clock{at: start}, lab: &lab{jobs: map[node.ID]runtime.Job{}}, storage: &shelf{files: map[string]string{}},
		renderer: renderer{errs: map[string]error{}}, logged: &bytes.Buffer{},
	}
	var err error
	s.store, err = sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "x.db"), Now: s.clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.store.Close(); err != nil {
			t.Error(err)
		}
	})
	s.Function, err = New(Options{
		Config: cfg, Store: s.store, Storage: s.storage, Renderer: s.renderer,
		Runtimes: map[string]runtime.Runtime{"shell": s.lab},
		Token:    func(id node.ID, _ time.Duration) (string, error) { return "secret-of-" + string(id), nil },
		APIURL:   "http://api.example.org", StorageURL: "http://storage.example.org", InstanceID: "test",
		Holdoff: 10 * time.Minute, Attempts: 3, Owner: "pipeline", Now: s.clock.Now, Metrics: prometheus.NewRegistry(),
		Log: slog.New(slog.NewTextHandler(s.logged, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var revision = map[string]any{
	"tree": "mainline", "branch": "master", "url": "https://example.org/linux.git", "commit": "abc", "commit_message": "a {brace}",
	"version": map[string]any{"version": 6.0, "patchlevel": 12.0},
}

// checkout stores a new checkout that is available and returns the event.
func (s *setup) checkout(name string) (node.Node, event.Event) {
	s.t.Helper()
	return s.arrive(node.Node{
		ID: node.DeriveID("", name), Kind: node.KindCheckout, Name: "checkout", Path: []string{"checkout"}, TreeID: name,
		Artifacts: map[string]string{"tarball": "http://s.example.org/linux.tar.gz", "log": "http://s.example.org/log.txt"},
		Timeout:   s.clock.Now().Add(3 * time.Hour), JobFilter: []string{"checkout+"}, PlatformFilter: []string{"shell"},
		Data: map[string]any{"kernel_revision": maps.Clone(revision)},
	})
}

// arrive stores n as running, makes it available and returns that event.
func (s *setup) arrive(n node.Node) (node.Node, event.Event) {
	s.t.Helper()
	n.State, n.Owner = node.Running, "pipeline"
	if _, err := s.store.Create(s.t.Context(), n); err != nil {
		s.t.Fatal(err)
	}
	return s.available(n.ID)
}

func (s *setup) available(id node.ID) (node.Node, event.Event) {
	s.t.Helper()
	n, err := s.store.Update(s.t.Context(), id, func(n *node.Node) error {
		n.State, n.Result = node.Available, node.Pass
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return n, s.last()
}

// last is the newest event.
func (s *setup) last() event.Event {
	s.t.Helper()
	n, err := s.store.LastSequence(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	list, _, err := s.store.After(s.t.Context(), n-1, event.Filter{}, 1)
	if err != nil || len(list) != 1 {
		s.t.Fatal(list, err)
	}
	return list[0]
}

func (s *setup) handle(e event.Event) {
	s.t.Helper()
	if err := s.Handle(s.t.Context(), e); err != nil {
		s.t.Fatal(err)
	}
}

// below returns what is below a node.
func (s *setup) below(id node.ID) []node.Node {
	s.t.Helper()
	list, err := s.store.Find(s.t.Context(), node.Where("parent", id))
	if err != nil {
		s.t.Fatal(err)
	}
	return list
}

// children returns what is below a node, by name, platform and attempt.
func (s *setup) children(id node.ID) map[string]node.Node {
	s.t.Helper()
	out := map[string]node.Node{}
	for _, n := range s.below(id) {
		key := fmt.Sprintf("%s %s %d", n.Name, n.Text("platform"), n.RetryCounter)
		if _, twice := out[key]; twice {
			s.t.Errorf("%s is there twice", key)
		}
		out[key] = n
	}
	return out
}

// decided returns what is kept of the decisions about a node, the newest first.
func (s *setup) decided(id node.ID) []schedule.Record {
	s.t.Helper()
	page, _, err := s.store.FindDecided(s.t.Context(), id, 100, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	out := make([]schedule.Record, len(page))
	for i, d := range page {
		if out[i], err = schedule.Unpack(d.Body); err != nil {
			s.t.Fatal(err)
		}
	}
	return out
}

func (s *setup) names(id node.ID) []string { return slices.Sorted(maps.Keys(s.children(id))) }

func same(t *testing.T, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestACheckoutStartsItsJobs(t *testing.T) {
	s := newSetup(t, small)
	parent, e := s.checkout("one")
	s.handle(e)
	same(t, s.names(parent.ID), []string{"kbuild shell 0", "kver shell 0"})
	for name, n := range s.children(parent.ID) {
		j := s.lab.jobs[n.ID]
		if n.State != node.Running || n.Text("job_id") != "lab-"+string(n.ID) {
			t.Errorf("%s: state %s, job_id %q", name, n.State, n.Text("job_id"))
		}
		path := string(n.ID) + "/job.sh"
		if n.Artifacts["job_definition"] != "http://storage.example.org/"+path || s.storage.files[path] != j.Definition || j.Definition == "" {
			t.Errorf("%s: definition %q at %q", name, s.storage.files[path], n.Artifacts["job_definition"])
		}
		if j.Token != "secret-of-"+string(n.ID) || j.Holdoff != 10*time.Minute || j.Limit >= n.Timeout.Sub(start) || j.Limit < 59*time.Minute {
			t.Errorf("%s: token %q, holdoff %s, limit %s, timeout %s", name, j.Token, j.Holdoff, j.Limit, n.Timeout)
		}
		b, err := json.Marshal(n)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b)+j.Definition, "secret") {
			t.Errorf("%s: the token is in %s", name, b)
		}
	}
	if strings.Contains(s.logged.String(), "secret") {
		t.Error("the token is in the log")
	}
	if r := s.decided(parent.ID)[0]; len(r.Outcomes) != 3 || r.Outcomes[0].Node == "" || r.Outcomes[2].Node != "" ||
		r.Outcomes[2].Reason != "this program has no driver for lab type lava of runtime gone" {
		t.Errorf("it is not kept why a job does not run: %+v", r)
	}
}

func TestAJobNodeIsWhatTheContractSays(t *testing.T) {
	s := newSetup(t, small)
	parent, e := s.checkout("one")
	s.handle(e)
	n := s.children(parent.ID)["kbuild shell 0"]
	want := node.Node{
		ID: node.DeriveID(parent.ID, "job", "kbuild", "shell", "shell", "0"), Kind: node.KindKbuild, Name: "kbuild", Group: "kbuild",
		Path: []string{"checkout", "kbuild"}, Parent: parent.ID, State: node.Running, TreeID: "one", Owner: "pipeline", Submitter: "service:pipeline",
		JobFilter: []string{"checkout+"}, PlatformFilter: []string{"shell"}, Created: start, Updated: start, Timeout: start.Add(time.Hour),
		Artifacts: map[string]string{"tarball": "http://s.example.org/linux.tar.gz", "job_definition": n.Artifacts["job_definition"]},
		Data: map[string]any{
			"kernel_revision": parent.Data["kernel_revision"], "runtime": "shell", "platform": "shell", "job_id": n.Text("job_id"),
			"arch": "arm64", "compiler": "gcc-14", "defconfig": []any{"defconfig", "plain-6.12"}, "fragments": []any{"x{y}"},
		},
	}
	want.SetDefaults(start)
	got, err := json.MarshalIndent(n, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	wanted, err := json.MarshalIndent(want, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(wanted) {
		t.Errorf("got\n%s\nwant\n%s", got, wanted)
	}
	if kver := s.children(parent.ID)["kver shell 0"]; !kver.Timeout.Equal(parent.Timeout) {
		t.Errorf("kver: timeout %s, beyond its parent's %s", kver.Timeout, parent.Timeout)
	}
}

func TestATestKnowsTheKernelItRunsOn(t *testing.T) {
	s := newSetup(t, small)
	parent, e := s.checkout("one")
	s.handle(e)
	build := s.children(parent.ID)["kbuild shell 0"]
	if _, err := s.store.Update(t.Context(), build.ID, func(n *node.Node) error {
		n.Set("config_full", "defconfig+x")
		n.Artifacts["kernel"], n.Artifacts["log"] = "http://s.example.org/bzImage", "http://s.example.org/log"
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	build, e = s.available(build.ID)
	s.handle(e)
	same(t, s.names(build.ID), []string{"ktest shell 0"})
	n := s.children(build.ID)["ktest shell 0"]
	for _, k := range []string{"arch", "compiler", "config_full", "defconfig", "kernel_revision"} {
		if fmt.Sprint(n.Data[k]) != fmt.Sprint(build.Data[k]) || n.Data[k] == nil {
			t.Errorf("data.%s is %v, want %v", k, n.Data[k], build.Data[k])
		}
	}
	same(t, slices.Sorted(maps.Keys(n.Artifacts)), []string{"job_definition", "kernel", "tarball"})
	if n.Artifacts["job_definition"] == build.Artifacts["job_definition"] {
		t.Error("the test has the definition of the build")
	}
}

func TestAnEventDeliveredTwiceGivesTheSameNodes(t *testing.T) {
	s := newSetup(t, small)
	parent, e := s.checkout("one")
	s.handle(e)
	before, sequence := s.children(parent.ID), s.last().Sequence
	s.clock.Add(time.Minute)
	s.handle(e)
	after := s.children(parent.ID)
	if fmt.Sprint(before) != fmt.Sprint(after) || s.last().Sequence != sequence {
		t.Errorf("changed from\n%v\nto\n%v", before, after)
	}
	if s.lab.calls != 2 {
		t.Errorf("submitted %d times, want 2", s.lab.calls)
	}
}

func TestAnEventDeliveredToManyInstancesAtOnceGivesTheSameNodes(t *testing.T) {
	s := newSetup(t, small)
	parent, e := s.checkout("one")
	var wg sync.WaitGroup
	for range 8 {
		other, err := New(s.Options)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			if err := other.Handle(context.WithoutCancel(t.Context()), e); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	same(t, s.names(parent.ID), []string{"kbuild shell 0", "kver shell 0"})
	for name, n := range s.children(parent.ID) {
		if n.Text("job_id") == "" || n.State != node.Running {
			t.Errorf("%s: %+v", name, n)
		}
	}
	if len(s.lab.jobs) != 2 {
		t.Errorf("%d jobs run, want 2", len(s.lab.jobs))
	}
}

func TestAJobIsFinishedAfterACrashBetweenCreationAndSubmission(t *testing.T) {
	s := newSetup(t, small)
	parent, e := s.checkout("one")
	sub, err := s.subject(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	_, jobs := s.decide(sub)
	for _, j := range jobs {
		if err := s.create(t.Context(), j); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.lab.jobs) != 0 || len(s.children(parent.ID)) != 2 {
		t.Fatal("the crash is not where it should be")
	}
	s.clock.Add(time.Minute)
	s.handle(e)
	if len(s.lab.jobs) != 2 {
		t.Errorf("%d jobs run, want 2", len(s.lab.jobs))
	}
	for name, n := range s.children(parent.ID) {
		if n.Text("job_id") == "" || n.Artifacts["job_definition"] == "" {
			t.Errorf("%s: not finished: %v", name, n.Data)
		}
	}
}

func TestAJobThatEndsBeforeItsSubmissionIsRecordedKeepsItsDefinition(t *testing.T) {
	s := newSetup(t, small)
	parent, e := s.checkout("one")
	sub, err := s.subject(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	_, jobs := s.decide(sub)
	for _, j := range jobs {
		if err := s.create(t.Context(), j); err != nil {
			t.Fatal(err)
		}
		if j.Job.Name == "kver" { // who submitted it was killed then; it has reported since
			s.storage.files[string(j.node.ID)+"/job.sh"] = "of kver"
		}
		if _, err := s.store.Update(t.Context(), j.node.ID, func(n *node.Node) error {
			n.State, n.Result = node.Done, node.Fail
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	s.handle(e)
	sequence := s.last().Sequence
	s.handle(e)
	if s.lab.calls != 0 || s.last().Sequence != sequence {
		t.Errorf("submitted %d times, written again: %t", s.lab.calls, s.last().Sequence != sequence)
	}
	for name, url := range map[string]string{"kver shell 0": "of kver", "kbuild shell 0": ""} {
		n := s.children(parent.ID)[name]
		link := n.Artifacts["job_definition"]
		if s.storage.files[strings.TrimPrefix(link, s.storage.URL(""))] != url || n.State != node.Done || n.Result != node.Fail {
			t.Errorf("%s: %s, %s, %v", name, n.State, n.Result, n.Artifacts)
		}
	}
}

func TestAnotherNodeInTheJobsPlaceIsFinished(t *testing.T) {
	s := newSetup(t, small)
	parent, e := s.checkout("one")
	if _, err := s.store.Create(t.Context(), node.Node{
		ID: "0123456789abcdef01234567", Kind: node.KindJob, Name: "kver", Path: []string{"checkout", "kver"}, Parent: parent.ID,
		Data: map[string]any{"kernel_revision": revision, "runtime": "shell", "platform": "shell"},
	}); err != nil {
		t.Fatal(err)
	}
	s.handle(e)
	if n := s.children(parent.ID)["kver shell 0"]; n.ID != "0123456789abcdef01234567" || n.Text("job_id") == "" {
		t.Errorf("%+v", n)
	}
}

func TestAJobThatReportsBeforeItsIdIsRecordedStaysAsItReported(t *testing.T) {
	s := newSetup(t, small)
	s.lab.before = func(j runtime.Job) {
		if _, err := s.store.Update(context.WithoutCancel(t.Context()), j.Node.ID, func(n *node.Node) error {
			n.State, n.Result = node.Done, node.Fail
			n.Artifacts["log"] = "http://s.example.org/log"
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	parent, e := s.checkout("one")
	s.handle(e)
	s.handle(e)
	for name, n := range s.children(parent.ID) {
		if n.State != node.Done || n.Result != node.Fail || n.Artifacts["log"] == "" || n.Text("job_id") == "" || n.Artifacts["job_definition"] == "" {
			t.Errorf("%s: %+v", name, n)
		}
	}
}

func TestEachFailureEndsItsOwnJobAlone(t *testing.T) {
	bad := strings.Replace(small, `timeout: 1h`, `timeout: soon`, 1)
	unknown := strings.Replace(small, `{flavour}`, `{nothing}`, 1)
	arch := strings.Replace(small, `arch: arm64, compiler`, `arch: [arm64], compiler`, 1)
	render := func(s *setup) { s.renderer.errs["kbuild"] = errs.New(errs.Invalid, "template: no block %q", "x") }
	for _, tc := range []struct {
		name, config string
		breaks       func(*setup)
		code, msg    string
	}{
		{"template", small, render, "job_generation_error", `template: no block "x"`},
		{"timeout", bad, nil, "invalid_job_params", `params.timeout "soon" is neither`},
		{"word", unknown, nil, "invalid_job_params", `nothing is called {nothing}`},
		{"arch", arch, nil, "invalid_job_params", `params.arch: "[arm64]" must be a text`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSetup(t, tc.config)
			if tc.breaks != nil {
				tc.breaks(s)
			}
			parent, e := s.checkout("one")
			s.handle(e)
			s.handle(e)
			n := s.children(parent.ID)["kbuild shell 0"]
			if n.State != node.Done || n.Result != node.Incomplete || n.Text("error_code") != tc.code || !strings.Contains(n.Text("error_msg"), tc.msg) {
				t.Errorf("%s, %s, %s: %q", n.State, n.Result, n.Text("error_code"), n.Text("error_msg"))
			}
			if other := s.children(parent.ID)["kver shell 0"]; other.Text("job_id") == "" {
				t.Error("the other job was not submitted")
			}
			if len(s.lab.jobs) != 1 {
				t.Errorf("%d jobs run, want 1", len(s.lab.jobs))
			}
		})
	}
}

func TestADeviceTreeIsLookedUpOnceForAllJobsOfAKernel(t *testing.T) {
	const metadata = "http://s.example.org/metadata.json"
	boards := strings.Replace(small, "board: {arch: arm64}", "board: {arch: arm64, dtb: [a.dtb, b.dtb]}", 1)
	boards = strings.Replace(boards, "platforms: [shell, board]", "platforms: [shell, board, other, sorry]", 1)
	boards = strings.Replace(boards, "  shell: {params", "  other: {dtb: b.dtb}\n  sorry: {dtb: c.dtb}\n  shell: {params", 1)
	for _, tc := range []struct {
		name, artifact string
		fetch          func() ([]byte, error)
		code, msg      string // of board
		calls          int
	}{
		{"found", metadata, func() ([]byte, error) { return []byte(`{"artifacts":{"b.dtb":"https://x/b.dtb"}}`), nil }, "", "", 1},
		{"no metadata", "", nil, "invalid_job_params", "no artifact metadata", 0},
		{"gone", metadata, func() ([]byte, error) { return nil, errs.New(errs.Invalid, "404 Not Found") }, "invalid_job_params", "404 Not Found", 3},
		{"no JSON", metadata, func() ([]byte, error) { return []byte("<html>"), nil }, "invalid_job_params", "cannot be read", 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSetup(t, boards)
			var mu sync.Mutex
			calls := 0
			s.Fetch = func(_ context.Context, url string) ([]byte, error) {
				mu.Lock()
				defer mu.Unlock()
				if calls++; url != metadata {
					t.Errorf("fetched %s", url)
				}
				return tc.fetch()
			}
			kernel := node.Node{ID: "0123456789abcdef01234567", Kind: node.KindKbuild, Name: "kbuild", Path: []string{"kbuild"},
				Data: map[string]any{"kernel_revision": revision}}
			if tc.artifact != "" {
				kernel.Artifacts = map[string]string{"metadata": tc.artifact}
			}
			build, e := s.arrive(kernel)
			s.handle(e)
			n := s.children(build.ID)["ktest board 0"]
			if n.Text("error_code") != tc.code || !strings.Contains(n.Text("error_msg"), tc.msg) || tc.code == "" && n.Text("job_id") == "" {
				t.Errorf("board: %v", n.Data)
			}
			if calls < min(1, tc.calls) || calls > tc.calls {
				t.Errorf("fetched %d times, want %d", calls, tc.calls)
			}
			if sorry := s.children(build.ID)["ktest sorry 0"]; sorry.Text("error_code") != "invalid_job_params" {
				t.Errorf("sorry: %v", sorry.Data)
			}
			if plain := s.children(build.ID)["ktest shell 0"]; plain.Text("job_id") == "" {
				t.Errorf("shell: %v", plain.Data)
			}
		})
	}
}

func TestAJobKnowsThePriorityOfItsTreeAndWhoAskedForIt(t *testing.T) {
	s := newSetup(t, small+`
trees: {mainline: {url: "https://example.org/linux.git"}}
build_configs:
  other: {tree: mainline, branch: other, priority: low}
  mainline: {tree: mainline, branch: master, priority: high}
`)
	parent, e := s.arrive(node.Node{
		ID: node.DeriveID("", "asked"), Kind: node.KindCheckout, Name: "checkout", Path: []string{"checkout"}, Submitter: "user:a@example.org",
		Data: map[string]any{"kernel_revision": maps.Clone(revision)},
	})
	s.handle(e)
	if n := s.children(parent.ID)["kver shell 0"]; n.Text("tree_priority") != "high" || n.Submitter != "user:a@example.org" {
		t.Errorf("%+v", n)
	}
}

func TestARefusedJobEndsWithSubmitErrorAndWithoutTheToken(t *testing.T) {
	s := newSetup(t, small)
	parent, e := s.checkout("one")
	s.lab.err = errs.New(errs.Invalid, "lab: cannot parse")
	s.handle(e)
	n := s.children(parent.ID)["kver shell 0"]
	if n.State != node.Done || n.Result != node.Incomplete || n.Text("error_code") != "submit_error" || n.Text("error_msg") != "lab: cannot parse [token]" {
		t.Errorf("%s, %s, %v", n.State, n.Result, n.Data)
	}
	if n.Artifacts["job_definition"] == "" {
		t.Error("the definition that was refused is not among the artifacts")
	}
	if strings.Contains(s.logged.String(), "secret") {
		t.Error("the token is in the log")
	}
	s.lab.err = nil
	s.handle(e)
	if len(s.lab.jobs) != 0 {
		t.Error("a refused job was submitted again")
	}
}

func TestAStorageThatIsAwayHasTheEventComeAgain(t *testing.T) {
	s := newSetup(t, small)
	parent, e := s.checkout("one")
	s.storage.err = errs.New(errs.Temporary, "the line is down")
	err := s.Handle(t.Context(), e)
	if !errors.Is(err, errs.Temporary) || !errs.Retry(err) || strings.Contains(err.Error(), "secret") {
		t.Fatalf("error %v, want a temporary one", err)
	}
	for name, n := range s.children(parent.ID) {
		if n.State != node.Running || n.Text("job_id") != "" {
			t.Errorf("%s: %+v", name, n)
		}
	}
	s.storage.err = nil
	s.handle(e)
	if len(s.lab.jobs) != 2 {
		t.Errorf("%d jobs run, want 2", len(s.lab.jobs))
	}
}

func TestAHostThatStopsCostsNoAttempt(t *testing.T) {
	s := newSetup(t, small)
	parent, e := s.checkout("one")
	ctx, stop := context.WithCancel(t.Context())
	s.lab.before = func(runtime.Job) { stop() }
	s.lab.err = errs.New(errs.Temporary, "broken off")
	if err := s.Handle(ctx, e); err == nil {
		t.Fatal("no error")
	}
	for name, n := range s.children(parent.ID) {
		if n.State != node.Running || n.Debug[tries] != nil {
			t.Errorf("%s: %s %v", name, n.State, n.Debug)
		}
	}
}

func TestAJobWhoseTimeHasLapsedIsNotSubmitted(t *testing.T) {
	s := newSetup(t, small)
	_, e := s.checkout("one")
	s.lab.err = errs.New(errs.Temporary, "the line is down")
	s.handle(e)
	s.lab.err = nil
	s.clock.Add(24 * time.Hour)
	s.handle(e)
	if len(s.lab.jobs) != 0 {
		t.Error("submitted")
	}
}

// retry is a request of user for another attempt at one job below n.
func retry(t *testing.T, user string, n node.Node, attempt int, fields map[string]any) event.Event {
	t.Helper()
	data := map[string]any{
		"op": "updated", "id": n.ID, "kind": n.Kind, "name": n.Name, "path": n.Path, "state": n.State, "result": n.Result,
		"owner": n.Owner, "data": n.Data, "retry_counter": attempt,
	}
	maps.Copy(data, fields)
	b, err := json.Marshal(data)
	if err != nil {
		t.Fatal(err)
	}
	return event.Event{ID: fmt.Sprintf("retry-%d", attempt), Channel: event.ChannelRetry, Owner: user, Data: b}
}

func TestARetryRequestMakesAnotherAttemptAtTheNamedJob(t *testing.T) {
	s := newSetup(t, small)
	parent, e := s.checkout("one")
	s.handle(e)
	again := retry(t, "pipeline", parent, 1, map[string]any{"jobfilter": []string{"kver"}})
	s.handle(again)
	s.handle(again)
	same(t, s.names(parent.ID), []string{"kbuild shell 0", "kver shell 0", "kver shell 1"})
	n := s.children(parent.ID)["kver shell 1"]
	if n.RetryCounter != 1 || n.Text("job_id") == "" || !slices.Equal(n.JobFilter, parent.JobFilter) {
		t.Errorf("%+v", n)
	}
	s.handle(retry(t, "somebody", parent, 2, map[string]any{"jobfilter": []string{"kver"}, "debug": map[string]any{"retry_by": 5}}))
	s.handle(retry(t, "somebody", parent, 2, map[string]any{"debug": map[string]any{"retry_by": n.ID}}))
	if s.children(parent.ID)["kver shell 1"].Debug["retried"] != nil {
		t.Error("a stranger's request is taken for dealt with")
	}
	if got := s.names(parent.ID); len(got) != 3 {
		t.Errorf("a stranger's request gave %q", got)
	}
}

func TestADecisionIsKeptForEachEventThatMayStartAJob(t *testing.T) {
	s := newSetup(t, small)
	parent, e := s.checkout("one")
	s.handle(e)
	s.handle(e)
	s.clock.Add(time.Minute)
	s.handle(retry(t, "pipeline", parent, 1, map[string]any{"jobfilter": []string{"kver"}}))
	records := s.decided(parent.ID)
	if len(records) != 2 || records[0].Retry != 1 || records[0].Channel != "retry" || !records[0].Time.Equal(start.Add(time.Minute)) ||
		records[1].Event != e.ID || records[1].State != node.Available || records[1].Previous != node.Running {
		t.Fatalf("%+v", records)
	}
	for name, n := range s.children(parent.ID) {
		if !slices.ContainsFunc(records, func(r schedule.Record) bool {
			return slices.ContainsFunc(r.Outcomes, func(o schedule.Outcome) bool { return o.Node == n.ID && o.Job == n.Name && o.Reason == "" })
		}) {
			t.Errorf("nothing says why %s was created", name)
		}
	}
	if o := records[0].Outcomes[1]; o.Job != "kbuild" || o.Node != "" || !strings.Contains(o.Reason, "jobfilter") || o.Checks[0].Rule != "jobfilter" {
		t.Errorf("%+v", o)
	}
}

func TestARetryRequestMayNameThePlatform(t *testing.T) {
	s := newSetup(t, small)
	build, e := s.arrive(node.Node{
		ID: "0123456789abcdef01234567", Kind: node.KindKbuild, Name: "kbuild", Path: []string{"kbuild"}, Data: map[string]any{"kernel_revision": revision},
	})
	s.handle(e)
	s.handle(retry(t, "pipeline", build, 1, map[string]any{"jobfilter": []string{"ktest"}, "platform_filter": []string{"board"}}))
	same(t, s.names(build.ID), []string{"ktest board 0", "ktest board 1", "ktest shell 0"})
}

func TestAttemptsAreLinked(t *testing.T) {
	s := newSetup(t, small)
	parent, e := s.checkout("one")
	s.handle(e)
	first := s.children(parent.ID)["kver shell 0"]
	before := first
	for attempt := 1; attempt < 3; attempt++ {
		request := event.Retry{Input: parent, Of: before, Attempt: attempt, Jobs: []string{"kver"}}
		again, err := request.Event(fmt.Sprint("request-", attempt), "pipeline", s.clock.Now())
		if err != nil {
			t.Fatal(err)
		}
		s.handle(again)
		s.handle(again)
		n := s.children(parent.ID)[fmt.Sprint("kver shell ", attempt)]
		if n.RetryOf() != before.ID || n.FirstAttempt() != first.ID || n.Retried() {
			t.Errorf("attempt %d: %v", attempt, n.Debug)
		}
		if was := s.children(parent.ID)[fmt.Sprint("kver shell ", attempt-1)]; !was.Retried() {
			t.Errorf("attempt %d is not marked: %v", attempt-1, was.Debug)
		}
		before = n
	}
}

func TestARetryRunsOnNoOtherNamedRuntime(t *testing.T) {
	s := newSetup(t, strings.Replace(small, "  - {job: kver, event: *checkout, runtime: {name: gone}}", "  - {job: kver, event: *checkout, runtime: {name: gone}, platforms: [shell]}", 1))
	s.drive("gone", s.lab)
	parent, e := s.checkout("one")
	s.handle(e)
	for _, n := range s.below(parent.ID) {
		if n.Name == "kver" && n.Text("runtime") == "shell" {
			request := event.Retry{Input: parent, Of: n, Attempt: 1, Jobs: []string{"kver"}}
			again, err := request.Event("request", "pipeline", s.clock.Now())
			if err != nil {
				t.Fatal(err)
			}
			s.handle(again)
		}
	}
	var retried []string
	for _, n := range s.below(parent.ID) {
		if n.RetryCounter > 0 {
			retried = append(retried, n.Name+" "+n.Text("runtime"))
		}
	}
	same(t, retried, []string{"kver shell"})
}

func TestARetryRequestReachesABuildThatIsDone(t *testing.T) {
	s := newSetup(t, small)
	build, e := s.arrive(node.Node{
		ID: "0123456789abcdef01234567", Kind: node.KindKbuild, Name: "kbuild", Path: []string{"kbuild"}, Data: map[string]any{"kernel_revision": revision},
	})
	s.handle(e)
	build.State = node.Done
	again := retry(t, "pipeline", build, 1, map[string]any{"jobfilter": []string{"kbuild", "ktest"}, "platform_filter": []string{"shell"}})
	s.handle(again)
	s.handle(again)
	same(t, s.names(build.ID), []string{"ktest board 0", "ktest shell 0", "ktest shell 1"})
}

func TestAPatchsetIsTakenUpLikeACheckout(t *testing.T) {
	s := newSetup(t, small)
	patched, e := s.arrive(node.Node{
		ID: "0123456789abcdef01234567", Kind: node.KindCheckout, Name: "patchset", Group: "patchset", Path: []string{"checkout", "patchset"},
		Data: map[string]any{"kernel_revision": revision},
	})
	s.handle(e)
	same(t, s.names(patched.ID), []string{"kbuild shell 0", "kver shell 0"})
	if path := s.children(patched.ID)["kver shell 0"].Path; !slices.Equal(path, []string{"checkout", "patchset", "kver"}) {
		t.Errorf("path %q", path)
	}
}

func TestFrequencyLeavesTimeBetweenRuns(t *testing.T) {
	s := newSetup(t, strings.Replace(small, "kver: {template: kver.jinja2, kind: job", "kver: {template: kver.jinja2, kind: job, params: {frequency: 2h}", 1))
	first, e := s.checkout("one")
	s.handle(e)
	s.clock.Add(time.Hour)
	second, e2 := s.checkout("two")
	s.handle(e2)
	same(t, s.names(first.ID), []string{"kbuild shell 0", "kver shell 0"})
	same(t, s.names(second.ID), []string{"kbuild shell 0"})
	if r := s.decided(second.ID)[0]; !strings.HasPrefix(r.Outcomes[0].Reason, "run less than 2h0m0s ago") || r.Outcomes[0].Node != "" {
		t.Errorf("it is not kept why: %+v", r)
	}
	s.handle(e) // a repeated event is not stopped by its own job
	s.handle(retry(t, "pipeline", first, 1, map[string]any{"jobfilter": []string{"kver"}}))
	same(t, s.names(first.ID), []string{"kbuild shell 0", "kver shell 0", "kver shell 1"})
	s.clock.Add(2*time.Hour + time.Minute)
	third, e3 := s.checkout("three")
	s.handle(e3)
	same(t, s.names(third.ID), []string{"kbuild shell 0", "kver shell 0"})
}

func TestAnEventThatStartsNothingReadsNothing(t *testing.T) {
	s := newSetup(t, small)
	parent, e := s.checkout("one")
	if _, err := s.store.Update(t.Context(), parent.ID, func(n *node.Node) error { n.Set("x", 1); return nil }); err != nil {
		t.Fatal(err)
	}
	unchanged := s.last()
	s.Store = nil // a look into it panics
	for _, e := range []event.Event{unchanged, {ID: "1", Channel: "telemetry", Data: e.Data}} {
		s.handle(e)
	}
}

func TestAnEventOfAVanishedNodeIsDropped(t *testing.T) {
	s := newSetup(t, small)
	_, e := s.checkout("one")
	e.Data = bytes.ReplaceAll(e.Data, []byte(node.DeriveID("", "one")), []byte("ffffffffffffffffffffffff"))
	s.handle(e)
	if got := s.Handle(t.Context(), event.Event{ID: "1", Channel: event.ChannelNode, Data: []byte(`[]`)}); !errors.Is(got, errs.Invalid) || errs.Retry(got) {
		t.Errorf("an event that is none: %v", got)
	}
}

func TestNewNamesWhatIsMissing(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("no error")
	}
}

// late is a store that refuses nodes before it shows what they conflict with.
type late struct {
	Store
	refusals int
}

func (l *late) Create(ctx context.Context, n node.Node, opts ...store.Option) (node.Node, error) {
	if l.refusals--; l.refusals >= 0 {
		return node.Node{}, errs.New(errs.Conflict, "somebody is about to commit it")
	}
	return l.Store.Create(ctx, n, opts...)
}

func TestAConflictWithANodeThatIsUndoneIsNoJobLost(t *testing.T) {
	s := newSetup(t, strings.Replace(small, "\n  - {job: kbuild, event: *checkout, runtime: {name: shell}}", "", 1))
	parent, e := s.checkout("one")
	s.Store = &late{s.store, 3}
	s.handle(e)
	same(t, s.names(parent.ID), []string{"kver shell 0"})
	second, e := s.checkout("two")
	s.Store = &late{s.store, 1 << 30}
	if err := s.Handle(t.Context(), e); !errors.Is(err, errs.Temporary) {
		t.Errorf("error %v, want a temporary one", err)
	}
	if len(s.children(second.ID)) > 0 || len(s.lab.jobs) != 1 {
		t.Error("submitted without a node")
	}
}
