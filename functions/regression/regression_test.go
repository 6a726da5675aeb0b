package regression_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/functions/regression"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/node"
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
	t     *testing.T
	store store.Store
	now   time.Time
	owner string
	fn    *regression.Function

	submitter, root string // of the next checkout
	parent          node.ID
}

func newFixture(t *testing.T) *fixture {
	f := &fixture{t: t, now: start, owner: "admin", root: "checkout"}
	st, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "x.db"), Now: func() time.Time { return f.now }})
	check(t, err)
	t.Cleanup(func() { check(t, st.Close()) })
	f.store = st
	f.fn, err = regression.New(regression.Options{Store: st, Log: slog.New(slog.DiscardHandler)})
	check(t, err)
	return f
}

// checkout stores a finished checkout of branch with its results. A line is
// "path result", with "@platform" and "#attempt" where they matter; the parent
// is the line of the path above.
func (f *fixture) checkout(name, branch string, results ...string) node.Node {
	f.t.Helper()
	f.now = f.now.Add(time.Hour)
	revision := node.Revision{Tree: "mainline", URL: "https://git.example.org/x", Branch: branch, Commit: name}
	root := node.Node{ID: node.DeriveID("", name), Kind: node.KindCheckout, Name: f.root, Path: slices.Compact([]string{"checkout", f.root}),
		Parent: f.parent, TreeID: name, State: node.Done, Result: node.Pass, Owner: f.owner, Submitter: f.submitter}
	check(f.t, root.SetRevision(revision))
	root, err := f.store.Create(f.t.Context(), root)
	check(f.t, err)
	ids := map[string]node.ID{"": root.ID}
	for _, line := range results {
		path, result, _ := strings.Cut(line, " ")
		path, attempt, _ := strings.Cut(path, "#")
		path, platform, _ := strings.Cut(path, "@")
		parts := strings.Split(path, "/")
		kind := []node.Kind{node.KindKbuild, node.KindJob, node.KindTest, node.KindTest}[len(parts)-1]
		n := node.Node{
			ID: node.DeriveID(root.ID, line), Kind: kind, Name: parts[len(parts)-1], Path: append(slices.Clip(root.Path), parts...),
			Parent: ids[strings.Join(parts[:len(parts)-1], "/")], TreeID: name, State: node.Done, Result: node.Result(result), Owner: "admin",
			RetryCounter: len(attempt), Data: map[string]any{"arch": "x86_64", "defconfig": []any{"defconfig", "kselftest"}, "compiler": "gcc-12", "runtime": "lab"},
		}
		if platform != "" {
			n.Set("platform", platform)
		}
		check(f.t, n.SetRevision(revision))
		_, err := f.store.Create(f.t.Context(), n)
		check(f.t, err)
		ids[path] = n.ID
	}
	return root
}

func (f *fixture) event(n node.Node) event.Event {
	f.t.Helper()
	e, err := event.OfUpdated(n, n, 2, false)
	check(f.t, err)
	return e
}

func (f *fixture) handle(n node.Node) {
	f.t.Helper()
	check(f.t, f.fn.Handle(f.t.Context(), f.event(n)))
}

// findings says what the checkout knows: "new a/b; active c; fixed".
func (f *fixture) findings(checkout node.Node) string {
	f.t.Helper()
	n, err := f.store.Get(f.t.Context(), checkout.ID)
	check(f.t, err)
	b, err := json.Marshal(n.Data["regressions"])
	check(f.t, err)
	var found struct{ New, Active, Fixed []node.ID }
	check(f.t, json.Unmarshal(b, &found))
	list := func(ids []node.ID) string {
		var paths []string
		for _, id := range ids {
			r, err := f.store.Get(f.t.Context(), id)
			check(f.t, err)
			paths = append(paths, strings.Join(r.Path[1:], "/"))
		}
		slices.Sort(paths)
		return strings.Join(paths, " ")
	}
	return fmt.Sprintf("new %s; active %s; fixed %s", list(found.New), list(found.Active), list(found.Fixed))
}

func (f *fixture) want(checkout node.Node, findings string) {
	f.t.Helper()
	if got := f.findings(checkout); got != findings {
		f.t.Errorf("checkout %s: %q, want %q", checkout.TreeID, got, findings)
	}
}

func (f *fixture) regressions() []node.Node {
	f.t.Helper()
	list, err := f.store.Find(f.t.Context(), node.Where("kind", node.KindRegression))
	check(f.t, err)
	return list
}

func TestARegressionIsNewThenActiveThenFixed(t *testing.T) {
	f := newFixture(t)
	a := f.checkout("a", "master", "k pass", "k/j pass", "k/j/t pass", "k/j/u pass")
	b := f.checkout("b", "master", "k pass", "k/j fail", "k/j/t fail", "k/j/u pass")
	c := f.checkout("c", "master", "k pass", "k/j fail", "k/j/t fail", "k/j/u pass")
	d := f.checkout("d", "master", "k pass", "k/j pass", "k/j/t pass", "k/j/u pass")
	for _, n := range []node.Node{a, b, c} {
		f.handle(n)
	}
	f.want(a, "new ; active ; fixed ")
	f.want(b, "new k/j/t; active ; fixed ")
	f.want(c, "new ; active k/j/t; fixed ")
	list := f.regressions()
	if len(list) != 1 {
		t.Fatalf("%d regressions", len(list))
	}
	r := list[0]
	failing, err := f.store.Get(t.Context(), r.Parent)
	check(t, err)
	passing, err := f.store.Get(t.Context(), node.ID(r.Text("pass_node")))
	check(t, err)
	if r.Result != node.Fail || r.State != node.Done || failing.TreeID != "b" || failing.Name != "t" || failing.Text("regression") != string(r.ID) ||
		passing.TreeID != "a" || r.Text("fail_node") != string(failing.ID) || r.Text("arch") != "x86_64" || len(r.Data["node_sequence"].([]any)) != 1 {
		t.Errorf("%+v", r)
	}
	f.handle(d)
	f.want(d, "new ; active ; fixed k/j/t")
	if r := f.regressions()[0]; r.Result != node.Pass {
		t.Errorf("still active: %+v", r)
	}
	e := f.checkout("e", "master", "k pass", "k/j fail", "k/j/t fail")
	f.handle(e)
	f.want(e, "new k/j/t; active ; fixed ")
	if n := len(f.regressions()); n != 2 {
		t.Errorf("%d regressions", n)
	}
}

func TestOnlyWhatIsTheSameIsCompared(t *testing.T) {
	for name, tc := range map[string]struct {
		before, branch string
		now            string
		want           string
	}{
		"the same":              {"k pass", "master", "k fail", "new k; active ; fixed "},
		"another branch":        {"k pass", "next", "k fail", "new ; active ; fixed "},
		"another platform":      {"k@x pass", "master", "k@y fail", "new ; active ; fixed "},
		"the same platform":     {"k@x pass", "master", "k@x fail", "new k; active ; fixed "},
		"failed before":         {"k fail", "master", "k fail", "new ; active ; fixed "},
		"skipped before":        {"k skip", "master", "k fail", "new ; active ; fixed "},
		"incomplete now":        {"k pass", "master", "k incomplete", "new ; active ; fixed "},
		"another path":          {"x pass", "master", "k fail", "new ; active ; fixed "},
		"passes and has failed": {"k fail", "master", "k pass", "new ; active ; fixed "},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.handle(f.checkout("a", tc.branch, tc.before))
			b := f.checkout("b", "master", tc.now)
			f.handle(b)
			f.want(b, tc.want)
		})
	}
}

func TestWhatTellsNothingIsLookedPast(t *testing.T) {
	f := newFixture(t)
	f.handle(f.checkout("a", "master", "k pass"))
	f.handle(f.checkout("b", "master", "k incomplete"))
	f.handle(f.checkout("c", "master"))
	d := f.checkout("d", "master", "k fail")
	f.handle(d)
	f.want(d, "new k; active ; fixed ")
}

func TestTheDeepestFailureIsTheRegression(t *testing.T) {
	f := newFixture(t)
	f.handle(f.checkout("a", "master", "k pass", "k/j pass", "k/j/s pass", "k/j/s/t pass", "k/i pass"))
	b := f.checkout("b", "master", "k pass", "k/j fail", "k/j/s fail", "k/j/s/t fail", "k/i fail")
	f.handle(b)
	f.want(b, "new k/i k/j/s/t; active ; fixed ")
}

func TestTheLastAttemptCounts(t *testing.T) {
	f := newFixture(t)
	f.handle(f.checkout("a", "master", "k pass", "k/j pass"))
	b := f.checkout("b", "master", "k pass", "k/j fail", "k/j#x pass")
	f.handle(b)
	f.want(b, "new ; active ; fixed ")
	c := f.checkout("c", "master", "k pass", "k/j pass", "k/j#x fail")
	f.handle(c)
	f.want(c, "new k/j; active ; fixed ")
}

func TestAnOlderCheckoutMayEndLater(t *testing.T) {
	f := newFixture(t)
	a := f.checkout("a", "master", "k pass")
	b := f.checkout("b", "master", "k fail")
	c := f.checkout("c", "master", "k pass")
	f.handle(a)
	f.handle(c)
	f.handle(b)
	f.want(c, "new ; active ; fixed ")
	f.want(b, "new k; active ; fixed ")
	if r := f.regressions()[0]; r.Result != node.Pass {
		t.Errorf("still active: %+v", r)
	}
}

// settled describes the regressions without times, so that two stores can be
// compared.
func (f *fixture) settled() string {
	f.t.Helper()
	var lines []string
	for _, r := range f.regressions() {
		lines = append(lines, fmt.Sprint(r.ID, r.Path, r.TreeID, r.Result, r.Data["fail_node"], r.Data["pass_node"], r.Data["node_sequence"], r.Data["failed_kernel_revision"]))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func TestAnyOrderGivesTheSameRegressions(t *testing.T) {
	results := [][]string{
		{"k pass", "k/j pass", "k/j/t pass", "k/j/u pass", "k/i pass"},
		{"k pass", "k/j fail", "k/j/t fail", "k/j/u pass", "k/i fail"},
		{"k pass", "k/j fail", "k/j/t fail", "k/j/u fail", "k/i incomplete"},
		{"k pass", "k/j fail", "k/j/t pass", "k/j/u fail", "k/i fail", "k/i#x pass"},
		{"k pass", "k/j fail", "k/j/t fail", "k/j/u skip", "k/i fail"},
	}
	var first string
	for _, order := range [][]int{{0, 1, 2, 3, 4}, {4, 3, 2, 1, 0}, {2, 0, 4, 1, 3}, {3, 1, 4, 0, 2}, {1, 4, 2, 3, 0}} {
		f := newFixture(t)
		var checkouts []node.Node
		for i, lines := range results {
			checkouts = append(checkouts, f.checkout(fmt.Sprint("c", i), "master", lines...))
		}
		for range 2 {
			for _, i := range order {
				f.handle(checkouts[i])
			}
		}
		got := f.settled()
		if first == "" {
			first = got
		}
		if got != first {
			t.Errorf("order %v gives\n%s\nwant\n%s", order, got, first)
		}
		for i, want := range map[int]string{
			1: "new k/i k/j/t; active ; ", 2: "new k/j/u; active k/j/t; ", 4: "new k/i k/j/t; active ; ",
		} {
			if found := f.findings(checkouts[i]); !strings.HasPrefix(found, want) {
				t.Errorf("order %v: checkout %d has %q, want %q", order, i, found, want)
			}
		}
	}
}

func TestAFailureOfItsOwnIsToldFromTheSumOfOthers(t *testing.T) {
	f := newFixture(t)
	f.handle(f.checkout("a", "master", "k pass", "k/j pass", "k/j/t pass"))
	f.handle(f.checkout("b", "master", "k pass", "k/j fail", "k/j/t fail"))
	c := f.checkout("c", "master", "k pass", "k/j fail", "k/j/t pass")
	f.handle(c)
	f.want(c, "new k/j; active ; fixed k/j/t")
	d := f.checkout("d", "master", "k pass", "k/j fail", "k/j/t fail")
	f.handle(d)
	f.want(d, "new k/j/t; active k/j; fixed ")
}

func TestAnIncompleteAttemptTellsNothing(t *testing.T) {
	f := newFixture(t)
	f.handle(f.checkout("a", "master", "k pass", "k/j pass"))
	b := f.checkout("b", "master", "k pass", "k/j fail", "k/j#x incomplete")
	f.handle(b)
	f.want(b, "new k/j; active ; fixed ")
}

func TestWhatOnlyAnEarlierAttemptFoundIsNoRegression(t *testing.T) {
	f := newFixture(t)
	f.handle(f.checkout("a", "master", "k pass", "k/j pass", "k/j/s pass", "k/j/t pass"))
	b := f.checkout("b", "master", "k pass", "k/j fail", "k/j/s fail", "k/j/s/one fail", "k/j#x pass", "k/j/t pass")
	f.handle(b)
	f.want(b, "new ; active ; fixed ")
}

func TestAnotherOwnersCheckoutIsNotCompared(t *testing.T) {
	f := newFixture(t)
	f.owner = "somebody"
	f.handle(f.checkout("a", "master", "k pass"))
	f.owner = "admin"
	b := f.checkout("b", "master", "k fail")
	f.handle(b)
	f.want(b, "new ; active ; fixed ")
}

// patchset stores a finished patchset of base with its results.
func (f *fixture) patchset(name string, base node.Node, results ...string) node.Node {
	f.t.Helper()
	f.as("user:dev@example.org", node.NamePatchset, base.ID)
	defer f.as("", "checkout", "")
	return f.checkout(name, "master", results...)
}

func (f *fixture) as(submitter, name string, parent node.ID) {
	f.submitter, f.root, f.parent = submitter, name, parent
}

func TestAPatchsetIsComparedWithItsCheckoutAlone(t *testing.T) {
	f := newFixture(t)
	a := f.checkout("a", "master", "k pass", "k/j pass", "k/u fail", "k/v fail")
	b := f.checkout("b", "master", "k pass", "k/j fail", "k/u pass", "k/v fail")
	f.handle(a)
	f.handle(b)
	f.want(b, "new k/j; active ; fixed ")
	mending := f.patchset("p", b, "k pass", "k/j pass", "k/u fail", "k/v fail")
	f.handle(mending)
	f.want(mending, "new patchset/k/u; active ; fixed ") // v failed on its checkout too, j is not mended in the tree
	c := f.checkout("c", "master", "k pass", "k/j fail", "k/u fail", "k/v fail")
	f.handle(c)
	f.want(c, "new k/u; active k/j; fixed ")
}

func TestWhatAPersonAskedForIsNoPartOfTheHistory(t *testing.T) {
	f := newFixture(t)
	f.handle(f.checkout("a", "master", "k fail"))
	f.as("user:dev@example.org", "checkout", "")
	older := f.checkout("older", "master", "k pass")
	f.handle(older)
	f.as("", "checkout", "")
	b := f.checkout("b", "master", "k fail")
	f.handle(b)
	f.want(b, "new ; active ; fixed ")
}

func TestALastingRegressionIsOneNode(t *testing.T) {
	f := newFixture(t)
	f.handle(f.checkout("a", "master", "k pass"))
	for i := range 5 {
		f.handle(f.checkout(fmt.Sprint("b", i), "master", "k fail"))
	}
	list := f.regressions()
	if len(list) != 1 || len(list[0].Data["node_sequence"].([]any)) != 4 {
		t.Errorf("%+v", list)
	}
}

func TestTwiceAndAtOnceGiveTheSame(t *testing.T) {
	f := newFixture(t)
	f.handle(f.checkout("a", "master", "k pass", "k/j pass", "k/i pass"))
	f.handle(f.checkout("b", "master", "k pass", "k/j fail", "k/i pass"))
	c := f.checkout("c", "master", "k pass", "k/j pass", "k/i fail")
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if err := f.fn.Handle(t.Context(), f.event(c)); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	f.handle(c)
	f.want(c, "new k/i; active ; fixed k/j")
	if n := len(f.regressions()); n != 2 {
		t.Errorf("%d regressions", n)
	}
}

func TestACrashBetweenFindingAndApplyingIsMended(t *testing.T) {
	f := newFixture(t)
	f.handle(f.checkout("a", "master", "k pass"))
	f.handle(f.checkout("b", "master", "k fail"))
	c := f.checkout("c", "master", "k pass")
	f.handle(c)
	r := f.regressions()[0]
	_, err := f.store.Update(t.Context(), r.ID, func(r *node.Node) error { r.Result = node.Fail; return nil })
	check(t, err)
	f.handle(c)
	if r := f.regressions()[0]; r.Result != node.Pass {
		t.Errorf("%+v", r)
	}
}

func TestACheckoutThatIsNotDoneWaits(t *testing.T) {
	f := newFixture(t)
	n := node.Node{ID: node.DeriveID("", "x"), Kind: node.KindCheckout, Name: "checkout", Path: []string{"checkout"}, TreeID: "x"}
	check(t, n.SetRevision(node.Revision{Tree: "mainline", URL: "https://git.example.org/x", Branch: "b", Commit: "c"}))
	n, err := f.store.Create(t.Context(), n)
	check(t, err)
	f.handle(n)
	if n, err := f.store.Get(t.Context(), n.ID); err != nil || n.Data["regressions"] != nil {
		t.Errorf("%+v, %v", n, err)
	}
}
