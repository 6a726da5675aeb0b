package auth_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/auth"
	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/user"
)

func TestWhoActsIsTheOwnerWhileThereIsOne(t *testing.T) {
	now := start
	a := open(t, 0, func() time.Time { return now })
	must := func(token string, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	personal := func(token, owner node.ID) string {
		return must(a.PersonalToken(user.Token{ID: token, Scopes: user.Scopes, Expires: start.Add(time.Hour)}, user.User{ID: owner, Email: "dev@example.org"}))
	}
	lapsing := personal(kept, id)
	for name, tc := range map[string]struct {
		token string
		want  error
	}{
		"a user":                              {must(a.UserToken(id)), nil},
		"a deleted user":                      {must(a.UserToken(gone)), errs.Unauthenticated},
		"a deactivated user":                  {must(a.UserToken(disabled)), errs.Unauthenticated},
		"a user while accounts are away":      {must(a.UserToken(away)), errs.Temporary},
		"a personal token":                    {lapsing, nil},
		"one that was revoked":                {personal(gone, id), errs.Unauthenticated},
		"one of another user":                 {personal(kept, disabled), errs.Unauthenticated},
		"a token for a mail's reader":         {must(a.Once(auth.ResetPassword, user.User{ID: id}, time.Hour)), errs.Unauthenticated},
		"no token":                            {"", errs.Unauthenticated},
		"a job, which is asked of no account": {must(a.JobToken(away, time.Hour)), nil},
	} {
		if _, err := a.Authenticate(t.Context(), accounts{}, tc.token); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
	// What the store says counts, not what the token says.
	u, err := a.Authenticate(t.Context(), accounts{}, lapsing)
	if err != nil || !slices.Equal(u.Scopes, []user.Scope{user.ScopeCheckout}) {
		t.Errorf("%+v, %v", u, err)
	}
	permit, err := a.Pipeline(t.Context(), accounts{}, lapsing)
	if err != nil || permit.Email != "dev@example.org" || !permit.Allows("patchset") {
		t.Errorf("%+v, %v", permit, err)
	}
	now = start.Add(2 * time.Hour)
	if _, err := a.Authenticate(t.Context(), accounts{}, lapsing); !errors.Is(err, errs.Unauthenticated) {
		t.Errorf("a lapsed personal token: %v", err)
	}
}

func TestATokenStandsBareOrBehindBearer(t *testing.T) {
	for header, want := range map[string]string{
		"a.b.c": "a.b.c", "Bearer a.b.c": "a.b.c", "bearer  a.b.c ": "a.b.c", " a.b.c": "a.b.c", "": "", "Bearer": "Bearer", "Basic x": "Basic x",
	} {
		if got := auth.FromHeader(header); got != want {
			t.Errorf("%q: %q, want %q", header, got, want)
		}
	}
}
