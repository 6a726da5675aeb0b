package tarball_test

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/functions/tarball"
	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/git"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/patch"
	"github.com/kernelflow/kernelflow/shared/storage"
	"github.com/kernelflow/kernelflow/shared/storage/blob"
	"github.com/kernelflow/kernelflow/shared/store"
	"github.com/kernelflow/kernelflow/shared/store/sqlite"
)

var start = time.Date(2025, 1, 12, 8, 0, 0, 0, time.UTC)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

type fixture struct {
	t       *testing.T
	store   store.Store
	storage storage.Storage
	git     *git.Git
	patches *patch.Source
	tree    string
}

func newFixture(t *testing.T) *fixture {
	log := slog.New(slog.DiscardHandler)
	f := &fixture{t: t, tree: filepath.Join(t.TempDir(), "tree"), patches: patch.NewSource([]string{"127.0.0.1"}, http.DefaultClient)}
	var err error
	f.store, err = sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "x.db"), Now: func() time.Time { return start }})
	check(t, err)
	t.Cleanup(func() { check(t, f.store.Close()) })
	f.storage, err = blob.Open("file://"+t.TempDir(), "http://storage.example.org")
	check(t, err)
	t.Cleanup(func() { check(t, f.storage.Close()) })
	f.git, err = git.New(git.Options{Dir: t.TempDir(), AllowLocal: true, Logger: log})
	check(t, err)
	check(t, os.MkdirAll(f.tree, 0o755))
	f.run("init", "--quiet", "--initial-branch=main")
	return f
}

func (f *fixture) url() string { return "file://" + f.tree }

// run runs git in the tree and returns what it says.
func (f *fixture) run(args ...string) string {
	f.t.Helper()
	cmd := exec.CommandContext(f.t.Context(), "git", append([]string{"-C", f.tree, "-c", "user.name=A", "-c", "user.email=a@example.org"}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		f.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (f *fixture) commit(text, content string) string {
	f.t.Helper()
	check(f.t, os.WriteFile(filepath.Join(f.tree, "file"), []byte(content), 0o644))
	f.run("add", "--all")
	f.run("commit", "--quiet", "--message", text)
	return f.run("rev-parse", "HEAD")
}

func (f *fixture) function(s tarball.Storage) *tarball.Function {
	f.t.Helper()
	fn, err := tarball.New(tarball.Options{
		Store: f.store, Storage: s, Git: f.git, Patches: f.patches, Holdoff: 10 * time.Minute, Attempts: 3,
		Now: func() time.Time { return start }, Log: slog.New(slog.DiscardHandler),
	})
	check(f.t, err)
	return fn
}

// checkout stores a checkout of the commit and returns its event.
func (f *fixture) checkout(url, commit string) (node.ID, event.Event) {
	f.t.Helper()
	n := node.Node{ID: node.DeriveID("", commit, url), Kind: node.KindCheckout, Name: "checkout", Path: []string{"checkout"}, TreeID: commit, Owner: "admin"}
	n.SetDefaults(start)
	check(f.t, n.SetRevision(node.Revision{Tree: "sample", URL: url, Branch: "main", Commit: commit}))
	n, err := f.store.Create(f.t.Context(), n)
	check(f.t, err)
	e, err := event.OfCreated(n)
	check(f.t, err)
	return n.ID, e
}

func (f *fixture) get(id node.ID) node.Node {
	f.t.Helper()
	n, err := f.store.Get(f.t.Context(), id)
	check(f.t, err)
	return n
}

func TestACheckoutBecomesAvailableWithItsArchive(t *testing.T) {
	f := newFixture(t)
	f.commit("first", "one")
	f.run("tag", "--annotate", "--message=x", "v6.1")
	id, e := f.checkout(f.url(), f.commit("second: a b\u00fcg", "two"))
	fn := f.function(f.storage)
	check(t, fn.Handle(t.Context(), e))
	n := f.get(id)
	r, _ := n.Revision()
	if n.State != node.Available || n.Result != node.Pass || !n.Holdoff.Equal(start.Add(10*time.Minute)) ||
		!strings.HasPrefix(r.Describe, "v6.1-1-g") || r.Tree != "sample" || r.Version.PatchLevel != 1 || !*r.TipOfBranch || r.CommitMessage != "second: a b\u00fcg" {
		t.Errorf("%+v\n%+v", n, r)
	}
	name := "linux-sample-main-" + r.Describe
	if link := "http://storage.example.org/" + string(id) + "/" + name + ".tar.gz"; n.Artifacts["tarball"] != link {
		t.Errorf("tarball %s, want %s", n.Artifacts["tarball"], link)
	}
	content, _, err := f.storage.Open(t.Context(), string(id)+"/"+name+".tar.gz")
	check(t, err)
	defer content.Close()
	if got := files(t, content); got[name+"/file"] != "two" {
		t.Errorf("%v", got)
	}
	check(t, fn.Handle(t.Context(), e))
	if again := f.get(id); !again.Updated.Equal(n.Updated) || again.State != node.Available {
		t.Errorf("the second delivery changed the node: %+v", again)
	}
}

func files(t *testing.T, r io.Reader) map[string]string {
	t.Helper()
	gz, err := gzip.NewReader(r)
	check(t, err)
	found := map[string]string{}
	for in := tar.NewReader(gz); ; {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			return found
		}
		check(t, err)
		content, err := io.ReadAll(in)
		check(t, err)
		found[header.Name] = string(content)
	}
}

func TestWhatCanNeverBeHadEndsTheCheckoutAtOnce(t *testing.T) {
	for name, tc := range map[string]struct {
		prepare func(f *fixture) (url, commit string)
		says    string
	}{
		"an empty tree":        {func(f *fixture) (string, string) { return f.url(), strings.Repeat("a", 40) }, "main"},
		"no such repository":   {func(f *fixture) (string, string) { return f.url() + "-gone", strings.Repeat("a", 40) }, "gone"},
		"a commit never there": {func(f *fixture) (string, string) { f.commit("x", "x"); return f.url(), strings.Repeat("a", 40) }, "aaaa"},
		"a commit pushed away": {func(f *fixture) (string, string) {
			gone := f.commit("x", "x")
			f.run("commit", "--quiet", "--amend", "--message=y")
			f.run("reflog", "expire", "--expire=now", "--all")
			f.run("gc", "--quiet", "--prune=now")
			return f.url(), gone
		}, "commit"},
		"a transport that runs commands": {func(*fixture) (string, string) { return "ext://host/%20sh", strings.Repeat("a", 40) }, "url"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			url, commit := tc.prepare(f)
			id, e := f.checkout(url, commit)
			fn := f.function(f.storage)
			for range 3 {
				if err := fn.Handle(t.Context(), e); err != nil && !errors.Is(err, errs.Temporary) {
					t.Error(err)
				}
			}
			n := f.get(id)
			if n.State != node.Done || n.Result != node.Fail || n.Text("error_code") != node.ErrCodeGitCheckout || !strings.Contains(n.Text("error_msg"), tc.says) {
				t.Errorf("%s %s %v", n.State, n.Result, n.Data)
			}
		})
	}
}

func TestAForcedPushLeavesTheCommitThatWasSeen(t *testing.T) {
	f := newFixture(t)
	f.commit("base", "base")
	seen := f.commit("x", "x")
	f.run("commit", "--quiet", "--amend", "--message=y")
	id, e := f.checkout(f.url(), seen)
	check(t, f.function(f.storage).Handle(t.Context(), e))
	n := f.get(id)
	if r, _ := n.Revision(); n.State != node.Available || *r.TipOfBranch || r.Commit != seen {
		t.Errorf("%s %v", n.State, n.Data)
	}
}

// full is a storage whose disk is full for the first uploads.
type full struct {
	storage.Storage
	times int
}

func (s *full) Upload(ctx context.Context, path, contentType string, r io.Reader) (string, error) {
	if s.times--; s.times >= 0 {
		_, _ = io.CopyN(io.Discard, r, 10)
		return "", errs.Wrap(errs.Temporary, syscall.ENOSPC)
	}
	return s.Storage.Upload(ctx, path, contentType, r)
}

func TestAFullDiskIsTriedAgainAndThenEndsTheCheckout(t *testing.T) {
	for _, tc := range []struct {
		full  int
		state node.State
		tries int
	}{{2, node.Available, 3}, {3, node.Done, 3}} {
		f := newFixture(t)
		id, e := f.checkout(f.url(), f.commit("x", strings.Repeat("some content ", 100_000)))
		fn := f.function(&full{f.storage, tc.full})
		for i := range tc.tries {
			err := fn.Handle(t.Context(), e)
			if last := i == tc.tries-1; last != (err == nil) {
				t.Errorf("full %d times, delivery %d: %v", tc.full, i+1, err)
			}
		}
		n := f.get(id)
		if n.State != tc.state || tc.state == node.Done && !strings.Contains(n.Text("error_msg"), "no space left") {
			t.Errorf("full %d times: %s %v", tc.full, n.State, n.Data)
		}
	}
}

func TestAStoppingHostIsNobodysFault(t *testing.T) {
	f := newFixture(t)
	id, e := f.checkout(f.url(), f.commit("x", "x"))
	ctx, cancel := context.WithCancel(t.Context())
	stopping := &stopper{f.storage, cancel}
	if err := f.function(stopping).Handle(ctx, e); err == nil {
		t.Error("no error")
	}
	if n := f.get(id); n.State != node.Running || len(n.Debug) != 0 {
		t.Errorf("%+v", n)
	}
}

// stopper ends the context in the middle of an upload.
type stopper struct {
	storage.Storage
	cancel func()
}

func (s *stopper) Upload(ctx context.Context, _, _ string, _ io.Reader) (string, error) {
	s.cancel()
	return "", ctx.Err()
}

func TestLongWorkTellsHowFarItIs(t *testing.T) {
	f := newFixture(t)
	id, e := f.checkout(f.url(), f.commit("first", "one"))
	fn := f.function(f.storage)
	now := start
	fn.Now = func() time.Time { now = now.Add(time.Minute); return now }
	told := map[node.ID]int{}
	fn.Progress = func(id node.ID, p git.Progress) {
		if p.Phase != "" {
			told[id]++
		}
	}
	check(t, fn.Handle(t.Context(), e))
	if len(told) != 1 || told[id] == 0 {
		t.Errorf("told of %v, want %s", told, id)
	}
}

func TestTheNameLeadsNowhereElse(t *testing.T) {
	r := node.Revision{Tree: "../a", Branch: "wip/x y", Describe: "v1'\"$(id)"}
	if got := tarball.Name(r); strings.ContainsAny(got, "/ '\"$()") || got != "linux-.._a-wip_x_y-v1____id_" {
		t.Error(got)
	}
}
