package sqlite_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
	"github.com/kernelflow/kernelflow/shared/store/sqlite"
)

func TestEveryQuestionToTheLogIsAnsweredInTheOrderOfAnIndex(t *testing.T) {
	st, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "x.db"), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	check := func(what string, steps []string, err error) {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		for _, step := range steps {
			if !strings.HasPrefix(step, "SEARCH") {
				t.Errorf("%s: %s", what, step)
			}
		}
	}
	from := time.Date(2025, 1, 12, 8, 0, 0, 0, time.UTC)
	for what, h := range map[string]store.History{
		"all": {}, "channel": {Channel: "node"}, "owner": {Owner: "bob"}, "kind": {Kind: node.KindJob}, "state": {State: node.Done},
		"result": {Result: node.Fail}, "op": {Op: event.Created}, "name": {Name: "x"}, "group": {Group: "x"}, "node": {NodeID: "65f000000000000000000001"},
		"path": {PathRe: "x"}, "several": {Kind: node.KindJob, State: node.Done, Result: node.Fail, Op: event.Updated, PathRe: "x"},
	} {
		steps, err := st.ExplainHistory(t.Context(), h)
		check(what, steps, err)
		h.From, h.FromSequence = from, 7
		steps, err = st.ExplainHistory(t.Context(), h)
		check(what+" from", steps, err)
	}
	for what, f := range map[string]event.Filter{
		"the log": {}, "a channel": {Channel: "node"}, "one's own": {Channel: "node", Owner: "bob"}, "an owner's": {Owner: "bob"},
		"a function's": {Channel: "node", Kinds: []node.Kind{node.KindJob}, States: []node.State{node.Done}, Ops: []event.Op{event.Updated}},
	} {
		steps, err := st.ExplainAfter(t.Context(), f)
		check(what, steps, err)
	}
}
