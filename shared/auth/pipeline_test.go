package auth_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/kernelflow/kernelflow/shared/auth"
	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/user"
)

const (
	gone     = node.ID("65f000000000000000000009")
	disabled = node.ID("65f000000000000000000008")
	away     = node.ID("65f000000000000000000007")
)

// accounts knows one active account, one that is not, and one that cannot be
// asked for.
type accounts struct{}

func (accounts) User(_ context.Context, asked node.ID) (user.User, error) {
	switch asked {
	case id:
		return user.User{ID: id, Active: true}, nil
	case disabled:
		return user.User{ID: disabled}, nil
	case away:
		return user.User{}, errs.New(errs.Temporary, "the database is away")
	}
	return user.User{}, errs.New(errs.NotFound, "user %s not found", asked)
}

// kept is the id of the one personal token that is known.
const kept = node.ID("65f0000000000000000000aa")

func (accounts) Token(_ context.Context, asked node.ID) (user.Token, error) {
	if asked == kept {
		return user.Token{ID: kept, User: id, Scopes: []user.Scope{user.ScopeCheckout}}, nil
	}
	return user.Token{}, errs.New(errs.NotFound, "token %s not found", asked)
}

func TestThePipelineTakesTokensWithPermissions(t *testing.T) {
	a := open(t, 0, func() time.Time { return start })
	sign := func(method jwt.SigningMethod, key any, change func(jwt.MapClaims)) string {
		claims := jwt.MapClaims{"email": "dev@example.org", "permissions": []string{"checkout", "patchset"}}
		change(claims)
		token, err := jwt.NewWithClaims(method, claims).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	hs := jwt.SigningMethodHS256
	with := func(key string, value any) func(jwt.MapClaims) { return func(c jwt.MapClaims) { c[key] = value } }
	personal := func(token node.ID) func(jwt.MapClaims) {
		return func(c jwt.MapClaims) { c["sub"], c["aud"], c["jti"] = string(id), "kernelflow:token", string(token) }
	}
	as := func(change func(jwt.MapClaims)) string { return sign(hs, secret, change) }
	for name, tc := range map[string]struct {
		token string
		want  error
	}{
		"ours":                      {as(func(jwt.MapClaims) {}), nil},
		"the unified key":           {sign(hs, unified, func(jwt.MapClaims) {}), nil},
		"any audience":              {as(with("aud", "somebody else's")), nil},
		"a subject that is no id":   {as(with("sub", "dev")), nil},
		"of an active account":      {as(with("sub", string(id))), nil},
		"not ended":                 {as(with("exp", start.Add(time.Minute).Unix())), nil},
		"personal":                  {as(personal(kept)), nil},
		"personal, revoked":         {as(personal(gone)), errs.Unauthenticated},
		"personal without an id":    {as(personal("")), errs.Unauthenticated},
		"ended":                     {as(with("exp", start.Add(-time.Minute).Unix())), errs.Unauthenticated},
		"of a deleted account":      {as(with("sub", string(gone))), errs.Unauthenticated},
		"of a deactivated account":  {as(with("sub", string(disabled))), errs.Unauthenticated},
		"while accounts are away":   {as(with("sub", string(away))), errs.Temporary},
		"without an e-mail":         {as(func(c jwt.MapClaims) { delete(c, "email") }), nil},
		"permissions that are text": {as(with("permissions", "checkout")), errs.Unauthenticated},
		"another key":               {sign(hs, []byte("something else entirely"), func(jwt.MapClaims) {}), errs.Unauthenticated},
		"another algorithm":         {sign(jwt.SigningMethodHS384, secret, func(jwt.MapClaims) {}), errs.Unauthenticated},
		"no signature":              {sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, func(jwt.MapClaims) {}), errs.Unauthenticated},
		"nothing":                   {"", errs.Unauthenticated},
	} {
		permit, err := a.Pipeline(t.Context(), accounts{}, tc.token)
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
		if err != nil && (permit.Email != "" || len(permit.Permissions) != 0) {
			t.Errorf("%s: refused, and yet %+v", name, permit)
		}
		if err == nil && ((permit.Email == "dev@example.org") == (name == "without an e-mail") || !slices.Equal(permit.Permissions, []string{"checkout", "patchset"})) {
			t.Errorf("%s: %+v", name, permit)
		}
	}
}

func TestAPermitAllowsWhatItNames(t *testing.T) {
	p := auth.Permit{Permissions: []string{"checkout"}}
	if !p.Allows("checkout") || p.Allows("patchset") || p.Allows("") {
		t.Errorf("%+v", p)
	}
}
