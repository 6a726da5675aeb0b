package errs_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/kernelflow/kernelflow/shared/errs"
)

func TestEachKindHasOneStatusAndOneAnswerToRetry(t *testing.T) {
	for _, tc := range []struct {
		err    error
		status int
		retry  bool
	}{
		{nil, 200, false},
		{errs.NotFound, 404, false},
		{errs.Conflict, 409, false},
		{errs.Invalid, 400, false},
		{errs.Unauthenticated, 401, false},
		{errs.Denied, 403, false},
		{errs.Temporary, 503, true},
		{errors.New("unknown"), 500, true},
		{context.DeadlineExceeded, 504, true},
	} {
		if got := errs.Status(tc.err); got != tc.status {
			t.Errorf("Status(%v) = %d, want %d", tc.err, got, tc.status)
		}
		if got := errs.Retry(tc.err); got != tc.retry {
			t.Errorf("Retry(%v) = %t, want %t", tc.err, got, tc.retry)
		}
	}
}

func TestAKindIsFoundThroughWrapping(t *testing.T) {
	cause := errors.New("disk on fire")
	err := fmt.Errorf("sqlite.Get(%q): %w", "65f0", errs.Wrap(errs.Temporary, cause))
	if !errors.Is(err, errs.Temporary) || !errors.Is(err, cause) {
		t.Errorf("%v lost its kind or its cause", err)
	}
	if got, want := err.Error(), `sqlite.Get("65f0"): disk on fire`; got != want {
		t.Errorf("text %q, want %q", got, want)
	}
	if errs.Wrap(errs.Temporary, nil) != nil {
		t.Error("Wrap(nil) is an error")
	}
	if got := errs.KindOf(errs.New(errs.Invalid, "field %q", "kind")); got != errs.Invalid {
		t.Errorf("KindOf(New(Invalid)) = %v", got)
	}
}
