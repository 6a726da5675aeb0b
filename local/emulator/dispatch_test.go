package emulator

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/functions/catalog"
	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store/sqlite"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// looker wakes a dispatcher by the clock alone.
type looker struct{}

func (looker) Wait(ctx context.Context, _ int64) error {
	pause(ctx, time.Millisecond)
	return nil
}

// stage is a dispatcher on a store, with a function that the test makes up.
type stage struct {
	t     *testing.T
	store *sqlite.Store
	url   string
	f     catalog.Function
}

func newStage(t *testing.T, concurrency int, handle func(event.Event) error) *stage {
	t.Helper()
	st, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "x.db"), Now: time.Now})
	check(t, err)
	t.Cleanup(func() { check(t, st.Close()) })
	f := catalog.Function{Name: "probe", Trigger: catalog.Trigger{Events: &event.Filter{Channel: event.ChannelNode}}, Timeout: 10, Concurrency: concurrency}
	server := httptest.NewServer(f.Handler(catalog.Handler{Event: func(_ context.Context, e event.Event) error { return handle(e) }}))
	t.Cleanup(server.Close)
	return &stage{t: t, store: st, url: server.URL, f: f}
}

func (s *stage) create(names ...string) {
	s.t.Helper()
	for _, name := range names {
		_, err := s.store.Create(s.t.Context(), node.Node{ID: node.DeriveID("", name), Name: name, Path: []string{name}, TreeID: name[:1]})
		check(s.t, err)
	}
}

// run dispatches until the cursor in the store has reached sequence.
func (s *stage) run(sequence int64) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	d := newDispatcher(s.f, s.url, s.store, looker{}, http.DefaultClient, time.Now, 10_000, slog.New(slog.DiscardHandler))
	ended := make(chan error, 1)
	go func() { ended <- d.run(ctx) }()
	deadline := time.Now().Add(30 * time.Second)
	for at := int64(-1); at < sequence; {
		var err error
		at, err = s.store.Cursor(ctx, "function/probe")
		check(s.t, err)
		if time.Now().After(deadline) {
			s.t.Fatalf("the cursor is at %d, want %d", at, sequence)
		}
		pause(ctx, time.Millisecond)
	}
	cancel()
	check(s.t, <-ended)
}

func name(e event.Event) string {
	p, err := e.Node()
	if err != nil {
		return err.Error()
	}
	return p.Name
}

func TestEventsOfATreeComeInOrderAndTreesAtOnce(t *testing.T) {
	var mu sync.Mutex
	seen := map[string][]string{}
	s := newStage(t, 4, func(e event.Event) error {
		mu.Lock()
		defer mu.Unlock()
		seen[e.TreeID] = append(seen[e.TreeID], name(e))
		return nil
	})
	want := map[string][]string{}
	for i := range 60 {
		n := fmt.Sprintf("%c%02d", 'a'+i%3, i)
		s.create(n)
		want[n[:1]] = append(want[n[:1]], n)
	}
	s.run(60)
	if fmt.Sprint(seen) != fmt.Sprint(want) {
		t.Errorf("%v\nwant %v", seen, want)
	}
}

func TestWhatFailsIsTriedAgainAndThenKeptForAnOperator(t *testing.T) {
	var mu sync.Mutex
	tries := map[string]int{}
	s := newStage(t, 1, func(e event.Event) error {
		mu.Lock()
		defer mu.Unlock()
		tries[name(e)]++
		switch {
		case name(e) == "a-mended" && tries["a-mended"] < 3, name(e) == "b-away":
			return errs.New(errs.Temporary, "away")
		case name(e) == "c-never":
			return errs.New(errs.Invalid, "never")
		}
		return nil
	})
	s.create("a-mended", "b-away", "c-never", "c-next")
	s.run(4)
	want := map[string]int{"a-mended": 3, "b-away": catalog.Attempts, "c-never": 1, "c-next": 1}
	if fmt.Sprint(tries) != fmt.Sprint(want) {
		t.Errorf("tries %v, want %v", tries, want)
	}
	letters, err := s.store.ListDeadLetters(t.Context(), 10)
	check(t, err)
	if len(letters) != 2 {
		t.Errorf("%d dead letters: %+v", len(letters), letters)
	}
}

func TestARestartBeginsBehindWhatIsDone(t *testing.T) {
	var mu sync.Mutex
	count := 0
	s := newStage(t, 2, func(event.Event) error {
		mu.Lock()
		defer mu.Unlock()
		count++
		return nil
	})
	s.create("a1", "a2", "b1")
	s.run(3)
	s.create("b2", "a3")
	s.run(5)
	if count != 5 {
		t.Errorf("%d deliveries, want 5", count)
	}
}
