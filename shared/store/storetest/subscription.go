package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/store"
)

func (s *suite) testDurableSubscriber(t *testing.T) {
	first, second := s.pair(t)
	ctx := t.Context()
	sub, err := first.Subscribe(ctx, store.Subscription{Channel: "node", User: "bob", SubscriberID: "dash", Acknowledged: 7, Delivered: 7})
	if err != nil || sub.ID == 0 || sub.Created.IsZero() {
		t.Fatalf("%+v: %v", sub, err)
	}
	at := start.Add(time.Minute)
	for _, step := range [][2]int64{{8, 9}, {3, 4}} {
		if err := second.Polled(ctx, sub.ID, step[0], step[1], at); err != nil {
			t.Fatal(err)
		}
	}
	again, err := second.Subscribe(ctx, store.Subscription{Channel: "other", User: "bob", SubscriberID: "dash", Promiscuous: true})
	if err != nil || again.ID != sub.ID || again.Acknowledged != 8 || again.Delivered != 8 || !again.LastPoll.Equal(at) || again.Channel != "other" || !again.Promiscuous {
		t.Errorf("%+v: %v", again, err)
	}
	if kept, err := first.Subscription(ctx, sub.ID); err != nil || asJSON(t, kept) != asJSON(t, again) {
		t.Errorf("%+v: %v", kept, err)
	}
	if _, err := first.Subscribe(ctx, store.Subscription{Channel: "node", User: "eve", SubscriberID: "dash"}); !errors.Is(err, errs.Denied) {
		t.Errorf("another user: %v", err)
	}
}

func (s *suite) testPassingSubscriber(t *testing.T) {
	st := s.open(t)
	ctx := t.Context()
	one, err := st.Subscribe(ctx, store.Subscription{Channel: "node", User: "bob"})
	if err != nil {
		t.Fatal(err)
	}
	two, err := st.Subscribe(ctx, store.Subscription{Channel: "node", User: "bob"})
	if err != nil || one.ID == two.ID {
		t.Errorf("ids %d and %d: %v", one.ID, two.ID, err)
	}
	if list, err := st.Subscriptions(ctx, 0, 100); err != nil || len(list) != 2 || list[0].ID != one.ID {
		t.Errorf("%+v: %v", list, err)
	}
	if list, err := st.Subscriptions(ctx, one.ID, 1); err != nil || len(list) != 1 || list[0].ID != two.ID {
		t.Errorf("the second page: %+v: %v", list, err)
	}
	if err := st.Unsubscribe(ctx, one.ID); err != nil {
		t.Error(err)
	}
	if list, err := st.Subscriptions(ctx, 0, 1); err != nil || len(list) != 1 || list[0].ID != two.ID {
		t.Errorf("what is left: %+v: %v", list, err)
	}
	for what, err := range map[string]error{
		"Unsubscribe": st.Unsubscribe(ctx, one.ID),
		"Polled":      st.Polled(ctx, one.ID, 1, 1, start),
	} {
		if !errors.Is(err, errs.NotFound) {
			t.Errorf("%s of a removed one: %v", what, err)
		}
	}
	if _, err := st.Subscription(ctx, one.ID); !errors.Is(err, errs.NotFound) {
		t.Errorf("Subscription of a removed one: %v", err)
	}
}

func (s *suite) testAPlaceOutlastsItsListener(t *testing.T) {
	first, second := s.pair(t)
	ctx := t.Context()
	sub, err := first.Subscribe(ctx, store.Subscription{Channel: "node", User: "bob", SubscriberID: "dash", Acknowledged: 7, Delivered: 7})
	if err != nil || !sub.LastPoll.IsZero() || !sub.Created.Equal(start) {
		t.Fatalf("%+v: %v", sub, err)
	}
	if err := first.Unsubscribe(ctx, sub.ID); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"Unsubscribe": second.Unsubscribe(ctx, sub.ID),
		"Polled":      second.Polled(ctx, sub.ID, 9, 9, start),
	} {
		if !errors.Is(err, errs.NotFound) {
			t.Errorf("%s of an ended one: %v", what, err)
		}
	}
	if _, err := second.Subscription(ctx, sub.ID); !errors.Is(err, errs.NotFound) {
		t.Errorf("Subscription of an ended one: %v", err)
	}
	if list, err := second.Subscriptions(ctx, 0, 10); err != nil || len(list) != 0 {
		t.Errorf("%+v: %v", list, err)
	}
	if list, err := second.Durable(ctx, 10); err != nil || len(list) != 1 {
		t.Errorf("%+v: %v", list, err)
	}
	if _, err := first.Subscribe(ctx, store.Subscription{Channel: "node", User: "eve", SubscriberID: "dash"}); !errors.Is(err, errs.Denied) {
		t.Errorf("another user: %v", err)
	}
	again, err := second.Subscribe(ctx, store.Subscription{Channel: "node", User: "bob", SubscriberID: "dash", Acknowledged: 99, Delivered: 99})
	if err != nil || again.ID == 0 || again.Acknowledged != 7 || again.Delivered != 7 {
		t.Errorf("%+v: %v", again, err)
	}
	if _, err := first.Subscription(ctx, again.ID); err != nil {
		t.Error(err)
	}
}

func (s *suite) testSilentListenersAreForgotten(t *testing.T) {
	st := s.open(t)
	ctx := t.Context()
	subscribe := func(id string) int64 {
		sub, err := st.Subscribe(ctx, store.Subscription{Channel: "node", User: "bob", SubscriberID: id})
		if err != nil {
			t.Fatal(err)
		}
		return sub.ID
	}
	silent, durable, polled, ended := subscribe(""), subscribe("dash"), subscribe(""), subscribe("")
	s.clock.advance()
	now := s.clock.time()
	if err := st.Polled(ctx, polled, 0, 0, now); err != nil {
		t.Fatal(err)
	}
	if err := st.Unsubscribe(ctx, ended); err != nil {
		t.Fatal(err)
	}
	left := func(want ...int64) {
		t.Helper()
		list, err := st.Subscriptions(ctx, 0, 10)
		if err != nil || len(list) != len(want) {
			t.Fatalf("%+v: %v, want %v", list, err, want)
		}
		for i, id := range want {
			if list[i].ID != id {
				t.Errorf("%+v, want %v", list, want)
			}
		}
	}
	left(silent, durable, polled)
	if n, err := st.Forget(ctx, now, start, 10); err != nil || n != 1 {
		t.Errorf("forgot %d: %v", n, err)
	}
	left(durable, polled)
	if n, err := st.Forget(ctx, start, now, 10); err != nil || n != 1 {
		t.Errorf("forgot %d: %v", n, err)
	}
	left(polled)
	for n := 1; n > 0; {
		var err error
		if n, err = st.Forget(ctx, now.Add(time.Hour), now.Add(time.Hour), 1); err != nil || n > 1 {
			t.Fatalf("forgot %d of a batch of 1: %v", n, err)
		}
	}
	left()
	if list, err := st.Durable(ctx, 10); err != nil || len(list) != 0 {
		t.Errorf("%+v: %v", list, err)
	}
}

func (s *suite) testDurableOnesAreListedByLag(t *testing.T) {
	st := s.open(t)
	for _, sub := range []store.Subscription{
		{SubscriberID: "near", Acknowledged: 9}, {Acknowledged: 1}, {SubscriberID: "far", Acknowledged: 2}, {SubscriberID: "between", Acknowledged: 5},
	} {
		sub.Channel, sub.User = "node", "bob"
		if _, err := st.Subscribe(t.Context(), sub); err != nil {
			t.Fatal(err)
		}
	}
	list, err := st.Durable(t.Context(), 2)
	if err != nil || len(list) != 2 || list[0].SubscriberID != "far" || list[1].SubscriberID != "between" {
		t.Errorf("%+v: %v", list, err)
	}
}
