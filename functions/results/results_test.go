package results

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/lavaresult"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/runtime"
	"github.com/kernelflow/kernelflow/shared/storage"
	"github.com/kernelflow/kernelflow/shared/storage/blob"
	"github.com/kernelflow/kernelflow/shared/store"
	"github.com/kernelflow/kernelflow/shared/store/sqlite"
	"github.com/kernelflow/kernelflow/shared/telemetry"
)

var start = time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC)

// lab is a runtime that can be asked.
type lab struct {
	mu    sync.Mutex
	ended map[string]bool // jobs
	err   error
	asked int
	block chan struct{} // nil: it answers at once
}

func (l *lab) Submit(context.Context, runtime.Job) (string, error)  { return "", nil }
func (l *lab) Cancel(context.Context, string) error                 { return nil }
func (l *lab) State(context.Context, string) (runtime.State, error) { return runtime.Running, nil }
func (l *lab) Collect(ctx context.Context, n node.Node, keep runtime.Keep) (node.Hierarchy, error) {
	if l.block != nil {
		select {
		case <-l.block:
		case <-ctx.Done():
			return node.Hierarchy{}, errs.Wrap(errs.Temporary, ctx.Err())
		}
	}
	l.mu.Lock()
	l.asked++
	err, ended := l.err, l.ended[n.Text("job_id")]
	l.mu.Unlock()
	if err != nil {
		return node.Hierarchy{}, err
	}
	if !ended {
		return node.Hierarchy{}, errs.New(errs.Conflict, "it runs")
	}
	link, err := keep(ctx, "log.txt", "", strings.NewReader("a log"))
	r := lavaresult.Report{Head: lavaresult.Head{Job: n.Text("job_id"), Status: lavaresult.Complete}, Cases: []lavaresult.Case{{Suite: "0_a", Name: "x", Result: "pass"}}}
	return r.Tree(n, map[string]string{lavaresult.ArtifactLogs: link}), err
}

type setup struct {
	*Function
	t     *testing.T
	now   time.Time
	store *sqlite.Store
	files storage.Storage
	lab   *lab
	other *lab
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newSetup(t *testing.T) *setup {
	t.Helper()
	s := &setup{t: t, now: start, lab: &lab{ended: map[string]bool{}}, other: &lab{ended: map[string]bool{}}}
	clock := func() time.Time { return s.now }
	var err error
	s.store, err = sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "x.db"), Now: clock})
	check(t, err)
	t.Cleanup(func() { check(t, s.store.Close()) })
	s.files, err = blob.Open("file://"+t.TempDir(), "http://storage.example.org")
	check(t, err)
	t.Cleanup(func() { check(t, s.files.Close()) })
	s.Function, err = New(Options{
		Store: s.store, Storage: s.files, Runtimes: map[string]runtime.Runtime{"lab": s.lab, "other": s.other, "deaf": nil}, Owner: "pipeline",
		After: 5 * time.Minute, Period: time.Minute, Now: clock, Log: slog.New(slog.DiscardHandler),
	})
	check(t, err)
	return s
}

func (s *setup) job(number int, change ...func(*node.Node)) node.ID {
	s.t.Helper()
	name := fmt.Sprint("smoke-", number)
	n := node.Node{
		ID: node.DeriveID("", name), Kind: node.KindJob, Name: name, Path: []string{"checkout", name}, TreeID: "tree", Owner: "pipeline",
		Data: map[string]any{"runtime": "lab", "platform": "qemu", "job_id": fmt.Sprint(number)}, Timeout: s.now.Add(24 * time.Hour),
	}
	n.SetDefaults(s.now)
	for _, c := range change {
		c(&n)
	}
	_, err := s.store.Create(s.t.Context(), n)
	check(s.t, err)
	return n.ID
}

func (s *setup) get(id node.ID) node.Node {
	s.t.Helper()
	n, err := s.store.Get(s.t.Context(), id)
	check(s.t, err)
	return n
}

// below is what is below a node, as NAME RESULT.
func (s *setup) below(id node.ID) string {
	s.t.Helper()
	list, err := s.store.Find(s.t.Context(), node.Where("parent", id))
	check(s.t, err)
	var text []string
	for _, n := range list {
		text = append(text, strings.TrimSpace(fmt.Sprintf("%s %s %s", n.Name, n.Result, s.below(n.ID))))
	}
	return strings.Join(text, ", ")
}

// keep stores a callback as the callback function does, and returns its event.
func (s *setup) keep(id node.ID, job, body string) event.Event {
	s.t.Helper()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, err := lavaresult.Copy(z, strings.NewReader(body))
	check(s.t, err)
	check(s.t, z.Close())
	path := string(id) + "/" + lavaresult.CallbackFile
	_, err = s.files.Upload(s.t.Context(), path, "application/gzip", &packed)
	check(s.t, err)
	data, err := json.Marshal(lavaresult.Kept{Node: id, Job: job, Path: path})
	check(s.t, err)
	return event.Event{ID: "e", Channel: event.ChannelCallback, Owner: "pipeline", Data: data}
}

func body(number, status int) string {
	return fmt.Sprintf(`{"id": %d, "status": %d, "actual_device_id": "qemu01", "definition": "x", "log": "- {\"lvl\": \"target\", \"msg\": \"hello\"}\n",
		"results": {"lava": "- {name: login-action, result: pass}", "0_a": "- {name: x, result: pass}\n- {name: y, result: fail}"}}`, number, status)
}

func (s *setup) told(id node.ID) map[string]int {
	s.t.Helper()
	list, err := s.store.FindTelemetry(s.t.Context(), telemetry.Filter{Is: map[telemetry.Field][]string{telemetry.NodeID: {string(id)}}}, store.TelemetryPage{Limit: 100})
	check(s.t, err)
	count := map[string]int{}
	for _, e := range list {
		count[e.Texts[telemetry.Kind]+" "+e.Texts[telemetry.Result]]++
	}
	return count
}

func TestACallbackMakesTheResultsOnce(t *testing.T) {
	s := newSetup(t)
	id := s.job(1)
	e := s.keep(id, "1", body(1, 2))
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if err := s.Handle(t.Context(), e); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	n := s.get(id)
	if n.State != node.Done || n.Result != node.Fail || n.Text("device") != "qemu01" || s.below(id) != "setup pass login pass, a fail x pass, y fail" {
		t.Errorf("%s %s %v: %s", n.State, n.Result, n.Data, s.below(id))
	}
	base := "http://storage.example.org/" + string(id) + "/"
	for name, file := range map[string]string{"callback_data": lavaresult.CallbackFile, "lava_log": "log.txt.gz", "lava_logs": "lava-logs.yaml"} {
		if n.Artifacts[name] != base+file {
			t.Errorf("%s is %q", name, n.Artifacts[name])
		}
	}
	if told := s.told(id); told["job_result fail"] != 1 || told["test_result pass"] != 2 || told["test_result fail"] != 1 || len(told) != 3 {
		t.Errorf("told %v", told)
	}
}

func TestALateCallbackStillCounts(t *testing.T) {
	s := newSetup(t)
	late := s.job(1, func(n *node.Node) { n.SetError(node.Incomplete, node.ErrCodeTimeout, "too late") })
	ended := s.job(2, func(n *node.Node) { n.SetError(node.Incomplete, node.ErrCodeCanceled, "by somebody") })
	check(t, s.Handle(t.Context(), s.keep(late, "1", body(1, 2))))
	check(t, s.Handle(t.Context(), s.keep(ended, "2", body(2, 2))))
	if n := s.get(late); n.Result != node.Fail || n.Data["error_code"] != nil || n.Data["error_msg"] != nil {
		t.Errorf("%s %v", n.Result, n.Data)
	}
	if n := s.get(ended); n.Result != node.Incomplete || n.Text("error_code") != node.ErrCodeCanceled || s.below(ended) != "" {
		t.Errorf("%s %v", n.Result, n.Data)
	}
}

func TestACallbackOfAStrangerIsIgnored(t *testing.T) {
	s := newSetup(t)
	id := s.job(1)
	e := s.keep(id, "1", body(1, 2))
	e.Owner = "stranger"
	check(t, s.Handle(t.Context(), e))
	if n := s.get(id); n.State != node.Running {
		t.Error(n.State)
	}
	gone := event.Event{Owner: "pipeline", Data: []byte(`{"id": "` + strings.Repeat("a", 24) + `", "job_id": "1", "path": "x"}`)}
	check(t, s.Handle(t.Context(), gone))
	if err := s.Handle(t.Context(), event.Event{Owner: "pipeline", Data: []byte(`{}`)}); !errors.Is(err, errs.Invalid) {
		t.Errorf("%v", err)
	}
}

func TestACallbackWithTooManyResultsIsSaidToBeOne(t *testing.T) {
	s := newSetup(t)
	id := s.job(1)
	long := strings.Replace(body(1, 2), "- {name: x, result: pass}", strings.Repeat("- {name: x, result: pass}\\n", 500_000), 1)
	check(t, s.Handle(t.Context(), s.keep(id, "1", long)))
	if n := s.get(id); n.State != node.Done || n.Result != node.Incomplete || !strings.Contains(n.Text("error_msg"), "longer than 8388608 bytes") || n.Artifacts["callback_data"] == "" {
		t.Errorf("%s %s %v %v", n.State, n.Result, n.Text("error_msg"), n.Artifacts)
	}
}

func TestAStorageThatIsAwayIsTriedAgain(t *testing.T) {
	s := newSetup(t)
	id := s.job(1)
	e := s.keep(id, "1", body(1, 2))
	s.Function.Storage = away{s.files}
	if err := s.Handle(t.Context(), e); !errs.Retry(err) {
		t.Errorf("%v", err)
	}
	s.Function.Storage = s.files
	check(t, s.Handle(t.Context(), e))
	if n := s.get(id); n.Result != node.Fail {
		t.Error(n.Result)
	}
}

// away is a storage that takes nothing.
type away struct{ storage.Storage }

func (away) Upload(_ context.Context, _, _ string, r io.Reader) (string, error) {
	return "", errs.New(errs.Temporary, "the line is down")
}

func TestAnOverdueJobIsCollected(t *testing.T) {
	s := newSetup(t)
	id, running := s.job(1), s.job(2)
	s.lab.ended["1"] = true
	check(t, s.Tick(t.Context()))
	if s.lab.asked != 0 {
		t.Error("a young job is asked for")
	}
	s.now = s.now.Add(5 * time.Minute)
	check(t, s.Tick(t.Context()))
	check(t, s.Tick(t.Context()))
	n := s.get(id)
	if n.State != node.Done || n.Result != node.Pass || s.below(id) != "a pass x pass" || n.Artifacts["lava_logs"] != "http://storage.example.org/"+string(id)+"/log.txt" {
		t.Errorf("%s %s %v: %s", n.State, n.Result, n.Artifacts, s.below(id))
	}
	if n := s.get(running); n.State != node.Running || s.lab.asked != 3 {
		t.Errorf("%s, asked %d times", n.State, s.lab.asked)
	}
	// Its callback, which comes after all, changes nothing.
	check(t, s.Handle(t.Context(), s.keep(id, "1", body(1, 2))))
	if s.get(id).Result != node.Pass || s.below(id) != "a pass x pass" {
		t.Error(s.below(id))
	}
}

func TestAnOldJobIsAskedForLessOften(t *testing.T) {
	s := newSetup(t)
	s.job(1)
	for _, tc := range []struct {
		age   time.Duration
		asked int
	}{{10 * time.Minute, 30}, {2 * time.Hour, 6}, {12 * time.Hour, 2}} {
		s.lab.asked = 0
		for pass := range 30 {
			s.now = start.Add(tc.age + time.Duration(pass)*time.Minute)
			check(t, s.Tick(t.Context()))
		}
		if s.lab.asked != tc.asked {
			t.Errorf("at %s: asked %d times in 30 passes, want %d", tc.age, s.lab.asked, tc.asked)
		}
	}
}

func TestAJobThatItsLabForgotEnds(t *testing.T) {
	s := newSetup(t)
	id := s.job(1)
	s.lab.err = errs.New(errs.NotFound, "Not found.")
	s.now = s.now.Add(time.Hour)
	check(t, s.Tick(t.Context()))
	if n := s.get(id); n.State != node.Done || n.Result != node.Incomplete || n.Text("error_code") != node.ErrCodeInfrastructure || n.Text("error_msg") != "runtime lab does not know its job 1 any more" {
		t.Errorf("%s %s %v", n.State, n.Result, n.Data)
	}
}

func TestALabThatDoesNotAnswerDelaysNoOther(t *testing.T) {
	s := newSetup(t)
	s.lab.block = make(chan struct{})
	for n := range 20 {
		s.job(n)
	}
	id := s.job(100, func(n *node.Node) { n.Set("runtime", "other") })
	s.other.ended["100"] = true
	s.now = s.now.Add(time.Hour)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Tick(ctx) }()
	late := time.After(30 * time.Second)
	for tick := time.NewTicker(5 * time.Millisecond); s.get(id).State != node.Done; {
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("the other lab's job waits")
		}
	}
	stop()
	check(t, <-done)
	// One that says that it is down is asked no more in this pass.
	s.lab.block, s.lab.err, s.lab.asked = nil, errs.New(errs.Temporary, "away"), 0
	check(t, s.Tick(t.Context()))
	if s.lab.asked == 0 || s.lab.asked > 2*atOnce {
		t.Errorf("asked %d times", s.lab.asked)
	}
}

func TestARecordedCallbackIsTakenUp(t *testing.T) {
	s := newSetup(t)
	text, err := os.ReadFile("../../shared/lavaresult/testdata/callback-complete-body.json")
	check(t, err)
	id := s.job(1)
	check(t, s.Handle(t.Context(), s.keep(id, "1", string(text))))
	if got := s.below(id); got != "setup pass login pass, kernelmsg pass, smoke fail uname pass, always-fails fail, boot-time pass, skipped-one skip" {
		t.Error(got)
	}
}
