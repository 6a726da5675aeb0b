package storetest

import (
	"errors"
	"strings"
	"testing"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
)

// pages reads all pages of q, calling between after each.
func pages(t *testing.T, st store.Store, q node.Query, between func(page int)) []node.Node {
	t.Helper()
	var all []node.Node
	for page := 1; ; page++ {
		nodes, next, err := st.Page(t.Context(), q)
		if err != nil {
			t.Fatalf("page %d behind %q: %v", page, q.After, err)
		}
		if nodes == nil || len(nodes) > q.Limit {
			t.Fatalf("page %d has %d nodes, nil is %t", page, len(nodes), nodes == nil)
		}
		all = append(all, nodes...)
		if next == "" {
			return all
		}
		if q.After = next; page > 1000 {
			t.Fatal("the pages do not end")
		}
		between(page)
	}
}

func (s *suite) testAPageBeginsWhereTheOneBeforeEnded(t *testing.T) {
	st := s.open(t)
	for _, n := range varied(max(s.scale(100), 20)) {
		create(t, st, n)
	}
	for _, q := range []node.Query{
		{}, {Newest: true}, node.Where("kind", node.KindTest), node.Where("kind", node.KindTest, node.KindKbuild),
		node.Where("state", node.Done).And("result", node.Pass), node.Query{}.Cond("name", node.Re, "^base"),
		node.Query{}.Cond("data.value", node.Re, "^[ab]$"), node.Where("path", "kbuild-gcc"), node.Where("treeid", "none"),
		{Where: node.Where("kind", node.KindTest).Where, Newest: true},
	} {
		want, err := st.Find(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, limit := range []int{1, 3, 1000} {
			q.Limit = limit
			if got := pages(t, st, q, func(int) {}); ids(got) != ids(want) {
				t.Errorf("%+v\n got %s\nwant %s", q, ids(got), ids(want))
			}
		}
	}
}

func (s *suite) testPagesMissNothingWhileNodesAreCreated(t *testing.T) {
	st := s.open(t)
	for i := range 6 {
		create(t, st, Checkout(i+1))
	}
	// Whoever goes on from a place sees what came meanwhile, once, at the end.
	made := 6
	got := pages(t, st, node.Query{Limit: 2}, func(page int) {
		if page <= 2 {
			made++
			create(t, st, Checkout(made))
		}
	})
	want := make([]node.Node, made)
	for i := range want {
		want[i].ID = ID(i + 1)
	}
	if ids(got) != ids(want) {
		t.Errorf("\n got %s\nwant %s", ids(got), ids(want))
	}
	// And in the other direction nothing shifts.
	backwards := pages(t, st, node.Query{Limit: 3, Newest: true}, func(page int) { create(t, st, Checkout(100+page)) })
	if len(backwards) != made {
		t.Errorf("backwards: %s", ids(backwards))
	}
}

func (s *suite) testAStrangePlaceIsRefused(t *testing.T) {
	st := s.open(t)
	create(t, st, Checkout(1))
	for _, after := range []string{"*", "-1", strings.Repeat("z", 100), "1-1", "\x00", "'; DROP TABLE node"} {
		if _, _, err := st.Page(t.Context(), node.Query{Limit: 1, After: after}); !errors.Is(err, errs.Invalid) {
			t.Errorf("%q: %v", after, err)
		}
	}
	if _, _, err := st.Page(t.Context(), node.Query{}); !errors.Is(err, errs.Invalid) {
		t.Errorf("without a limit: %v", err)
	}
}
