package job

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/runtime/runtimetest"
)

func TestAKbuildThatPassesIsHeldAvailable(t *testing.T) {
	w := newWorld(t, node.KindKbuild)
	w.prepare("true")
	before := time.Now()
	w.run()
	n := w.want(1, node.Pass, "")
	if n.State != node.Available || n.Holdoff.Before(node.Time(before.Add(w.spec.Holdoff))) || n.Holdoff.After(time.Now().Add(w.spec.Holdoff)) {
		t.Errorf("%s until %s", n.State, n.Holdoff)
	}
}

func TestAFloodedLogIsCappedWithItsBeginningAndItsEnd(t *testing.T) {
	w := newWorld(t, node.KindJob)
	w.spec.MaxLog = 64 << 10
	w.prepare("echo the beginning; yes 'line of a flood' | head -c 20000000; echo the end")
	w.run()
	w.want(1, node.Pass, "")
	log := w.api.Log(t, w.id)
	if len(log) > int(w.spec.MaxLog)+200 || !strings.HasPrefix(log, "the beginning\n") || !strings.Contains(log, "the end\n") || !strings.Contains(log, "bytes of the log left out here") {
		t.Errorf("%d bytes, %.40q...", len(log), log)
	}
	if size := sizeOf(t, filepath.Join(w.dir, logDir)); size > w.spec.MaxLog {
		t.Errorf("%d bytes on disk", size)
	}
}

func sizeOf(t *testing.T, dir string) (size int64) {
	t.Helper()
	check(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		size += info.Size()
		return err
	}))
	return size
}

func TestADaemonThatHoldsTheOutputIsKilled(t *testing.T) {
	w := newWorld(t, node.KindJob)
	w.prepare(fmt.Sprintf("setsid sh -c 'echo $$ >> \"%s/pids\"; exec sleep 1000' &\nuntil [ -s '%s/pids' ]; do sleep 0.02; done", w.marks, w.marks))
	w.run()
	w.want(1, node.Pass, "")
	for _, pid := range w.pids() {
		w.waitGone(pid)
	}
}

func TestADaemonThatCannotBeFoundHoldsNobodyUp(t *testing.T) {
	w := newWorld(t, node.KindJob)
	w.prepare(fmt.Sprintf("env -i setsid sh -c 'echo $$ >> \"%s/pids\"; exec yes' &\nuntil [ -s '%s/pids' ]; do sleep 0.02; done", w.marks, w.marks))
	w.run()
	w.want(1, node.Pass, "")
	for _, pid := range w.pids() {
		// Its output is gone, and that ends it.
		w.waitGone(pid)
	}
}

func TestACancelledJobIsKilledAndReported(t *testing.T) {
	w := newWorld(t, node.KindJob)
	w.prepare(w.gated())
	cmd := w.supervisor()
	w.waitStarted()
	alive, err := Cancel(w.dir)
	if check(t, err); !alive {
		t.Error("the supervisor is not seen")
	}
	check(t, cmd.Wait())
	w.want(1, node.Incomplete, node.ErrCodeCanceled)
	w.waitGone(w.pids()[0])
}

func TestAJobThatIsCancelledBeforeItStartsNeverRuns(t *testing.T) {
	w := newWorld(t, node.KindJob)
	w.prepare(w.gated())
	alive, err := Cancel(w.dir)
	if check(t, err); alive {
		t.Error("a supervisor is seen where none is")
	}
	if work, err := Remaining(w.dir); work != Report || err != nil {
		t.Errorf("Remaining: %d, %v", work, err)
	}
	w.run()
	w.want(1, node.Incomplete, node.ErrCodeCanceled)
	if len(w.pids()) > 0 {
		t.Error("the script ran")
	}
}

func TestARefusedReportIsReplacedByABareOne(t *testing.T) {
	w := newWorld(t, node.KindJob)
	var puts atomic.Int32
	w.api.Intrude(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut || puts.Add(1) > 1 {
			return false
		}
		http.Error(rw, "child_nodes/0: too many of them, and your token is "+secret, http.StatusBadRequest)
		return true
	})
	w.prepare("printf '1..1\\nok 1 a\\n' > $KCI_RESULTS/unit.ktap; echo kept")
	w.run()
	n := w.want(1, node.Incomplete, node.ErrCodeInfrastructure)
	if text := n.Text("error_msg"); !strings.Contains(text, "too many of them") {
		t.Errorf("error_msg %q", text)
	}
	if children := w.api.Reports(w.id)[0].Children; len(children) > 0 {
		t.Errorf("children %v", children)
	}
	if log := w.api.Log(t, w.id); !strings.Contains(log, "kept") {
		t.Errorf("log %q", log)
	}
}

func TestAJobThatCannotBeReportedAtAllIsLost(t *testing.T) {
	for _, status := range []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			w := newWorld(t, node.KindJob)
			w.api.Intrude(func(rw http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodPut {
					http.Error(rw, "no", status)
				}
				return r.Method == http.MethodPut
			})
			w.prepare("true")
			w.run()
			w.want(0, node.None, "")
			if s := w.phase(Lost); !strings.Contains(s.Reason, "no") {
				t.Errorf("reason %q", s.Reason)
			}
		})
	}
}

func TestAReportWaitsForAnAPIThatIsAway(t *testing.T) {
	w := newWorld(t, node.KindJob)
	var requests atomic.Int32
	w.api.Intrude(func(rw http.ResponseWriter, r *http.Request) bool {
		switch n := requests.Add(1); {
		case n%3 == 1:
			http.Error(rw, "starting", http.StatusServiceUnavailable)
			return true
		case n%3 == 2:
			panic(http.ErrAbortHandler) // the connection breaks
		}
		return false
	})
	w.prepare("echo good > $KCI_RESULTS/artifacts/good")
	w.run()
	n := w.want(1, node.Pass, "")
	if len(n.Artifacts) != 2 {
		t.Errorf("artifacts %v", n.Artifacts)
	}
}

func TestAReportIsGivenUpWhenItsTimeIsOver(t *testing.T) {
	w := newWorld(t, node.KindJob)
	w.spec.Node.Timeout = time.Now().Add(-time.Hour)
	w.api.Intrude(func(rw http.ResponseWriter, r *http.Request) bool {
		http.Error(rw, "away", http.StatusBadGateway)
		return true
	})
	w.prepare("true")
	w.run()
	w.phase(Lost)
}

func TestAStorageThatIsAwayCostsTheArtifactsAndNotTheResult(t *testing.T) {
	w := newWorld(t, node.KindJob)
	w.api.Intrude(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPost {
			http.Error(rw, "no", http.StatusForbidden)
		}
		return r.Method == http.MethodPost
	})
	w.prepare("echo good > $KCI_RESULTS/artifacts/good; exit 1")
	w.run()
	if n := w.want(1, node.Fail, ""); len(n.Artifacts) > 0 {
		t.Errorf("artifacts %v", n.Artifacts)
	}
}

func TestAJobThatSomebodyElseEndedLeavesItsLogAndNothingElse(t *testing.T) {
	wantLog := func(t *testing.T, w *world) {
		t.Helper()
		if n := w.api.Node(w.id); len(n.Artifacts) != 1 || !strings.HasPrefix(w.api.Log(t, w.id), "as far as it came\n") {
			t.Errorf("artifacts %v, log %q", n.Artifacts, w.api.Log(t, w.id))
		}
	}
	t.Run("before the report", func(t *testing.T) {
		w := newWorld(t, node.KindJob)
		w.prepare("echo as far as it came; echo x > $KCI_RESULTS/artifacts/x")
		w.api.End(w.id, node.Incomplete)
		w.run()
		w.want(0, node.Incomplete, "")
		wantLog(t, w)
		if s := w.phase(Reported); s.Reason == "" {
			t.Error("no reason")
		}
	})
	t.Run("during the report", func(t *testing.T) {
		w := newWorld(t, node.KindJob)
		w.api.Intrude(func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPut {
				w.api.End(w.id, node.Incomplete)
			}
			return false
		})
		w.prepare("echo as far as it came")
		w.run()
		w.want(0, node.Incomplete, "")
		w.phase(Reported)
		wantLog(t, w)
	})
	t.Run("while another artifact is added", func(t *testing.T) {
		w := newWorld(t, node.KindJob)
		w.prepare("echo as far as it came")
		w.api.End(w.id, node.Incomplete)
		var patches atomic.Int32
		w.api.Intrude(func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPatch && patches.Add(1) == 1 {
				w.api.Name(w.id, "job_definition", "http://storage.example.org/job.sh")
			}
			return false
		})
		w.run()
		if n := w.api.Node(w.id); len(n.Artifacts) != 2 || w.api.Log(t, w.id) == "" {
			t.Errorf("artifacts %v", n.Artifacts)
		}
	})
}

func TestAJobReportsForItsOwnNodeAlone(t *testing.T) {
	t.Run("its token is good for no other", func(t *testing.T) {
		w := newWorld(t, node.KindJob)
		other := runtimetest.NewNode(node.KindJob, 8)
		w.api.Add(other, "another-token")
		w.spec.Node = other
		w.prepare("true")
		w.run()
		w.phase(Lost)
		if n := len(w.api.Reports(other.ID)); n > 0 {
			t.Errorf("%d reports for another node", n)
		}
	})
	t.Run("an answer about another node is none", func(t *testing.T) {
		w := newWorld(t, node.KindJob)
		w.spec.Node.Timeout = time.Now().Add(-time.Hour)
		other := runtimetest.NewNode(node.KindJob, 8)
		w.api.Intrude(func(rw http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodGet {
				b, _ := other.MarshalJSON()
				_, _ = rw.Write(b)
			}
			return r.Method == http.MethodGet
		})
		w.prepare("true")
		w.run()
		w.phase(Lost)
		w.want(0, node.None, "")
	})
}

func TestTheTokenFollowsNoRedirect(t *testing.T) {
	w := newWorld(t, node.KindJob)
	var strangers atomic.Int32
	stranger := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { strangers.Add(1) }))
	defer stranger.Close()
	w.api.Intrude(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut {
			http.Redirect(rw, r, stranger.URL, http.StatusTemporaryRedirect)
		}
		return r.Method == http.MethodPut
	})
	w.prepare("true")
	w.run()
	w.phase(Lost)
	if strangers.Load() > 0 {
		t.Error("a redirect was followed")
	}
}

func TestARetargetedJobReportsToTheNewAddress(t *testing.T) {
	w := newWorld(t, node.KindJob)
	w.prepare(w.gated())
	cmd := w.supervisor()
	w.waitStarted()
	w.api.Move(t)
	check(t, Retarget(w.dir, w.api.URL(), w.api.StorageURL()))
	w.release()
	check(t, cmd.Wait())
	w.want(1, node.Pass, "")
	check(t, Retarget(w.dir, "http://127.0.0.1:1", "http://127.0.0.1:1"))
}

func TestASecondSupervisorLeavesTheJobToTheFirst(t *testing.T) {
	w := newWorld(t, node.KindJob)
	w.prepare(w.gated())
	cmd := w.supervisor()
	w.waitStarted()
	if !Supervised(w.dir) {
		t.Error("the first is not seen")
	}
	w.run()
	w.phase(Running)
	w.release()
	check(t, cmd.Wait())
	w.want(1, node.Pass, "")
	if n := len(w.pids()); n != 1 {
		t.Errorf("started %d times", n)
	}
}

func TestASupervisorThatIsStoppedReportsTheJobAsCancelled(t *testing.T) {
	w := newWorld(t, node.KindJob)
	w.prepare(w.gated())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, w.dir, &w.said) }()
	w.waitStarted()
	cancel()
	check(t, <-ended)
	w.want(1, node.Incomplete, node.ErrCodeCanceled)
}

func TestTheSlotIsGivenBackWhenTheScriptIsOver(t *testing.T) {
	w := newWorld(t, node.KindJob)
	path := filepath.Join(w.marks, "slot")
	slot, err := TryLock(path)
	check(t, err)
	w.prepare("ls -l /proc/$$/fd; " + w.gated())
	arrived := w.hold(http.MethodGet, false)
	program, err := os.Executable()
	check(t, err)
	process, err := os.StartProcess(program, []string{program, "job", w.dir}, &os.ProcAttr{
		Env:   append(os.Environ(), SlotEnv+"=3"),
		Files: []*os.File{nil, nil, nil, slot},
	})
	check(t, err)
	check(t, slot.Close())
	w.waitStarted()
	if free, err := TryLock(path); err != nil || free != nil {
		t.Errorf("the slot is free while the script runs: %v", err)
	}
	w.release()
	w.wait(arrived)
	free, err := TryLock(path)
	if check(t, err); free == nil {
		t.Fatal("the slot is held during the report")
	}
	check(t, free.Close())
	w.api.Intrude(nil)
	check(t, process.Kill())
	_, err = process.Wait()
	check(t, err)
	w.run()
	w.want(1, node.Pass, "")
	if log := w.api.Log(t, w.id); strings.Contains(log, path) {
		t.Errorf("the script has the slot:\n%s", log)
	}
}

func TestPrepareMakesAFolderOnceAndOnlyOfAGoodJob(t *testing.T) {
	w := newWorld(t, node.KindJob)
	for what, spoil := range map[string]func(*Spec, *string){
		"id":       func(s *Spec, _ *string) { s.Node.ID = "x" },
		"script":   func(_ *Spec, script *string) { *script = "" },
		"long":     func(_ *Spec, script *string) { *script = strings.Repeat("#", maxScript+1) },
		"no token": func(s *Spec, _ *string) { s.Token = "" },
		"token":    func(s *Spec, _ *string) { s.Token = "with a \"quote\"" },
		"leak":     func(s *Spec, script *string) { *script = "curl -H 'Authorization: Bearer " + s.Token + "'" },
		"limit":    func(s *Spec, _ *string) { s.Limit = -1 },
		"address":  func(s *Spec, _ *string) { s.StorageURL = "/storage" },
		"user":     func(s *Spec, _ *string) { s.APIURL = "http://me:password@api.example.org" },
	} {
		spec, script := w.spec, "true"
		spoil(&spec, &script)
		err := Prepare(w.dir, spec, script)
		if !errors.Is(err, errs.Invalid) || strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "password@") {
			t.Errorf("%s: %v", what, err)
		}
	}
	check(t, Prepare(w.dir, w.spec, "true"))
	if err := Prepare(w.dir, w.spec, "false"); !errors.Is(err, errs.Conflict) {
		t.Errorf("a second time: %v", err)
	}
	if err := Prepare(filepath.Join(w.dir, "no", "folder"), w.spec, "true"); !errors.Is(err, errs.Temporary) {
		t.Errorf("nowhere: %v", err)
	}
	if _, err := Load(w.marks); !errors.Is(err, errs.NotFound) {
		t.Errorf("Load of no job: %v", err)
	}
	if err := Run(t.Context(), filepath.Join(w.marks, "none"), &w.said); !errors.Is(err, errs.NotFound) {
		t.Errorf("Run of no job: %v", err)
	}
	info, err := os.Stat(filepath.Join(w.dir, specFile))
	check(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("%s has mode %s", specFile, info.Mode())
	}
}

func TestSweepRemovesWhatAKilledPrepareLeft(t *testing.T) {
	parent := t.TempDir()
	now := time.Now()
	for name, age := range map[string]time.Duration{partPrefix + "old": time.Hour, partPrefix + "new": 0, "other": time.Hour} {
		check(t, os.Mkdir(filepath.Join(parent, name), 0o700))
		check(t, os.Chtimes(filepath.Join(parent, name), now.Add(-age), now.Add(-age)))
	}
	check(t, Sweep(parent, now.Add(-time.Minute)))
	left, err := filepath.Glob(filepath.Join(parent, "*"))
	check(t, err)
	if want := []string{filepath.Join(parent, partPrefix+"new"), filepath.Join(parent, "other")}; !slices.Equal(left, want) {
		t.Errorf("left %q, want %q", left, want)
	}
}

func TestADeviceIsNoArtifact(t *testing.T) {
	dir := t.TempDir()
	check(t, os.Mkdir(filepath.Join(dir, artifactsDir), 0o700))
	err := syscall.Mknod(filepath.Join(dir, artifactsDir, "zero"), syscall.S_IFCHR|0o600, 1<<8|5)
	if errors.Is(err, syscall.EPERM) {
		t.Skip("only root makes devices")
	}
	check(t, err)
	r := readResults(dir, secret)
	defer func() { check(t, r.Close()) }()
	if _, err := r.openArtifact("zero"); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("openArtifact: %v", err)
	}
}
