// Package storetest is the conformance suite of shared/store: what holds for
// one driver holds for all.
//
// A driver's test makes a [Harness] and calls [Run]. Every test opens a fresh
// database; those that are about several instances open it twice.
package storetest

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
)

// Harness is what the suite needs of a driver.
type Harness struct {
	// Open returns a way to open one fresh database, any number of times at
	// once; what it opened is closed at the end of the test.
	Open func(t *testing.T, now func() time.Time) func() store.Store
	// Slow cuts the amounts for a backend that is slow.
	Slow bool
	// Precision is that of times: whole multiples come back as they were, what
	// is finer is cut off. At least milliseconds; zero: microseconds.
	Precision time.Duration
}

// Run runs the suite, one subtest for each promise.
func Run(t *testing.T, h Harness) {
	for _, test := range []struct {
		promise string
		run     func(*suite, *testing.T)
	}{
		{"Create keeps every field", (*suite).testCreateKeepsEveryField},
		{"times keep their precision", (*suite).testTimesKeepTheirPrecision},
		{"an unknown id is not found", (*suite).testUnknownIDIsNotFound},
		{"an id is taken once", (*suite).testAnIDIsTakenOnce},
		{"a job exists once", (*suite).testAJobExistsOnce},
		{"a write and its event are one", (*suite).testAWriteAndItsEventAreOne},
		{"a refused change writes nothing", (*suite).testARefusedChangeWritesNothing},
		{"states never go back", (*suite).testStatesNeverGoBack},
		{"id and creation stay", (*suite).testIDAndCreationStay},
		{"the caller's copy is its own", (*suite).testTheCallersCopyIsItsOwn},
		{"one of many wins", (*suite).testOneOfManyWins},
		{"no update is lost", (*suite).testNoUpdateIsLost},
		{"a hierarchy is one event", (*suite).testAHierarchyIsOneEvent},
		{"the same request doubles nothing", (*suite).testTheSameRequestDoublesNothing},
		{"a broken hierarchy tells nobody", (*suite).testABrokenHierarchyTellsNobody},
		{"a large hierarchy fits", (*suite).testALargeHierarchyFits},
		{"queries mean what node.Query.Match says", (*suite).testQueriesMeanWhatMatchSays},
		{"pages follow the order of creation", (*suite).testPagesFollowTheOrderOfCreation},
		{"a page begins where the one before ended", (*suite).testAPageBeginsWhereTheOneBeforeEnded},
		{"pages miss nothing while nodes are created", (*suite).testPagesMissNothingWhileNodesAreCreated},
		{"a place that no store has given is refused", (*suite).testAStrangePlaceIsRefused},
		{"nodes are counted by fields", (*suite).testNodesAreCountedByFields},
		{"the log is dense and in order", (*suite).testTheLogIsDenseAndInOrder},
		{"After tells how far it looked", (*suite).testAfterTellsHowFarItLooked},
		{"an event is logged once", (*suite).testAnEventIsLoggedOnce},
		{"history finds events by what they say", (*suite).testHistory},
		{"large events come a few at a time", (*suite).testLargeEvents},
		{"pruned sequences are not used again", (*suite).testPrune},
		{"a durable subscriber finds its place", (*suite).testDurableSubscriber},
		{"a passing subscriber gets a new place", (*suite).testPassingSubscriber},
		{"a durable place outlasts its listener", (*suite).testAPlaceOutlastsItsListener},
		{"silent listeners are forgotten", (*suite).testSilentListenersAreForgotten},
		{"durable subscribers are listed by lag", (*suite).testDurableOnesAreListedByLag},
		{"cursors move forward only", (*suite).testCursors},
		{"a claim has one holder", (*suite).testClaims},
		{"one of many claims", (*suite).testOneOfManyClaims},
		{"names of users are unique", (*suite).testUsers},
		{"users change under guard", (*suite).testUpdateUser},
		{"users are found by what they are", (*suite).testUserFilters},
		{"a user goes with its tokens", (*suite).testDeleteUser},
		{"names of groups are unique", (*suite).testGroups},
		{"a group stays while it has members", (*suite).testDeleteGroup},
		{"a token is known to all instances until it is removed", (*suite).testTokens},
		{"dead letters are kept and given back once", (*suite).testDeadLetters},
		{"telemetry is kept and found", (*suite).testTelemetryIsFound},
		{"telemetry is stored once", (*suite).testTelemetryIsStoredOnce},
		{"the database counts telemetry", (*suite).testTelemetryIsCounted},
		{"old telemetry goes", (*suite).testPruneTelemetry},
		{"decisions are found newest first", (*suite).testDecisionsAreFoundNewestFirst},
		{"old decisions go", (*suite).testPruneDecided},
		{"a key has one value", (*suite).testKV},
		{"nodes go from below", (*suite).testRemove},
		{"many nodes are marked at once", (*suite).testMarkProcessed},
		{"marking loses no update", (*suite).testMarkProcessedLosesNoUpdate},
	} {
		t.Run(strings.ReplaceAll(test.promise, " ", "_"), func(t *testing.T) {
			test.run(&suite{Harness: h, clock: &clock{now: start}}, t)
		})
	}
}

var start = time.Date(2025, 1, 12, 8, 0, 0, 0, time.UTC)

// clock stands still until a test moves it.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) time() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(time.Minute)
}

type suite struct {
	Harness
	clock *clock
}

func (s *suite) open(t *testing.T) store.Store {
	t.Helper()
	return s.Open(t, s.clock.time)()
}

// pair opens one database twice.
func (s *suite) pair(t *testing.T) (first, second store.Store) {
	t.Helper()
	open := s.Open(t, s.clock.time)
	return open(), open()
}

// scale cuts n for a slow backend.
func (s *suite) scale(n int) int {
	if s.Slow {
		return max(n/50, min(n, 4))
	}
	return n
}

// ID returns the n-th id.
func ID(n int) node.ID { return node.ID(fmt.Sprintf("65f000000000%012x", n)) }

// Checkout is a valid checkout with the n-th id, of the tree "tree-n".
func Checkout(n int) node.Node {
	c := node.Node{
		ID: ID(n), Kind: node.KindCheckout, Name: "checkout", Path: []string{"checkout"}, Owner: "admin",
		Submitter: "service:pipeline", TreeID: fmt.Sprintf("tree-%d", n),
		Data: map[string]any{"kernel_revision": map[string]any{
			"tree": "mainline", "url": "https://example.org/linux.git", "branch": "master", "commit": fmt.Sprintf("%040x", n),
		}},
	}
	c.SetDefaults(start)
	return c
}

// Job is a valid job with the n-th id below parent.
func Job(n int, parent node.ID) node.Node {
	j := Checkout(n)
	j.Kind, j.Name, j.Path, j.Parent, j.TreeID = node.KindJob, "ktest", []string{"checkout", "ktest"}, parent, "tree-1"
	j.Set("runtime", "shell")
	j.Set("platform", "qemu")
	return j
}

func create(t *testing.T, st store.Writer, n node.Node) node.Node {
	t.Helper()
	made, err := st.Create(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func update(t *testing.T, st store.Writer, id node.ID, change func(*node.Node), opts ...store.Option) node.Node {
	t.Helper()
	n, err := st.Update(t.Context(), id, func(n *node.Node) error { change(n); return nil }, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// logged returns the whole log.
func logged(t *testing.T, st store.Events) []event.Event {
	t.Helper()
	if _, err := st.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	var all []event.Event
	for from := int64(0); ; {
		events, looked, err := st.After(t.Context(), from, event.Filter{}, 1000)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, events...)
		if looked == from {
			return all
		}
		from = looked
	}
}

func payload(t *testing.T, e event.Event) event.Node {
	t.Helper()
	p, err := e.Node()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func sequences(events []event.Event) []int64 {
	list := make([]int64, len(events))
	for i, e := range events {
		list[i] = e.Sequence
	}
	return list
}

// dense says whether the events are numbered from, from+1 and so on.
func dense(events []event.Event, from int64) bool {
	for i, e := range events {
		if e.Sequence != from+int64(i) {
			return false
		}
	}
	return true
}
