package api

import (
	"context"
	"errors"
	"net/http"
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

// actorKey is where authenticate leaves who asks.
type actorKey struct{}

// authenticate lets a request to a route that needs a token go on when it has a
// good one. Nothing else of the request has been read by then.
func (f *Function) authenticate(ctx huma.Context, next func(huma.Context)) {
	if len(ctx.Operation().Security) == 0 {
		next(ctx)
		return
	}
	u, err := f.actor(ctx.Context(), WithToken{Authorization: ctx.Header("Authorization")})
	if err != nil {
		f.answer(ctx, err)
		return
	}
	next(huma.WithValue(ctx, actorKey{}, u))
}

// actor returns who asks; Unauthenticated without a good token of an active
// account.
func (f *Function) actor(ctx context.Context, in WithToken) (user.User, error) {
	if u, known := ctx.Value(actorKey{}).(user.User); known {
		return u, nil
	}
	scheme, token, _ := strings.Cut(in.Authorization, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return user.User{}, errUnauthorized
	}
	bearer, err := f.auth.Verify(strings.TrimSpace(token))
	if err != nil {
		return user.User{}, err
	}
	if bearer.Node != "" {
		return user.Job(bearer.Node), nil
	}
	u, err := f.store.User(ctx, bearer.User)
	if errors.Is(err, errs.NotFound) || err == nil && !u.Active {
		return user.User{}, errUnauthorized
	}
	return u, err
}

// person is actor without jobs.
func (f *Function) person(ctx context.Context, in WithToken) (user.User, error) {
	u, err := f.actor(ctx, in)
	if err == nil && u.IsJob() {
		return u, errUnauthorized
	}
	return u, err
}

// admin is person with all rights; Denied for others.
func (f *Function) admin(ctx context.Context, in WithToken) (user.User, error) {
	u, err := f.person(ctx, in)
	if err == nil && !u.Superuser {
		return u, errs.New(errs.Denied, "Forbidden")
	}
	return u, err
}

type whoamiOutput struct{ Body user.User }

type loginInput struct {
	Body loginForm `contentType:"application/x-www-form-urlencoded"`
}

type loginForm struct {
	Username  string `json:"username" minLength:"1"`
	Password  string `json:"password" minLength:"1"`
	GrantType string `json:"grant_type,omitempty" pattern:"^(password)?$"`
}

type loginOutput struct {
	Body struct {
		AccessToken string `json:"access_token"`
		TokenType   string `json:"token_type"`
	}
}

func (f *Function) userRoutes(api huma.API) {
	register(api, http.MethodGet, "/whoami", "The account that the token belongs to", f.whoami, needsToken)
	register(api, http.MethodPost, "/user/login", "Get a token for a username and password", f.login, answers(http.StatusTooManyRequests))
}

func (f *Function) whoami(ctx context.Context, in *WithToken) (*whoamiOutput, error) {
	u, err := f.person(ctx, *in)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	return &whoamiOutput{Body: u}, nil
}

func (f *Function) login(ctx context.Context, in *loginInput) (*loginOutput, error) {
	u, err := f.checkLogin(ctx, in.Body.Username, in.Body.Password)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	token, err := f.auth.UserToken(u.ID)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	out := &loginOutput{}
	out.Body.AccessToken, out.Body.TokenType = token, "bearer"
	return out, nil
}

// checkLogin takes as long for an unknown name as for a wrong password.
func (f *Function) checkLogin(ctx context.Context, name, password string) (user.User, error) {
	u, err := f.store.UserByName(ctx, name)
	if err != nil && !errors.Is(err, errs.NotFound) {
		return u, err
	}
	ok, outdated := f.auth.CheckPassword(u.PasswordHash, password)
	switch {
	case !ok || !u.Active:
		return u, plain(http.StatusBadRequest, "LOGIN_BAD_CREDENTIALS")
	case !u.Verified:
		return u, plain(http.StatusBadRequest, "LOGIN_USER_NOT_VERIFIED")
	case outdated:
		return f.rehash(ctx, u, password)
	}
	return u, nil
}

// rehash replaces the hash of an older scheme, unless the password was changed
// meanwhile.
func (f *Function) rehash(ctx context.Context, u user.User, password string) (user.User, error) {
	hash, err := f.auth.HashPassword(password)
	if err != nil {
		return u, err
	}
	return f.store.UpdateUser(ctx, u.ID, func(now *user.User) error {
		if now.PasswordHash == u.PasswordHash {
			now.PasswordHash = hash
		}
		return nil
	})
}
