package trigger_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/kernelflow/kernelflow/functions/trigger"
	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/pipeline"
	"github.com/kernelflow/kernelflow/shared/store"
	"github.com/kernelflow/kernelflow/shared/store/sqlite"
)

var start = time.Date(2025, 1, 12, 8, 0, 0, 0, time.UTC)

// servers answers for git servers: heads by URL and branch.
type servers map[string]map[string]string

func (s servers) Heads(_ context.Context, url string, branches ...string) (map[string]string, error) {
	all, ok := s[url]
	if !ok {
		return nil, errs.New(errs.Temporary, "%s: no route to host", url)
	}
	found := map[string]string{}
	for _, b := range branches {
		if commit, ok := all[b]; ok {
			found[b] = commit
		}
	}
	return found, nil
}

const twoTrees = `
trees:
  alpha: {url: "https://git.example.org/alpha.git"}
  beta: {url: "https://git.example.org/beta.git"}
build_configs:
  alpha: {tree: alpha, branch: main, architectures: [x86_64]}
  alpha-next: {tree: alpha, branch: next, frequency: 1d}
  beta: {tree: beta, branch: main}
`

const alpha, beta = "https://git.example.org/alpha.git", "https://git.example.org/beta.git"

func commit(c byte) string { return strings.Repeat(string(c), 40) }

type fixture struct {
	t     *testing.T
	store store.Store
	git   servers
	now   time.Time
	force bool
	yaml  string
}

func newFixture(t *testing.T) *fixture {
	f := &fixture{t: t, git: servers{}, now: start, yaml: twoTrees}
	st, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "x.db"), Now: func() time.Time { return f.now }})
	check(t, err)
	t.Cleanup(func() { check(t, st.Close()) })
	f.store = st
	return f
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) tick() error {
	f.t.Helper()
	config, _, err := pipeline.Load(fstest.MapFS{"x.yaml": {Data: []byte(f.yaml)}}, pipeline.Options{})
	check(f.t, err)
	fn, err := trigger.New(trigger.Options{
		Config: config, Store: f.store, Git: f.git, HTTP: http.DefaultClient, Owner: "admin", Timeout: time.Hour, Force: f.force,
		Now: func() time.Time { return f.now }, Log: slog.New(slog.DiscardHandler),
	})
	check(f.t, err)
	return fn.Tick(f.t.Context())
}

// checkouts lists tree/branch/commit of every checkout, shortened.
func (f *fixture) checkouts() string {
	f.t.Helper()
	nodes, err := f.store.Find(f.t.Context(), node.Where("kind", node.KindCheckout))
	check(f.t, err)
	var list []string
	for _, n := range nodes {
		r, _ := n.Revision()
		list = append(list, fmt.Sprintf("%s/%s/%.1s", r.Tree, r.Branch, r.Commit))
	}
	return strings.Join(list, " ")
}

func (f *fixture) want(list string) {
	f.t.Helper()
	if got := f.checkouts(); got != list {
		f.t.Errorf("checkouts %q, want %q", got, list)
	}
}

func TestEachNewCommitBecomesOneCheckout(t *testing.T) {
	f := newFixture(t)
	f.git[alpha] = map[string]string{"main": commit('a'), "next": commit('b')}
	f.git[beta] = map[string]string{"main": commit('c')}
	check(t, f.tick())
	check(t, f.tick())
	if n, err := f.store.Count(t.Context(), node.Where("kind", node.KindCheckout)); err != nil || n != 3 {
		t.Fatalf("%d checkouts, %v", n, err)
	}
	nodes, err := f.store.Find(t.Context(), node.Where("data.kernel_revision.commit", commit('a')))
	check(t, err)
	n := nodes[0]
	if n.State != node.Running || n.Owner != "admin" || n.Submitter != "service:pipeline" || n.TreeID == "" ||
		!n.Timeout.Equal(start.Add(time.Hour)) || fmt.Sprint(n.Data["architecture_filter"]) != "[x86_64]" {
		t.Errorf("%+v", n)
	}
	f.now = start.Add(time.Minute)
	f.git[beta]["main"] = commit('d')
	check(t, f.tick())
	if n, err := f.store.Count(t.Context(), node.Where("kind", node.KindCheckout)); err != nil || n != 4 {
		t.Errorf("%d checkouts after a push, %v", n, err)
	}
}

func TestWhatAPersonAskedForIsNoCheckoutOfThePipeline(t *testing.T) {
	f := newFixture(t)
	f.git = servers{alpha: {"main": commit('1'), "next": commit('2')}, beta: {"main": commit('3')}}
	for i, name := range []string{"checkout", "patchset"} {
		n := node.Node{ID: node.DeriveID("", name), Kind: node.KindCheckout, Name: name, Path: []string{name}, Owner: "admin", Submitter: "user:dev@example.org"}
		n.SetDefaults(start)
		check(t, n.SetRevision(node.Revision{Tree: "alpha", URL: alpha, Branch: []string{"main", "next"}[i], Commit: commit('1' + byte(i))}))
		_, err := f.store.Create(t.Context(), n)
		check(t, err)
	}
	check(t, f.tick())
	if n, err := f.store.Count(t.Context(), node.Where("submitter", "service:pipeline")); err != nil || n != 3 {
		t.Errorf("%d checkouts of the pipeline's own, %v", n, err)
	}
}

func TestManyInstancesAtOnceMakeOneCheckout(t *testing.T) {
	f := newFixture(t)
	f.yaml = strings.Split(twoTrees, "  alpha-next")[0]
	f.git[alpha] = map[string]string{"main": commit('a')}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if err := f.tick(); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	f.want("alpha/main/a")
}

func TestAnIncompleteCheckoutIsTriedThreeTimes(t *testing.T) {
	f := newFixture(t)
	f.yaml = strings.Split(twoTrees, "  alpha-next")[0]
	f.git[alpha] = map[string]string{"main": commit('a')}
	for range 5 {
		check(t, f.tick())
		for n, err := range f.store.Each(t.Context(), node.Where("state", node.Running)) {
			check(t, err)
			_, err := f.store.Update(t.Context(), n.ID, func(n *node.Node) error {
				n.SetError(node.Incomplete, node.ErrCodeTimeout, "too slow")
				return nil
			})
			check(t, err)
		}
	}
	f.want("alpha/main/a alpha/main/a alpha/main/a")
}

func TestForceMakesACheckoutOfAKnownCommit(t *testing.T) {
	f := newFixture(t)
	f.yaml = strings.Split(twoTrees, "  alpha-next")[0]
	f.git[alpha] = map[string]string{"main": commit('a')}
	check(t, f.tick())
	f.force, f.now = true, start.Add(time.Minute)
	check(t, f.tick())
	f.want("alpha/main/a alpha/main/a")
}

func TestAFrequencyHoldsTheNextCheckoutBack(t *testing.T) {
	f := newFixture(t)
	f.git[alpha] = map[string]string{"main": commit('a'), "next": commit('a')}
	f.git[beta] = map[string]string{"main": commit('a')}
	check(t, f.tick())
	next := node.Where("data.kernel_revision.branch", "next")
	for _, step := range []struct {
		after  time.Duration
		commit byte
		want   int64
	}{{time.Hour, 'b', 1}, {23 * time.Hour, 'c', 1}, {25 * time.Hour, 'd', 2}} {
		f.now = start.Add(step.after)
		f.git[alpha]["next"] = commit(step.commit)
		check(t, f.tick())
		if got, err := f.store.Count(t.Context(), next); err != nil || got != step.want {
			t.Errorf("after %s: %d checkouts, want %d: %v", step.after, got, step.want, err)
		}
	}
}

func TestOneUnreachableTreeDoesNotStopTheOthers(t *testing.T) {
	f := newFixture(t)
	f.git[beta] = map[string]string{"main": commit('c')}
	if err := f.tick(); !errors.Is(err, errs.Temporary) || !strings.Contains(err.Error(), "tree alpha") {
		t.Errorf("%v", err)
	}
	f.want("beta/main/c")
}

func TestAMissingBranchIsNamed(t *testing.T) {
	f := newFixture(t)
	f.git[alpha] = map[string]string{"main": commit('a'), "next": commit('b')}
	f.git[beta] = map[string]string{}
	if err := f.tick(); err == nil || !strings.Contains(err.Error(), `tree beta has no branch "main"`) {
		t.Errorf("%v", err)
	}
}

func TestABranchMayBeTheNewestOfAList(t *testing.T) {
	f := newFixture(t)
	body := `[{"branch":"old","date":"2024-01-01"},{"branch":"new","date":"2025-01-01T10:00:00"},{"branch":"older","date":"2023-01-01"}]`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) }))
	defer server.Close()
	f.yaml = fmt.Sprintf("trees:\n  alpha: {url: %q}\nbuild_configs:\n  alpha: {tree: alpha, branch: %q}\n", alpha, server.URL)
	f.git[alpha] = map[string]string{"old": commit('a'), "new": commit('b'), "older": commit('c')}
	check(t, f.tick())
	f.want("alpha/new/b")
	for _, body = range []string{`[]`, `{`, `[{"branch":"x","date":"soon"}]`} {
		if f.tick() == nil {
			t.Errorf("the list %s is taken", body)
		}
	}
}
