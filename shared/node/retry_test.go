package node

import (
	"fmt"
	"strings"
	"testing"
)

func TestWhatEndsWithoutAResultWantsARetry(t *testing.T) {
	for _, tc := range []struct {
		kind   Kind
		name   string
		state  State
		result Result
		tries  int
		want   bool
	}{
		{KindJob, "ktest", Done, Incomplete, 0, true},
		{KindJob, "ktest", Done, Incomplete, 2, true},
		{KindJob, "ktest", Done, Incomplete, 3, false},
		{KindJob, "ktest", Running, None, 0, false},
		{KindJob, "ktest", Done, Fail, 0, false},
		{KindJob, "ktest", Done, Pass, 0, false},
		{KindJob, "baseline-arm", Done, Fail, 0, true},
		{KindJob, "baseline-arm", Done, Pass, 0, false},
		{KindKbuild, "kbuild", Done, Incomplete, 0, true},
		{KindKbuild, "kbuild", Done, Fail, 0, false},
		{KindKbuild, "baseline", Done, Fail, 0, false},
		{KindTest, "baseline", Done, Incomplete, 0, false},
		{KindCheckout, "checkout", Done, Incomplete, 0, false},
		{KindProcess, "report", Done, Incomplete, 0, false},
	} {
		n := Node{Kind: tc.kind, Name: tc.name, State: tc.state, Result: tc.result, RetryCounter: tc.tries}
		if got := n.WantsRetry(); got != tc.want {
			t.Errorf("%+v: %t", tc, got)
		}
	}
}

func TestOfSeveralAttemptsTheLastWithAResultCounts(t *testing.T) {
	linked := func(n Node, before, first ID) Node { n.SetRetryOf(before, first); return n }
	run := func(id ID, runtime string, tries int, r Result) Node {
		return Node{ID: id, Kind: KindJob, Name: "j", Parent: "p", RetryCounter: tries, Result: r, Data: map[string]any{"runtime": runtime, "platform": "x"}}
	}
	for _, tc := range []struct {
		nodes []Node
		want  string
	}{
		{[]Node{run("a", "r", 0, Incomplete)}, ""},
		{[]Node{run("a", "r", 0, Incomplete), run("b", "r", 1, Pass)}, "a"},
		{[]Node{run("b", "r", 1, Pass), run("a", "r", 0, Incomplete)}, "a"},
		{[]Node{run("a", "r", 0, Incomplete), run("b", "r", 1, Incomplete), run("c", "r", 2, Incomplete)}, "a b"},
		{[]Node{run("a", "r", 0, Fail), run("b", "r", 1, Incomplete)}, "b"},
		{[]Node{run("a", "r", 0, Fail), run("b", "r", 1, Pass)}, "a"},
		{[]Node{run("a", "r", 0, Incomplete), run("b", "s", 0, Pass)}, ""},
		{[]Node{run("a", "r", 0, Incomplete), linked(run("b", "s", 1, Incomplete), "a", "a"), linked(run("c", "t", 2, Pass), "b", "a")}, "a b"},
		{[]Node{{ID: "t", Kind: KindTest, Name: "j"}, {ID: "u", Kind: KindTest, Name: "j", RetryCounter: 1}}, ""},
	} {
		var a Attempts
		for _, n := range tc.nodes {
			a.Add(n)
		}
		got := a.Superseded()
		want := strings.Fields(tc.want)
		for _, id := range want {
			if !got[ID(id)] {
				t.Errorf("%v: %v, want %q", tc.nodes, got, tc.want)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s: %v, want %q", fmt.Sprint(tc.nodes), got, tc.want)
		}
	}
}

func TestAnAttemptKnowsTheOneBeforeAndTheFirst(t *testing.T) {
	var n Node
	n.ID = "x"
	if n.RetryOf() != "" || n.FirstAttempt() != "x" || n.Retried() {
		t.Errorf("a first attempt: %+v", n)
	}
	n.SetRetryOf("b", "a")
	n.SetRetried()
	if n.RetryOf() != "b" || n.FirstAttempt() != "a" || !n.Retried() {
		t.Errorf("%+v", n)
	}
}
