package redis_test

import (
	"errors"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/kernelflow/kernelflow/shared/bus"
	"github.com/kernelflow/kernelflow/shared/bus/bustest"
	"github.com/kernelflow/kernelflow/shared/bus/redis"
	"github.com/kernelflow/kernelflow/shared/errs"
)

func connector(t *testing.T, o redis.Options) func() bus.Bus {
	t.Helper()
	return func() bus.Bus {
		b, err := redis.Open(o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = b.Close() }) // some tests have closed it
		return b
	}
}

func TestConformanceInProcess(t *testing.T) {
	bustest.Run(t, func(t *testing.T) func() bus.Bus {
		server := miniredis.RunT(t)
		server.ClockTTL(true)
		return connector(t, redis.Options{Addr: server.Addr()})
	})
}

func TestConformanceOnARealServer(t *testing.T) {
	url := os.Getenv("TEST_REDIS_URL")
	if url == "" {
		if os.Getenv("CI_REQUIRE_SERVERS") != "" {
			t.Fatal("TEST_REDIS_URL is not set, and this run requires servers")
		}
		t.Skip("TEST_REDIS_URL is not set")
	}
	bustest.Run(t, func(t *testing.T) func() bus.Bus {
		return connector(t, redis.Options{Addr: url, Prefix: "test:" + t.Name() + ":"})
	})
}

func TestEmbeddedNeedsNothing(t *testing.T) {
	b, err := redis.Embedded(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

func TestACounterOfTheEmbeddedServerBeginsAnew(t *testing.T) {
	b, err := redis.Embedded(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}()
	bustest.UntilAnew(t, b, "x", 20*time.Millisecond)
}

func TestAServerThatIsAwayIsTemporary(t *testing.T) {
	server := miniredis.RunT(t)
	b := connector(t, redis.Options{Addr: server.Addr()})()
	server.Close()
	_, subscribing := b.Subscribe(t.Context(), "node")
	_, popping := b.Pop(t.Context(), "list", 0)
	_, _, counting := b.Count(t.Context(), "x", 1, time.Minute)
	_, asking := b.Held(t.Context(), "x")
	for what, err := range map[string]error{
		"Publish": b.Publish(t.Context(), "node", nil), "Subscribe": subscribing, "Pop": popping, "Count": counting, "Ping": b.Ping(t.Context()),
		"Hold": b.Hold(t.Context(), "x", "me", time.Minute), "Release": b.Release(t.Context(), "x", "me"), "Held": asking,
	} {
		if !errors.Is(err, errs.Temporary) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	if err := b.Publish(t.Context(), "node", nil); err != nil {
		t.Errorf("after the server came back: %v", err)
	}
}

func TestABadAddressIsRefusedWithoutItsPassword(t *testing.T) {
	for _, addr := range []string{"", "redis://user:hunter2@host:port"} {
		_, err := redis.Open(redis.Options{Addr: addr})
		if !errors.Is(err, errs.Invalid) {
			t.Errorf("%q: %v", addr, err)
		}
	}
}
