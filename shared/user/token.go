package user

import (
	"slices"
	"time"
	"unicode/utf8"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
)

// Scope is one thing that a personal token may be used for.
type Scope string

// The scopes. A token never does more than its owner may.
const (
	ScopeNodeRead  Scope = "node:read"  // read nodes where that needs a token
	ScopeNodeWrite Scope = "node:write" // create and change nodes
	ScopeEvents    Scope = "events"     // subscribe, listen, publish, push and pop
	ScopeStorage   Scope = "storage"    // upload artifacts
	ScopeCheckout  Scope = "checkout"   // ask the pipeline for a checkout
	ScopeTestRetry Scope = "testretry"  // ask the pipeline to run a test again
	ScopePatchset  Scope = "patchset"   // ask the pipeline to test patches
	ScopeAdmin     Scope = "admin"      // use the owner's rights as a superuser
)

// Scopes lists all of them.
var Scopes = []Scope{
	ScopeNodeRead, ScopeNodeWrite, ScopeEvents, ScopeStorage, ScopeCheckout, ScopeTestRetry, ScopePatchset, ScopeAdmin,
}

// Token is a personal token as it is kept. The token itself is nowhere.
type Token struct {
	ID     node.ID
	User   node.ID // its owner
	Name   string
	Scopes []Scope
	// Prefixes are the folders in the storage outside of which it uploads
	// nothing; nil: no such bound. A superuser's token uploads anywhere in
	// them, also without the scope of one.
	Prefixes []string
	Created  time.Time // UTC
	Expires  time.Time // UTC; zero: never
}

// MaxPrefixes bounds the prefixes of a token.
const MaxPrefixes = 20

// Validate returns an Invalid error that names the field which is wrong.
func (t Token) Validate() error {
	switch {
	case t.Name == "" || utf8.RuneCountInString(t.Name) > 100:
		return errs.New(errs.Invalid, "name: must be 1 to 100 characters long")
	case len(t.Scopes) == 0:
		return errs.New(errs.Invalid, "scopes: must name one at least of %v", Scopes)
	case len(t.Prefixes) > MaxPrefixes:
		return errs.New(errs.Invalid, "prefixes: are more than %d", MaxPrefixes)
	case !t.Expires.IsZero() && !t.Expires.After(t.Created):
		return errs.New(errs.Invalid, "expires: must be in the future")
	}
	for i, s := range t.Scopes {
		if !slices.Contains(Scopes, s) {
			return errs.New(errs.Invalid, "scopes: %.40q is none of %v", string(s), Scopes)
		}
		if slices.Contains(t.Scopes[:i], s) {
			return errs.New(errs.Invalid, "scopes: %s is there twice", s)
		}
	}
	return nil
}

// With returns u as the token lets it act: within the scopes, and as a
// superuser only with the scope for that.
func (u User) With(t Token) User {
	u.Scopes, u.Prefixes = slices.Clone(t.Scopes), slices.Clone(t.Prefixes)
	u.Uploader = u.Superuser && len(u.Prefixes) > 0
	u.Superuser = u.Superuser && u.Allows(ScopeAdmin)
	return u
}

// Allows says whether the scope is open to u: all are, unless u acts by a
// personal token.
func (u User) Allows(s Scope) bool { return u.Scopes == nil || slices.Contains(u.Scopes, s) }
