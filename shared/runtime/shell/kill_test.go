package shell

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/runtime"
	"github.com/kernelflow/kernelflow/shared/runtime/runtimetest"
)

// host is the process of a host: it submits the jobs that it is given, one JSON
// object a line, and stays until it is killed.
func host(dir, apiURL, storageURL string) {
	program, err := os.Executable()
	fatal(err)
	r, err := New(Options{
		Name: "shell", Dir: dir, Supervisor: []string{program, "job"}, APIURL: apiURL, StorageURL: storageURL, Parallel: 2,
	})
	fatal(err)
	fatal(r.Resume(context.Background()))
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var j runtime.Job
		fatal(json.Unmarshal(lines.Bytes(), &j))
		id, err := r.Submit(context.Background(), j)
		fatal(err)
		fmt.Println(id)
	}
	select {}
}

func fatal(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Hosts, supervisors and scripts are killed after random numbers of steps: a job
// that the host has submitted, or a request that a job makes to the API. Wherever
// they were: each job that was submitted is reported once and started at most once.
func TestKilledAtAnyInstantNoJobIsLostAndNoneRunsTwice(t *testing.T) {
	const kills, jobs = 12, 10
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	l := newLab(t, runtimetest.NewAPI(t))
	var all []runtime.Job
	for n := range jobs {
		j := l.job(100+n, l.gated())
		l.release(j.Node.ID)
		all = append(all, j)
	}
	for range kills {
		submitted := new(atomic.Int64)
		before := len(l.api.Requests())
		cmd := startHost(t, l, all, submitted)
		until := random.IntN(3 * jobs)
		runtimetest.Eventually(t, fmt.Sprintf("%d steps, or all", until), func() bool {
			return int(submitted.Load())+len(l.api.Requests())-before >= until || submitted.Load() == jobs && l.reported(all)
		})
		_ = cmd.Process.Kill() // it may have ended by itself only after a fault, which the end of the test shows
		_ = cmd.Wait()
		l.killSome(random)
	}
	r := l.open(t)
	for _, j := range all {
		_, err := r.Submit(t.Context(), j)
		check(t, err)
	}
	passed := 0
	for _, j := range all {
		if n := l.waitReport(j.Node.ID); n.Result == node.Pass {
			passed++
		} else if !interrupted(n) {
			t.Errorf("%s: %s, %v", n.ID, n.Result, n.Data)
		}
		if n := len(l.api.Reports(j.Node.ID)); n != 1 {
			t.Errorf("%s: %d reports", j.Node.ID, n)
		}
		if n := l.started(j.Node.ID); n > 1 {
			t.Errorf("%s: started %d times", j.Node.ID, n)
		}
	}
	t.Logf("%d of %d jobs passed, the others were interrupted", passed, jobs)
}

// interrupted says whether what killSome does is what ended the job: the machine
// failed under its supervisor, or its script alone was killed.
func interrupted(n node.Node) bool {
	return n.Data["error_code"] == node.ErrCodeInfrastructure ||
		n.Data["error_code"] == node.ErrCodeJob && n.Data["error_msg"] == "the job was killed by SIGKILL"
}

// reported says whether all of them are.
func (l *lab) reported(all []runtime.Job) bool {
	return !slices.ContainsFunc(all, func(j runtime.Job) bool { return len(l.api.Reports(j.Node.ID)) == 0 })
}

// startHost starts a host and counts what it says that it has submitted.
func startHost(t *testing.T, l *lab, all []runtime.Job, submitted *atomic.Int64) *exec.Cmd {
	t.Helper()
	program, err := os.Executable()
	check(t, err)
	cmd := exec.Command(program, "host", l.dir, l.api.URL(), l.api.StorageURL())
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	check(t, err)
	out, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			submitted.Add(1)
		}
	}()
	go func() {
		for _, j := range all {
			line, _ := json.Marshal(j)
			if _, err := io.WriteString(in, string(line)+"\n"); err != nil {
				return // it was killed
			}
		}
	}()
	return cmd
}

// killSome kills each process of the lab's jobs with a chance of one half:
// supervisors and scripts have its folder on their command line.
func (l *lab) killSome(random *rand.Rand) {
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range processes {
		line, _ := os.ReadFile(filepath.Join(p, "cmdline"))
		pid, err := strconv.Atoi(filepath.Base(p))
		if err == nil && pid != os.Getpid() && bytes.Contains(line, []byte(l.dir)) && random.IntN(2) == 0 {
			if process, err := os.FindProcess(pid); err == nil {
				_ = process.Kill() // it may be gone
			}
		}
	}
}
