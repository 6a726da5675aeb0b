package report_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/functions/report"
	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/mail"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
	"github.com/kernelflow/kernelflow/shared/store/sqlite"
)

var (
	update = flag.Bool("update", false, "write the golden files")
	start  = time.Date(2025, 1, 12, 8, 0, 0, 0, time.UTC)
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

type fixture struct {
	t     *testing.T
	store store.Store
	root  node.Node
	ids   map[string]node.ID
	count int
}

func newFixture(t *testing.T) *fixture {
	f := &fixture{t: t, ids: map[string]node.ID{}}
	st, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "x.db"), Now: func() time.Time { return start }})
	check(t, err)
	t.Cleanup(func() { check(t, st.Close()) })
	f.store = st
	f.root = node.Node{ID: "65f000000000000000000001", Kind: node.KindCheckout, Name: "checkout", Path: []string{"checkout"}, TreeID: "t", State: node.Running}
	check(t, f.root.SetRevision(node.Revision{
		Tree: "mainline", URL: "https://git.example.org/linux.git", Branch: "master",
		Commit: "708283abf896dd4853e673cc8cba70acaf9bf4ea", Describe: "v6.5-11329-g708283abf896",
	}))
	f.root, err = st.Create(t.Context(), f.root)
	check(t, err)
	return f
}

// add stores a finished node below the one of the path above; more changes it.
func (f *fixture) add(kind node.Kind, path string, result node.Result, more ...func(*node.Node)) node.ID {
	f.t.Helper()
	f.count++
	parts := strings.Split(path, "/")
	parent, ok := f.ids[strings.Join(parts[:len(parts)-1], "/")]
	if !ok {
		parent = f.root.ID
	}
	n := node.Node{
		ID: node.ID(fmt.Sprintf("65f00000000000000001%04x", f.count)), Kind: kind, Name: parts[len(parts)-1], Path: append([]string{"checkout"}, parts...),
		Parent: parent, TreeID: "t", State: node.Done, Result: result, Artifacts: map[string]string{}, Data: map[string]any{"arch": "x86_64", "compiler": "gcc-12", "defconfig": "x86_64_defconfig"},
	}
	if kind != node.KindTest && kind != node.KindRegression {
		n.Artifacts["log"] = "https://storage.example.org/" + string(n.ID) + "/log.txt.gz"
	}
	if kind == node.KindKbuild {
		n.Data["kernel_revision"] = f.root.Data["kernel_revision"]
	}
	for _, change := range more {
		change(&n)
	}
	_, err := f.store.Create(f.t.Context(), n)
	check(f.t, err)
	f.ids[path] = n.ID
	return n.ID
}

func says(text string) func(*node.Node) { return func(n *node.Node) { n.Set("error_msg", text) } }

func code(c string) func(*node.Node) { return func(n *node.Node) { n.Set("error_code", c) } }

// regression stores a regression about the node of that path.
func (f *fixture) regression(path string, result node.Result) node.ID {
	f.t.Helper()
	failing := f.ids[path]
	f.count++
	n := node.Node{
		ID: node.ID(fmt.Sprintf("65f00000000000000002%04x", f.count)), Kind: node.KindRegression, Name: filepath.Base(path),
		Path: append([]string{"checkout"}, strings.Split(path, "/")...), Parent: failing, TreeID: "t", State: node.Done, Result: result,
		Data: map[string]any{"fail_node": string(failing), "pass_node": string(failing), "arch": "x86_64", "compiler": "gcc-12", "defconfig": "x86_64_defconfig", "error_msg": "expected 3, got 4\nmore"},
	}
	_, err := f.store.Create(f.t.Context(), n)
	check(f.t, err)
	return n.ID
}

type findings struct{ new, active, fixed []any }

// finish ends the checkout and returns its event.
func (f *fixture) finish(found *findings, more ...func(*node.Node)) event.Event {
	f.t.Helper()
	n, err := f.store.Update(f.t.Context(), f.root.ID, func(n *node.Node) error {
		n.State, n.Result = node.Done, node.Pass
		if found != nil {
			n.Set("regressions", map[string]any{"new": found.new, "active": found.active, "fixed": found.fixed})
		}
		for _, change := range more {
			change(n)
		}
		return nil
	})
	check(f.t, err)
	e, err := event.OfUpdated(f.root, n, 2, false)
	check(f.t, err)
	return e
}

// outbox remembers what was sent.
type outbox struct {
	mu         sync.Mutex
	sent       []mail.Message
	repeatable bool
	fail       error
}

func (o *outbox) Send(_ context.Context, m mail.Message) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fail != nil {
		return o.fail
	}
	o.sent = append(o.sent, m)
	return nil
}

func (o *outbox) Repeatable() bool { return o.repeatable }

func (f *fixture) function(sender mail.Sender, holder string) *report.Function {
	f.t.Helper()
	fn, err := report.New(report.Options{
		Store: f.store, Sender: sender, From: "Kernelflow <bot@kernelflow.example.org>", To: []string{"kernel@example.org"}, Owner: "admin", Prefix: "[STAGING]",
		URL: "https://api.example.org", Holder: holder, Log: slog.New(slog.DiscardHandler),
	})
	check(f.t, err)
	return fn
}

var cases = map[string]func(*fixture) event.Event{
	"all pass": func(f *fixture) event.Event {
		f.add(node.KindJob, "kver", node.Pass)
		f.add(node.KindKbuild, "kbuild-gcc-12-x86", node.Pass)
		f.add(node.KindJob, "kbuild-gcc-12-x86/kunit-x86_64", node.Pass, func(n *node.Node) { n.Set("platform", "qemu-x86") })
		f.add(node.KindTest, "kbuild-gcc-12-x86/kunit-x86_64/exec", node.Pass)
		f.add(node.KindTest, "kbuild-gcc-12-x86/kunit-x86_64/exec/first", node.Pass)
		f.add(node.KindTest, "kbuild-gcc-12-x86/kunit-x86_64/exec/second", node.Skip)
		return f.finish(&findings{})
	},
	"a new regression": func(f *fixture) event.Event {
		f.add(node.KindKbuild, "kbuild-gcc-12-x86", node.Pass)
		f.add(node.KindJob, "kbuild-gcc-12-x86/kunit", node.Fail)
		f.add(node.KindTest, "kbuild-gcc-12-x86/kunit/exec", node.Fail)
		f.add(node.KindTest, "kbuild-gcc-12-x86/kunit/exec/list", node.Fail, says("expected 3, got 4\nmore"))
		f.add(node.KindTest, "kbuild-gcc-12-x86/kunit/exec/hash", node.Pass)
		return f.finish(&findings{new: []any{string(f.regression("kbuild-gcc-12-x86/kunit/exec/list", node.Fail))}})
	},
	"still failing and fixed": func(f *fixture) event.Event {
		f.add(node.KindJob, "kunit", node.Fail)
		f.add(node.KindTest, "kunit/list", node.Fail, says("expected 3, got 4"))
		f.add(node.KindTest, "kunit/hash", node.Pass)
		return f.finish(&findings{
			active: []any{string(f.regression("kunit/list", node.Fail))},
			fixed:  []any{string(f.regression("kunit/hash", node.Pass))},
		})
	},
	"a checkout without source": func(f *fixture) event.Event {
		return f.finish(&findings{}, func(n *node.Node) {
			n.SetError(node.Fail, node.ErrCodeGitCheckout, "git.Fetch(https://git.example.org/linux.git): the commit is gone")
		})
	},
	"incomplete runs": func(f *fixture) event.Event {
		f.add(node.KindKbuild, "kbuild-gcc-12-x86", node.Fail, says("lib/list.c:7:1: error: expected ';'"))
		f.add(node.KindJob, "baseline", node.Incomplete, code("Infrastructure"), says("the network is down"))
		f.add(node.KindJob, "a-job-without-a-log", node.Incomplete, code("node_timeout"), says("too slow"), func(n *node.Node) { n.Artifacts = nil })
		f.add(node.KindJob, "ltp", node.Incomplete, code("submit_error"),
			says("runtime.Submit: "+strings.Repeat("a long way to ", 40)+"the server: no space left on device"), func(n *node.Node) { n.Artifacts = nil })
		return f.finish(&findings{})
	},
	"retried runs": func(f *fixture) event.Event {
		on := func(retries int, more ...func(*node.Node)) func(*node.Node) {
			return func(n *node.Node) {
				n.RetryCounter = retries
				n.Data["runtime"], n.Data["platform"] = "lab", "board"
				for _, change := range more {
					change(n)
				}
			}
		}
		f.add(node.KindKbuild, "kbuild-gcc-12-x86", node.Pass)
		first := f.add(node.KindJob, "kbuild-gcc-12-x86/baseline", node.Fail, on(0, code("Infrastructure"), says("the board is gone")))
		f.add(node.KindTest, "kbuild-gcc-12-x86/baseline/login", node.Fail)
		f.add(node.KindJob, "kbuild-gcc-12-x86/baseline", node.Incomplete, on(1, func(n *node.Node) { n.SetRetryOf(first, first) }))
		f.add(node.KindJob, "kbuild-gcc-12-x86/baseline", node.Pass, on(2))
		f.add(node.KindTest, "kbuild-gcc-12-x86/baseline/login", node.Pass)
		return f.finish(&findings{})
	},
	"hostile names": func(f *fixture) event.Event {
		f.add(node.KindJob, "<script>alert(1)</script>", node.Fail, says("\x1b[31mred\r\nSubject: forged\u2028"), func(n *node.Node) {
			n.Artifacts["log"] = "https://x.example.org/\"><b>"
		})
		return f.finish(&findings{})
	},
}

func TestEachReportReadsAsItsGoldenFile(t *testing.T) {
	for name, prepare := range cases {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			e := prepare(f)
			box := &outbox{repeatable: true}
			check(t, f.function(box, "h").Handle(t.Context(), e))
			if len(box.sent) != 1 {
				t.Fatalf("%d mails", len(box.sent))
			}
			m := box.sent[0]
			file := filepath.Join("testdata", strings.ReplaceAll(name, " ", "-"))
			golden(t, file+".txt", "Subject: "+m.Subject+"\n\n"+m.Text)
			golden(t, file+".html", m.HTML)
		})
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		check(t, os.MkdirAll(filepath.Dir(file), 0o755))
		check(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	check(t, err)
	if got != string(want) {
		t.Errorf("%s differs; -update writes it. Got:\n%s", file, got)
	}
}

func TestALongListIsCutWithACount(t *testing.T) {
	f := newFixture(t)
	f.add(node.KindJob, "ltp", node.Fail)
	for i := range 612 {
		f.add(node.KindTest, fmt.Sprintf("ltp/case%04d", i), node.Fail)
	}
	box := &outbox{repeatable: true}
	check(t, f.function(box, "h").Handle(t.Context(), f.finish(&findings{})))
	m := box.sent[0]
	if !strings.Contains(m.Text, "Failing tests (612)") || !strings.Contains(m.Text, "* and 112 more") || !strings.Contains(m.Text, "case0499") ||
		strings.Contains(m.Text, "case0500") || !strings.HasSuffix(m.Subject, "1 runs 612 failures") {
		t.Errorf("%s\n%s", m.Subject, m.Text)
	}
}

func TestTheReportWaitsForTheRegressions(t *testing.T) {
	f := newFixture(t)
	box := &outbox{}
	fn := f.function(box, "h")
	check(t, fn.Handle(t.Context(), f.finish(nil)))
	if len(box.sent) != 0 {
		t.Error("sent too early")
	}
	check(t, fn.Handle(t.Context(), f.finish(&findings{})))
	if len(box.sent) != 1 {
		t.Errorf("%d mails", len(box.sent))
	}
}

func TestReportsOfOneBranchAreOneThread(t *testing.T) {
	box := &outbox{}
	for _, name := range []string{"all pass", "a new regression"} {
		f := newFixture(t)
		check(t, f.function(box, "h").Handle(t.Context(), cases[name](f)))
	}
	if a, b := box.sent[0], box.sent[1]; a.InReplyTo == "" || a.InReplyTo != b.InReplyTo || a.References[0] != a.InReplyTo || a.InReplyTo == a.ID {
		t.Errorf("%+v\n%+v", a, b)
	}
}

func TestTheReportOfAPatchsetGoesToWhoAskedForIt(t *testing.T) {
	for _, tc := range []struct{ owner, submitter, to string }{
		{"admin", "service:pipeline", "kernel@example.org"},
		{"admin", "user:dev@example.org", "dev@example.org"},
		{"admin", "user:not an address", "kernel@example.org"},
		{"stranger", "user:victim@example.org", "kernel@example.org"},
	} {
		f := newFixture(t)
		box := &outbox{}
		f.add(node.KindJob, "patchset/kver", node.Pass)
		check(t, f.function(box, "h").Handle(t.Context(), f.finish(&findings{}, func(n *node.Node) {
			n.Name, n.Owner, n.Submitter = node.NamePatchset, tc.owner, tc.submitter
			r, _ := n.Revision()
			r.Patchset = strings.Repeat("0123456789abcdef", 4)
			check(t, n.SetRevision(r))
		})))
		m := box.sent[0]
		if strings.Join(m.To, " ") != tc.to || !strings.Contains(m.Subject, "with patches 0123456789ab:") || !strings.Contains(m.Text, "\nkver ") {
			t.Errorf("%s: to %q, %s\n%s", tc.submitter, m.To, m.Subject, m.Text)
		}
	}
}

func TestOneMailWhateverIsDeliveredTwice(t *testing.T) {
	for _, repeatable := range []bool{false, true} {
		f := newFixture(t)
		e := cases["all pass"](f)
		box := &outbox{repeatable: repeatable}
		var group sync.WaitGroup
		for i := range 8 {
			fn := f.function(box, fmt.Sprint("holder ", i))
			group.Go(func() {
				if err := fn.Handle(t.Context(), e); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		check(t, f.function(box, "later").Handle(t.Context(), e))
		ids := map[string]bool{}
		for _, m := range box.sent {
			ids[m.ID] = true
		}
		if len(ids) != 1 || !repeatable && len(box.sent) != 1 {
			t.Errorf("repeatable %v: %d mails of %d ids", repeatable, len(box.sent), len(ids))
		}
	}
}

func TestAFailedMailIsTriedAgain(t *testing.T) {
	f := newFixture(t)
	e := cases["all pass"](f)
	box := &outbox{fail: errs.New(errs.Temporary, "the mail server is away")}
	fn := f.function(box, "h")
	if err := fn.Handle(t.Context(), e); !errors.Is(err, errs.Temporary) {
		t.Errorf("%v", err)
	}
	box.fail = nil
	check(t, f.function(box, "another").Handle(t.Context(), e))
	if len(box.sent) != 1 {
		t.Errorf("%d mails", len(box.sent))
	}
}

func TestAMailThatMayBeOutIsNotSentAgain(t *testing.T) {
	f := newFixture(t)
	e := cases["all pass"](f)
	box := &outbox{fail: fmt.Errorf("mail.SMTP.Send: %w", mail.ErrUnsure)}
	fn := f.function(box, "h")
	if err := fn.Handle(t.Context(), e); err == nil || errs.Retry(err) {
		t.Errorf("%v: it must end as a dead letter", err)
	}
	box.fail = nil
	check(t, fn.Handle(t.Context(), e))
	check(t, f.function(box, "another").Handle(t.Context(), e))
	if len(box.sent) != 0 {
		t.Errorf("%d mails", len(box.sent))
	}
}

// forgetful is a store that cannot take down what was sent.
type forgetful struct{ store.Store }

func (s forgetful) Update(context.Context, node.ID, func(*node.Node) error, ...store.Option) (node.Node, error) {
	return node.Node{}, errs.New(errs.Temporary, "the disk is full")
}

func TestOneProcessSendsOnceEvenIfItCannotTakeItDown(t *testing.T) {
	f := newFixture(t)
	e := cases["all pass"](f)
	box := &outbox{}
	f.store = forgetful{f.store}
	fn := f.function(box, "h")
	check(t, fn.Handle(t.Context(), e))
	check(t, fn.Handle(t.Context(), e))
	if len(box.sent) != 1 {
		t.Errorf("%d mails", len(box.sent))
	}
}

func TestALinkIsWholeOrNotThere(t *testing.T) {
	long := "https://storage.example.org/log.txt.gz?signature=" + strings.Repeat("a", 1000)
	for link, want := range map[string]bool{
		long: true, "https://x.example.org/" + strings.Repeat("a", 5000): false, "https://x.example.org/\u202egz": false, "https://x.example.org/a b": false,
	} {
		f := newFixture(t)
		f.add(node.KindJob, "kver", node.Pass, func(n *node.Node) { n.Artifacts["log"] = link })
		box := &outbox{}
		check(t, f.function(box, "h").Handle(t.Context(), f.finish(&findings{})))
		m := box.sent[0]
		if strings.Contains(m.Text, link) != want || strings.Contains(m.HTML, link) != want || !want && strings.Contains(m.HTML+m.Text, "x.example.org") {
			t.Errorf("%.60s: %s", link, m.Text)
		}
	}
}

func TestTheSameReportIsTheSameFile(t *testing.T) {
	dir := t.TempDir()
	var contents [][]byte
	for range 2 {
		f := newFixture(t)
		e := cases["a new regression"](f)
		folder, err := mail.NewFolder(dir)
		check(t, err)
		check(t, f.function(folder, "h").Handle(t.Context(), e))
		files, err := filepath.Glob(filepath.Join(dir, "*.eml"))
		check(t, err)
		if len(files) != 1 {
			t.Fatalf("%v", files)
		}
		b, err := os.ReadFile(files[0])
		check(t, err)
		contents = append(contents, b)
		check(t, os.Remove(files[0]))
	}
	if !bytes.Equal(contents[0], contents[1]) {
		t.Errorf("%s\n%s", contents[0], contents[1])
	}
	golden(t, "testdata/report.eml", string(contents[0]))
}

func TestABadAddressIsNamedAtTheStart(t *testing.T) {
	f := newFixture(t)
	for _, o := range []report.Options{{From: "nobody", To: []string{"a@example.org"}}, {From: "a@example.org"}, {From: "a@example.org", To: []string{"x y z"}}} {
		o.Store, o.Sender, o.Holder, o.Log = f.store, &outbox{}, "h", slog.New(slog.DiscardHandler)
		if _, err := report.New(o); !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "MAIL_") {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
