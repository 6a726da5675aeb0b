package auth

import (
	"context"
	"slices"

	"github.com/kernelflow/kernelflow/shared/node"
)

// Permit is what a token allows at the pipeline's own endpoints.
type Permit struct {
	Email       string
	Permissions []string
}

// Allows says whether the permit has the permission, such as "checkout".
func (p Permit) Allows(permission string) bool { return slices.Contains(p.Permissions, permission) }

// Pipeline checks a token as the pipeline's own endpoints take it: signed by
// one of the keys, not ended, with permissions; the audience does not count, and
// there may be no e-mail address. A token that names an account (in `sub`) is good
// only while the account is there and active, a personal one until it is
// revoked; one of KernelCI's that names none is taken at its word.
// Unauthenticated says nothing about why; Temporary when the accounts cannot be
// asked.
func (a *Auth) Pipeline(ctx context.Context, accounts Accounts, token string) (Permit, error) {
	c, err := a.read(token)
	if err != nil {
		return Permit{}, errToken
	}
	p := Permit{Email: c.Email, Permissions: c.Permissions}
	id, err := node.ParseID(c.Subject)
	if err != nil {
		return p, nil
	}
	b := Bearer{User: id}
	if slices.Contains(c.Audience, audiencePersonal) {
		if b, err = c.bearer(); err != nil {
			return Permit{}, err
		}
	}
	if _, err := b.owner(ctx, accounts); err != nil {
		return Permit{}, err
	}
	return p, nil
}
