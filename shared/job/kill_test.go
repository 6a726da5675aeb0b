package job

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/ending"
	"github.com/kernelflow/kernelflow/shared/node"
)

// Each row kills a supervisor with SIGKILL at one durable state; the next must
// bring the job to its end.
func TestKilledAtEachStateTheScriptRunsOnceAndIsReportedOnce(t *testing.T) {
	for _, row := range []struct {
		state   string
		die     func(w *world) // brings the job into the state, with nobody at work on it
		result  node.Result
		started int
	}{
		{state: "ready", die: func(*world) {}, result: node.Pass, started: 1},
		{state: "running, before the script", die: func(w *world) {
			check(w.t, writeJSON(w.dir, stateFile, Status{Phase: Running}))
		}, result: node.Incomplete},
		{state: "running", die: func(w *world) {
			check(w.t, os.Remove(filepath.Join(w.marks, "gate")))
			cmd := w.supervisor()
			w.waitStarted()
			kill(cmd)
		}, result: node.Incomplete, started: 1},
		{state: "ended, before the report", die: dieAt(http.MethodGet, false), result: node.Pass, started: 1},
		{state: "ended, during the upload", die: dieAt(http.MethodPost, false), result: node.Pass, started: 1},
		{state: "ended, after the upload", die: dieAt(http.MethodPost, true), result: node.Pass, started: 1},
		{state: "report written", die: dieAt(http.MethodPut, false), result: node.Pass, started: 1},
		{state: "report accepted", die: dieAt(http.MethodPut, true), result: node.Pass, started: 1},
		{state: "reported, before the cleaning", die: func(w *world) {
			spec, err := os.ReadFile(filepath.Join(w.dir, specFile))
			check(w.t, err)
			w.run()
			check(w.t, writeFile(w.dir, specFile, spec, 0o600))
		}, result: node.Pass, started: 1},
	} {
		t.Run(row.state, func(t *testing.T) {
			w := newWorld(t, node.KindJob)
			w.release()
			w.prepare(w.gated())
			row.die(w)
			w.api.Intrude(nil)
			if work, err := Remaining(w.dir); work == Nothing || err != nil {
				t.Errorf("Remaining: %d, %v", work, err)
			}
			w.run()
			w.run() // one more finds nothing to do
			code := ""
			if row.result == node.Incomplete {
				code = node.ErrCodeInfrastructure
			}
			w.want(1, row.result, code)
			w.phase(Reported)
			if n := len(w.pids()); n != row.started {
				t.Errorf("started %d times, want %d", n, row.started)
			}
			for _, pid := range w.pids() {
				w.waitGone(pid)
			}
		})
	}
}

// dieAt kills a supervisor when the API has its first request of the method;
// late: when the API has done what it says.
func dieAt(method string, late bool) func(w *world) {
	return func(w *world) {
		w.t.Helper()
		arrived := w.hold(method, late)
		cmd := w.supervisor()
		w.wait(arrived)
		kill(cmd)
	}
}

func TestKilledAtAnyMomentTheScriptRunsOnceAndIsReportedOnce(t *testing.T) {
	for moment := time.Duration(0); moment < 120*time.Millisecond; moment += 10 * time.Millisecond {
		t.Run(moment.String(), func(t *testing.T) {
			w := newWorld(t, node.KindJob)
			w.release()
			w.prepare(w.gated())
			for range 3 {
				cmd := w.supervisor()
				<-time.After(moment) // the moment itself, nothing is waited for
				kill(cmd)
			}
			w.run()
			if n := len(w.pids()); n > 1 {
				t.Errorf("started %d times", n)
			}
			if n := w.api.Node(w.id); n.Result == node.Pass {
				w.want(1, node.Pass, "")
			} else {
				w.want(1, node.Incomplete, node.ErrCodeInfrastructure)
			}
		})
	}
}

func TestResultsOfAnEarlierBootAreNotTrusted(t *testing.T) {
	w := newWorld(t, node.KindJob)
	w.prepare("true")
	check(t, writeJSON(w.dir, stateFile, Status{Phase: Ended, Outcome: &outcome{Cause: ending.Exited, Boot: "an earlier one"}}))
	w.run()
	w.want(1, node.Incomplete, node.ErrCodeInfrastructure)
}

func TestATamperedStateIsNoPanic(t *testing.T) {
	w := newWorld(t, node.KindJob)
	w.prepare("true")
	check(t, writeJSON(w.dir, stateFile, Status{Phase: Ended}))
	w.run()
	w.want(1, node.Incomplete, node.ErrCodeInfrastructure)
}
