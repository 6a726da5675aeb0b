package retry_test

import (
	"encoding/json"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/functions/retry"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store/sqlite"
)

var start = time.Date(2025, 1, 12, 8, 0, 0, 0, time.UTC)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// world is a checkout with a build in a store, and the function on it.
type world struct {
	t        *testing.T
	store    *sqlite.Store
	fn       *retry.Function
	checkout node.Node
	build    node.Node
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t}
	var err error
	w.store, err = sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "x.db"), Now: func() time.Time { return start }})
	check(t, err)
	t.Cleanup(func() { check(t, w.store.Close()) })
	w.fn, err = retry.New(retry.Options{Store: w.store, Owner: "admin", Now: func() time.Time { return start }, Log: slog.New(slog.DiscardHandler)})
	check(t, err)
	w.checkout = w.add(node.Node{}, node.KindCheckout, "checkout", func(n *node.Node) { n.State = node.Available })
	w.build = w.add(w.checkout, node.KindKbuild, "kbuild", func(n *node.Node) { n.State, n.Result = node.Available, node.Pass })
	return w
}

func (w *world) add(parent node.Node, kind node.Kind, name string, more func(*node.Node)) node.Node {
	w.t.Helper()
	n := node.Node{
		ID: node.DeriveID(parent.ID, name), Kind: kind, Name: name, Path: append(slices.Clip(parent.Path), name), Parent: parent.ID, TreeID: "t1",
		State: node.Done, Result: node.Incomplete, Owner: "admin", Data: map[string]any{"runtime": "lab", "platform": "board"},
	}
	check(w.t, n.SetRevision(node.Revision{Tree: "x", URL: "https://git.example.org/x", Branch: "b", Commit: "c"}))
	more(&n)
	n, err := w.store.Create(w.t.Context(), n)
	check(w.t, err)
	return n
}

func as(*node.Node) {}

// handle gives the function an event of n, twice, and returns the requests.
func (w *world) handle(n node.Node) []event.Event {
	w.t.Helper()
	e, err := event.OfUpdated(n, n, 2, false)
	check(w.t, err)
	for range 2 {
		check(w.t, w.fn.Handle(w.t.Context(), e))
	}
	list, _, err := w.store.After(w.t.Context(), 0, event.Filter{Channel: event.ChannelRetry}, 100)
	check(w.t, err)
	return list
}

func TestAnIncompleteJobIsAskedForOnce(t *testing.T) {
	w := newWorld(t)
	job := w.add(w.build, node.KindJob, "ktest", func(n *node.Node) {
		n.RetryCounter = 1
		n.SetRetryOf("65f0000000000000000000a1", "65f0000000000000000000a0")
	})
	requests := w.handle(job)
	if len(requests) != 1 || requests[0].Owner != "admin" || requests[0].TreeID != "t1" {
		t.Fatalf("%+v", requests)
	}
	ev, err := requests[0].Node()
	check(t, err)
	if ev.ID != w.build.ID || ev.State != node.Available || ev.RetryCounter != 2 || !slices.Equal(ev.JobFilter, []string{"ktest"}) || ev.PreviousState != nil {
		t.Errorf("%+v", ev)
	}
	asked, err := requests[0].Request()
	check(t, err)
	if asked.By != job.ID || asked.First != "65f0000000000000000000a0" || asked.Runtime != "lab" || !slices.Equal(asked.Platforms, []string{"board"}) {
		t.Errorf("%+v", asked)
	}
}

func TestEachJobIsAskedOfTheNodeThatStartedIt(t *testing.T) {
	w := newWorld(t)
	for name, n := range map[string]node.Node{
		"checkout": w.add(w.checkout, node.KindKbuild, "broken", as),
		"kbuild":   w.add(w.build, node.KindJob, "baseline-arm", func(n *node.Node) { n.Result = node.Fail }),
	} {
		requests := w.handle(n)
		var said struct{ Name, ID string }
		check(t, json.Unmarshal(requests[len(requests)-1].Data, &said))
		if said.Name != name || said.ID != string(n.Parent) {
			t.Errorf("%s is asked of %+v", n.Name, said)
		}
	}
}

func TestNothingElseIsAskedFor(t *testing.T) {
	w := newWorld(t)
	over := w.add(node.Node{}, node.KindCheckout, "over", as)
	for name, n := range map[string]node.Node{
		"passed":             w.add(w.build, node.KindJob, "a", func(n *node.Node) { n.Result = node.Pass }),
		"failed":             w.add(w.build, node.KindJob, "b", func(n *node.Node) { n.Result = node.Fail }),
		"tried three times":  w.add(w.build, node.KindJob, "c", func(n *node.Node) { n.RetryCounter = 3 }),
		"tried again":        w.add(w.build, node.KindJob, "d", func(n *node.Node) { n.SetRetried() }),
		"a test":             w.add(w.build, node.KindTest, "e", as),
		"of a done checkout": w.add(w.add(over, node.KindKbuild, "k", as), node.KindJob, "f", as),
		"a root":             w.add(node.Node{}, node.KindJob, "g", as),
		"gone":               {ID: "65f0000000000000000000ff", Kind: node.KindJob, Name: "h", State: node.Done},
	} {
		if requests := w.handle(n); len(requests) != 0 {
			t.Errorf("%s: %+v", name, requests)
		}
	}
}

func TestNewNamesWhatIsMissing(t *testing.T) {
	if _, err := retry.New(retry.Options{}); err == nil {
		t.Error("no error")
	}
}
