package job

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/node"
)

// portable starts a script as a machine without a supervisor does, which shows
// the script's output unchanged on its own.
func (w *world) portable(script string) *exec.Cmd {
	return w.portableIn(os.Getenv("PATH"), &buffer{}, script)
}

func (w *world) portableIn(path string, output io.Writer, script string) *exec.Cmd {
	w.t.Helper()
	env, err := PortableEnv(w.spec, script)
	check(w.t, err)
	check(w.t, os.MkdirAll(w.dir, 0o700))
	program := filepath.Join(w.t.TempDir(), "portable.sh")
	check(w.t, os.WriteFile(program, []byte(Portable), 0o600))
	check(w.t, os.WriteFile(filepath.Join(w.dir, PortableScript), []byte(script), 0o600))
	cmd := exec.Command("/bin/sh", program, w.dir)
	cmd.Env = append(env, "KCI_API_TOKEN="+secret, "PATH="+path)
	return w.start(cmd, output)
}

func (w *world) ran(script string) {
	w.t.Helper()
	if err := w.portable(script).Wait(); err != nil {
		log, _ := os.ReadFile(filepath.Join(w.dir, PortableLog))
		w.t.Fatalf("%v\n%s", err, log)
	}
}

func TestAMachineWithAShellAndCurlReportsAsASupervisorDoes(t *testing.T) {
	for _, row := range []struct {
		promise, script string
		kind            node.Kind
		limit           time.Duration
		result          node.Result
		code, text      string
		state           node.State
	}{
		{promise: "exit status 0 is pass", script: "echo hello >&2", result: node.Pass},
		{promise: "any other is fail", script: "exit 3", result: node.Fail, text: "the job ended with exit status 3"},
		{promise: "a failure says why", script: "echo 'no; luck' > $KCI_RESULTS/error; exit 1", result: node.Fail, text: "no; luck"},
		{promise: "77 is skip", script: "exit 77", result: node.Skip},
		{promise: "75 is the machine's fault", script: "exit 75", result: node.Incomplete, code: node.ErrCodeInfrastructure},
		{promise: "a signal is incomplete", script: "kill -KILL $$", result: node.Incomplete, code: node.ErrCodeJob},
		{promise: "a lapsed limit is incomplete", limit: time.Second, script: "sleep 1000", result: node.Incomplete, code: node.ErrCodeTimeout},
		{promise: "an interpreter is asked for", script: "#!/bin/cat\nhello", result: node.Pass},
		{promise: "a failed test fails the job", script: "printf '1..2\\nok 1 a\\nnot ok 2 b\\n' > $KCI_RESULTS/unit.ktap", result: node.Fail},
		{promise: "half a plan is incomplete", script: "printf '1..3\\nok 1 a\\n' > $KCI_RESULTS/unit.ktap", result: node.Incomplete, code: node.ErrCodeTest},
		{promise: "a kbuild is available", kind: node.KindKbuild, script: "echo > $KCI_RESULTS/artifacts/bzImage", result: node.Pass, state: node.Available},
		{promise: "a daemon holds nobody up", script: "sleep 1000 & setsid sleep 1000 &", result: node.Pass},
	} {
		t.Run(row.promise, func(t *testing.T) {
			w := newWorld(t, orElse(row.kind, node.KindJob))
			w.spec.Limit = orElse(row.limit, w.spec.Limit)
			w.ran(row.script)
			n := w.want(1, row.result, row.code)
			if row.text != "" && n.Text("error_msg") != row.text || n.State != orElse(row.state, node.Done) {
				t.Errorf("%s, %q", n.State, n.Text("error_msg"))
			}
			if !strings.Contains(w.api.Log(t, w.id), "[kernelflow: job ended") {
				t.Errorf("log %q", w.api.Log(t, w.id))
			}
		})
	}
}

func TestWhatAPortableScriptLeavesIsKept(t *testing.T) {
	w := newWorld(t, node.KindJob)
	w.ran(`echo token $KCI_API_TOKEN
cd $KCI_RESULTS
echo '{"misc":{"a":1},"runtime":"mine"}' > data.json
echo good > artifacts/good.txt; echo bad > 'artifacts/a b'; echo hidden > artifacts/.config; ln -s /etc/passwd artifacts/link
printf '1..1\nok 1 add\n' > unit.ktap; ln -s /etc/passwd link.ktap`)
	n := w.want(1, node.Pass, "")
	if n.Artifacts["good.txt"] == "" || n.Artifacts[".config"] == "" || n.Artifacts["log"] == "" || len(n.Artifacts) != 3 {
		t.Errorf("artifacts %v", n.Artifacts)
	}
	if n.Data["misc"] == nil || n.Text("runtime") != "shell" {
		t.Errorf("data %v", n.Data)
	}
	if got := string(w.api.Files()[string(w.id)+"/good.txt"]); got != "good\n" {
		t.Errorf("good.txt: %q", got)
	}
	if children := w.api.Reports(w.id)[0].Children; len(children) != 1 || children[0].Node.Name != "unit" || len(children[0].Children) != 1 {
		t.Errorf("%v", children)
	}
	if log := w.api.Log(t, w.id); !strings.Contains(log, "artifact a b is left out") || !strings.Contains(log, "token *") {
		t.Errorf("log %q", log)
	}
}

func TestAPortableJobIsCanceledBySIGTERM(t *testing.T) {
	for name, script := range map[string]string{"one that obeys": "", "one that does not": "trap '' TERM\n"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, node.KindJob)
			cmd := w.portable(script + w.gated())
			w.waitStarted()
			check(t, cmd.Process.Signal(syscall.SIGTERM))
			check(t, cmd.Wait())
			w.want(1, node.Incomplete, node.ErrCodeCanceled)
			w.waitGone(w.pids()[0])
		})
	}
}

func TestAPortableJobThatIsCanceledBeforeItStartsNeverRuns(t *testing.T) {
	w := newWorld(t, node.KindJob)
	check(t, os.MkdirAll(w.dir, 0o700))
	check(t, os.WriteFile(filepath.Join(w.dir, PortableCancel), nil, 0o600))
	w.ran(w.gated())
	w.want(1, node.Incomplete, node.ErrCodeCanceled)
	if n := len(w.pids()); n != 0 {
		t.Errorf("started %d times", n)
	}
}

func TestAPortableJobOfANodeThatSomebodyElseEndedLeavesItsLog(t *testing.T) {
	w := newWorld(t, node.KindJob)
	cmd := w.portable(w.gated())
	w.waitStarted()
	w.api.End(w.id, node.Incomplete)
	w.release()
	check(t, cmd.Wait())
	if n := w.api.Node(w.id); n.Artifacts["log"] == "" || len(w.api.Reports(w.id)) != 0 {
		t.Errorf("%v", n.Artifacts)
	}
}

func TestAPortableJobWithoutCurlDoesNotRun(t *testing.T) {
	w := newWorld(t, node.KindJob)
	bin := t.TempDir()
	for _, name := range []string{"sh", "cat", "mkdir", "head"} {
		path, err := exec.LookPath(name)
		check(t, err)
		check(t, os.Symlink(path, filepath.Join(bin, name)))
	}
	if err := w.portableIn(bin, &w.said, w.gated()).Wait(); err == nil || !strings.Contains(w.said.String(), "no curl") {
		t.Errorf("%v, %s", err, w.said.String())
	}
	if len(w.pids()) > 0 || len(w.api.Requests()) > 0 {
		t.Errorf("it was started, or reported: %q", w.api.Requests())
	}
}
