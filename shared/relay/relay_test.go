package relay_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/kernelflow/kernelflow/shared/bus"
	"github.com/kernelflow/kernelflow/shared/bus/redis"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/relay"
	"github.com/kernelflow/kernelflow/shared/store"
	"github.com/kernelflow/kernelflow/shared/store/sqlite"
	"github.com/kernelflow/kernelflow/shared/store/storetest"
)

var quiet = slog.New(slog.DiscardHandler)

func newStore(t *testing.T, path string) *sqlite.Store {
	t.Helper()
	st, err := sqlite.Open(t.Context(), sqlite.Options{Path: path, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func newBus(t *testing.T, addr string) bus.Bus {
	t.Helper()
	b, err := redis.Open(redis.Options{Addr: addr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// instance is one process: a relay and a watch on a shared database and bus.
func instance(t *testing.T, path, addr string, interval time.Duration) (*relay.Relay, *relay.Watch) {
	t.Helper()
	b := newBus(t, addr)
	r := relay.New(newStore(t, path), b, quiet)
	w := relay.NewWatch(r, b, interval, quiet)
	t.Cleanup(func() {
		if err := errors.Join(w.Close(), r.Close()); err != nil {
			t.Error(err)
		}
	})
	return r, w
}

func TestTheRelayIsAStore(t *testing.T) {
	addr := miniredis.RunT(t).Addr()
	storetest.Run(t, storetest.Harness{Slow: true, Open: func(t *testing.T, now func() time.Time) func() store.Store {
		path := filepath.Join(t.TempDir(), "db")
		return func() store.Store {
			st, err := sqlite.Open(t.Context(), sqlite.Options{Path: path, Now: now})
			if err != nil {
				t.Fatal(err)
			}
			r := relay.New(st, newBus(t, addr), quiet)
			t.Cleanup(func() {
				if err := r.Close(); err != nil {
					t.Error(err)
				}
			})
			return r
		}
	}})
}

func TestACommitWakesEveryInstance(t *testing.T) {
	path, addr := filepath.Join(t.TempDir(), "db"), miniredis.RunT(t).Addr()
	first, watchFirst := instance(t, path, addr, time.Hour)
	_, watchSecond := instance(t, path, addr, time.Hour)
	const waiters = 500
	var group sync.WaitGroup
	for i := range 2 * waiters {
		group.Go(func() {
			if err := []*relay.Watch{watchFirst, watchSecond}[i%2].Wait(t.Context(), 0); err != nil {
				t.Error(err)
			}
		})
	}
	if _, err := first.Create(t.Context(), storetest.Checkout(1)); err != nil {
		t.Fatal(err)
	}
	group.Wait()
}

func TestWhatIsLoggedAlreadyIsNotWaitedFor(t *testing.T) {
	r, w := instance(t, filepath.Join(t.TempDir(), "db"), miniredis.RunT(t).Addr(), time.Hour)
	if _, err := r.Create(t.Context(), storetest.Checkout(1)); err != nil {
		t.Fatal(err)
	}
	if err := w.Wait(t.Context(), 0); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for err := w.Wait(ctx, 1); !errors.Is(err, context.Canceled); err = w.Wait(ctx, 1) {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestWithoutABusWritesAreKeptAndFoundByTheClock(t *testing.T) {
	server := miniredis.RunT(t)
	r, w := instance(t, filepath.Join(t.TempDir(), "db"), server.Addr(), time.Millisecond)
	server.Close()
	if _, err := r.Update(t.Context(), storetest.ID(1), func(*node.Node) error { return nil }); err == nil {
		t.Error("an update of nothing succeeded")
	}
	if _, err := r.Create(t.Context(), storetest.Checkout(1)); err != nil {
		t.Fatal(err)
	}
	seen := int64(0)
	for seen == 0 {
		if err := w.Wait(t.Context(), seen); err != nil {
			t.Fatal(err)
		}
		_, looked, err := r.After(t.Context(), seen, event.Filter{}, 10)
		if err != nil {
			t.Fatal(err)
		}
		seen = looked
	}
	if err := r.Flush(t.Context()); err == nil {
		t.Error("Flush does not say that the bus is away")
	}
}

func TestAReaderThatWaitsMissesNothing(t *testing.T) {
	path, addr := filepath.Join(t.TempDir(), "db"), miniredis.RunT(t).Addr()
	writer, _ := instance(t, path, addr, time.Hour)
	reader, watch := instance(t, path, addr, time.Hour)
	const total = 300
	done := make(chan error, 1)
	go func() {
		seen := int64(0)
		for seen < total {
			_, looked, err := reader.After(t.Context(), seen, event.Filter{}, 7)
			if err == nil && looked == seen {
				err = watch.Wait(t.Context(), seen)
			}
			if err != nil {
				done <- fmt.Errorf("after %d: %w", seen, err)
				return
			}
			seen = looked
		}
		done <- nil
	}()
	for i := range total {
		if _, err := writer.Create(t.Context(), storetest.Checkout(i+1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// next waits for the event after seen; it returns its sequence.
func next(t *testing.T, w *relay.Watch, seen int64, f event.Filter) int64 {
	t.Helper()
	e, looked, err := w.Next(t.Context(), seen, f)
	if err != nil || e == nil || e.Sequence != looked || !f.Match(*e) {
		t.Fatalf("after %d: %+v, looked to %d: %v", seen, e, looked, err)
	}
	return looked
}

func TestNextGivesEachEventInOrder(t *testing.T) {
	path, addr := filepath.Join(t.TempDir(), "db"), miniredis.RunT(t).Addr()
	writer, _ := instance(t, path, addr, time.Hour)
	_, watch := instance(t, path, addr, time.Hour)
	const before, total = 50, 3000 // more than is kept in memory
	write := func(from, to int) {
		for i := from; i <= to; i++ {
			e := event.Event{ID: fmt.Sprint(i), Channel: "even", Owner: "bob", Time: time.Now(), Data: []byte("1")}
			if i%2 == 1 {
				e.Channel = "odd"
			}
			if err := writer.Append(t.Context(), e); err != nil {
				t.Error(err)
			}
		}
	}
	write(1, before)
	var group sync.WaitGroup
	group.Go(func() { write(before+1, total) })
	for _, channel := range []string{"odd", "even"} {
		group.Go(func() {
			first := int64(1)
			if channel == "even" {
				first = 2
			}
			seen := int64(0)
			for want := first; want <= total; want += 2 {
				e, looked, err := watch.Next(t.Context(), seen, event.Filter{Channel: channel, Owner: "bob"})
				if err != nil || e == nil || e.Sequence != want || looked != want {
					t.Errorf("%s after %d: %+v, looked to %d: %v", channel, seen, e, looked, err)
					return
				}
				seen = looked
			}
		})
	}
	group.Wait()
	// One who is far behind reads the log by itself.
	if got := next(t, watch, 10, event.Filter{Channel: "odd"}); got != 11 {
		t.Errorf("after 10: %d", got)
	}
}

func TestNextTellsHowFarItLookedWhenItIsStopped(t *testing.T) {
	r, w := instance(t, filepath.Join(t.TempDir(), "db"), miniredis.RunT(t).Addr(), time.Hour)
	for i := range 3 {
		if _, err := r.Create(t.Context(), storetest.Checkout(i+1)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	e, looked, err := w.Next(t.Context(), 0, event.Filter{Owner: "admin"})
	if err != nil || e.Sequence != 1 || looked != 1 {
		t.Errorf("%+v, looked to %d: %v", e, looked, err)
	}
	if e, looked, err = w.Next(ctx, 3, event.Filter{Owner: "eve"}); e != nil || looked != 3 || !errors.Is(err, context.Canceled) {
		t.Errorf("%+v, looked to %d: %v", e, looked, err)
	}
}

// counting counts what is asked of the store.
type counting struct {
	*relay.Relay
	asked atomic.Int64
}

func (c *counting) LastSequence(ctx context.Context) (int64, error) {
	c.asked.Add(1)
	return c.Relay.LastSequence(ctx)
}

func (c *counting) After(ctx context.Context, seen int64, f event.Filter, limit int) ([]event.Event, int64, error) {
	c.asked.Add(1)
	return c.Relay.After(ctx, seen, f, limit)
}

func TestAThousandListenersReadTheLogOnce(t *testing.T) {
	b := newBus(t, miniredis.RunT(t).Addr())
	r := relay.New(newStore(t, filepath.Join(t.TempDir(), "db")), b, quiet)
	c := &counting{Relay: r}
	w := relay.NewWatch(c, b, time.Hour, quiet)
	t.Cleanup(func() {
		if err := errors.Join(w.Close(), r.Close()); err != nil {
			t.Error(err)
		}
	})
	const listeners, events = 1000, 20
	var group sync.WaitGroup
	for range listeners {
		group.Go(func() {
			seen := int64(0)
			for range events {
				e, looked, err := w.Next(t.Context(), seen, event.Filter{Channel: event.ChannelNode})
				if err != nil || e.Sequence != seen+1 {
					t.Errorf("after %d: %+v: %v", seen, e, err)
					return
				}
				seen = looked
			}
		})
	}
	for i := range events {
		if _, err := r.Create(t.Context(), storetest.Checkout(i+1)); err != nil {
			t.Fatal(err)
		}
	}
	group.Wait()
	if asked := c.asked.Load(); asked > 20*events {
		t.Errorf("%d listeners to %d events asked the store %d times", listeners, events, asked)
	}
}
