// Package bustest is the conformance suite of shared/bus.
package bustest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/bus"
	"github.com/kernelflow/kernelflow/shared/errs"
)

// Run runs the suite. open returns a way to connect any number of instances to
// one bus; what it opened is closed at the end of the test.
func Run(t *testing.T, open func(t *testing.T) func() bus.Bus) {
	for promise, run := range map[string]func(*testing.T, func() bus.Bus){
		"every instance receives what is published after it subscribed": testPublish,
		"one channel does not hear another":                             testChannels,
		"an item goes to one caller":                                    testList,
		"a list that nobody empties is full at last":                    testFullList,
		"Pop waits for an item":                                         testPopWaits,
		"a slow reader costs bounded memory":                            testSlowReader,
		"Close ends subscriptions":                                      testClose,
		"instances count together until the window ends":                testCount,
		"what is held is held until all have released it":               testHold,
		"what a dead holder had is free again":                          testDeadHolder,
		"Ping answers":                                                  testPing,
	} {
		t.Run(promise, func(t *testing.T) { run(t, open(t)) })
	}
}

func subscribe(t *testing.T, b bus.Bus, channel string) bus.Subscription {
	t.Helper()
	s, err := b.Subscribe(t.Context(), channel)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func publish(t *testing.T, b bus.Bus, channel, text string) {
	t.Helper()
	if err := b.Publish(t.Context(), channel, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

// receive waits for the next message; the test's own deadline is the limit.
func receive(t *testing.T, s bus.Subscription) bus.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	select {
	case m, open := <-s.Messages():
		if !open {
			t.Fatal("the subscription ended")
		}
		return m
	case <-ctx.Done():
		t.Fatal("no message came")
	}
	return bus.Message{}
}

func testPublish(t *testing.T, connect func() bus.Bus) {
	first, second := connect(), connect()
	subs := []bus.Subscription{subscribe(t, first, "node"), subscribe(t, second, "node"), subscribe(t, second, "*")}
	publish(t, first, "node", "one")
	publish(t, second, "node", "two")
	for i, s := range subs {
		seen := map[string]bool{}
		for range 2 {
			m := receive(t, s)
			if m.Channel != "node" {
				t.Errorf("subscription %d: channel %q", i, m.Channel)
			}
			seen[string(m.Payload)] = true
		}
		if !seen["one"] || !seen["two"] {
			t.Errorf("subscription %d received %v", i, seen)
		}
	}
}

func testChannels(t *testing.T, connect func() bus.Bus) {
	b := connect()
	s := subscribe(t, b, "node")
	publish(t, b, "retry", "not for us")
	publish(t, b, "node", "for us")
	if m := receive(t, s); string(m.Payload) != "for us" {
		t.Errorf("received %q", m.Payload)
	}
}

func testList(t *testing.T, connect func() bus.Bus) {
	first, second := connect(), connect()
	const items = 50
	for i := range items {
		if err := first.Push(t.Context(), "work", []byte(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	seen := map[string]int{}
	var group sync.WaitGroup
	for i := range items + 10 {
		group.Go(func() {
			item, err := []bus.Bus{first, second}[i%2].Pop(t.Context(), "work", 0)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				seen[string(item)]++
			} else if !errors.Is(err, errs.NotFound) {
				t.Error(err)
			}
		})
	}
	group.Wait()
	for item, times := range seen {
		if times != 1 {
			t.Errorf("item %s went to %d callers", item, times)
		}
	}
	if len(seen) != items {
		t.Errorf("%d items of %d came out", len(seen), items)
	}
}

func testFullList(t *testing.T, connect func() bus.Bus) {
	b := connect()
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range bus.MostItems / 8 {
				if err := b.Push(t.Context(), "full", []byte("x")); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	if err := b.Push(t.Context(), "full", []byte("y")); !errors.Is(err, errs.Temporary) {
		t.Errorf("one item too many: %v", err)
	}
	if err := b.Push(t.Context(), "another", []byte("y")); err != nil {
		t.Errorf("another list: %v", err)
	}
	if _, err := b.Pop(t.Context(), "full", 0); err != nil {
		t.Error(err)
	}
	if err := b.Push(t.Context(), "full", []byte("y")); err != nil {
		t.Errorf("after one was taken: %v", err)
	}
}

func testPopWaits(t *testing.T, connect func() bus.Bus) {
	b := connect()
	got := make(chan string, 1)
	go func() {
		item, err := b.Pop(t.Context(), "later", time.Minute)
		got <- fmt.Sprintf("%s %v", item, err)
	}()
	if err := connect().Push(t.Context(), "later", []byte("here")); err != nil {
		t.Fatal(err)
	}
	if text := <-got; text != "here <nil>" {
		t.Error(text)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Pop(ctx, "never", time.Minute); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

func testSlowReader(t *testing.T, connect func() bus.Bus) {
	b := connect()
	slow, quick := subscribe(t, b, "node"), subscribe(t, b, "done")
	for i := range 5000 {
		publish(t, b, "node", fmt.Sprint(i))
	}
	publish(t, b, "node", "last")
	publish(t, b, "done", "done")
	receive(t, quick)
	count := 0
	for m := receive(t, slow); string(m.Payload) != "last"; m = receive(t, slow) {
		count++
	}
	if count > 4000 {
		t.Errorf("%d messages waited for a reader that slept", count)
	}
}

func testClose(t *testing.T, connect func() bus.Bus) {
	b := connect()
	s := subscribe(t, b, "node")
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	for range s.Messages() {
	}
	if err := b.Publish(t.Context(), "node", nil); err == nil {
		t.Error("a closed bus publishes")
	}
}

func testCount(t *testing.T, connect func() bus.Bus) {
	first, second := connect(), connect()
	count := func(b bus.Bus, name string, by int64, window time.Duration) (int64, time.Duration) {
		t.Helper()
		value, rest, err := b.Count(t.Context(), name, by, window)
		if err != nil {
			t.Fatal(err)
		}
		return value, rest
	}
	for i, step := range []struct {
		bus  bus.Bus
		name string
		by   int64
		want int64
	}{
		{first, "bob", 0, 0}, {first, "bob", 1, 1}, {second, "bob", 1, 2}, {first, "bob", 3, 5}, {second, "eve", 1, 1}, {second, "bob", -2, 3}, {first, "bob", 0, 3},
	} {
		if value, rest := count(step.bus, step.name, step.by, time.Hour); value != step.want || rest <= 0 || rest > time.Hour {
			t.Errorf("step %d: %d for %s, want %d", i, value, rest, step.want)
		}
	}
	UntilAnew(t, second, "short", 50*time.Millisecond)
}

// UntilAnew counts until the counter begins anew, which it does although it is
// used all the time.
func UntilAnew(t *testing.T, b bus.Bus, name string, window time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for last := int64(0); ; {
		value, _, err := b.Count(ctx, name, 1, window)
		if err != nil {
			t.Fatalf("after %d: %v", last, err)
		}
		if value <= last {
			return
		}
		last = value
	}
}

func testHold(t *testing.T, connect func() bus.Bus) {
	first, second := connect(), connect()
	held := func(name string, want bool) {
		t.Helper()
		for i, b := range []bus.Bus{first, second} {
			if got, err := b.Held(t.Context(), name); got != want || err != nil {
				t.Errorf("instance %d: %s held: %t, %v", i, name, got, err)
			}
		}
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	held("a", false)
	do(first.Hold(t.Context(), "a", "one", time.Hour))
	do(first.Hold(t.Context(), "a", "one", time.Hour))
	do(second.Hold(t.Context(), "a", "two", time.Hour))
	held("a", true)
	held("b", false)
	do(first.Release(t.Context(), "a", "one"))
	do(first.Release(t.Context(), "a", "one"))
	do(first.Release(t.Context(), "b", "one"))
	held("a", true)
	do(second.Release(t.Context(), "a", "two"))
	held("a", false)
}

func testDeadHolder(t *testing.T, connect func() bus.Bus) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	b := connect()
	if err := errors.Join(b.Hold(ctx, "a", "dead", time.Hour), b.Hold(ctx, "a", "dead", 20*time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	for held := true; held; {
		var err error
		if held, err = b.Held(ctx, "a"); err != nil {
			t.Fatal(err)
		}
	}
}

func testPing(t *testing.T, connect func() bus.Bus) {
	if err := connect().Ping(t.Context()); err != nil {
		t.Error(err)
	}
}
