package api

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/user"
)

// anyScope is the scope of a route that every personal token may use.
const anyScope user.Scope = "*"

// scopes says what a personal token needs for a route, by the first part of the
// route's path. One that is not here is closed to personal tokens.
var scopes = map[string]user.Scope{
	"whoami":      anyScope,
	"node":        user.ScopeNodeWrite,
	"nodes":       user.ScopeNodeWrite,
	"batch":       user.ScopeNodeWrite,
	"count":       user.ScopeNodeWrite,
	"subscribe":   user.ScopeEvents,
	"unsubscribe": user.ScopeEvents,
	"listen":      user.ScopeEvents,
	"publish":     user.ScopeEvents,
	"push":        user.ScopeEvents,
	"pop":         user.ScopeEvents,
	"events":      user.ScopeEvents,
	"kv":          user.ScopeEvents,
	"telemetry":   user.ScopeEvents,

	"stats":        user.ScopeAdmin,
	"dead-letters": user.ScopeAdmin,
	"user":         user.ScopeAdmin,
	"users":        user.ScopeAdmin,
	"user-groups":  user.ScopeAdmin,
}

// own are the routes that are for logins alone: what they give would let a
// personal token outlive itself.
var own = []string{"/user/me", "/user/tokens", "/user/logout"}

// scopeOf returns what a personal token needs for a route; "" when none will do.
func scopeOf(method, path string) user.Scope {
	if slices.ContainsFunc(own, func(prefix string) bool { return strings.HasPrefix(path, prefix) }) {
		return ""
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	scope := scopes[first]
	if scope == user.ScopeNodeWrite && method == http.MethodGet {
		return user.ScopeNodeRead
	}
	return scope
}

type scopeKey struct{}

// withScope notes what a personal token needs for what is done under ctx.
func withScope(ctx context.Context, s user.Scope) context.Context {
	return context.WithValue(ctx, scopeKey{}, s)
}

// checkScope says whether u may do what is done under ctx; Denied names the
// scope that is missing.
func checkScope(ctx context.Context, u user.User) error {
	scope, _ := ctx.Value(scopeKey{}).(user.Scope)
	switch {
	case scope == anyScope || u.Allows(scope):
		return nil
	case scope == "":
		return errs.New(errs.Denied, "a personal token cannot be used here")
	}
	return errs.New(errs.Denied, "the token has no scope %s", scope)
}
