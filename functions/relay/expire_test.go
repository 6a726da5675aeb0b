package relay_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/functions/relay"
	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store/sqlite"
	"github.com/kernelflow/kernelflow/shared/telemetry"
)

// estate is a store in which time passes.
type estate struct {
	t   *testing.T
	st  *sqlite.Store
	now time.Time
}

func newEstate(t *testing.T) *estate {
	t.Helper()
	e := &estate{t: t, now: time.Date(2025, 1, 12, 8, 0, 0, 0, time.UTC)}
	st, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "x.db"), Now: func() time.Time { return e.now }})
	check(t, err)
	t.Cleanup(func() { check(t, st.Close()) })
	e.st = st
	return e
}

// add creates a node of that name, "/" parting it from what it is below; a
// checkout's branch is its name up to the first digit.
func (e *estate) add(name string, state node.State) {
	e.t.Helper()
	n := node.Node{ID: node.DeriveID("", name), Kind: node.KindJob, Name: name, Path: strings.Split(name, "/"), State: state, Data: map[string]any{}}
	if i := strings.LastIndex(name, "/"); i >= 0 {
		n.Parent = node.DeriveID("", name[:i])
	} else {
		n.Kind = node.KindCheckout
		check(e.t, n.SetRevision(node.Revision{Tree: "next", URL: "https://example.org/x.git", Branch: strings.TrimRight(name, "0123456789"), Commit: name}))
	}
	_, err := e.st.Create(e.t.Context(), n)
	check(e.t, err)
}

func (e *estate) names() string {
	e.t.Helper()
	list, err := e.st.Find(e.t.Context(), node.Query{})
	check(e.t, err)
	names := make([]string, len(list))
	for i, n := range list {
		names[i] = n.Name
	}
	return strings.Join(names, " ")
}

func (e *estate) relay(st relay.Store, nodes time.Duration) *relay.Function {
	e.t.Helper()
	f, err := relay.New(relay.Options{
		Store: st, Flush: func(context.Context) error { return nil }, Events: time.Hour, Telemetry: time.Hour, Schedule: time.Hour, Nodes: nodes,
		Now: func() time.Time { return e.now }, Log: slog.New(slog.DiscardHandler),
	})
	check(e.t, err)
	return f
}

func TestAnOldCheckoutGoesAsAWhole(t *testing.T) {
	e := newEstate(t)
	for _, name := range []string{"a1", "a1/build", "a1/build/test", "a1/build/test/case"} {
		e.add(name, node.Done)
	}
	e.add("b1", node.Done) // with a job that never ended
	e.add("b1/job", node.Running)
	e.add("c1", node.Done) // with a regression that lives on
	e.add("c1/job", node.Done)
	e.add("d1", node.Done) // the newest of its branch
	e.add("d1/job", node.Done)
	e.add("f1", node.Running)
	e.now = e.now.Add(time.Hour)
	for _, name := range []string{"a2", "b2", "c2", "f2"} {
		e.add(name, node.Done)
	}
	e.now = e.now.Add(24 * time.Hour)
	e.add("c1/job/regression", node.Done)
	e.add("a3", node.Done)
	all := e.names()

	check(t, e.relay(e.st, 0).Tick(t.Context()))
	if got := e.names(); got != all {
		t.Errorf("without a retention: %s, want %s", got, all)
	}
	f := e.relay(e.st, 12*time.Hour)
	for range 2 {
		check(t, f.Tick(t.Context()))
		if got, want := e.names(), "b1 b1/job c1 c1/job d1 d1/job f1 b2 c2 f2 c1/job/regression a3"; got != want {
			t.Errorf("left: %s, want %s", got, want)
		}
	}
}

// mortal is a store that a process uses which dies after some removals.
type mortal struct {
	*sqlite.Store
	left int
}

var errKilled = errs.New(errs.Temporary, "killed")

func (m *mortal) Remove(ctx context.Context, ids []node.ID) (int, error) {
	if m.left == 0 {
		return 0, errKilled
	}
	m.left--
	return m.Store.Remove(ctx, ids)
}

func TestKilledInBetweenNoNodeHasLostItsParent(t *testing.T) {
	e := newEstate(t)
	e.add("a1", node.Done)
	for i := range 3 {
		e.add(fmt.Sprintf("a1/job%d", i), node.Done)
		for j := range 150 {
			e.add(fmt.Sprintf("a1/job%d/case%d", i, j), node.Done)
		}
	}
	e.now = e.now.Add(time.Hour)
	e.add("a2", node.Done)
	e.now = e.now.Add(24 * time.Hour)
	deaths := 0
	for e.relay(&mortal{Store: e.st, left: 1}, 12*time.Hour).Tick(t.Context()) != nil {
		deaths++
		orphans := 0
		for n, err := range e.st.Each(t.Context(), node.Query{}) {
			check(t, err)
			if n.Parent != "" {
				if _, err := e.st.Get(t.Context(), n.Parent); err != nil {
					orphans++
				}
			}
		}
		if orphans > 0 || deaths > 10 {
			t.Fatalf("after death %d: %d orphans", deaths, orphans)
		}
	}
	if got := e.names(); got != "a2" || deaths < 3 {
		t.Errorf("left after %d deaths: %s", deaths, got)
	}
}

func TestOldTelemetryGoes(t *testing.T) {
	e := newEstate(t)
	var all []telemetry.Event
	for i := range 10 {
		all = append(all, telemetry.Event{ID: node.DeriveID("", fmt.Sprint(i)), Time: e.now.Add(time.Duration(i) * 20 * time.Minute),
			Texts: map[telemetry.Field]string{telemetry.Kind: telemetry.JobSkip}})
	}
	check(t, e.st.AddTelemetry(t.Context(), all))
	e.now = e.now.Add(2 * time.Hour)
	check(t, e.relay(e.st, 0).Tick(t.Context()))
	if n, err := e.st.CountTelemetry(t.Context(), telemetry.Filter{}); err != nil || n != 7 {
		t.Errorf("%d events are left, want 7: %v", n, err)
	}
}
