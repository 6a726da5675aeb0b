package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
)

func (s *suite) testTheLogIsDenseAndInOrder(t *testing.T) {
	first, second := s.pair(t)
	const writers = 8
	each := s.scale(100)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	read := make(chan []event.Event)
	go func() { read <- follow(t, ctx, second, writers*each) }()
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			st := []store.Store{first, second}[w%2]
			for i := range each {
				if _, err := st.Create(ctx, Checkout(1+w*each+i)); err != nil {
					t.Error(err)
					return
				}
				if _, err := st.Collect(ctx); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if t.Failed() {
		cancel()
	}
	events := <-read
	if len(events) != writers*each || !dense(events, 1) {
		t.Errorf("read %d of %d events, sequences %v", len(events), writers*each, sequences(events))
	}
	last, err := first.LastSequence(t.Context())
	if err != nil || last != int64(writers*each) {
		t.Errorf("last sequence %d: %v", last, err)
	}
}

// follow reads the log as it grows, each time from where it has come.
func follow(t *testing.T, ctx context.Context, st store.Events, want int) []event.Event {
	var all []event.Event
	looked := int64(0)
	for len(all) < want && ctx.Err() == nil {
		events, to, err := st.After(ctx, looked, event.Filter{}, 50)
		if err != nil {
			if ctx.Err() == nil {
				t.Error(err)
			}
			return all
		}
		all, looked = append(all, events...), to
	}
	return all
}

func (s *suite) testAfterTellsHowFarItLooked(t *testing.T) {
	st := s.open(t)
	for i := range 5 {
		create(t, st, Checkout(i+1))
	}
	logged(t, st)
	events, looked, err := st.After(t.Context(), 1, event.Filter{Kinds: []node.Kind{node.KindJob}}, 3)
	if err != nil || len(events) != 0 || looked <= 1 || looked > 5 {
		t.Errorf("none passes: %d events, looked to %d: %v", len(events), looked, err)
	}
	events, looked, err = st.After(t.Context(), 1, event.Filter{Kinds: []node.Kind{node.KindCheckout}}, 3)
	if err != nil || !dense(events, 2) || len(events) != 3 || looked != 4 {
		t.Errorf("a full answer: %v, looked to %d: %v", sequences(events), looked, err)
	}
	events, looked, err = st.After(t.Context(), 3, event.Filter{Channel: event.ChannelNode}, 100)
	if err != nil || !dense(events, 4) || len(events) != 2 || looked != 5 {
		t.Errorf("%v, looked to %d: %v", sequences(events), looked, err)
	}
	events, looked, err = st.After(t.Context(), 0, event.Filter{Channel: event.ChannelNode, Owner: "eve"}, 100)
	if err != nil || len(events) != 0 || looked != 5 {
		t.Errorf("of another owner: %v, looked to %d: %v", sequences(events), looked, err)
	}
	events, looked, err = st.After(t.Context(), 2, event.Filter{Channel: event.ChannelNode, Owner: "admin"}, 1)
	if err != nil || !dense(events, 3) || len(events) != 1 || looked != 3 {
		t.Errorf("the next of an owner: %v, looked to %d: %v", sequences(events), looked, err)
	}
	events, looked, err = st.After(t.Context(), 5, event.Filter{}, 100)
	if err != nil || len(events) != 0 || looked != 5 {
		t.Errorf("at the end: %d events, looked to %d: %v", len(events), looked, err)
	}
}

func published(n int) event.Event {
	return event.Event{
		ID: fmt.Sprintf("00000000-0000-4000-8000-%012d", n), Channel: "custom", Type: event.DefaultType, Source: event.DefaultSource,
		Time: start, Owner: "bob", Attributes: map[string]string{"color": "blue"}, Data: json.RawMessage(`{"n":1}`),
	}
}

func (s *suite) testAnEventIsLoggedOnce(t *testing.T) {
	st := s.open(t)
	for range 2 {
		if err := st.Append(t.Context(), published(1), published(2)); err != nil {
			t.Fatal(err)
		}
	}
	events := logged(t, st)
	if len(events) != 2 || !dense(events, 1) {
		t.Fatalf("sequences %v", sequences(events))
	}
	want := published(2)
	want.Sequence = 2
	if asJSON(t, events[1]) != asJSON(t, want) {
		t.Errorf("got  %s\nwant %s", asJSON(t, events[1]), asJSON(t, want))
	}
}

func (s *suite) testHistory(t *testing.T) {
	st := s.open(t)
	create(t, st, Checkout(1))
	s.clock.advance()
	middle := s.clock.time()
	job := Job(2, ID(1))
	job.Created, job.Updated, job.Group, job.Owner = middle, middle, "ktest", "bob"
	create(t, st, job)
	update(t, st, ID(2), func(n *node.Node) { n.State, n.Result = node.Done, node.Fail })
	if err := st.Append(t.Context(), published(1)); err != nil {
		t.Fatal(err)
	}
	all := logged(t, st)
	at := all[1].Time
	for name, tc := range map[string]struct {
		history store.History
		want    string
	}{
		"everything":    {store.History{}, "1 4 2 3"},
		"from":          {store.History{From: start, Channel: "node"}, "2 3"},
		"from a place":  {store.History{From: at, FromSequence: 2}, "3"},
		"from is after": {store.History{From: at}, ""},
		"channel":       {store.History{Channel: "custom"}, "4"},
		"owner":         {store.History{Owner: "bob"}, "4 2 3"},
		"kind":          {store.History{Kind: node.KindJob}, "2 3"},
		"state":         {store.History{State: node.Done}, "3"},
		"result":        {store.History{Result: node.Fail}, "3"},
		"op":            {store.History{Op: event.Created}, "1 2"},
		"name":          {store.History{Name: "ktest"}, "2 3"},
		"group":         {store.History{Group: "ktest"}, "2 3"},
		"path":          {store.History{PathRe: `^checkout\.kt`}, "2 3"},
		"node":          {store.History{NodeID: ID(1)}, "1"},
		"keys":          {store.History{Keys: []node.ID{all[0].Key(), all[3].Key(), ID(1)}}, "1 4"},
		"limit":         {store.History{Limit: 2}, "1 4"},
		"all at once": {store.History{From: start, FromSequence: 1, Channel: "node", Owner: "bob", Kind: node.KindJob, State: node.Done, Result: node.Fail,
			Op: event.Updated, Name: "ktest", Group: "ktest", PathRe: "k", NodeID: ID(2), Keys: []node.ID{all[2].Key()}, Limit: 5}, "3"},
		"nothing there": {store.History{Name: "none"}, ""},
	} {
		events, err := st.History(t.Context(), tc.history)
		if got := strings.Trim(fmt.Sprint(sequences(events)), "[]"); err != nil || got != tc.want {
			t.Errorf("%s: %q, want %q: %v", name, got, tc.want, err)
		}
	}
	if _, err := st.History(t.Context(), store.History{PathRe: "("}); !errors.Is(err, errs.Invalid) {
		t.Errorf("a broken expression: %v", err)
	}
}

func (s *suite) testLargeEvents(t *testing.T) {
	st := s.open(t)
	const total = 4
	for n := range total {
		e := published(n + 1)
		e.Data = json.RawMessage(`"` + strings.Repeat("x", 3<<20) + `"`)
		if err := st.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	var looked, last int64
	for calls := 0; looked < total; calls++ {
		events, to, err := st.After(t.Context(), looked, event.Filter{}, 100)
		if err != nil || len(events) == 0 || len(events) == total || !dense(events, looked+1) || to != events[len(events)-1].Sequence {
			t.Fatalf("after %d: %v, looked to %d: %v", looked, sequences(events), to, err)
		}
		looked = to
	}
	for last < total {
		h := store.History{Limit: 100}
		if last > 0 {
			h.From, h.FromSequence = start, last
		}
		events, err := st.History(t.Context(), h)
		if err != nil || len(events) == 0 || len(events) == total || !dense(events, last+1) {
			t.Fatalf("history from %d: %v: %v", last, sequences(events), err)
		}
		last = events[len(events)-1].Sequence
	}
}

func (s *suite) testPrune(t *testing.T) {
	st := s.open(t)
	for i := range 5 {
		create(t, st, Checkout(i+1))
	}
	logged(t, st)
	if n, err := st.Prune(t.Context(), start, 100); n != 0 || err != nil {
		t.Errorf("pruned %d events that are not old: %v", n, err)
	}
	if n, err := st.Prune(t.Context(), start.Add(time.Second), 3); n != 3 || err != nil {
		t.Errorf("pruned %d of a batch of 3: %v", n, err)
	}
	if n, err := st.Prune(t.Context(), start.Add(time.Second), 100); n != 2 || err != nil {
		t.Errorf("pruned %d of the 2 left: %v", n, err)
	}
	create(t, st, Checkout(6))
	if events := logged(t, st); len(events) != 1 || events[0].Sequence != 6 {
		t.Errorf("after pruning, sequences %v", sequences(events))
	}
}
