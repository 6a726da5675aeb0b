package storetest

import (
	"errors"
	"testing"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
)

func (s *suite) testRemove(t *testing.T) {
	st := s.open(t)
	ctx := t.Context()
	create(t, st, Checkout(1))
	create(t, st, Job(2, ID(1)))
	create(t, st, Checkout(3))
	_, err := st.PutHierarchy(ctx, ID(2), "results", func(*node.Node) ([]node.Node, error) {
		below := Job(4, ID(2))
		below.Kind = node.KindTest
		return []node.Node{below}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	before := len(logged(t, st))
	for _, ids := range [][]node.ID{{ID(1)}, {ID(2), ID(1)}, {ID(2)}} {
		if n, err := st.Remove(ctx, ids); n != 0 || !errors.Is(err, errs.Conflict) {
			t.Errorf("%v, with nodes below: removed %d: %v", ids, n, err)
		}
	}
	for _, step := range []struct {
		ids  []node.ID
		want int
	}{{nil, 0}, {[]node.ID{ID(4)}, 1}, {[]node.ID{ID(4)}, 0}, {[]node.ID{ID(1), ID(2), ID(9)}, 2}} {
		if n, err := st.Remove(ctx, step.ids); err != nil || n != step.want {
			t.Errorf("%v: removed %d, want %d: %v", step.ids, n, step.want, err)
		}
	}
	if left, err := st.Find(ctx, node.Query{}); err != nil || len(left) != 1 || left[0].ID != ID(3) {
		t.Errorf("left: %s: %v", asJSON(t, left), err)
	}
	if after := len(logged(t, st)); after != before {
		t.Errorf("%d events, want %d: nobody is told", after, before)
	}
	create(t, st, Checkout(1))
	create(t, st, Job(2, ID(1)))
}
