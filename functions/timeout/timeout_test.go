package timeout_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/functions/timeout"
	"github.com/kernelflow/kernelflow/shared/errs"
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
	tree  string
	ids   map[string]node.ID
}

func newFixture(t *testing.T) *fixture {
	f := &fixture{t: t, now: start, tree: "t", ids: map[string]node.ID{}}
	st, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "x.db"), Now: func() time.Time { return f.now }})
	check(t, err)
	t.Cleanup(func() { check(t, st.Close()) })
	f.store = st
	return f
}

// add stores a node: "name < parent kind state", scheduled as far as its state
// asks for unless the line ends in "unscheduled".
func (f *fixture) add(line string) {
	f.t.Helper()
	var name, parent, kind, state, rest string
	_, err := fmt.Sscanf(line, "%s < %s %s %s", &name, &parent, &kind, &state)
	check(f.t, err)
	if strings.HasSuffix(line, "unscheduled") {
		rest = "unscheduled"
	}
	n := node.Node{
		ID: node.DeriveID("", name), Kind: node.Kind(kind), Name: name, Path: []string{name}, Parent: f.ids[parent], TreeID: f.tree,
		State: node.State(state), Timeout: start.Add(6 * time.Hour), Data: map[string]any{},
	}
	if n.State == node.Available || n.State == node.Closing {
		n.Holdoff, n.Result = start.Add(10*time.Minute), node.Pass
	}
	if kind == "checkout" || kind == "kbuild" {
		check(f.t, n.SetRevision(node.Revision{Tree: "x", URL: "https://git.example.org/x", Branch: "b", Commit: "c"}))
	}
	if rest == "" {
		n.SetScheduled(node.Available)
		n.SetScheduled(node.Done)
	}
	f.ids[name] = n.ID
	_, err = f.store.Create(f.t.Context(), n)
	check(f.t, err)
}

func (f *fixture) tick() {
	f.t.Helper()
	fn, err := timeout.New(timeout.Options{Store: f.store, Now: func() time.Time { return f.now }, Log: slog.New(slog.DiscardHandler)})
	check(f.t, err)
	check(f.t, fn.Tick(f.t.Context()))
}

// states lists what is there, by name.
func (f *fixture) states(names ...string) string {
	f.t.Helper()
	var out []string
	for _, name := range names {
		n, err := f.store.Get(f.t.Context(), f.ids[name])
		check(f.t, err)
		out = append(out, name+" "+string(n.State))
	}
	return strings.Join(out, ", ")
}

func (f *fixture) want(states string) {
	f.t.Helper()
	var names []string
	for part := range strings.SplitSeq(states, ", ") {
		name, _, _ := strings.Cut(part, " ")
		names = append(names, name)
	}
	if got := f.states(names...); got != states {
		f.t.Errorf("%s\nwant %s", got, states)
	}
}

func TestALapsedTimeoutEndsANode(t *testing.T) {
	f := newFixture(t)
	f.add("c < - checkout available")
	f.add("j < c job running")
	f.add("d < c job done")
	f.now = start.Add(6*time.Hour + time.Second)
	f.tick()
	f.want("c done, j done, d done")
	n, err := f.store.Get(t.Context(), f.ids["j"])
	check(t, err)
	if n.Result != node.Incomplete || n.Text("error_code") != "node_timeout" || !strings.Contains(n.Text("error_msg"), "2025-01-12T14:00:00") {
		t.Errorf("%s %v", n.Result, n.Data)
	}
	if c, err := f.store.Get(t.Context(), f.ids["c"]); err != nil || c.Result != node.Pass || c.Text("error_code") != "node_timeout" {
		t.Errorf("a node that had a result: %+v, %v", c, err)
	}
	if d, err := f.store.Get(t.Context(), f.ids["d"]); err != nil || d.Text("error_code") != "" {
		t.Errorf("a node that was done: %+v, %v", d, err)
	}
}

func TestAnAvailableNodeClosesAfterItsHoldoff(t *testing.T) {
	for name, tc := range map[string]struct {
		nodes []string
		after time.Duration
		want  string
	}{
		"before":                         {[]string{"c < - checkout available"}, 9 * time.Minute, "c available"},
		"nothing below":                  {[]string{"c < - checkout available"}, 11 * time.Minute, "c done"},
		"all below is done":              {[]string{"c < - checkout available", "j < c job done"}, 11 * time.Minute, "c done, j done"},
		"a job runs":                     {[]string{"c < - checkout available", "j < c job running"}, 11 * time.Minute, "c closing, j running"},
		"deep below something runs":      {[]string{"c < - checkout available", "k < c kbuild done", "j < k job done", "t < j test running"}, 11 * time.Minute, "c closing"},
		"closing, nothing runs any more": {[]string{"c < - checkout closing", "k < c kbuild done"}, 11 * time.Minute, "c done"},
		"closing, something runs":        {[]string{"c < - checkout closing", "k < c kbuild running"}, 11 * time.Minute, "c closing"},
		"another node's child runs":      {[]string{"c < - checkout available", "k < c kbuild available", "o < c kbuild available", "j < o job running"}, 11 * time.Minute, "c closing, k done, o closing"},
		"jobs are still to come":         {[]string{"c < - checkout available unscheduled"}, 11 * time.Minute, "c closing"},
		"jobs below are still to come":   {[]string{"c < - checkout available", "k < c kbuild done unscheduled"}, 11 * time.Minute, "c closing"},
		"but not for ever":               {[]string{"c < - checkout available unscheduled"}, 41 * time.Minute, "c done"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			for _, line := range tc.nodes {
				f.add(line)
			}
			f.now = start.Add(tc.after)
			f.tick()
			f.want(tc.want)
		})
	}
}

func TestNodesWithoutATreeWaitForTheirOwnChildren(t *testing.T) {
	f := newFixture(t)
	f.tree = ""
	f.add("a < - checkout available")
	f.add("b < - checkout available")
	f.add("c < - checkout available")
	f.add("j < b job running")
	f.now = start.Add(11 * time.Minute)
	f.tick()
	f.want("a done, b closing, c done")
}

func TestTroubleWithOneNodeDoesNotStopTheOthers(t *testing.T) {
	f := newFixture(t)
	for _, line := range []string{"a < - checkout available", "b < - checkout available", "c < - checkout available"} {
		f.add(line)
	}
	f.now = start.Add(11 * time.Minute)
	broken := &trouble{Store: f.store, with: f.ids["a"]}
	fn, err := timeout.New(timeout.Options{Store: broken, Now: func() time.Time { return f.now }, Log: slog.New(slog.DiscardHandler)})
	check(t, err)
	if err := fn.Tick(t.Context()); !errors.Is(err, errs.Temporary) || !strings.Contains(err.Error(), string(f.ids["a"])) {
		t.Errorf("%v", err)
	}
	f.want("a available, b done, c done")
	f.tick()
	f.want("a done")
}

// trouble is a store that cannot write one node.
type trouble struct {
	store.Store
	with node.ID
}

func (s *trouble) Update(ctx context.Context, id node.ID, change func(*node.Node) error, opts ...store.Option) (node.Node, error) {
	if id == s.with {
		return node.Node{}, errs.New(errs.Temporary, "the disk is busy")
	}
	return s.Store.Update(ctx, id, change, opts...)
}

func TestANodeThatMovedOnIsLeftAlone(t *testing.T) {
	f := newFixture(t)
	f.add("c < - checkout available")
	f.add("j < c job running")
	f.now = start.Add(7 * time.Hour)
	overtaken := &faster{Store: f.store, t: t}
	fn, err := timeout.New(timeout.Options{Store: overtaken, Now: func() time.Time { return f.now }, Log: slog.New(slog.DiscardHandler)})
	check(t, err)
	check(t, fn.Tick(t.Context()))
	j, err := f.store.Get(t.Context(), f.ids["j"])
	check(t, err)
	if j.Result != node.Pass || j.Text("error_code") != "" {
		t.Errorf("%+v", j)
	}
}

// faster ends each job with a pass just before anybody else writes it.
type faster struct {
	store.Store
	t *testing.T
}

func (s *faster) Update(ctx context.Context, id node.ID, change func(*node.Node) error, opts ...store.Option) (node.Node, error) {
	_, err := s.Store.Update(ctx, id, func(n *node.Node) error {
		if n.Kind == node.KindJob {
			n.State, n.Result = node.Done, node.Pass
		}
		return nil
	})
	check(s.t, err)
	return s.Store.Update(ctx, id, change, opts...)
}

func TestATreeClosesFromBelow(t *testing.T) {
	f := newFixture(t)
	f.add("c < - checkout available")
	f.add("k < c kbuild available")
	f.add("j < k job running")
	f.now = start.Add(11 * time.Minute)
	f.tick()
	f.want("c closing, k closing, j running")
	_, err := f.store.Update(t.Context(), f.ids["j"], func(n *node.Node) error { n.State, n.Result = node.Done, node.Pass; return nil })
	check(t, err)
	f.tick()
	f.tick()
	f.want("c done, k done, j done")
}

func TestTwoInstancesCloseEachNodeOnce(t *testing.T) {
	f := newFixture(t)
	f.add("c < - checkout available")
	for i := range 40 {
		f.add(fmt.Sprintf("k%d < c kbuild available", i))
	}
	f.now = start.Add(11 * time.Minute)
	var group sync.WaitGroup
	for range 4 {
		group.Go(f.tick)
	}
	group.Wait()
	f.tick()
	f.want("c done, k0 done, k39 done")
	events, _, err := f.store.After(t.Context(), 0, event.Filter{Channel: event.ChannelNode, Ops: []event.Op{event.Updated}}, 1000)
	check(t, err)
	ends := map[node.ID]int{}
	for _, e := range events {
		p, err := e.Node()
		check(t, err)
		if p.State == node.Done {
			ends[p.ID]++
		}
	}
	for id, times := range ends {
		if times != 1 {
			t.Errorf("node %s was ended %d times", id, times)
		}
	}
	if len(ends) != 41 {
		t.Errorf("%d nodes were ended", len(ends))
	}
}

func TestACheckoutWaitsForTheRetriesOfItsJobs(t *testing.T) {
	f := newFixture(t)
	f.add("c < - checkout available")
	f.add("j < c job done")
	set := func(change func(*node.Node)) {
		_, err := f.store.Update(t.Context(), f.ids["j"], func(n *node.Node) error { change(n); return nil }, store.Silent)
		check(t, err)
	}
	set(func(n *node.Node) { n.Result = node.Incomplete })
	f.now = start.Add(11 * time.Minute)
	f.tick()
	f.tick()
	f.want("c closing, j done")
	set((*node.Node).SetRetried)
	f.tick()
	f.want("c done, j done")
}
