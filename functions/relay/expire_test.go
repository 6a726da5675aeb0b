package relay_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/functions/relay"
	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/storage/blob"
	"github.com/kernelflow/kernelflow/shared/store"
	"github.com/kernelflow/kernelflow/shared/store/sqlite"
	"github.com/kernelflow/kernelflow/shared/telemetry"
)

// estate is a store in which time passes.
type estate struct {
	t     *testing.T
	st    *sqlite.Store
	files *blob.Storage
	now   time.Time
}

func newEstate(t *testing.T) *estate {
	t.Helper()
	e := &estate{t: t, now: time.Date(2025, 1, 12, 8, 0, 0, 0, time.UTC)}
	st, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "x.db"), Now: func() time.Time { return e.now }})
	check(t, err)
	t.Cleanup(func() { check(t, st.Close()) })
	e.st = st
	e.files, err = blob.Open("file://"+t.TempDir(), "https://storage.example.org/files")
	check(t, err)
	t.Cleanup(func() { check(t, e.files.Close()) })
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
		Store: st, Storage: e.files, Flush: func(context.Context) error { return nil }, Events: time.Hour, Telemetry: time.Hour, Schedule: time.Hour, Nodes: nodes,
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

// keep uploads a file, which the node of that name has as an artifact then.
func (e *estate) keep(name, file string) {
	e.t.Helper()
	link, err := e.files.Upload(e.t.Context(), file, "", strings.NewReader("x"))
	check(e.t, err)
	_, err = e.st.Update(e.t.Context(), node.DeriveID("", name), func(n *node.Node) error {
		if n.Artifacts == nil {
			n.Artifacts = map[string]string{}
		}
		n.Artifacts[file] = link
		return nil
	})
	check(e.t, err)
}

func TestTheFilesOfANodeGoWithIt(t *testing.T) {
	e := newEstate(t)
	id := func(name string) string { return string(node.DeriveID("", name)) }
	e.add("a1", node.Done)
	e.add("a1/job", node.Done)
	e.keep("a1", id("a1")+"/linux \u00fc.tar.gz")
	e.keep("a1/job", id("a1/job")+"/log.txt.gz")
	e.keep("a1/job", "job-"+id("a1/job")+"/deep/er/log.txt")
	for i := range 250 {
		_, err := e.files.Upload(t.Context(), fmt.Sprintf("job-%s/dtbs/%d", id("a1/job"), i), "", strings.NewReader("x"))
		check(t, err)
	}
	e.now = e.now.Add(24 * time.Hour)
	e.add("a2", node.Done)
	e.keep("a2", id("a2")+"/linux.tar.gz")
	e.keep("a2", "patchset/someone/x.patch")
	_, err := e.st.Update(t.Context(), node.DeriveID("", "a2"), func(*node.Node) error { return nil })
	check(t, err)
	e.keep("a2", "top.txt")
	_, err = e.files.Upload(t.Context(), id("a1/jo")+"/others.txt", "", strings.NewReader("x"))
	check(t, err)
	e.now = e.now.Add(time.Hour)

	// Killed between the files and the node, the next run goes on.
	if err := e.relay(&mortal{Store: e.st}, 12*time.Hour).Tick(t.Context()); !errors.Is(err, errKilled) {
		t.Errorf("%v", err)
	}
	check(t, e.relay(e.st, 12*time.Hour).Tick(t.Context()))
	if got := e.names(); got != "a2" {
		t.Errorf("nodes left: %s", got)
	}
	found, err := e.files.List(t.Context(), "", "", 1000)
	check(t, err)
	var left []string
	for _, info := range found {
		left = append(left, info.Path)
	}
	want := []string{id("a2") + "/linux.tar.gz", id("a1/jo") + "/others.txt", "patchset/someone/x.patch", "top.txt"}
	slices.Sort(want)
	if !slices.Equal(left, want) {
		t.Errorf("files left: %q\nwant %q", left, want)
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

func TestOldDecisionsGo(t *testing.T) {
	e := newEstate(t)
	for i := range 10 {
		check(t, e.st.PutDecided(t.Context(), store.Decided{Event: fmt.Sprint(i), Node: node.DeriveID("", "a"), Time: e.now.Add(time.Duration(i) * 20 * time.Minute), Body: []byte("x")}))
	}
	e.now = e.now.Add(2 * time.Hour)
	check(t, e.relay(e.st, 0).Tick(t.Context()))
	if _, n, err := e.st.FindDecided(t.Context(), node.DeriveID("", "a"), 1, 0); err != nil || n != 7 {
		t.Errorf("%d decisions are left, want 7: %v", n, err)
	}
}
