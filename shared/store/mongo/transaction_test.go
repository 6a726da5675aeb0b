package mongo_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store/mongo"
	"github.com/kernelflow/kernelflow/shared/store/storetest"
)

// tape keeps what a set was asked, and may answer in its place.
type tape struct {
	mu       sync.Mutex
	commands []command
	answer   watch // nil: the set answers
}

func (r *tape) watch(c command, carryOut func() bson.Raw) bson.Raw {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.commands = append(r.commands, c)
	if r.answer == nil {
		return carryOut()
	}
	return r.answer(c, carryOut)
}

// from forgets what was until now and has w answer.
func (r *tape) from(w watch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.commands, r.answer = nil, w
}

// told lists the commands since from, but for the reads outside of
// transactions, and the transactions that they are in.
func (r *tape) told() (names string, transactions []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []string
	for _, c := range r.commands {
		if c.transaction == "" && slices.Contains([]string{"find", "aggregate", "endSessions"}, c.name) {
			continue
		}
		list = append(list, strings.TrimSuffix(c.name, "Transaction"))
		if c.starts {
			list[len(list)-1] = "start " + c.name
		}
		if !slices.Contains(transactions, c.transaction) {
			transactions = append(transactions, c.transaction)
		}
	}
	return strings.Join(list, " "), transactions
}

// inSet opens a store on a set of its own that has a running job.
func inSet(t *testing.T) (*mongo.Store, mongo.Options, *tape) {
	t.Helper()
	r := &tape{}
	o := mongo.Options{URI: startSet(t, r.watch), Database: "set", Now: clockAt(start)}
	st := open(t, o)
	for _, n := range []node.Node{storetest.Checkout(1), storetest.Job(2, storetest.ID(1))} {
		if _, err := st.Create(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	return st, o, r
}

// checkOnce says whether the job has its results once, and one event of them.
func checkOnce(t *testing.T, st *mongo.Store) {
	t.Helper()
	if _, err := st.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	events, _, err := st.After(t.Context(), 0, event.Filter{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	hierarchies := 0
	for _, e := range events {
		if p, err := e.Node(); err == nil && p.IsHierarchy {
			hierarchies++
		}
	}
	tests, err := st.Count(t.Context(), node.Where("kind", node.KindTest))
	root, rootErr := st.Get(t.Context(), storetest.ID(2))
	if hierarchies != 1 || tests != 2 || root.State != node.Done || errors.Join(err, rootErr) != nil {
		t.Errorf("%d events of a hierarchy, %d tests, the job is %s: %v", hierarchies, tests, root.State, errors.Join(err, rootErr))
	}
}

func TestAHierarchyIsOneTransactionWhereTheServerHasThem(t *testing.T) {
	st, _, r := inSet(t)
	for range 33 { // more than an outbox is to hold
		if _, err := st.Update(t.Context(), storetest.ID(2), func(n *node.Node) error { n.RetryCounter++; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	r.from(nil)
	all, err := st.PutHierarchy(t.Context(), storetest.ID(2), "r", results)
	if err != nil || len(all) != 3 {
		t.Fatalf("%d nodes: %v", len(all), err)
	}
	names, transactions := r.told()
	if names != "start find insert update commit" || len(transactions) != 1 || transactions[0] == "" {
		t.Errorf("commands %q in transactions %q", names, transactions)
	}
	checkOnce(t, st)
	r.from(nil)
	again, err := st.PutHierarchy(t.Context(), storetest.ID(2), "r", results)
	if err != nil || len(again) != 3 || again[2].ID != all[2].ID {
		t.Errorf("repeated: %d nodes: %v", len(again), err)
	}
	if names, _ := r.told(); names != "start find abort" {
		t.Errorf("repeated: commands %q", names)
	}
	checkOnce(t, st)
}

func TestATransactionThatFailsLeavesNothing(t *testing.T) {
	st, _, r := inSet(t)
	r.from(func(c command, carryOut func() bson.Raw) bson.Raw {
		if c.name == "update" {
			return failure(8000, "AtlasError")
		}
		return carryOut()
	})
	if _, err := st.PutHierarchy(t.Context(), storetest.ID(2), "r", results); err == nil {
		t.Error("no error")
	}
	if names, _ := r.told(); names != "start find insert update abort" {
		t.Errorf("commands %q", names)
	}
	r.from(nil)
	if tests, err := st.Count(t.Context(), node.Where("kind", node.KindTest)); tests != 0 || err != nil {
		t.Errorf("%d tests: %v", tests, err)
	}
	refusal := errs.New(errs.Denied, "not now")
	_, err := st.PutHierarchy(t.Context(), storetest.ID(2), "r", func(*node.Node) ([]node.Node, error) { return nil, refusal })
	if !errors.Is(err, refusal) {
		t.Errorf("the caller refuses: %v", err)
	}
	if names, _ := r.told(); names != "start find abort" {
		t.Errorf("the caller refuses: commands %q", names)
	}
}

func TestATransientFailureIsTriedAgainAndDoublesNothing(t *testing.T) {
	for at, want := range map[string]string{
		"find":              "start find abort start find insert update commit",
		"insert":            "start find insert abort start find insert update commit",
		"update":            "start find insert update abort start find insert update commit",
		"commitTransaction": "start find insert update commit start find insert update commit",
	} {
		t.Run(at, func(t *testing.T) {
			st, _, r := inSet(t)
			failed := false
			r.from(func(c command, carryOut func() bson.Raw) bson.Raw {
				if c.name == at && !failed {
					failed = true
					return failure(112, "WriteConflict", "TransientTransactionError")
				}
				return carryOut()
			})
			if _, err := st.PutHierarchy(t.Context(), storetest.ID(2), "r", results); err != nil {
				t.Fatal(err)
			}
			if names, _ := r.told(); names != want {
				t.Errorf("commands %q", names)
			}
			checkOnce(t, st)
		})
	}
}

func TestACommitWithAnUnknownEndIsAskedForAgain(t *testing.T) {
	for name, done := range map[string]bool{"it was done": true, "it was not": false} {
		t.Run(name, func(t *testing.T) {
			st, _, r := inSet(t)
			failed := false
			r.from(func(c command, carryOut func() bson.Raw) bson.Raw {
				if c.name != "commitTransaction" || failed {
					return carryOut()
				}
				failed = true
				if done {
					carryOut()
				}
				return failure(64, "WriteConcernTimeout", "UnknownTransactionCommitResult")
			})
			if _, err := st.PutHierarchy(t.Context(), storetest.ID(2), "r", results); err != nil {
				t.Fatal(err)
			}
			if names, transactions := r.told(); names != "start find insert update commit commit" || len(transactions) != 1 {
				t.Errorf("commands %q in transactions %q", names, transactions)
			}
			checkOnce(t, st)
		})
	}
}

func TestWhatATransactionCannotDoIsDoneStepByStep(t *testing.T) {
	for name, tc := range map[string]struct {
		at       string
		done     bool // all the same
		failure  bson.Raw
		forever  bool // no transaction is begun after it
		commands string
	}{
		"a server that turns out to have none":       {"find", false, failure(20, "IllegalOperation"), true, "start find abort insert update"},
		"a server that knows no commit":              {"commitTransaction", true, failure(59, "CommandNotFound"), true, "start find insert update commit"},
		"a transaction that the server cannot hold":  {"update", false, failure(359, "TransactionTooLargeForCache"), false, "start find insert update abort insert update"},
		"a transaction that others cross every time": {"find", false, failure(112, "WriteConflict", "TransientTransactionError"), false, strings.Repeat("start find abort ", 10) + "insert update"},
	} {
		t.Run(name, func(t *testing.T) {
			st, _, r := inSet(t)
			r.from(func(c command, carryOut func() bson.Raw) bson.Raw {
				if c.transaction == "" || c.name != tc.at {
					return carryOut()
				}
				if tc.done {
					carryOut()
				}
				return tc.failure
			})
			if all, err := st.PutHierarchy(t.Context(), storetest.ID(2), "r", results); err != nil || len(all) != 3 {
				t.Fatalf("%d nodes: %v", len(all), err)
			}
			if names, _ := r.told(); names != tc.commands {
				t.Errorf("commands %q", names)
			}
			r.from(nil)
			checkOnce(t, st)
			if _, err := st.PutHierarchy(t.Context(), storetest.ID(2), "r", results); err != nil {
				t.Error(err)
			}
			if names, _ := r.told(); strings.Contains(names, "start") == tc.forever {
				t.Errorf("the next time: commands %q", names)
			}
		})
	}
}

func TestLeftoversOfAnEarlierTryDoNotStopATransaction(t *testing.T) {
	first, o, r := inSet(t)
	r.from(func(c command, carryOut func() bson.Raw) bson.Raw {
		switch {
		case c.transaction != "":
			return failure(20, "IllegalOperation")
		case c.name == "update":
			return failure(8000, "AtlasError")
		}
		return carryOut()
	})
	if _, err := first.PutHierarchy(t.Context(), storetest.ID(2), "r", results); err == nil {
		t.Fatal("no error")
	}
	r.from(nil)
	if tests, err := first.Count(t.Context(), node.Where("kind", node.KindTest)); tests != 2 || err != nil {
		t.Fatalf("%d tests were left: %v", tests, err)
	}
	second := open(t, o)
	r.from(nil)
	if _, err := second.PutHierarchy(t.Context(), storetest.ID(2), "r", results); err != nil {
		t.Error(err)
	}
	if names, _ := r.told(); !strings.HasPrefix(names, "start find insert abort insert") {
		t.Errorf("commands %q", names)
	}
	checkOnce(t, second)
}

func TestAnEndedContextEndsATransaction(t *testing.T) {
	st, _, r := inSet(t)
	ctx, cancel := context.WithCancel(t.Context())
	r.from(func(c command, carryOut func() bson.Raw) bson.Raw {
		if c.name == "insert" {
			cancel()
		}
		return carryOut()
	})
	if _, err := st.PutHierarchy(ctx, storetest.ID(2), "r", results); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if names, _ := r.told(); strings.Contains(names, "commit") {
		t.Errorf("commands %q", names)
	}
	if _, err := st.PutHierarchy(t.Context(), storetest.ID(2), "r", results); err != nil {
		t.Error(err)
	}
	checkOnce(t, st)
}
