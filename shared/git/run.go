package git

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// call is one run of git.
type call struct {
	dir    string         // the bare repository; "" for none
	lock   *os.File       // held by git too: it is free only when git has ended
	env    []string       // beside what every git gets
	in     string         // what git reads
	out    io.Writer      // what git writes goes there; nil: nowhere
	report func(Progress) // nil: nobody wants to know
	args   []string
}

// passed lists the variables that git may need to reach a server. Nothing else
// of the environment reaches it: no GIT_*, no secret of the pipeline.
var passed = []string{"PATH", "HOME", "TMPDIR", "SSH_AUTH_SOCK", "SSL_CERT_FILE", "SSL_CERT_DIR",
	"http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"}

// environment is all that git gets. The ceiling keeps it from taking a
// repository around the folder of mirrors for its own.
func environment(dir string, allowLocal bool) []string {
	protocols := strings.Join(remoteSchemes, ":")
	if allowLocal {
		protocols += ":file"
	}
	env := []string{
		"LC_ALL=C",
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_ATTR_NOSYSTEM=1",
		"GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=", "SSH_ASKPASS=",
		"GIT_ALLOW_PROTOCOL=" + protocols, "GIT_CEILING_DIRECTORIES=" + filepath.Dir(dir),
		"GIT_SSH_COMMAND=ssh -o BatchMode=yes -o ConnectTimeout=30 -o ServerAliveInterval=15 -o ServerAliveCountMax=4",
	}
	for _, name := range passed {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// settings hold for every run. A transfer slower than 1 kB/s for a minute is
// given up; what is fetched stays in packs; git starts no housekeeping of its
// own.
var settings = []string{
	"-c", "core.hooksPath=/dev/null", "-c", "core.attributesFile=/dev/null",
	"-c", "gc.auto=0", "-c", "maintenance.auto=false",
	"-c", "fetch.unpackLimit=1", "-c", "pack.threads=1",
	"-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=60",
}

// reapDelay is how long a killed git's pipes may stay open.
const reapDelay = 5 * time.Second

// run runs git. The error is a *failure when git itself said why it failed.
func (g *Git) run(ctx context.Context, c call) error {
	cmd := exec.CommandContext(ctx, "git", g.arguments(c)...)
	cmd.Env = slices.Concat(g.env, c.env)
	cmd.Dir = g.dir
	cmd.Stdin = strings.NewReader(c.in)
	out := &sink{w: c.out}
	if c.out != nil {
		cmd.Stdout = out
	}
	said := &listener{report: c.report}
	cmd.Stderr = said
	if c.lock != nil {
		cmd.ExtraFiles = []*os.File{c.lock}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = reapDelay
	err := cmd.Run()
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("git %s: %w", c.args[0], ctx.Err())
	case out.err != nil:
		return fmt.Errorf("git %s: write: %w", c.args[0], out.err)
	}
	return &failure{command: c.args[0], reason: said.reason(), cause: err}
}

func (g *Git) arguments(c call) []string {
	args := append([]string{}, settings...)
	if c.dir != "" {
		args = append(args, "--git-dir="+c.dir)
	}
	return append(args, c.args...)
}

// ask runs git and returns the first limit bytes of its answer; the rest is
// read and dropped, so that a hostile repository cannot fill the memory.
func (g *Git) ask(ctx context.Context, limit int, c call) ([]byte, error) {
	answer := &capped{limit: limit}
	c.out = answer
	if err := g.run(ctx, c); err != nil {
		return nil, err
	}
	return answer.Bytes(), nil
}

// sink remembers why writing failed: git itself only sees a broken pipe.
type sink struct {
	w   io.Writer
	err error
}

func (s *sink) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	if err != nil {
		s.err = err
	}
	return n, err
}

type capped struct {
	bytes.Buffer
	limit int
}

func (c *capped) Write(p []byte) (int, error) {
	room := max(0, c.limit-c.Len())
	c.Buffer.Write(p[:min(room, len(p))])
	return len(p), nil
}
