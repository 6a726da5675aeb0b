package auth

import (
	"context"
	"errors"
	"strings"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/user"
)

// Accounts is where the owners of tokens are looked up.
type Accounts interface {
	// User returns an account by id; NotFound.
	User(ctx context.Context, id node.ID) (user.User, error)
	// Token returns a personal token by id; NotFound.
	Token(ctx context.Context, id node.ID) (user.Token, error)
}

// Authenticate returns who acts with the token: a job, or the account that it
// belongs to, within the scopes of a personal token. Unauthenticated, which
// says nothing about why, unless the account is there and active and a personal
// token has not been revoked; Temporary when the accounts cannot be asked.
func (a *Auth) Authenticate(ctx context.Context, accounts Accounts, token string) (user.User, error) {
	b, err := a.Verify(token)
	if err != nil {
		return user.User{}, err
	}
	if b.Node != "" {
		return user.Job(b.Node), nil
	}
	return b.owner(ctx, accounts)
}

// owner looks up whom a bearer that is no job belongs to.
func (b Bearer) owner(ctx context.Context, accounts Accounts) (user.User, error) {
	u, err := accounts.User(ctx, b.User)
	if errors.Is(err, errs.NotFound) || err == nil && !u.Active {
		return user.User{}, errToken
	}
	if err != nil || b.Token == "" {
		return u, err
	}
	t, err := accounts.Token(ctx, b.Token)
	if errors.Is(err, errs.NotFound) || err == nil && t.User != u.ID {
		return user.User{}, errToken
	}
	return u.With(t), err
}

// FromHeader returns the token of an Authorization header, which may stand
// there bare or behind "Bearer".
func FromHeader(header string) string {
	header = strings.TrimSpace(header)
	if scheme, token, ok := strings.Cut(header, " "); ok && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token)
	}
	return header
}
