package storetest

import (
	"sync"
	"testing"

	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
)

func (s *suite) testMarkProcessed(t *testing.T) {
	st := s.open(t)
	ctx := t.Context()
	var ids []node.ID
	for n := 1; n <= 4; n++ {
		create(t, st, Checkout(n))
		ids = append(ids, ID(n))
	}
	update(t, st, ID(2), func(n *node.Node) { n.KCIDBProcessed = true }, store.Silent)
	before := len(logged(t, st))
	s.clock.advance()
	if err := st.MarkProcessed(ctx, append(ids[:3:3], ID(99)), true); err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{true, true, true, false} {
		n, err := st.Get(ctx, ids[i])
		if err != nil || n.KCIDBProcessed != want {
			t.Errorf("%s: %v, want %v: %v", n.ID, n.KCIDBProcessed, want, err)
		}
		if written := !n.Updated.Equal(start); written != (i == 0 || i == 2) {
			t.Errorf("%s: updated %s", n.ID, n.Updated)
		}
	}
	if found, err := st.Count(ctx, node.Where("processed_by_kcidb_bridge", true)); err != nil || found != 3 {
		t.Errorf("%d are found: %v", found, err)
	}
	if after := len(logged(t, st)); after != before {
		t.Errorf("%d events, want %d", after, before)
	}
	if err := st.MarkProcessed(ctx, nil, true); err != nil {
		t.Error(err)
	}
}

func (s *suite) testMarkProcessedLosesNoUpdate(t *testing.T) {
	first, second := s.pair(t)
	create(t, first, Checkout(1))
	create(t, first, Checkout(2))
	rounds := s.scale(100)
	var group sync.WaitGroup
	group.Go(func() {
		for i := range rounds {
			if err := first.MarkProcessed(t.Context(), []node.ID{ID(1), ID(2)}, i%2 == 0); err != nil {
				t.Error(err)
			}
		}
	})
	group.Go(func() {
		for range rounds {
			if _, err := second.Update(t.Context(), ID(1), func(n *node.Node) error { n.RetryCounter++; return nil }); err != nil {
				t.Error(err)
			}
		}
	})
	group.Wait()
	n, err := first.Get(t.Context(), ID(1))
	if err != nil || n.RetryCounter != rounds || n.KCIDBProcessed != (rounds%2 == 1) {
		t.Errorf("counter %d of %d, processed %v: %v", n.RetryCounter, rounds, n.KCIDBProcessed, err)
	}
}
