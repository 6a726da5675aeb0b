package api

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
	"github.com/kernelflow/kernelflow/shared/user"
)

func (f *Function) userRoutes(api huma.API) {
	register(api, http.MethodGet, "/whoami", "The account that the token belongs to", f.whoami, needsToken)
	register(api, http.MethodGet, "/users", "A page of the accounts", f.listUsers, needsToken)
	register(api, http.MethodGet, "/user/me", "The account that the token belongs to", f.getMe, needsToken)
	register(api, http.MethodPatch, "/user/me", "Change one's own name, address or password", f.patchMe, needsToken)
	register(api, http.MethodGet, "/user/{id}", "One account", f.getUser, needsToken)
	register(api, http.MethodPatch, "/user/{id}", "Change an account (admins)", f.patchUser, needsToken)
	register(api, http.MethodDelete, "/user/{id}", "Delete an account and its tokens (admins)", f.deleteUser, needsToken, noContent)
	f.loginRoutes(api)
	f.passwordRoutes(api)
	f.inviteRoutes(api)
	f.groupRoutes(api)
	f.tokenRoutes(api)
}

func noContent(op *huma.Operation) { op.DefaultStatus = http.StatusNoContent }

type userOutput struct{ Body user.User }

func (f *Function) whoami(ctx context.Context, in *WithToken) (*userOutput, error) {
	u, err := f.person(ctx, *in)
	if err == nil && !u.Verified {
		err = errForbidden
	}
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	return &userOutput{Body: u}, nil
}

// page is a part of a list as KernelCI sends it.
type page[T any] struct {
	Items  []T   `json:"items"`
	Total  int64 `json:"total"`
	Limit  int   `json:"limit"`
	Offset int   `json:"offset"`
}

type usersInput struct {
	WithToken
	Filters
	Username  string `query:"username" minLength:"1"`
	Email     string `query:"email" minLength:"1"`
	Group     string `query:"groups.name" minLength:"1"`
	Active    string `query:"is_active" enum:"true,false"`
	Superuser string `query:"is_superuser" enum:"true,false"`
	Verified  string `query:"is_verified" enum:"true,false"`
	Limit     int    `query:"limit" default:"50" minimum:"1" maximum:"1000"`
	Offset    int    `query:"offset" default:"0" minimum:"0"`
}

type usersOutput struct{ Body page[user.User] }

func (f *Function) listUsers(ctx context.Context, in *usersInput) (*usersOutput, error) {
	if _, err := f.person(ctx, in.WithToken); err != nil {
		return nil, f.fail(ctx, err)
	}
	if err := in.only("username", "email", "groups.name", "is_active", "is_superuser", "is_verified", "limit", "offset"); err != nil {
		return nil, f.fail(ctx, err)
	}
	users, total, err := f.store.ListUsers(ctx, store.UserFilter{
		Username: in.Username, Email: in.Email, Group: in.Group, Active: truth(in.Active), Superuser: truth(in.Superuser), Verified: truth(in.Verified),
	}, in.Limit, in.Offset)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	return &usersOutput{Body: page[user.User]{users, total, in.Limit, in.Offset}}, nil
}

// only refuses query parameters that are none of the names, and empty ones:
// huma takes those for absent.
func (q *Filters) only(names ...string) error {
	for name, values := range q.values {
		if !slices.Contains(names, name) {
			return errs.New(errs.Invalid, "%.40s: is none of %s", name, strings.Join(names, ", "))
		}
		if slices.Contains(values, "") {
			return errs.New(errs.Invalid, "%s: must not be empty", name)
		}
	}
	return nil
}

// truth reads what may be left out.
func truth(text string) *bool {
	if text == "" {
		return nil
	}
	value := text == "true"
	return &value
}

type userInput struct {
	WithToken
	ID idIn `path:"id"`
}

var errNoUser = plain(http.StatusNotFound, "Not Found")

// getUser is open to every account, as in KernelCI: so is the list of all.
func (f *Function) getUser(ctx context.Context, in *userInput) (*userOutput, error) {
	if _, err := f.person(ctx, in.WithToken); err != nil {
		return nil, f.fail(ctx, err)
	}
	id, err := in.ID.parse()
	if err != nil {
		return nil, errNoUser
	}
	u, err := f.store.User(ctx, id)
	if errors.Is(err, errs.NotFound) {
		err = errNoUser
	}
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	return &userOutput{Body: u}, nil
}

func (f *Function) getMe(ctx context.Context, in *WithToken) (*userOutput, error) {
	u, err := f.person(ctx, *in)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	return &userOutput{Body: u}, nil
}

// userPatch is what may be changed of an account. What is absent or null stays.
type userPatch struct {
	Username  *usernameIn `json:"username,omitempty" nullable:"true"`
	Email     *emailIn    `json:"email,omitempty" nullable:"true"`
	Password  *passwordIn `json:"password,omitempty" nullable:"true"`
	Groups    *groupNames `json:"groups,omitempty" nullable:"true" doc:"replaces all"`
	Active    *bool       `json:"is_active,omitempty" nullable:"true"`
	Superuser *bool       `json:"is_superuser,omitempty" nullable:"true"`
	Verified  *bool       `json:"is_verified,omitempty" nullable:"true"`
}

type patchMeInput struct {
	WithToken
	Body userPatch
}

// patchMe changes one's own account. Flags are left as they are without a
// word, as KernelCI does; so are groups, unless one is named.
func (f *Function) patchMe(ctx context.Context, in *patchMeInput) (*userOutput, error) {
	u, err := f.person(ctx, in.WithToken)
	if err == nil && in.Body.Groups != nil && len(*in.Body.Groups) > 0 {
		err = plain(http.StatusBadRequest, "User groups can only be updated by an admin user")
	}
	if err == nil {
		own := userPatch{Username: in.Body.Username, Email: in.Body.Email, Password: in.Body.Password}
		u, err = f.changeUser(ctx, u.ID, own)
	}
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	return &userOutput{Body: u}, nil
}

type patchUserInput struct {
	WithToken
	ID   idIn `path:"id"`
	Body userPatch
}

func (f *Function) patchUser(ctx context.Context, in *patchUserInput) (*userOutput, error) {
	if _, err := f.admin(ctx, in.WithToken); err != nil {
		return nil, f.fail(ctx, err)
	}
	id, err := in.ID.parse()
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	u, err := f.changeUser(ctx, id, in.Body)
	if errors.Is(err, errs.NotFound) {
		err = errs.New(errs.NotFound, "User not found with id: %s", id)
	}
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	return &userOutput{Body: u}, nil
}

// changeUser checks and applies p, in turn with other changes of accounts.
func (f *Function) changeUser(ctx context.Context, id node.ID, p userPatch) (user.User, error) {
	var u user.User
	err := f.oneAtATime(ctx, func(ctx context.Context) error {
		groups, hash, err := f.checkPatch(ctx, id, p)
		if err == nil {
			err = f.keepAnAdmin(ctx, id, func(u *user.User) { p.apply(u, groups, hash) })
		}
		if err != nil {
			return err
		}
		u, err = f.store.UpdateUser(ctx, id, func(u *user.User) error { p.apply(u, groups, hash); return nil })
		return err
	})
	return u, err
}

// apply changes an account. A new address is not verified, unless p says so.
func (p userPatch) apply(u *user.User, groups []user.Group, hash string) {
	if p.Email != nil && string(*p.Email) != u.Email {
		u.Email, u.Verified = string(*p.Email), false
	}
	set(&u.Username, (*string)(p.Username))
	set(&u.Active, p.Active)
	set(&u.Superuser, p.Superuser)
	set(&u.Verified, p.Verified)
	if p.Groups != nil {
		u.Groups = groups
	}
	if hash != "" {
		u.PasswordHash = hash
	}
}

// checkPatch returns what p's groups and password become.
func (f *Function) checkPatch(ctx context.Context, id node.ID, p userPatch) (groups []user.Group, hash string, err error) {
	if err := f.checkTaken(ctx, id, p.Username, p.Email); err != nil {
		return nil, "", err
	}
	if p.Groups != nil {
		if groups, err = f.groupsNamed(ctx, *p.Groups); err != nil {
			return nil, "", err
		}
	}
	if p.Password != nil {
		hash, err = f.newHash(string(*p.Password), "UPDATE_USER_INVALID_PASSWORD")
	}
	return groups, hash, err
}

// usernameIn is the name of an account. It owns nodes, so no name may look like
// another, nor be mistaken for an address.
type usernameIn string

// Schema implements huma.SchemaProvider.
func (usernameIn) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeString, MaxLength: new(150), Pattern: `^[A-Za-z0-9._+-]+$`, PatternDescription: "a word of ASCII letters, digits and ._+-",
	}
}

// emailIn is an address: what RFC 5322 calls a dot-atom, at a host.
type emailIn string

// Schema implements huma.SchemaProvider.
func (emailIn) Schema(huma.Registry) *huma.Schema {
	const atom, label = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+", `[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?`
	return &huma.Schema{
		Type: huma.TypeString, MaxLength: new(254), PatternDescription: "an e-mail address",
		Pattern: "^" + atom + `(\.` + atom + ")*@" + label + `(\.` + label + ")*$",
	}
}

// checkTaken says which of the names belongs to an account other than id.
func (f *Function) checkTaken(ctx context.Context, id node.ID, username *usernameIn, email *emailIn) error {
	if username != nil {
		taken, err := f.taken(ctx, id, store.UserFilter{Username: string(*username)})
		if err != nil {
			return err
		}
		if taken {
			return plain(http.StatusBadRequest, "Username already exists: "+string(*username))
		}
	}
	if email != nil {
		taken, err := f.taken(ctx, id, store.UserFilter{Email: string(*email)})
		if err != nil {
			return err
		}
		if taken {
			return plain(http.StatusBadRequest, "UPDATE_USER_EMAIL_ALREADY_EXISTS")
		}
	}
	return nil
}

// taken says whether the filter, which selects one account at most, selects
// another than id.
func (f *Function) taken(ctx context.Context, id node.ID, filter store.UserFilter) (bool, error) {
	found, _, err := f.store.ListUsers(ctx, filter, 1, 0)
	return len(found) > 0 && found[0].ID != id, err
}

func (f *Function) deleteUser(ctx context.Context, in *userInput) (*struct{}, error) {
	if _, err := f.admin(ctx, in.WithToken); err != nil {
		return nil, f.fail(ctx, err)
	}
	id, err := in.ID.parse()
	if err != nil {
		return nil, errNoUser
	}
	err = f.oneAtATime(ctx, func(ctx context.Context) error {
		if err := f.keepAnAdmin(ctx, id, func(u *user.User) { u.Active = false }); err != nil {
			return err
		}
		return f.store.DeleteUser(ctx, id)
	})
	if errors.Is(err, errs.NotFound) {
		err = errNoUser
	}
	return nil, f.fail(ctx, err)
}

// keepAnAdmin is a Conflict when the account is the only one that can log in as
// an admin, and could not after the change.
func (f *Function) keepAnAdmin(ctx context.Context, id node.ID, change func(*user.User)) error {
	yes := true
	admins, _, err := f.store.ListUsers(ctx, store.UserFilter{Superuser: &yes, Active: &yes, Verified: &yes}, 2, 0)
	if err != nil || len(admins) != 1 || admins[0].ID != id {
		return err
	}
	change(&admins[0])
	if u := admins[0]; !u.Superuser || !u.Active || !u.Verified {
		return errs.New(errs.Conflict, "the last admin must stay active, verified and a superuser")
	}
	return nil
}

const (
	turnTime = 10 * time.Second // what one turn may take
	turnHold = 30 * time.Second // after which a turn that never ended is over
	turnWait = 5 * time.Second  // how long to wait for one's turn
)

// oneAtATime runs do while no other instance runs another: what it decides on
// (who is an admin, which groups there are) spans several accounts, and no
// store writes those together. Such changes are rare. A turn ends well before
// the claim does. Temporary when the turn does not come.
func (f *Function) oneAtATime(ctx context.Context, do func(context.Context) error) error {
	holder, err := f.newUUID()
	if err != nil {
		return err
	}
	const key = "accounts"
	for waited := time.Now(); ; {
		err := f.store.Claim(ctx, key, holder, f.now().Add(turnHold))
		if err == nil {
			break
		}
		if !errors.Is(err, errs.Conflict) {
			return err
		}
		if time.Since(waited) > turnWait {
			return errs.New(errs.Temporary, "other accounts are being changed")
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	turn, cancel := context.WithTimeout(ctx, turnTime)
	defer cancel()
	err = do(turn)
	if err := f.store.Release(context.WithoutCancel(ctx), key, holder); err != nil {
		f.log.Warn("the next change of an account has to wait", "error", err)
	}
	return err
}

// pause returns after d, or the context's error when that ends first.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
