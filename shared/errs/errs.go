// Package errs holds the few kinds of error that Kernelflow tells apart, and
// the one table that says what each means outside: an HTTP status, and
// whether the work that met it is worth another try.
//
// A package that finds something wrong attaches a kind with [New] or [Wrap];
// everything above it adds context with fmt.Errorf and %w; only the edge (the
// API and the hosts) asks [Status] or [Retry]. Kinds name what went wrong for
// the caller, never a state of the domain.
package errs

import (
	"context"
	"errors"
	"fmt"
	"net/http"
)

// Kind is one sort of failure. It is an error itself, so errors.Is(err,
// errs.NotFound) finds it anywhere in a chain.
type Kind struct {
	text   string
	status int
	retry  bool
}

// Error returns the kind's name, lower case.
func (k *Kind) Error() string { return k.text }

// The kinds, with their meaning outside: HTTP status, and whether to retry.
var (
	// NotFound: what was named does not exist.
	NotFound = &Kind{"not found", http.StatusNotFound, false}
	// Conflict: somebody else was first, or the thing has moved on.
	Conflict = &Kind{"conflict", http.StatusConflict, false}
	// Invalid: the input can never be right as it is.
	Invalid = &Kind{"invalid", http.StatusBadRequest, false}
	// Unauthenticated: no token, or one that is not (or no longer) good.
	Unauthenticated = &Kind{"unauthorized", http.StatusUnauthorized, false}
	// Denied: who asks is known and may not do this.
	Denied = &Kind{"denied", http.StatusForbidden, false}
	// Temporary: the same call may succeed later.
	Temporary = &Kind{"temporary", http.StatusServiceUnavailable, true}
)

var kinds = []*Kind{NotFound, Conflict, Invalid, Unauthenticated, Denied, Temporary}

// failure is a message of a kind; the kind's own name is not repeated in it.
type failure struct {
	kind *Kind
	text string
}

func (f *failure) Error() string        { return f.text }
func (f *failure) Is(target error) bool { return target == f.kind }

// New returns an error of kind k with the formatted text. %w is not for it:
// use [Wrap] to keep a cause.
func New(k *Kind, format string, args ...any) error {
	return &failure{kind: k, text: fmt.Sprintf(format, args...)}
}

type wrapped struct {
	kind  *Kind
	cause error
}

func (w *wrapped) Error() string        { return w.cause.Error() }
func (w *wrapped) Is(target error) bool { return target == w.kind }
func (w *wrapped) Unwrap() error        { return w.cause }

// Wrap gives err the kind k, keeping its text and its chain. A nil err stays
// nil.
func Wrap(k *Kind, err error) error {
	if err == nil {
		return nil
	}
	return &wrapped{kind: k, cause: err}
}

// KindOf returns the outermost kind of err, or nil when it has none.
func KindOf(err error) *Kind {
	for _, k := range kinds {
		if errors.Is(err, k) {
			return k
		}
	}
	return nil
}

// Status is the HTTP status that answers a request which ended in err: 200 for
// nil, 500 for an error without a kind.
func Status(err error) int {
	if err == nil {
		return http.StatusOK
	}
	if k := KindOf(err); k != nil {
		return k.status
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return http.StatusGatewayTimeout
	}
	return http.StatusInternalServerError
}

// Retry says whether an event whose handling ended in err is worth delivering
// again. An error without a kind is: nobody has said that it is final.
func Retry(err error) bool {
	if err == nil {
		return false
	}
	k := KindOf(err)
	return k == nil || k.retry
}
