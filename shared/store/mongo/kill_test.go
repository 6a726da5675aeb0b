package mongo_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
	"github.com/kernelflow/kernelflow/shared/store/mongo"
	"github.com/kernelflow/kernelflow/shared/store/mongo/mongotest"
	"github.com/kernelflow/kernelflow/shared/store/storetest"
)

// round is one job's way, each step as its caller would repeat it after a
// crash. It returns the first error that is not the mark of an earlier round.
func round(ctx context.Context, st store.Store) error {
	_, err := st.Create(ctx, storetest.Checkout(1))
	if err != nil && !errors.Is(err, errs.Conflict) {
		return err
	}
	_, err = st.Create(ctx, storetest.Job(2, storetest.ID(1)))
	if err != nil && !errors.Is(err, errs.Conflict) {
		return err
	}
	if _, err := st.PutHierarchy(ctx, storetest.ID(2), "r", results); err != nil {
		return err
	}
	_, err = st.Update(ctx, storetest.ID(1), func(n *node.Node) error { n.State = node.Done; return nil })
	if err != nil {
		return err
	}
	_, err = st.Collect(ctx)
	return err
}

func results(root *node.Node) ([]node.Node, error) {
	root.State, root.Result = node.Done, node.Pass
	return node.Hierarchy{Children: []node.Hierarchy{
		{Node: node.Node{Name: "one", Kind: node.KindTest}}, {Node: node.Node{Name: "two", Kind: node.KindTest}},
	}}.Descendants(*root, "r")
}

// cutter ends a context at the n-th command, before it is sent or after it was
// answered.
type cutter struct {
	mu     sync.Mutex
	left   int
	before bool
	cancel context.CancelFunc
}

func (c *cutter) count() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cancel == nil {
		return
	}
	if c.left--; c.left == 0 {
		c.cancel()
	}
}

func TestACallThatEndsAtAnyCommandLosesAndDoublesNothing(t *testing.T) {
	for server, uri := range map[string]string{"one that stands alone": mongotest.Start(t), "one with transactions": startSet(t, nil)} {
		for _, before := range []bool{true, false} {
			for at := 1; ; at++ {
				if !cutAt(t, uri, before, at) {
					t.Logf("%s: before=%t: %d commands", server, before, at-1)
					break
				}
			}
		}
	}
}

// cutAt runs a round that ends at one command, then a whole one, and says
// whether the first one had so many commands.
func cutAt(t *testing.T, uri string, before bool, at int) (reached bool) {
	t.Helper()
	ctx := t.Context()
	c := &cutter{left: at, before: before}
	o := mongo.Options{URI: uri, Database: fmt.Sprintf("cut_%t_%d", before, at), Now: clockAt(start)}
	first, err := mongo.OpenWatched(ctx, o,
		func(string) {
			if before {
				c.count()
			}
		},
		func(string) {
			if !before {
				c.count()
			}
		})
	if err != nil {
		t.Fatal(err)
	}
	cut, cancel := context.WithCancel(ctx)
	defer cancel()
	c.mu.Lock()
	c.cancel = cancel
	c.mu.Unlock()
	err = round(cut, first)
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("before=%t, command %d: %v, want the context's error", before, at, err)
	}
	reached = cut.Err() != nil
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	second := open(t, o)
	if err := round(ctx, second); err != nil {
		t.Errorf("before=%t, command %d: the second round: %v", before, at, err)
	}
	checkLog(t, second, fmt.Sprintf("before=%t, command %d", before, at))
	return reached
}

// checkLog says whether the log has an event of each write, once and in order.
func checkLog(t *testing.T, st *mongo.Store, when string) {
	t.Helper()
	ctx := t.Context()
	events, _, err := st.After(ctx, 0, event.Filter{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	count, hierarchies := map[node.ID]int64{}, 0
	for i, e := range events {
		p, err := e.Node()
		if err != nil || e.Sequence != int64(i)+1 {
			t.Errorf("%s: event %d has sequence %d: %v", when, i, e.Sequence, err)
		}
		if created := p.Op == event.Created; created != (count[p.ID] == 0) {
			t.Errorf("%s: event %d of node %s is %s", when, count[p.ID]+1, p.ID, p.Op)
		}
		if count[p.ID]++; p.IsHierarchy {
			hierarchies++
		}
	}
	for _, id := range []node.ID{storetest.ID(1), storetest.ID(2)} {
		if rev, err := st.Revision(ctx, id); err != nil || rev != count[id] {
			t.Errorf("%s: %d writes to %s, %d events: %v", when, rev, id, count[id], err)
		}
	}
	tests, err := st.Count(ctx, node.Where("kind", node.KindTest))
	if hierarchies != 1 || tests != 2 || err != nil {
		t.Errorf("%s: %d events of a hierarchy, %d tests: %v", when, hierarchies, tests, err)
	}
	if n, err := st.Collect(ctx); n != 0 || err != nil {
		t.Errorf("%s: %d events were left: %v", when, n, err)
	}
}

var start = time.Date(2025, 1, 12, 8, 0, 0, 123_456_000, time.UTC)

func clockAt(at time.Time) func() time.Time { return func() time.Time { return at } }

func TestEventsOfANodeStayInOrderWhateverTheClocksSay(t *testing.T) {
	uri := mongotest.Start(t)
	early := open(t, mongo.Options{URI: uri, Database: "clocks", Now: clockAt(start)})
	late := open(t, mongo.Options{URI: uri, Database: "clocks", Now: clockAt(start.Add(time.Hour))})
	if _, err := late.Create(t.Context(), storetest.Checkout(1)); err != nil {
		t.Fatal(err)
	}
	for i := range 6 {
		st := []store.Store{early, late}[i%2]
		if _, err := st.Update(t.Context(), storetest.ID(1), func(n *node.Node) error { n.Set("write", i+1); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := early.Collect(t.Context()); n != 7 || err != nil {
		t.Errorf("collected %d events: %v", n, err)
	}
	events, _, err := late.After(t.Context(), 0, event.Filter{}, 100)
	if err != nil || len(events) != 7 {
		t.Fatalf("%d events: %v", len(events), err)
	}
	for i, e := range events[1:] {
		if p, err := e.Node(); err != nil || p.Data["write"] != float64(i+1) {
			t.Errorf("event %d tells of write %v: %v", i+1, p.Data["write"], err)
		}
	}
}

func TestACrowdedOutboxIsEmptiedByTheWriter(t *testing.T) {
	st := open(t, mongo.Options{URI: mongotest.Start(t), Database: "crowded", Now: clockAt(start)})
	if _, err := st.Create(t.Context(), storetest.Checkout(1)); err != nil {
		t.Fatal(err)
	}
	for range 40 {
		if _, err := st.Update(t.Context(), storetest.ID(1), func(n *node.Node) error { n.RetryCounter++; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if last, err := st.LastSequence(t.Context()); err != nil || last < 32 {
		t.Errorf("%d events in the log of 41 writes: %v", last, err)
	}
}
