package job

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kernelflow/kernelflow/shared/ending"
)

// outcome is what is known of a script's end, before its results are read.
type outcome struct {
	Cause  ending.Cause `json:"cause"`
	Exit   int          `json:"exit"`             // its exit status
	Detail string       `json:"detail,omitempty"` // the signal's name, or why it could not start
	Boot   string       `json:"boot"`             // of the machine: its results may not be on disk in the next
}

// The script's own folders, below scratch.
const (
	workDir    = "work"
	resultsDir = "results"
	tmpDir     = "tmp"
)

// drainTime is how long output is read that is in the pipe when the last
// process of the script is dead, or seems to be.
const drainTime = 2 * time.Second

// script runs the script of one job, once.
type script struct {
	dir  string // the job's folder, absolute
	spec Spec
}

func (s script) scratch(name string) string { return filepath.Join(s.dir, scratchDir, name) }

// environment is everything that the script sees of the world.
func (s script) environment() []string {
	env := []string{
		"PATH=" + orElse(os.Getenv("PATH"), "/usr/local/bin:/usr/bin:/bin"),
		"LANG=C.UTF-8",
		"HOME=" + s.scratch(workDir),
		"TMPDIR=" + s.scratch(tmpDir),
		"KCI_WORK=" + s.scratch(workDir),
		"KCI_NODE_ID=" + string(s.spec.Node.ID),
		"KCI_API_URL=" + s.spec.APIURL,
		"KCI_STORAGE_URL=" + s.spec.StorageURL,
		"KCI_API_TOKEN=" + s.spec.Token,
		s.mark(),
	}
	for _, name := range s.spec.PassEnv {
		if value, ok := os.LookupEnv(name); ok && name != "PATH" && !strings.HasPrefix(name, "KCI_") {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// mark is the variable by which the script's processes are known.
func (s script) mark() string { return "KCI_RESULTS=" + s.scratch(resultsDir) }

// run starts the script, calls started once it is there, and waits for its end,
// which ctx or the limit may bring. Nothing of it is left when run returns.
func (s script) run(ctx context.Context, started func(pid int) error) outcome {
	cmd, output, err := s.start()
	if err != nil {
		return outcome{Cause: ending.Unstarted, Detail: err.Error()}
	}
	logged := make(chan struct{})
	go func() {
		defer close(logged)
		s.keepLog(output)
	}()
	fault := started(cmd.Process.Pid)
	if fault != nil {
		killGroup(cmd.Process.Pid, syscall.SIGKILL)
	}
	ended := s.wait(ctx, cmd)
	if fault != nil {
		ended = outcome{Cause: ending.Unstarted, Detail: fault.Error()}
	}
	killMarked(s.mark())
	// A process that escaped may hold the pipe open: do not wait for it.
	_ = output.SetReadDeadline(time.Now().Add(drainTime))
	<-logged
	_ = output.Close()
	return ended
}

func (s script) start() (*exec.Cmd, *os.File, error) {
	for _, name := range []string{workDir, resultsDir, filepath.Join(resultsDir, artifactsDir), tmpDir} {
		if err := os.MkdirAll(s.scratch(name), 0o700); err != nil {
			return nil, nil, err
		}
	}
	output, in, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.Command("/bin/sh", filepath.Join(s.dir, scriptFile))
	cmd.Dir, cmd.Env = s.scratch(workDir), s.environment()
	cmd.Stdout, cmd.Stderr = in, in
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	_ = in.Close() // the script has its own
	if err != nil {
		_ = output.Close()
		return nil, nil, err
	}
	return cmd, output, nil
}

// keepLog reads the script's output to its end, or to the deadline of the pipe.
func (s script) keepLog(output io.Reader) {
	limit := s.spec.MaxLog
	if limit <= 0 {
		limit = DefaultMaxLog
	}
	log, err := newLog(filepath.Join(s.dir, logDir), limit)
	if err != nil {
		// The script goes on, without a log: it must not block on the pipe.
		_, _ = io.Copy(io.Discard, output)
		return
	}
	defer log.close()
	_, _ = io.Copy(log, redact(output, s.spec.Token))
}

// wait waits for the script's own end, or brings it about: SIGTERM, and SIGKILL
// when that has no effect.
func (s script) wait(ctx context.Context, cmd *exec.Cmd) outcome {
	done := make(chan outcome, 1)
	go func() {
		// Its group's number is the script's until it is reaped.
		_ = unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		killGroup(cmd.Process.Pid, syscall.SIGKILL)
		done <- outcomeOf(cmd.Wait(), cmd.ProcessState)
	}()
	limit := time.NewTimer(s.spec.Limit)
	defer limit.Stop()
	why := outcome{Cause: ending.Limited}
	select {
	case ended := <-done:
		return ended
	case <-ctx.Done():
		why.Cause = ending.Canceled
	case <-limit.C:
	}
	killGroup(cmd.Process.Pid, syscall.SIGTERM)
	grace := time.NewTimer(orElse(s.spec.Grace, DefaultGrace))
	defer grace.Stop()
	select {
	case <-done:
	case <-grace.C:
		killGroup(cmd.Process.Pid, syscall.SIGKILL)
		<-done
	}
	return why
}

func outcomeOf(err error, state *os.ProcessState) outcome {
	if state == nil {
		return outcome{Cause: ending.Unstarted, Detail: fmt.Sprint(err)}
	}
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return outcome{Cause: ending.Signaled, Detail: unix.SignalName(status.Signal())}
	}
	return outcome{Cause: ending.Exited, Exit: state.ExitCode()}
}

// killOrphans ends what is left of a script that another supervisor started.
func (s script) killOrphans(leader *process) {
	if leader != nil && leader.running() {
		killGroup(leader.PID, syscall.SIGKILL)
	}
	killMarked(s.mark())
}

func orElse[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}
