package storetest

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
)

// value gives what a node has in a countable field.
func value(n node.Node, field string) string {
	switch field {
	case "kind":
		return string(n.Kind)
	case "state":
		return string(n.State)
	case "result":
		return string(n.Result)
	case "treeid":
		return n.TreeID
	}
	text, _ := n.Get(strings.TrimPrefix(field, "data.")).(string)
	return text
}

// told makes a list of tallies comparable, whatever its order.
func told(tallies []node.Tally) string {
	list := make([]string, len(tallies))
	for i, t := range tallies {
		list[i] = fmt.Sprintf("%q: %d", t.Values, t.Count)
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

func (s *suite) testNodesAreCountedByFields(t *testing.T) {
	st := s.open(t)
	nodes := varied(max(s.scale(200), 40))
	for i := range nodes {
		nodes[i].RetryCounter = i // no two are the same job
		nodes[i].TreeID = fmt.Sprintf("tree-%d", i%5)
		nodes[i].Set("runtime", []any{"lab-a", nil, "lab-b"}[i%3])
		nodes[i] = create(t, st, nodes[i])
	}
	for _, question := range []string{
		"", "kind=test", "kind=nothing", "treeid__in=tree-1,tree-2,none&kind__in=test,kbuild", "kind=test&created__gte=2025-01-13",
		"result=null", "name__re=^base", "data.value=a", "data.value__ne=a&state=done", "data.missing=null",
	} {
		params, err := url.ParseQuery(question)
		if err != nil {
			t.Fatal(err)
		}
		q, err := node.ParseQuery(params)
		if err != nil {
			t.Fatal(err)
		}
		for _, by := range [][]string{{"kind", "result"}, {"treeid", "state", "result"}, {"data.runtime"}, {"data.kernel_revision.tree", "data.arch"}, nil} {
			if got, want := s.tallied(t, st, q.Page(2, 1), by), told(counted(nodes, q, by)); got != want {
				t.Errorf("%q by %q\n got %s\nwant %s", question, by, got, want)
			}
		}
	}
	_, err := st.TallyNodes(t.Context(), node.Query{}, "kind", "data.defconfig")
	if !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "data.defconfig") {
		t.Errorf("an uncountable field: %v", err)
	}
}

func (s *suite) tallied(t *testing.T, st store.Store, q node.Query, by []string) string {
	t.Helper()
	got, err := st.TallyNodes(t.Context(), q, by...)
	if err != nil || got == nil {
		t.Errorf("%+v by %q: %v, %v", q, by, got, err)
	}
	return told(got)
}

// counted is what TallyNodes means.
func counted(nodes []node.Node, q node.Query, by []string) []node.Tally {
	var tallier node.Tallier
	for _, n := range nodes {
		values := make([]any, len(by))
		for i, field := range by {
			values[i] = value(n, field)
		}
		if q.Match(n) && tallier.Add(values, 1) != nil {
			panic("a test with too many tallies")
		}
	}
	return tallier.Tallies()
}
