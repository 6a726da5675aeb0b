package api

import (
	"context"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/user"
)

// WithToken is embedded by the inputs of routes that want to know who asks.
type WithToken struct {
	Authorization string `header:"Authorization" hidden:"true"`
}

// errUnauthorized answers whoever is not known or may not do this to a node.
var errUnauthorized = errs.New(errs.Unauthenticated, "Unauthorized")

// errForbidden answers who is known and has not the rights.
var errForbidden = errs.New(errs.Denied, "Forbidden")

// actorKey is where authenticate leaves who asks.
type actorKey struct{}

// authenticate lets a request to a route that needs a token go on when it has a
// good one. Nothing else of the request has been read by then.
func (f *Function) authenticate(ctx huma.Context, next func(huma.Context)) {
	op := ctx.Operation()
	if len(op.Security) == 0 {
		next(ctx)
		return
	}
	scoped := withScope(ctx.Context(), scopeOf(op.Method, op.Path))
	u, err := f.actor(scoped, WithToken{Authorization: ctx.Header("Authorization")})
	if err != nil {
		f.answer(ctx, err)
		return
	}
	next(huma.WithValue(ctx, actorKey{}, u))
}

// actor returns who asks; Unauthenticated without a good token of an active
// account, Denied when a personal token lacks the scope for it.
func (f *Function) actor(ctx context.Context, in WithToken) (user.User, error) {
	if u, known := ctx.Value(actorKey{}).(user.User); known {
		return u, nil
	}
	scheme, token, _ := strings.Cut(in.Authorization, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return user.User{}, errUnauthorized
	}
	u, err := f.auth.Authenticate(ctx, f.store, strings.TrimSpace(token))
	if err == nil {
		err = checkScope(ctx, u)
	}
	if err != nil {
		return user.User{}, err
	}
	return u, nil
}

// person is actor without jobs.
func (f *Function) person(ctx context.Context, in WithToken) (user.User, error) {
	u, err := f.actor(ctx, in)
	if err == nil && u.IsJob() {
		return user.User{}, errUnauthorized
	}
	return u, err
}

// admin is person with all rights; Denied for others.
func (f *Function) admin(ctx context.Context, in WithToken) (user.User, error) {
	u, err := f.person(ctx, in)
	if err == nil && !u.Superuser {
		return user.User{}, errForbidden
	}
	return u, err
}
