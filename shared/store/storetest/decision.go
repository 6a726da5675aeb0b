package storetest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
)

// decided is the n-th decision, n minutes after start.
func decided(n int, of node.ID) store.Decided {
	return store.Decided{Event: fmt.Sprintf("event-%02d", n), Node: of, Time: start.Add(time.Duration(n) * time.Minute), Body: fmt.Appendf(nil, "\x00\xff%d", n)}
}

// eventsOf lists the events of a page.
func eventsOf(page []store.Decided) string {
	names := make([]string, len(page))
	for i, d := range page {
		names[i] = strings.TrimPrefix(d.Event, "event-")
	}
	return strings.Join(names, " ")
}

func (s *suite) testDecisionsAreFoundNewestFirst(t *testing.T) {
	st := s.Open(t, s.clock.time)()
	for _, n := range []int{3, 1, 5, 2} {
		if err := st.PutDecided(t.Context(), decided(n, ID(1))); err != nil {
			t.Fatal(err)
		}
	}
	if err := st.PutDecided(t.Context(), decided(4, ID(2))); err != nil {
		t.Fatal(err)
	}
	again := decided(2, ID(1))
	again.Time, again.Body = again.Time.Add(time.Hour), []byte("again")
	if err := st.PutDecided(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		of            node.ID
		limit, offset int
		want          string
		total         int64
	}{
		{ID(1), 10, 0, "02 05 03 01", 4},
		{ID(1), 2, 0, "02 05", 4},
		{ID(1), 2, 3, "01", 4},
		{ID(1), 2, 9, "", 4},
		{ID(1), 0, 0, "", 4},
		{ID(2), 10, 0, "04", 1},
		{ID(3), 10, 0, "", 0},
		{"no id", 10, 0, "", 0},
	} {
		page, total, err := st.FindDecided(t.Context(), tc.of, tc.limit, tc.offset)
		if err != nil || page == nil || eventsOf(page) != tc.want || total != tc.total {
			t.Errorf("of %s %d from %d: %q of %d, want %q of %d: %v", tc.of, tc.limit, tc.offset, eventsOf(page), total, tc.want, tc.total, err)
		}
	}
	page, _, err := st.FindDecided(t.Context(), ID(1), 1, 0)
	if err != nil || string(page[0].Body) != "again" || !page[0].Time.Equal(again.Time) || page[0].Node != ID(1) {
		t.Errorf("found %v, want %v: %v", page, again, err)
	}
}

func (s *suite) testPruneDecided(t *testing.T) {
	st := s.Open(t, s.clock.time)()
	for n := range 6 {
		if err := st.PutDecided(t.Context(), decided(n, ID(1))); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		before int
		limit  int
		want   int
		left   string
	}{
		{4, 0, 0, "05 04 03 02 01 00"},
		{4, 3, 3, "05 04 03"},
		{4, 3, 1, "05 04"},
		{4, 3, 0, "05 04"},
	} {
		n, err := st.PruneDecided(t.Context(), start.Add(time.Duration(tc.before)*time.Minute), tc.limit)
		page, _, found := st.FindDecided(t.Context(), ID(1), 10, 0)
		if err != nil || found != nil || n != tc.want || eventsOf(page) != tc.left {
			t.Errorf("pruned %d, want %d; left %q, want %q: %v, %v", n, tc.want, eventsOf(page), tc.left, err, found)
		}
	}
}
