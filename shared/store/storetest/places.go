package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/store"
)

func (s *suite) testCursors(t *testing.T) {
	st := s.open(t)
	ctx := t.Context()
	for _, step := range []struct{ to, want int64 }{{0, 0}, {5, 5}, {3, 5}, {9, 9}} {
		if err := st.Advance(ctx, "function/x", step.to); err != nil {
			t.Fatal(err)
		}
		if got, err := st.Cursor(ctx, "function/x"); err != nil || got != step.want {
			t.Errorf("after Advance(%d): %d, want %d: %v", step.to, got, step.want, err)
		}
	}
	if got, err := st.Cursor(ctx, "function/new"); err != nil || got != 0 {
		t.Errorf("a new cursor is at %d: %v", got, err)
	}
}

func (s *suite) testClaims(t *testing.T) {
	st := s.open(t)
	ctx := t.Context()
	lease := s.clock.time().Add(30 * time.Second)
	for _, step := range []struct {
		what string
		err  error
		want error
	}{
		{"first", st.Claim(ctx, "k", "a", lease), nil},
		{"again", st.Claim(ctx, "k", "a", lease), nil},
		{"another holder", st.Claim(ctx, "k", "b", lease), errs.Conflict},
		{"another key", st.Claim(ctx, "l", "b", time.Time{}), nil},
		{"release by who has it not", st.Release(ctx, "k", "b"), nil},
		{"still held", st.Claim(ctx, "k", "b", lease), errs.Conflict},
		{"release", st.Release(ctx, "k", "a"), nil},
		{"free", st.Claim(ctx, "k", "b", lease), nil},
	} {
		if !errors.Is(step.err, step.want) {
			t.Errorf("%s: %v, want %v", step.what, step.err, step.want)
		}
	}
	s.clock.advance()
	if err := st.Claim(ctx, "k", "c", lease); err != nil {
		t.Errorf("a lapsed claim: %v", err)
	}
	if err := st.Claim(ctx, "l", "c", time.Time{}); !errors.Is(err, errs.Conflict) {
		t.Errorf("a claim for good: %v", err)
	}
}

func (s *suite) testOneOfManyClaims(t *testing.T) {
	first, second := s.pair(t)
	results := make(chan error, 50)
	var group sync.WaitGroup
	for i := range s.scale(50) {
		group.Go(func() {
			results <- []store.Store{first, second}[i%2].Claim(t.Context(), "key", fmt.Sprint("holder-", i), time.Time{})
		})
	}
	group.Wait()
	close(results)
	wins := 0
	for err := range results {
		if err == nil {
			wins++
		} else if !errors.Is(err, errs.Conflict) {
			t.Error(err)
		}
	}
	if wins != 1 {
		t.Errorf("%d holders", wins)
	}
}

func (s *suite) testDeadLetters(t *testing.T) {
	st := s.open(t)
	ctx := t.Context()
	letter := store.DeadLetter{Function: "report", Event: published(1), Error: "mail server away", Attempts: 8, Time: start}
	other := letter
	other.Function = "scheduler"
	again := letter
	again.Attempts = 16
	for _, d := range []store.DeadLetter{letter, other, again} {
		if err := st.Bury(ctx, d); err != nil {
			t.Fatal(err)
		}
	}
	list, err := st.ListDeadLetters(ctx, 10)
	if err != nil || len(list) != 2 || asJSON(t, list[0]) != asJSON(t, again) {
		t.Errorf("%s: %v", asJSON(t, list), err)
	}
	if got, err := st.Exhume(ctx, "report", letter.Event.ID); err != nil || asJSON(t, got) != asJSON(t, again) {
		t.Errorf("%s: %v", asJSON(t, got), err)
	}
	if _, err := st.Exhume(ctx, "report", letter.Event.ID); !errors.Is(err, errs.NotFound) {
		t.Errorf("exhumed twice: %v", err)
	}
}
