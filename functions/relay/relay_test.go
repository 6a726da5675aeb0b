package relay_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/functions/relay"
	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
	"github.com/kernelflow/kernelflow/shared/store/sqlite"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// noFiles is a storage that nobody may ask.
type noFiles struct{ relay.Storage }

func TestOldEventsAndSilentListenersGo(t *testing.T) {
	now := time.Date(2025, 1, 12, 8, 0, 0, 0, time.UTC)
	ctx := t.Context()
	st, err := sqlite.Open(ctx, sqlite.Options{Path: filepath.Join(t.TempDir(), "x.db"), Now: func() time.Time { return now }})
	check(t, err)
	defer func() { check(t, st.Close()) }()
	create := func(name string) {
		n := node.Node{ID: node.DeriveID("", name), Name: name, Path: []string{name}}
		_, err := st.Create(ctx, n)
		check(t, err)
	}
	create("old")
	passing, err := st.Subscribe(ctx, store.Subscription{Channel: "node", User: "bob", LastPoll: now})
	check(t, err)
	durable, err := st.Subscribe(ctx, store.Subscription{Channel: "node", User: "bob", SubscriberID: "dash", LastPoll: now})
	check(t, err)
	now = now.Add(24 * time.Hour)
	create("new")
	flushed := 0
	f, err := relay.New(relay.Options{
		Store: st, Storage: noFiles{}, Flush: func(context.Context) error { flushed++; return nil }, Events: 12 * time.Hour, Telemetry: time.Hour, Schedule: time.Hour,
		Now: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler),
	})
	check(t, err)
	check(t, f.Tick(ctx))
	check(t, f.Tick(ctx))
	events, err := st.History(ctx, store.History{})
	check(t, err)
	if len(events) != 1 || flushed != 2 {
		t.Errorf("%d events, flushed %d times", len(events), flushed)
	}
	if _, err := st.Subscription(ctx, passing.ID); !errors.Is(err, errs.NotFound) {
		t.Errorf("the silent listener: %v", err)
	}
	if _, err := st.Subscription(ctx, durable.ID); err != nil {
		t.Errorf("the durable listener: %v", err)
	}
}

func TestTroubleWithTheBusStopsNoCleaning(t *testing.T) {
	now := time.Date(2025, 1, 12, 8, 0, 0, 0, time.UTC)
	st, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "x.db"), Now: func() time.Time { return now }})
	check(t, err)
	defer func() { check(t, st.Close()) }()
	_, err = st.Create(t.Context(), node.Node{ID: node.DeriveID("", "x"), Name: "x", Path: []string{"x"}})
	check(t, err)
	now = now.Add(24 * time.Hour)
	away := errs.New(errs.Temporary, "the bus is away")
	f, err := relay.New(relay.Options{
		Store: st, Storage: noFiles{}, Flush: func(context.Context) error { return away }, Events: time.Hour, Telemetry: time.Hour, Schedule: time.Hour,
		Now: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler),
	})
	check(t, err)
	if err := f.Tick(t.Context()); !errors.Is(err, errs.Temporary) {
		t.Errorf("%v", err)
	}
	if events, err := st.History(t.Context(), store.History{}); err != nil || len(events) != 0 {
		t.Errorf("%d events, %v", len(events), err)
	}
}
