package shell

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/job"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/runtime"
	"github.com/kernelflow/kernelflow/shared/runtime/runtimetest"
)

// TestMain is the supervisor of a job when the first argument is "job", and a
// host that is to be killed when it is "host".
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "job" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		if err := job.Run(ctx, os.Args[2], os.Stderr); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) == 5 && os.Args[1] == "host" {
		host(os.Args[2], os.Args[3], os.Args[4])
		return
	}
	os.Exit(m.Run())
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// lab is a folder of jobs, with a folder in which their scripts leave marks.
type lab struct {
	t     *testing.T
	api   *runtimetest.API
	dir   string
	marks string
}

func newLab(t *testing.T, api *runtimetest.API) *lab {
	l := &lab{t: t, api: api, dir: t.TempDir(), marks: t.TempDir()}
	// Nothing of a job may be left when its folders are removed.
	t.Cleanup(l.drain)
	return l
}

// drain ends all jobs of the lab.
func (l *lab) drain() {
	ids, err := filepath.Glob(filepath.Join(l.dir, strings.Repeat("[0-9a-f]", 24)))
	if err != nil {
		l.t.Error(err)
	}
	for _, dir := range ids {
		if _, err := job.Cancel(dir); err != nil {
			l.t.Error(err)
		}
		runtimetest.Eventually(l.t, "the supervisors end", func() bool { return !job.Supervised(dir) })
	}
}

func (l *lab) options() Options {
	program, err := os.Executable()
	check(l.t, err)
	return Options{
		Name: "shell", Dir: l.dir, Supervisor: []string{program, "job"},
		APIURL: l.api.URL(), StorageURL: l.api.StorageURL(), Parallel: 2,
	}
}

func (l *lab) open(t *testing.T, change ...func(*Options)) *Runtime {
	t.Helper()
	o := l.options()
	for _, c := range change {
		c(&o)
	}
	r, err := New(o)
	check(t, err)
	check(t, r.Resume(t.Context()))
	t.Cleanup(func() { check(t, r.Close()) })
	return r
}

// gated is a script that leaves a mark and waits for its gate to open.
func (l *lab) gated() string {
	return fmt.Sprintf("echo started >> '%[1]s/'$KCI_NODE_ID.runs\nuntil [ -e '%[1]s/'$KCI_NODE_ID.gate ]; do sleep 0.02; done\n", l.marks)
}

func (l *lab) started(id node.ID) int {
	b, err := os.ReadFile(filepath.Join(l.marks, string(id)+".runs"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		l.t.Error(err)
	}
	return strings.Count(string(b), "\n")
}

func (l *lab) release(id node.ID) {
	if err := os.WriteFile(filepath.Join(l.marks, string(id)+".gate"), nil, 0o600); err != nil {
		l.t.Error(err)
	}
}

// job makes a job of the script whose node the API knows.
func (l *lab) job(number int, script string) runtime.Job {
	j := runtime.Job{
		Node: runtimetest.NewNode(node.KindJob, number), Definition: script,
		Token: fmt.Sprintf("secret-token-%d", number), Limit: time.Minute,
	}
	l.api.Add(j.Node, j.Token)
	return j
}

func (l *lab) submit(r *Runtime, number int, script string) (node.ID, string) {
	l.t.Helper()
	j := l.job(number, script)
	id, err := r.Submit(l.t.Context(), j)
	check(l.t, err)
	return j.Node.ID, filepath.Join(l.dir, id)
}

// supervisor returns the process id of the supervisor of a job.
func (l *lab) supervisor(dir string) int {
	b, err := os.ReadFile(filepath.Join(dir, "lock"))
	check(l.t, err)
	var pid int
	_, err = fmt.Sscanf(string(b), `{"pid":%d`, &pid)
	check(l.t, err)
	return pid
}

func (l *lab) waitStarted(id node.ID) {
	l.t.Helper()
	runtimetest.Eventually(l.t, "the script starts", func() bool { return l.started(id) > 0 })
}

func (l *lab) waitReport(id node.ID) node.Node {
	l.t.Helper()
	runtimetest.Eventually(l.t, "the job reports", func() bool { return len(l.api.Reports(id)) > 0 })
	return l.api.Node(id)
}

func TestConformance(t *testing.T) {
	runtimetest.Run(t, func(t *testing.T, api *runtimetest.API) runtimetest.Lab {
		l := newLab(t, api)
		return runtimetest.Lab{
			Open:       func(t *testing.T) runtimetest.Instance { return l.open(t) },
			Definition: l.gated(), Started: l.started, Release: l.release,
		}
	})
}

func TestAJobSeesNoneOfTheHostsSecrets(t *testing.T) {
	t.Setenv("KCI_SECRET", "of the pipeline")
	t.Setenv("SMTP_PASSWORD", "of the pipeline")
	t.Setenv("CROSS_COMPILE", "of the machine")
	l := newLab(t, runtimetest.NewAPI(t))
	r := l.open(t, func(o *Options) { o.PassEnv = []string{"CROSS_COMPILE", "KCI_SECRET", job.SlotEnv} })
	id, dir := l.submit(r, 50, "env\ntr '\\0' '\\n' < /proc/$PPID/environ | sed 's/^/supervisor /'\nls -l /proc/$$/fd\n"+l.gated())
	l.waitStarted(id)
	l.release(id)
	l.waitReport(id)
	log := l.api.Log(t, id)
	for _, secret := range []string{"of the pipeline", "secret-token", ".slot-", "supervisor KCI_", "/lock"} {
		if strings.Contains(log, secret) {
			t.Errorf("the job sees %q:\n%s", secret, log)
		}
	}
	for _, wanted := range []string{"CROSS_COMPILE=of the machine", "KCI_NODE_ID=" + string(id), "supervisor PATH=", "HOME=" + dir} {
		if !strings.Contains(log, wanted) {
			t.Errorf("the job lacks %q:\n%s", wanted, log)
		}
	}
}

func TestAKilledSupervisorGetsASuccessorAndTheScriptRunsOnce(t *testing.T) {
	l := newLab(t, runtimetest.NewAPI(t))
	r := l.open(t)
	id, dir := l.submit(r, 51, l.gated())
	l.waitStarted(id)
	check(t, syscall.Kill(l.supervisor(dir), syscall.SIGKILL))
	if n := l.waitReport(id); n.Result != node.Incomplete || n.Data["error_code"] != node.ErrCodeInfrastructure {
		t.Errorf("%s, %v", n.Result, n.Data)
	}
	if n := l.started(id); n != 1 {
		t.Errorf("started %d times", n)
	}
}

func TestASupervisorOfAnEarlierHostThatIsKilledGetsASuccessor(t *testing.T) {
	l := newLab(t, runtimetest.NewAPI(t))
	first := l.open(t)
	id, dir := l.submit(first, 52, l.gated())
	l.waitStarted(id)
	check(t, first.Close())
	l.open(t)
	check(t, syscall.Kill(l.supervisor(dir), syscall.SIGKILL))
	if n := l.waitReport(id); n.Result != node.Incomplete {
		t.Error(n.Result)
	}
}

func TestAJobReportsWhereTheAPIIsNow(t *testing.T) {
	l := newLab(t, runtimetest.NewAPI(t))
	first := l.open(t)
	running, _ := l.submit(first, 53, l.gated())
	l.waitStarted(running)
	check(t, first.Close())
	waiting, _ := l.submit(mustNew(t, l), 54, l.gated())
	l.api.Move(t)
	l.open(t)
	for _, id := range []node.ID{running, waiting} {
		l.release(id)
		if n := l.waitReport(id); n.Result != node.Pass || !strings.HasPrefix(n.Artifacts["log"], l.api.URL()) {
			t.Errorf("%s, %v", n.Result, n.Artifacts)
		}
	}
}

// mustNew opens a runtime that starts nothing.
func mustNew(t *testing.T, l *lab) *Runtime {
	t.Helper()
	o := l.options()
	o.Supervisor = []string{"false"}
	r, err := New(o)
	check(t, err)
	t.Cleanup(func() { check(t, r.Close()) })
	return r
}

func TestOneBrokenFolderDoesNotStopTheOthers(t *testing.T) {
	l := newLab(t, runtimetest.NewAPI(t))
	first := mustNew(t, l)
	good, _ := l.submit(first, 55, l.gated())
	_, broken := l.submit(first, 56, l.gated())
	check(t, first.Close())
	check(t, os.WriteFile(filepath.Join(broken, "state.json"), []byte("{"), 0o600))
	check(t, os.WriteFile(filepath.Join(l.dir, "README"), nil, 0o600))
	r, err := New(l.options())
	check(t, err)
	t.Cleanup(func() { check(t, r.Close()) })
	if err := r.Resume(t.Context()); err == nil || !strings.Contains(err.Error(), filepath.Base(broken)) {
		t.Errorf("Resume does not name the broken job: %v", err)
	}
	l.release(good)
	l.waitReport(good)
	check(t, os.RemoveAll(broken))
}

func TestJobsRunInTheOrderOfTheirSubmissionAlsoAfterARestart(t *testing.T) {
	l := newLab(t, runtimetest.NewAPI(t))
	first := mustNew(t, l)
	var ids []node.ID
	for n := range 4 {
		// The ids are in the opposite order.
		id, dir := l.submit(first, 64-n, fmt.Sprintf("echo $KCI_NODE_ID >> '%s/order'\n", l.marks))
		ids = append(ids, id)
		at := time.Now().Add(time.Duration(n-10) * time.Second)
		check(t, os.Chtimes(filepath.Join(dir, "script.sh"), at, at))
	}
	check(t, first.Close())
	l.open(t, func(o *Options) { o.Parallel = 1 })
	var want strings.Builder
	for _, id := range ids {
		l.waitReport(id)
		fmt.Fprintln(&want, id)
	}
	got, err := os.ReadFile(filepath.Join(l.marks, "order"))
	check(t, err)
	if string(got) != want.String() {
		t.Errorf("order\n%swant\n%s", got, want.String())
	}
}

func TestAJobThatCannotReportIsToldOf(t *testing.T) {
	l := newLab(t, runtimetest.NewAPI(t))
	l.api.Intrude(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut {
			http.Error(w, "never", http.StatusForbidden)
		}
		return r.Method == http.MethodPut
	})
	said := make(lines, 100)
	r := l.open(t, func(o *Options) { o.Log = slog.New(slog.NewTextHandler(said, nil)) })
	id, _ := l.submit(r, 1, "true")
	for line := range said {
		if strings.Contains(line, "level=ERROR") && strings.Contains(line, string(id)) && strings.Contains(line, "never") {
			return
		}
	}
}

// lines passes on what is written, a line at a time.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

func TestASupervisorThatCannotBeStartedIsTriedAgain(t *testing.T) {
	l := newLab(t, runtimetest.NewAPI(t))
	program := filepath.Join(t.TempDir(), "supervisor")
	check(t, os.WriteFile(program, []byte("#!/bin/sh\nexit 1\n"), 0o700))
	r := l.open(t, func(o *Options) { o.Supervisor = []string{program} })
	id, dir := l.submit(r, 65, l.gated())
	real, err := os.Executable()
	check(t, err)
	next := program + ".next"
	check(t, os.WriteFile(next, fmt.Appendf(nil, "#!/bin/sh\nexec '%s' job \"$@\"\n", real), 0o700))
	check(t, os.Rename(next, program))
	l.release(id)
	if n := l.waitReport(id); n.Result != node.Pass {
		t.Error(n.Result)
	}
	if _, err := os.Stat(filepath.Join(dir, logFile)); err != nil {
		t.Error(err)
	}
}

func TestOptionsThatCannotWorkAreInvalid(t *testing.T) {
	for _, o := range []Options{{}, {Dir: t.TempDir()}, {Supervisor: []string{"true"}}} {
		if _, err := New(o); !errors.Is(err, errs.Invalid) {
			t.Errorf("New(%v): %v", o, err)
		}
	}
	if _, err := New(Options{Dir: t.TempDir(), Supervisor: []string{"no-such-program"}}); err == nil {
		t.Error("a supervisor that is not there is taken")
	}
}
