package storetest

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
)

func (s *suite) testCreateKeepsEveryField(t *testing.T) {
	st := s.open(t)
	n := Checkout(1)
	n.JobFilter, n.PlatformFilter = []string{"kver", "kbuild+"}, []string{"qemu"}
	n.Artifacts["log"] = "https://example.org/log.gz"
	n.Data["own"] = map[string]any{"deep": []any{"a", 1.5, nil, true}}
	made := create(t, st, n)
	got, err := st.Get(t.Context(), n.ID)
	if err != nil {
		t.Fatal(err)
	}
	if asJSON(t, got) != asJSON(t, made) {
		t.Errorf("got  %s\nmade %s", asJSON(t, got), asJSON(t, made))
	}
}

func (s *suite) testTimesKeepTheirPrecision(t *testing.T) {
	if s.Precision > time.Millisecond {
		t.Fatalf("a precision of %s: a millisecond is the least", s.Precision)
	}
	precision := max(s.Precision, time.Microsecond)
	st := s.open(t)
	fine := start.Add(123*time.Millisecond + 456*time.Microsecond)
	n := Checkout(1)
	n.Created, n.Timeout, n.Holdoff = fine, fine.Add(time.Microsecond), fine.Add(-time.Microsecond)
	made := create(t, st, n)
	changed := update(t, st, n.ID, func(n *node.Node) { n.Timeout = fine.Add(time.Hour) })
	got, err := st.Get(t.Context(), n.ID)
	if err != nil || asJSON(t, got) != asJSON(t, changed) {
		t.Errorf("got %s, returned %s: %v", asJSON(t, got), asJSON(t, changed), err)
	}
	for name, tc := range map[string]struct{ got, given time.Time }{
		"created": {made.Created, fine}, "timeout": {made.Timeout, n.Timeout}, "holdoff": {got.Holdoff, n.Holdoff}, "timeout, changed": {got.Timeout, fine.Add(time.Hour)},
	} {
		if !tc.got.Equal(tc.given.Truncate(precision)) {
			t.Errorf("%s: %s of %s", name, tc.got, tc.given)
		}
	}
	for question, want := range map[string]int{
		"created=" + node.FormatTime(made.Created): 1, "created__lt=" + node.FormatTime(fine): fineness(precision), "created__lte=" + node.FormatTime(fine): 1,
		"created__gt=" + node.FormatTime(fine): 0, "created__gte=" + node.FormatTime(fine): 1 - fineness(precision), "created__ne=" + node.FormatTime(made.Created): 0,
	} {
		field, value, _ := strings.Cut(question, "=")
		q, err := node.ParseQuery(url.Values{field: {value}})
		if err != nil {
			t.Fatal(err)
		}
		if found, err := st.Count(t.Context(), q); err != nil || found != int64(want) {
			t.Errorf("%s: %d nodes, want %d: %v", question, found, want, err)
		}
	}
}

// fineness is 1 where the precision has cut something off a time with
// microseconds.
func fineness(precision time.Duration) int {
	if precision > time.Microsecond {
		return 1
	}
	return 0
}

func (s *suite) testUnknownIDIsNotFound(t *testing.T) {
	st := s.open(t)
	if _, err := st.Get(t.Context(), ID(99)); !errors.Is(err, errs.NotFound) {
		t.Errorf("Get: %v", err)
	}
	if _, err := st.Update(t.Context(), ID(99), func(*node.Node) error { return nil }); !errors.Is(err, errs.NotFound) {
		t.Errorf("Update: %v", err)
	}
	if _, err := st.PutHierarchy(t.Context(), ID(99), "r", noChildren); !errors.Is(err, errs.NotFound) {
		t.Errorf("PutHierarchy: %v", err)
	}
}

func noChildren(*node.Node) ([]node.Node, error) { return nil, nil }

func (s *suite) testAnIDIsTakenOnce(t *testing.T) {
	st := s.open(t)
	create(t, st, Checkout(1))
	if _, err := st.Create(t.Context(), Checkout(1)); !errors.Is(err, errs.Conflict) {
		t.Errorf("second Create: %v", err)
	}
	if got := len(logged(t, st)); got != 1 {
		t.Errorf("%d events for one node", got)
	}
}

func (s *suite) testAJobExistsOnce(t *testing.T) {
	st := s.open(t)
	create(t, st, Checkout(1))
	create(t, st, Job(2, ID(1)))
	same := Job(3, ID(1))
	if _, err := st.Create(t.Context(), same); !errors.Is(err, errs.Conflict) {
		t.Errorf("the same job again: %v", err)
	}
	for i, change := range []func(*node.Node){
		func(n *node.Node) { n.RetryCounter = 1 },
		func(n *node.Node) { n.Name = "other" },
		func(n *node.Node) { n.Set("platform", "other") },
		func(n *node.Node) { n.Set("runtime", "other") },
		func(n *node.Node) { n.Kind = node.KindTest },
	} {
		n := Job(10+i, ID(1))
		change(&n)
		if _, err := st.Create(t.Context(), n); err != nil {
			t.Errorf("another job, %d: %v", i, err)
		}
	}
}

func (s *suite) testAWriteAndItsEventAreOne(t *testing.T) {
	st := s.open(t)
	create(t, st, Checkout(1))
	update(t, st, ID(1), func(n *node.Node) { n.State, n.Result = node.Available, node.Pass })
	update(t, st, ID(1), func(n *node.Node) { n.Set("quiet", true) }, store.Silent)
	events := logged(t, st)
	if len(events) != 2 {
		t.Fatalf("%d events, want 2: one created, one updated, none for the silent write", len(events))
	}
	first, second := payload(t, events[0]), payload(t, events[1])
	if first.Op != event.Created || first.PreviousState != nil {
		t.Errorf("first event %+v", first)
	}
	if second.Op != event.Updated || second.State != node.Available || *second.PreviousState != node.Running || second.PreviousResult != nil {
		t.Errorf("second event %+v", second)
	}
	if events[0].TreeID != "tree-1" || events[0].Owner != "admin" {
		t.Errorf("tree %q, owner %q", events[0].TreeID, events[0].Owner)
	}
}

func (s *suite) testARefusedChangeWritesNothing(t *testing.T) {
	st := s.open(t)
	made := create(t, st, Checkout(1))
	stop := errors.New("stop here")
	for name, change := range map[string]func(*node.Node) error{
		"own error":  func(n *node.Node) error { n.Name = "changed"; return stop },
		"invalid":    func(n *node.Node) error { n.Name = ""; return nil },
		"panic":      func(n *node.Node) error { n.Name = "changed"; panic("boom") },
		"bad result": func(n *node.Node) error { n.Result = "maybe"; return nil },
	} {
		_, err := st.Update(t.Context(), ID(1), change)
		if err == nil || name == "own error" && !errors.Is(err, stop) {
			t.Errorf("%s: %v", name, err)
		}
	}
	got, err := st.Get(t.Context(), ID(1))
	if err != nil || asJSON(t, got) != asJSON(t, made) || len(logged(t, st)) != 1 {
		t.Errorf("%v, node %s", err, asJSON(t, got))
	}
}

func (s *suite) testStatesNeverGoBack(t *testing.T) {
	st := s.open(t)
	create(t, st, Checkout(1))
	update(t, st, ID(1), func(n *node.Node) { n.State = node.Done })
	_, err := st.Update(t.Context(), ID(1), func(n *node.Node) error { n.State = node.Running; return nil })
	if !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "Transition not allowed with state: running") {
		t.Errorf("done to running: %v", err)
	}
}

func (s *suite) testIDAndCreationStay(t *testing.T) {
	st := s.open(t)
	made := create(t, st, Checkout(1))
	s.clock.advance()
	got := update(t, st, ID(1), func(n *node.Node) { n.ID, n.Created = ID(5), n.Created.AddDate(1, 0, 0) })
	if got.ID != made.ID || !got.Created.Equal(made.Created) || !got.Updated.After(made.Updated) {
		t.Errorf("id %s, created %s, updated %s", got.ID, got.Created, got.Updated)
	}
}

func (s *suite) testTheCallersCopyIsItsOwn(t *testing.T) {
	st := s.open(t)
	n := Checkout(1)
	made := create(t, st, n)
	made.Data["kernel_revision"].(map[string]any)["tree"] = "spoiled"
	n.Data["kernel_revision"].(map[string]any)["tree"] = "spoiled"
	got, _ := st.Get(t.Context(), ID(1))
	if got.Text("kernel_revision.tree") != "mainline" {
		t.Error("the stored node changed with the caller's copy")
	}
}

func (s *suite) testOneOfManyWins(t *testing.T) {
	first, second := s.pair(t)
	create(t, first, Checkout(1))
	var wins, losses int
	var mu sync.Mutex
	var group sync.WaitGroup
	for i := range s.scale(50) {
		group.Go(func() {
			st := []store.Store{first, second}[i%2]
			_, err := st.Update(t.Context(), ID(1), func(n *node.Node) error {
				if n.State != node.Running {
					return errs.New(errs.Conflict, "taken")
				}
				n.State = node.Available
				return nil
			})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				wins++
			case errors.Is(err, errs.Conflict):
				losses++
			default:
				t.Errorf("neither won nor lost: %v", err)
			}
		})
	}
	group.Wait()
	if wins != 1 || losses != s.scale(50)-1 {
		t.Errorf("%d won, %d lost", wins, losses)
	}
}

func (s *suite) testNoUpdateIsLost(t *testing.T) {
	first, second := s.pair(t)
	create(t, first, Checkout(1))
	var group sync.WaitGroup
	workers, rounds := 4, s.scale(10)
	for i := range workers {
		group.Go(func() {
			st := []store.Store{first, second}[i%2]
			for range rounds {
				if _, err := st.Update(t.Context(), ID(1), func(n *node.Node) error { n.RetryCounter++; return nil }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	got, err := first.Get(t.Context(), ID(1))
	if err != nil || got.RetryCounter != workers*rounds {
		t.Errorf("%v: counted %d of %d", err, got.RetryCounter, workers*rounds)
	}
}

// tree is a hierarchy of a job with two suites.
func tree(root *node.Node) ([]node.Node, error) {
	root.State, root.Result = node.Done, node.Fail
	h := node.Hierarchy{Children: []node.Hierarchy{
		{Node: node.Node{Name: "ring", Kind: node.KindTest, Result: node.Pass}, Children: []node.Hierarchy{
			{Node: node.Node{Name: "wraps", Kind: node.KindTest, Result: node.Pass}},
		}},
		{Node: node.Node{Name: "text", Kind: node.KindTest, Result: node.Fail}},
	}}
	return h.Descendants(*root, "r1")
}

func (s *suite) testAHierarchyIsOneEvent(t *testing.T) {
	st := s.open(t)
	create(t, st, Checkout(1))
	create(t, st, Job(2, ID(1)))
	all, err := st.PutHierarchy(t.Context(), ID(2), "r1", tree)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, n := range all {
		names = append(names, n.Name)
	}
	if got := strings.Join(names, " "); got != "ktest ring wraps text" {
		t.Errorf("nodes %s", got)
	}
	events := logged(t, st)
	if last := payload(t, events[len(events)-1]); len(events) != 3 || !last.IsHierarchy || last.ID != ID(2) || *last.PreviousState != node.Running {
		t.Errorf("%d events, last %+v", len(events), last)
	}
	if n, err := st.Count(t.Context(), node.Where("treeid", "tree-1").And("kind", node.KindTest)); n != 3 || err != nil {
		t.Errorf("%d tests: %v", n, err)
	}
}

func (s *suite) testTheSameRequestDoublesNothing(t *testing.T) {
	first, second := s.pair(t)
	create(t, first, Checkout(1))
	create(t, first, Job(2, ID(1)))
	var group sync.WaitGroup
	answers := make([]string, s.scale(8))
	for i := range answers {
		group.Go(func() {
			all, err := []store.Store{first, second}[i%2].PutHierarchy(t.Context(), ID(2), "r1", tree)
			if err != nil {
				t.Error(err)
				return
			}
			ids := make([]string, len(all))
			for j, n := range all {
				ids[j] = string(n.ID)
			}
			answers[i] = strings.Join(ids, " ")
		})
	}
	group.Wait()
	if len(slices.Compact(answers)) != 1 {
		t.Errorf("answers differ: %q", answers)
	}
	if n, _ := first.Count(t.Context(), node.Where("kind", node.KindTest)); n != 3 {
		t.Errorf("%d tests, want 3", n)
	}
	if events := logged(t, first); len(events) != 3 {
		t.Errorf("%d events, want 3", len(events))
	}
}

func (s *suite) testABrokenHierarchyTellsNobody(t *testing.T) {
	st := s.open(t)
	create(t, st, Checkout(1))
	create(t, st, Job(2, ID(1)))
	_, err := st.PutHierarchy(t.Context(), ID(2), "r1", func(root *node.Node) ([]node.Node, error) {
		children, err := tree(root)
		children[2].Result = "maybe"
		return children, err
	})
	if !errors.Is(err, errs.Invalid) {
		t.Errorf("PutHierarchy: %v", err)
	}
	root, _ := st.Get(t.Context(), ID(2))
	if n := len(logged(t, st)); root.State != node.Running || n != 2 {
		t.Errorf("root is %s, %d events", root.State, n)
	}
	if _, err := st.PutHierarchy(t.Context(), ID(2), "r1", tree); err != nil {
		t.Errorf("the mended request: %v", err)
	}
}

func (s *suite) testALargeHierarchyFits(t *testing.T) {
	st := s.open(t)
	create(t, st, Checkout(1))
	create(t, st, Job(2, ID(1)))
	count := s.scale(10_000)
	all, err := st.PutHierarchy(t.Context(), ID(2), "large", func(root *node.Node) ([]node.Node, error) {
		h := node.Hierarchy{}
		for i := range count {
			h.Children = append(h.Children, node.Hierarchy{Node: node.Node{Name: fmt.Sprintf("case-%d", i), Kind: node.KindTest}})
		}
		return h.Descendants(*root, "large")
	})
	if err != nil || len(all) != count+1 {
		t.Fatalf("%d nodes: %v", len(all), err)
	}
	if n, err := st.Count(t.Context(), node.Where("parent", ID(2))); err != nil || n != int64(count) {
		t.Errorf("%d children: %v", n, err)
	}
}
