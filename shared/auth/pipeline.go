package auth

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/user"
)

// Accounts is where the owners of tokens are looked up.
type Accounts interface {
	// User returns an account by id; NotFound.
	User(ctx context.Context, id node.ID) (user.User, error)
}

// Permit is what a token allows at the pipeline's own endpoints.
type Permit struct {
	Email       string
	Permissions []string
}

// Allows says whether the permit has the permission, such as "checkout".
func (p Permit) Allows(permission string) bool { return slices.Contains(p.Permissions, permission) }

// Pipeline checks a token as the pipeline's own endpoints take it: signed by
// one of the keys, not ended, with an e-mail address and permissions; the
// audience does not count. A token that names an account (in `sub`) is good
// only while the account is there and active; one of KernelCI's that names none
// is taken at its word. Unauthenticated says nothing about why; Temporary when
// the accounts cannot be asked.
func (a *Auth) Pipeline(ctx context.Context, accounts Accounts, token string) (Permit, error) {
	c, err := a.read(token)
	if err != nil || c.Email == "" {
		return Permit{}, errToken
	}
	if id, err := node.ParseID(c.Subject); err == nil {
		if _, err := owner(ctx, accounts, id); err != nil {
			return Permit{}, err
		}
	}
	return Permit{Email: c.Email, Permissions: c.Permissions}, nil
}

// owner returns an active account; Unauthenticated when there is none.
func owner(ctx context.Context, accounts Accounts, id node.ID) (user.User, error) {
	u, err := accounts.User(ctx, id)
	if errors.Is(err, errs.NotFound) || err == nil && !u.Active {
		return user.User{}, errToken
	}
	return u, err
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
