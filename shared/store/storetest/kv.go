package storetest

import (
	"errors"
	"testing"

	"github.com/kernelflow/kernelflow/shared/errs"
)

func (s *suite) testKV(t *testing.T) {
	first, second := s.pair(t)
	ctx := t.Context()
	for _, k := range []struct{ namespace, key, value string }{{"a:b", "c", "1"}, {"a", "b:c", "2"}, {"a", "b", "old"}, {"a", "b", "größer\n"}} {
		if err := first.SetKV(ctx, k.namespace, k.key, k.value); err != nil {
			t.Fatal(err)
		}
		if got, err := second.KV(ctx, k.namespace, k.key); err != nil || got != k.value {
			t.Errorf("%s %s: %q, want %q: %v", k.namespace, k.key, got, k.value, err)
		}
	}
	if got, err := second.KV(ctx, "a:b", "c"); err != nil || got != "1" {
		t.Errorf("another namespace's key: %q: %v", got, err)
	}
	for range 2 {
		if err := second.DeleteKV(ctx, "a", "b"); err != nil {
			t.Fatal(err)
		}
		if _, err := first.KV(ctx, "a", "b"); !errors.Is(err, errs.NotFound) {
			t.Errorf("a deleted key: %v", err)
		}
	}
}
