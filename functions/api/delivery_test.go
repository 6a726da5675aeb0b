package api_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/functions/api"
	"github.com/kernelflow/kernelflow/shared/bus"
	"github.com/kernelflow/kernelflow/shared/errs"
)

// noted returns when the store has it that the event was delivered.
func (s *site) noted(id, sequence int64) {
	s.t.Helper()
	for {
		sub, err := s.store.Subscription(s.t.Context(), id)
		check(s.t, err)
		if sub.Delivered >= sequence {
			return
		}
	}
}

// stalled is a store in which nothing is noted of a listener until it may be,
// or never.
type stalled struct {
	api.Store
	came  chan struct{} // a delivery is to be noted
	goOn  chan struct{}
	fails atomic.Bool
}

func newStalled() *stalled { return &stalled{came: make(chan struct{}, 9), goOn: make(chan struct{})} }

func (s *stalled) Polled(ctx context.Context, id, acknowledged, delivered int64, at time.Time) error {
	s.came <- struct{}{}
	if <-s.goOn; s.fails.Load() {
		return errs.New(errs.Temporary, "the instance died")
	}
	return s.Store.Polled(ctx, id, acknowledged, delivered, at)
}

// deaf is a bus to which an instance says nothing more after its first mark, as
// one that was killed.
type deaf struct {
	bus.Bus
	marked atomic.Bool
}

func (d *deaf) Hold(ctx context.Context, name, holder string, lasts time.Duration) error {
	if d.marked.Swap(true) {
		return nil
	}
	return d.Bus.Hold(ctx, name, holder, lasts)
}

func (d *deaf) Release(context.Context, string, string) error { return nil }

// beside returns another instance on the parts of s.
func (s *site) beside(o api.Options) *site {
	s.t.Helper()
	handler, err := api.New(o)
	check(s.t, err)
	return &site{t: s.t, url: newServer(s.t, handler).URL, handler: handler, store: s.store, auth: s.auth, admin: s.admin, bob: s.bob}
}

// poll asks for the next event and returns what was answered when the handler has
// come to its end: a client of a connection would not know when that is.
func (s *site) poll(ctx context.Context, id int64) string {
	r := httptest.NewRequestWithContext(ctx, "GET", fmt.Sprint("/latest/listen/", id), nil)
	r.Header.Set("Authorization", "Bearer "+s.bob)
	answer := httptest.NewRecorder()
	s.handler.ServeHTTP(answer, r)
	return answer.Body.String()
}

// pair is two instances, of which the first notes through st and has that bus.
func pair(t *testing.T, st *stalled, disturb func(*api.Options)) (first, second *site) {
	var o api.Options
	second = newSite(t, func(parts *api.Options) { o = *parts })
	st.Store, o.Store = o.Store, st
	if disturb != nil {
		disturb(&o)
	}
	first = second.beside(o)
	return first, second
}

func TestAPollElsewhereWaitsUntilTheDeliveryIsNoted(t *testing.T) {
	for _, where := range []string{"at another instance", "at the same without its bus"} {
		t.Run(where, func(t *testing.T) {
			st := newStalled()
			var channel bus.Bus
			first, second := pair(t, st, func(o *api.Options) { channel = o.Bus })
			if where != "at another instance" {
				second = first
			}
			id := second.subscribe(second.bob, "")
			second.create(second.bob, named("one"))
			second.create(second.bob, named("two"))
			if second == first {
				check(t, channel.Close())
			}
			if got := first.listen(first.bob, id); got != "one" {
				t.Errorf("heard %s", got)
			}
			<-st.came
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			if answer := second.poll(ctx, id); ctx.Err() == nil || strings.Contains(answer, "specversion") {
				t.Errorf("before it is noted: %s", answer)
			}
			close(st.goOn)
			if got := second.listen(second.bob, id); got != "two" {
				t.Errorf("then heard %s", got)
			}
		})
	}
}

func TestWhatADeadInstanceHasNotNotedComesAgain(t *testing.T) {
	st, silence := newStalled(), &deaf{}
	st.fails.Store(true)
	first, second := pair(t, st, func(o *api.Options) { silence.Bus = o.Bus; o.Bus = silence })
	id := second.subscribe(second.bob, "?subscriber_id=dash")
	second.create(second.bob, named("one"))
	second.create(second.bob, named("two"))
	heardFirst := first.heardFrom(first.bob, id)
	<-st.came
	close(st.goOn)
	again := second.heardFrom(second.bob, id)
	if fmt.Sprint(again) != fmt.Sprint(heardFirst) {
		t.Errorf("heard %v, then %v", heardFirst, again)
	}
	if got := second.listen(second.bob, id); got != "two" {
		t.Errorf("then heard %s", got)
	}
}

// broken is a connection whose client has gone.
type broken struct{ http.ResponseWriter }

func (broken) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

// late is a connection that tells only at the end that its client has gone.
type late struct{ http.ResponseWriter }

func (late) FlushError() error { return errors.New("connection reset") }

func TestWhoseAnswerBreaksOffIsGivenTheEventAgain(t *testing.T) {
	s := newSite(t)
	id := s.subscribe(s.bob, "?subscriber_id=dash")
	s.create(s.bob, named("one"))
	poll := func(ctx context.Context, w http.ResponseWriter) {
		r := httptest.NewRequestWithContext(ctx, "GET", fmt.Sprint("/latest/listen/", id), nil)
		r.Header.Set("Authorization", "Bearer "+s.bob)
		s.handler.ServeHTTP(w, r)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	poll(t.Context(), broken{httptest.NewRecorder()})
	poll(t.Context(), late{httptest.NewRecorder()})
	poll(gone, httptest.NewRecorder())
	if status, _ := s.call(s.bob, "HEAD", fmt.Sprint("/latest/listen/", id), ""); status != 200 {
		t.Errorf("HEAD: %d", status)
	}
	if got := s.listen(s.bob, id); got != "one" {
		t.Errorf("heard %s", got)
	}
	s.noted(id, 1)
}

func TestWithoutItsChannelASubscriptionGoesOn(t *testing.T) {
	var channel bus.Bus
	s := newSite(t, func(o *api.Options) { channel = o.Bus; o.KeepAlive = 20 * time.Millisecond })
	id := s.subscribe(s.bob, "?subscriber_id=dash")
	check(t, channel.Close())
	s.create(s.bob, named("one"))
	s.create(s.bob, named("two"))
	for _, want := range []string{"one", "two"} {
		got := s.listen(s.bob, id)
		for ; got == "BEEP"; got = s.listen(s.bob, id) { // until the log is looked at by the clock
		}
		if got != want {
			t.Errorf("heard %s, want %s", got, want)
		}
	}
}
