// Package relay is the function that runs behind all others, on a schedule: it
// publishes what a crash left unpublished, and drops what is older than its
// retention: events, and the places of listeners that keep none and have not
// been heard of for long.
//
// Safe to run twice and from any number of instances: each of its steps is.
package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/store"
)

// Store is what the function needs of the store.
type Store interface {
	Prune(ctx context.Context, before time.Time, limit int) (int, error)
	Subscriptions(ctx context.Context) ([]store.Subscription, error)
	Unsubscribe(ctx context.Context, id int64) error
}

// Options are the parts of the function.
type Options struct {
	Store     Store
	Flush     func(context.Context) error // publishes everything committed so far
	Retention time.Duration               // of events
	Now       func() time.Time
	Log       *slog.Logger
}

// Function publishes and cleans up.
type Function struct{ Options }

// New builds the function.
func New(o Options) (*Function, error) {
	if o.Store == nil || o.Flush == nil || o.Retention <= 0 || o.Now == nil || o.Log == nil {
		return nil, errs.New(errs.Invalid, "relay.New: a part is missing")
	}
	return &Function{o}, nil
}

const (
	// pruneBatch is how many events are dropped at a time, so that nobody
	// waits long for the database.
	pruneBatch = 5000
	// silence is after how long a listener that keeps no place is gone.
	silence = time.Hour
)

// Tick does all of it once.
func (f *Function) Tick(ctx context.Context) error {
	if err := errors.Join(f.Flush(ctx), f.prune(ctx), f.forget(ctx)); err != nil {
		return fmt.Errorf("relay.Tick: %w", err)
	}
	return nil
}

func (f *Function) prune(ctx context.Context) error {
	before := f.Now().Add(-f.Retention)
	for {
		n, err := f.Store.Prune(ctx, before, pruneBatch)
		if err != nil || n < pruneBatch {
			return err
		}
	}
}

func (f *Function) forget(ctx context.Context) error {
	all, err := f.Store.Subscriptions(ctx)
	if err != nil {
		return err
	}
	for _, s := range all {
		if s.SubscriberID != "" || f.Now().Sub(s.LastPoll) < silence {
			continue
		}
		f.Log.DebugContext(ctx, "a listener is gone", "subscription", s.ID, "user", s.User)
		if err := f.Store.Unsubscribe(ctx, s.ID); err != nil && !errors.Is(err, errs.NotFound) {
			return err
		}
	}
	return nil
}
