package store

import (
	"context"

	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/user"
)

// Users keeps accounts. Username and email are unique, whatever their case.
type Users interface {
	// CreateUser stores a new account; Conflict when name, email or id exist.
	CreateUser(ctx context.Context, u user.User) error
	// User returns an account by id; NotFound.
	User(ctx context.Context, id node.ID) (user.User, error)
	// UserByName returns an account by username or email; NotFound.
	UserByName(ctx context.Context, name string) (user.User, error)
	// UpdateUser changes an account, guarded as Writer.Update is.
	UpdateUser(ctx context.Context, id node.ID, change func(*user.User) error) (user.User, error)
	// DeleteUser removes an account and its personal tokens; NotFound.
	DeleteUser(ctx context.Context, id node.ID) error
	// ListUsers returns a page of the accounts that f selects, oldest first,
	// and how many there are; all when limit is 0.
	ListUsers(ctx context.Context, f UserFilter, limit, offset int) ([]user.User, int64, error)
}

// UserFilter narrows a list of accounts. Empty fields select all.
type UserFilter struct {
	Username  string // whatever its case, as Email
	Email     string
	Group     string // a group's name
	Active    *bool
	Superuser *bool
	Verified  *bool
}

// Groups keeps the groups that an account can be in. The accounts hold copies:
// a group never changes.
type Groups interface {
	// CreateGroup stores a new group; Conflict when name or id exist.
	CreateGroup(ctx context.Context, g user.Group) error
	// Group returns a group by id; NotFound.
	Group(ctx context.Context, id node.ID) (user.Group, error)
	// ListGroups returns a page of the groups, oldest first, and how many
	// there are; only the one of that name unless it is empty, and all when
	// limit is 0.
	ListGroups(ctx context.Context, name string, limit, offset int) ([]user.Group, int64, error)
	// DeleteGroup removes a group; NotFound, and Conflict while an account is
	// in it.
	DeleteGroup(ctx context.Context, id node.ID) error
}

// Tokens keeps what is known of personal tokens.
type Tokens interface {
	// CreateToken stores a new token; Conflict when the id exists.
	CreateToken(ctx context.Context, t user.Token) error
	// Token returns a token by id; NotFound.
	Token(ctx context.Context, id node.ID) (user.Token, error)
	// ListTokens returns up to limit tokens of an account, oldest first.
	ListTokens(ctx context.Context, owner node.ID, limit int) ([]user.Token, error)
	// DeleteToken removes a token of that owner; NotFound when there is none.
	DeleteToken(ctx context.Context, owner, id node.ID) error
}
