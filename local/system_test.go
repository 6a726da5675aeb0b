package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/http"
	"net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/local/sample"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store/mongo/mongotest"
	"github.com/kernelflow/kernelflow/shared/store/sqlite"
)

// asMain makes the test binary be the command itself.
const asMain = "KERNELFLOW_TEST_AS_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asMain) != "" || len(os.Args) == 3 && os.Args[1] == "job" {
		main()
		return
	}
	os.Exit(m.Run())
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// demo is the demonstration in a folder of its own: the sample tree and its
// configuration, whose jobs leave a line in a file each time they run.
type demo struct {
	t    *testing.T
	data string
	env  []string
}

func newDemo(t *testing.T, env ...string) *demo {
	t.Helper()
	d := &demo{t: t, data: t.TempDir(), env: env}
	config, err := sample.Write(t.Context(), d.data)
	check(t, err)
	file := filepath.Join(config, "pipeline.yaml")
	yaml, err := os.ReadFile(file)
	check(t, err)
	for _, command := range []string{"make libsample.a selftest", "make --silent test"} {
		if !bytes.Contains(yaml, []byte("command: "+command)) {
			t.Fatalf("the sample has no command %q", command)
		}
		yaml = bytes.ReplaceAll(yaml, []byte("command: "+command), []byte(`command: 'echo "$KCI_NODE_ID" >>"$TRACE"; `+command+"'"))
	}
	check(t, os.WriteFile(file, yaml, 0o644))
	return d
}

// command is the emulator on the demonstration.
func (d *demo) command(ctx context.Context, args ...string) *exec.Cmd {
	self, err := os.Executable()
	check(d.t, err)
	cmd := exec.CommandContext(ctx, self, append([]string{"-config", filepath.Join(d.data, "config"), "-data", d.data, "-addr", "127.0.0.1:0"}, args...)...)
	cmd.Env = append(os.Environ(), asMain+"=1", "LOG_LEVEL=warn", "SHELL_ENV=TRACE", "TRACE="+d.trace())
	cmd.Env = append(cmd.Env, d.env...)
	return cmd
}

func (d *demo) trace() string { return filepath.Join(d.data, "trace") }

// once runs the emulator to its end and returns what it printed.
func (d *demo) once() string {
	d.t.Helper()
	out, err := d.command(d.t.Context(), "-once", "-speed", "150").CombinedOutput()
	if err != nil {
		d.t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// breakTest makes the second commit, the same in every demonstration.
func (d *demo) breakTest() {
	d.t.Helper()
	tree := filepath.Join(d.data, "sample-tree")
	file := filepath.Join(tree, "text.c")
	source, err := os.ReadFile(file)
	check(d.t, err)
	check(d.t, os.WriteFile(file, bytes.Replace(source, []byte(`c == ' ' || c == '\t'`), []byte(`c == ' '`), 1), 0o644))
	cmd := exec.CommandContext(d.t.Context(), "git", "-C", tree, "commit", "--quiet", "--all", "--message=text: only spaces are blank")
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_DATE=2025-01-13T08:00:00Z", "GIT_COMMITTER_DATE=2025-01-13T08:00:00Z")
	if out, err := cmd.CombinedOutput(); err != nil {
		d.t.Fatalf("%v\n%s", err, out)
	}
}

// nodes is every node without what differs from run to run, sorted, a line
// each.
func (d *demo) nodes() string {
	d.t.Helper()
	st := d.store()
	defer func() { check(d.t, st.Close()) }()
	var lines []string
	for n, err := range st.Each(d.t.Context(), node.Query{}) {
		check(d.t, err)
		r, _ := n.Revision()
		var artifacts []string
		for name := range n.Artifacts {
			artifacts = append(artifacts, name)
		}
		slices.Sort(artifacts)
		lines = append(lines, fmt.Sprintf("%s %s %s %s %s %d %s %v", r.Describe, n.Kind, strings.Join(n.Path, "."), n.State, n.Result, n.RetryCounter, n.Text("error_code"), artifacts))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func (d *demo) store() *sqlite.Store {
	d.t.Helper()
	st, err := sqlite.Open(d.t.Context(), sqlite.Options{Path: filepath.Join(d.data, "kernelflow.db"), Now: time.Now})
	check(d.t, err)
	return st
}

// checkLog fails unless the log holds every event once, in order, and one
// creation for each node.
func (d *demo) checkLog() {
	d.t.Helper()
	st := d.store()
	defer func() { check(d.t, st.Close()) }()
	events, _, err := st.After(d.t.Context(), 0, event.Filter{}, 100_000)
	check(d.t, err)
	ids, created := map[string]bool{}, map[node.ID]int{}
	for i, e := range events {
		if e.Sequence != int64(i+1) || ids[e.ID] {
			d.t.Errorf("event %d of the log: sequence %d, id %s", i+1, e.Sequence, e.ID)
		}
		ids[e.ID] = true
		p, err := e.Node()
		check(d.t, err)
		if p.Op == event.Created {
			created[p.ID]++
		}
	}
	nodes := 0
	for n, err := range st.Each(d.t.Context(), node.Query{}) {
		check(d.t, err)
		// Results come as one hierarchy: the event of its root tells of them.
		if n.Kind != node.KindTest && created[n.ID] != 1 {
			d.t.Errorf("%s %s was created %d times", n.Kind, n.Name, created[n.ID])
		}
		nodes++
	}
	if nodes == 0 {
		d.t.Error("no node")
	}
}

// runs is how often each job has run that leaves a trace.
func (d *demo) runs() map[string]int {
	d.t.Helper()
	text, err := os.ReadFile(d.trace())
	check(d.t, err)
	runs := map[string]int{}
	for line := range strings.Lines(string(text)) {
		runs[strings.TrimSpace(line)]++
	}
	return runs
}

var passing = []*regexp.Regexp{regexp.MustCompile(`127\.0\.0\.1:\d+`), regexp.MustCompile(`file:///\S*`), regexp.MustCompile(`\b[0-9a-f]{24}\b`)}

// mails gives the reports, by subject, without addresses and ids.
func (d *demo) mails() map[string]string {
	d.t.Helper()
	files, err := filepath.Glob(filepath.Join(d.data, "mail", "*"))
	check(d.t, err)
	found := map[string]string{}
	for _, file := range files {
		f, err := os.Open(file)
		check(d.t, err)
		m, err := mail.ReadMessage(f)
		check(d.t, err)
		subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
		check(d.t, err)
		if _, double := found[subject]; double {
			d.t.Errorf("two mails are called %s", subject)
		}
		text := plainText(d.t, m)
		for _, p := range passing {
			text = p.ReplaceAllString(text, "X")
		}
		found[subject] = text
		check(d.t, f.Close())
	}
	return found
}

func plainText(t *testing.T, m *mail.Message) string {
	t.Helper()
	_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	check(t, err)
	// The reader of parts decodes quoted-printable by itself.
	part, err := multipart.NewReader(m.Body, params["boundary"]).NextRawPart()
	check(t, err)
	text, err := io.ReadAll(quotedprintable.NewReader(part))
	check(t, err)
	return strings.ReplaceAll(string(text), "\r\n", "\n")
}

// undisturbed runs both commits.
func undisturbed(t *testing.T, env ...string) *demo {
	t.Helper()
	d := newDemo(t, env...)
	d.once()
	d.breakTest()
	d.once()
	return d
}

func TestTheSecondReportNamesTheNewRegression(t *testing.T) {
	d := undisturbed(t)
	mails := d.mails()
	if len(mails) != 2 {
		t.Fatalf("%d mails: %v", len(mails), mails)
	}
	for subject, text := range mails {
		_, regressions, found := strings.Cut(text, "New regressions (1)\n")
		if second := strings.Contains(subject, "v1.0-1-g"); second != found || second && !strings.Contains(regressions, "text.trims_tabs") {
			t.Errorf("%s\n%s", subject, text)
		}
	}
	again := d.once()
	if strings.Contains(again, "running") || len(d.mails()) != 2 {
		t.Errorf("a third start found something to do:\n%s", again)
	}
}

func TestAFlakyJobIsTriedAgainAndCountsOnce(t *testing.T) {
	d := newDemo(t)
	file := filepath.Join(d.data, "config", "pipeline.yaml")
	yaml, err := os.ReadFile(file)
	check(t, err)
	// The first time, it breaks off after one of its two tests.
	const flaky = `command: '[ -e "$TRACE.flaky" ] || { touch "$TRACE.flaky"; echo 1..2; echo ok 1 a; exit 0; }; `
	broken := bytes.Replace(yaml, []byte("command: 'echo \"$KCI_NODE_ID\" >>\"$TRACE\"; make --silent test"),
		[]byte(flaky+"echo \"$KCI_NODE_ID\" >>\"$TRACE\"; make --silent test"), 1)
	if bytes.Equal(broken, yaml) {
		t.Fatal("the sample's job is not where it was")
	}
	check(t, os.WriteFile(file, broken, 0o644))
	d.once()
	nodes := d.nodes()
	for _, want := range []string{
		"job checkout.kbuild-gcc-native.ktest-sample done incomplete 0 Test", "job checkout.kbuild-gcc-native.ktest-sample done pass 1 ",
		"process checkout.kbuild-gcc-native.ktest-sample.summary-sample done pass 0 ", "job checkout.static-sample done pass 0 ",
	} {
		if !strings.Contains(nodes, want) {
			t.Errorf("no %q in\n%s", want, nodes)
		}
	}
	for subject, text := range d.mails() {
		if !strings.HasSuffix(subject, ": 4 runs 0 failures") || !strings.Contains(text, "Tried again (1)") || strings.Count(text, "\nkbuild-gcc-native.ktest-sample [") != 1 {
			t.Errorf("%s\n%s", subject, text)
		}
	}
	if len(d.mails()) != 1 {
		t.Errorf("%d mails", len(d.mails()))
	}
}

// kills is how often each of the two commits is interrupted.
const kills = 10

func TestTwentySIGKILLsChangeNothing(t *testing.T) {
	calm := undisturbed(t)
	d := newDemo(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 2))
	killed := d.interrupted(random)
	d.breakTest()
	killed += d.interrupted(random)
	t.Logf("killed %d times", killed)
	if killed != 2*kills {
		t.Errorf("only %d kills", killed)
	}
	if got, want := d.nodes(), calm.nodes(); got != want {
		t.Errorf("nodes\n%s\nwant\n%s", got, want)
	}
	d.checkLog()
	got, want := d.mails(), calm.mails()
	if len(got) != len(want) {
		t.Errorf("%d mails, want %d", len(got), len(want))
	}
	for subject, text := range want {
		if got[subject] != text {
			t.Errorf("mail %s\n%s\nwant\n%s", subject, got[subject], text)
		}
	}
	runs := d.runs()
	for id, times := range runs {
		if times != 1 {
			t.Errorf("job %s ran %d times", id, times)
		}
	}
	if len(runs) != len(calm.runs()) {
		t.Errorf("%d jobs ran, want %d", len(runs), len(calm.runs()))
	}
}

// interrupted kills the emulator at random moments and then lets it finish. It
// returns how often it was still at work when it was killed.
func (d *demo) interrupted(random *rand.Rand) (killed int) {
	d.t.Helper()
	for range kills {
		cmd := d.command(context.Background(), "-once", "-speed", "60")
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		check(d.t, cmd.Start())
		// The moment itself is what is random here: there is nothing to wait for.
		timer := time.AfterFunc(time.Duration(50+random.IntN(900))*time.Millisecond, func() { _ = cmd.Process.Kill() })
		err := cmd.Wait()
		timer.Stop()
		if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			killed++
		} else if err != nil {
			d.t.Errorf("%v\n%s", err, out.Bytes())
		}
	}
	d.once()
	return killed
}

// redisAddress is a real Redis for the test; without one it is skipped, unless
// CI_REQUIRE_SERVERS says that there must be one.
func redisAddress(t *testing.T) string {
	t.Helper()
	address := os.Getenv("TEST_REDIS_URL")
	if address == "" {
		if os.Getenv("CI_REQUIRE_SERVERS") != "" {
			t.Fatal("TEST_REDIS_URL is not set")
		}
		t.Skip("SKIPPED: TEST_REDIS_URL names no Redis server; scripts/test-servers.sh starts one")
	}
	return address
}

func TestTheDemoGivesTheSameReportsOnRealServers(t *testing.T) {
	redis := redisAddress(t)
	ferret, err := mongotest.Serve(t.TempDir())
	check(t, err)
	defer func() { check(t, ferret.Close()) }()
	want := undisturbed(t).mails()
	got := undisturbed(t, "MONGO_SERVICE="+ferret.URI(), "REDIS_HOST="+redis).mails()
	if len(got) != len(want) {
		t.Errorf("%d mails, want %d", len(got), len(want))
	}
	for subject, text := range want {
		if got[subject] != text {
			t.Errorf("mail %s\n%s\nwant\n%s", subject, got[subject], text)
		}
	}
}

// start runs the emulator until the test ends it, and returns its address.
func (d *demo) start(ctx context.Context, args ...string) (*exec.Cmd, string) {
	d.t.Helper()
	cmd := d.command(ctx, append([]string{"-speed", "150"}, args...)...)
	cmd.Stderr = &bytes.Buffer{}
	out, err := cmd.StdoutPipe()
	check(d.t, err)
	check(d.t, cmd.Start())
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if _, rest, ok := strings.Cut(lines.Text(), "answers on "); ok {
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return cmd, strings.Fields(rest)[0]
		}
	}
	d.t.Fatalf("the emulator does not say where it answers: %v", cmd.Wait())
	return nil, ""
}

func TestSIGTERMEndsItCleanlyAndTheAdminTokenWorks(t *testing.T) {
	d := newDemo(t)
	cmd, url := d.start(t.Context())
	token, err := os.ReadFile(filepath.Join(d.data, "admin.token"))
	check(t, err)
	info, err := os.Stat(filepath.Join(d.data, "admin.token"))
	check(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the token's mode is %s", info.Mode())
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/latest/whoami", nil)
	check(t, err)
	r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	response, err := http.DefaultClient.Do(r)
	check(t, err)
	var me struct {
		Username  string `json:"username"`
		Superuser bool   `json:"is_superuser"`
	}
	check(t, json.NewDecoder(response.Body).Decode(&me))
	response.Body.Close()
	if me.Username != "admin" || !me.Superuser {
		t.Errorf("%+v", me)
	}
	check(t, cmd.Process.Signal(syscall.SIGTERM))
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	// What it had begun goes on, and is seen to its end.
	if said := d.once(); !strings.Contains(said, "done, 5 jobs, 5 pass") {
		t.Errorf("the second start:\n%s", said)
	}
	if n := len(d.mails()); n != 1 {
		t.Errorf("%d mails", n)
	}
}

func TestAOnceThatIsStoppedSaysThatItGoesOn(t *testing.T) {
	d := newDemo(t)
	cmd, _ := d.start(t.Context(), "-once")
	check(t, cmd.Process.Signal(syscall.SIGTERM))
	said := cmd.Stderr.(*bytes.Buffer)
	if err := cmd.Wait(); err == nil || !strings.Contains(said.String(), "goes on") || strings.Contains(said.String(), "canceled") {
		t.Errorf("%v\n%s", err, said)
	}
}

func TestBrokenYAMLStopsTheStartAndNamesThePlace(t *testing.T) {
	for broken, place := range map[string]string{
		"jobs:\n  - [":                      "broken.yaml:2",
		"jobs:\n  x:\n    kind: job\n":      "broken.yaml:2: jobs.x",
		"schedular:\n  - job: kver\n":       `did you mean "scheduler"?`,
		"scheduler:\n  - job: kverr\n":      `did you mean "kver"?`,
		"trees:\n  x:\n    urll: https://x": "broken.yaml:3",
	} {
		d := newDemo(t)
		check(t, os.WriteFile(filepath.Join(d.data, "config", "broken.yaml"), []byte(broken), 0o644))
		out, err := d.command(t.Context(), "-once").CombinedOutput()
		if err == nil || !strings.Contains(string(out), place) {
			t.Errorf("%q: %v\n%s", broken, err, out)
		}
	}
}

func TestHelpListsEverySettingWithItsDefault(t *testing.T) {
	d := newDemo(t)
	out, err := d.command(t.Context(), "-help").CombinedOutput()
	if err != nil {
		t.Errorf("%v", err)
	}
	for _, want := range []string{"-once", "-config DIR", "MONGO_SERVICE", "REDIS_HOST", "SMTP_HOST", "STORAGE_URL", "HOLDOFF", "(10m)", "SECRET_KEY"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
}

func TestAWrongArgumentIsNamed(t *testing.T) {
	d := newDemo(t)
	for _, args := range [][]string{{"extra"}, {"-speed", "0"}, {"-speed", "x"}, {"-nonsense"}} {
		out, err := d.command(t.Context(), args...).CombinedOutput()
		if err == nil || strings.Count(string(out), "\n") != 1 || !strings.Contains(string(out), strings.TrimPrefix(args[0], "-")) {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
}
