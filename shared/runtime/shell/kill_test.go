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
	"strconv"
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

// Hosts, supervisors and scripts are killed at random moments. Whatever the
// moment: each job that was submitted is reported once and started at most once.
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
		cmd := startHost(t, l, all)
		time.Sleep(time.Duration(random.IntN(200)) * time.Millisecond)
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
		} else if n.Data["error_code"] != node.ErrCodeInfrastructure {
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

func startHost(t *testing.T, l *lab, all []runtime.Job) *exec.Cmd {
	t.Helper()
	program, err := os.Executable()
	check(t, err)
	cmd := exec.Command(program, "host", l.dir, l.api.URL(), l.api.StorageURL())
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	check(t, err)
	check(t, cmd.Start())
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
