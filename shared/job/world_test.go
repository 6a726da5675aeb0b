package job

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/runtime/runtimetest"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestMain is a supervisor when the first argument is "job".
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "job" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		if err := Run(ctx, os.Args[2], os.Stderr); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

const secret = "kci-token-0123456789.abcdef"

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// buffer is what supervisors say.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// world is one job with the API that it reports to.
type world struct {
	t     *testing.T
	api   *runtimetest.API
	id    node.ID
	dir   string // the job's folder
	marks string // a folder in which its script leaves marks
	spec  Spec
	said  buffer
}

func newWorld(t *testing.T, kind node.Kind) *world {
	t.Helper()
	t.Parallel()
	w := &world{t: t, api: runtimetest.NewAPI(t), marks: t.TempDir()}
	n := runtimetest.NewNode(kind, 7)
	w.id = n.ID
	w.dir = filepath.Join(t.TempDir(), string(n.ID))
	w.spec = Spec{
		Node: n, JobID: "lab-7", Token: secret, APIURL: w.api.URL(), StorageURL: w.api.StorageURL(),
		Limit: time.Minute, Holdoff: 10 * time.Minute, Grace: 100 * time.Millisecond,
	}
	w.api.Add(n, secret)
	t.Cleanup(w.keepsSecret)
	return w
}

// keepsSecret checks that the token is in nothing that left the job, nor in what
// is left of it.
func (w *world) keepsSecret() {
	t := w.t
	for _, body := range w.api.Bodies() {
		if bytes.Contains(body, []byte(secret)) {
			t.Errorf("a report holds the token: %s", body)
		}
	}
	for name, content := range w.api.Files() {
		if bytes.Contains(content, []byte(secret)) {
			t.Errorf("artifact %s holds the token", name)
		}
	}
	if log := w.api.Log(t, w.id) + w.said.String(); strings.Contains(log, secret) {
		t.Errorf("a log holds the token:\n%s", log)
	}
	status, err := Load(w.dir)
	if err != nil || !status.Phase.Over() {
		return
	}
	check(t, filepath.WalkDir(w.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if bytes.Contains(content, []byte(secret)) {
			t.Errorf("%s holds the token when the job is over", path)
		}
		return err
	}))
	if work, err := Remaining(w.dir); work != Nothing || err != nil {
		t.Errorf("Remaining: %d, %v", work, err)
	}
}

func (w *world) prepare(script string) {
	w.t.Helper()
	check(w.t, Prepare(w.dir, w.spec, script))
}

// run runs a supervisor in this process.
func (w *world) run() {
	w.t.Helper()
	if err := Run(w.t.Context(), w.dir, &w.said); err != nil {
		w.t.Fatalf("Run: %v\n%s", err, w.said.String())
	}
}

// supervisor starts one as a process of its own.
func (w *world) supervisor() *exec.Cmd {
	w.t.Helper()
	program, err := os.Executable()
	check(w.t, err)
	return w.start(exec.Command(program, "job", w.dir), &w.said)
}

// start starts a process, which ends with the test.
func (w *world) start(cmd *exec.Cmd, output io.Writer) *exec.Cmd {
	w.t.Helper()
	cmd.Stdout, cmd.Stderr = output, output
	// A script that survives its supervisor holds no output of it open.
	cmd.WaitDelay = 10 * time.Second
	check(w.t, cmd.Start())
	w.t.Cleanup(func() {
		if cmd.ProcessState == nil {
			kill(cmd)
		}
	})
	return cmd
}

func kill(cmd *exec.Cmd) {
	_ = cmd.Process.Kill() // it may have ended
	_ = cmd.Wait()         // "killed"
}

// gated is a script that notes its process id and waits for release.
func (w *world) gated() string {
	return fmt.Sprintf("echo $$ >> '%[1]s/pids'\nuntil [ -e '%[1]s/gate' ]; do sleep 0.02; done\n", w.marks)
}

func (w *world) release() { check(w.t, os.WriteFile(filepath.Join(w.marks, "gate"), nil, 0o600)) }

// pids returns the process ids that the script noted.
func (w *world) pids() []int {
	w.t.Helper()
	b, err := os.ReadFile(filepath.Join(w.marks, "pids"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	check(w.t, err)
	var list []int
	for _, field := range strings.Fields(string(b)) {
		pid, err := strconv.Atoi(field)
		check(w.t, err)
		list = append(list, pid)
	}
	return list
}

func (w *world) waitStarted() {
	w.t.Helper()
	runtimetest.Eventually(w.t, "the script starts", func() bool { return len(w.pids()) > 0 })
}

func (w *world) waitGone(pid int) {
	w.t.Helper()
	runtimetest.Eventually(w.t, fmt.Sprintf("process %d ends", pid), func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		// A zombie that nobody has reaped runs no more.
		return err != nil || strings.Contains(string(stat[bytes.LastIndexByte(stat, ')'):]), ") Z ")
	})
}

// want checks how the job ended for the API.
func (w *world) want(reports int, result node.Result, code string) node.Node {
	w.t.Helper()
	n := w.api.Node(w.id)
	if got := len(w.api.Reports(w.id)); got != reports {
		w.t.Errorf("%d reports, want %d", got, reports)
	}
	if n.Result != result || n.Text("error_code") != code {
		w.t.Errorf("%s %q %q, want %s %q", n.Result, n.Text("error_code"), n.Text("error_msg"), result, code)
	}
	return n
}

func (w *world) phase(want Phase) Status {
	w.t.Helper()
	status, err := Load(w.dir)
	check(w.t, err)
	if status.Phase != want {
		w.t.Errorf("phase %s (%s), want %s", status.Phase, status.Reason, want)
	}
	return status
}

// hold has the API keep requests with that method, read whole, until their
// sender is gone; answered first when late is set. It returns where they arrive.
func (w *world) hold(method string, late bool) <-chan struct{} {
	arrived := make(chan struct{}, 10)
	w.api.Intrude(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method != method {
			return false
		}
		if late {
			w.api.ServeHTTP(nowhere{http.Header{}}, r)
		}
		// That the sender is gone is seen when all is read.
		_, _ = io.Copy(io.Discard, r.Body)
		arrived <- struct{}{}
		select {
		case <-r.Context().Done():
		case <-w.t.Context().Done():
		}
		return true
	})
	return arrived
}

// nowhere is an answer that gets lost.
type nowhere struct{ header http.Header }

func (n nowhere) Header() http.Header         { return n.header }
func (n nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (n nowhere) WriteHeader(int)             {}

func (w *world) wait(arrived <-chan struct{}) {
	w.t.Helper()
	select {
	case <-arrived:
	case <-time.After(30 * time.Second):
		w.t.Fatalf("no such request came:\n%s", w.said.String())
	}
}
