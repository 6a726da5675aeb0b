package api

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/kernelflow/kernelflow/shared/auth"
	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/store"
	"github.com/kernelflow/kernelflow/shared/user"
)

// inviteLife is how long an invite can be accepted, as in KernelCI.
const inviteLife = 7 * 24 * time.Hour

func (f *Function) inviteRoutes(api huma.API) {
	register(api, http.MethodPost, "/user/register", "Closed: accounts are made by invite", f.closedRegister, answers(http.StatusNotFound))
	register(api, http.MethodPost, "/user/invite", "Create an account and invite its owner (admins)", f.invite, needsToken)
	register(api, http.MethodGet, "/user/invite/url", "Where invites lead to (admins)", f.inviteURL, needsToken)
	register(api, http.MethodPost, "/user/accept-invite", "Set the password of an account that one is invited to", f.acceptInvite, answers(http.StatusNotFound), orForm)
	register(api, http.MethodGet, "/user/invite", "A page to invite on", f.showInvite, asPage)
	register(api, http.MethodGet, "/user/accept-invite", "A page to accept an invite on", f.showAccept, asPage)
}

func (f *Function) closedRegister(context.Context, *struct{}) (*struct{}, error) {
	return nil, plain(http.StatusNotFound, "User registration is disabled; use /user/invite instead.")
}

type inviteInput struct {
	WithToken
	Base
	Body struct {
		Username  usernameIn `json:"username"`
		Email     emailIn    `json:"email"`
		Groups    groupNames `json:"groups,omitempty" nullable:"true"`
		Superuser bool       `json:"is_superuser,omitempty" nullable:"true"`
		Mail      *bool      `json:"send_email,omitempty" nullable:"true" doc:"true when it is left out"`
		Return    bool       `json:"return_token,omitempty" nullable:"true" doc:"tell the token in the answer"`
		Resend    bool       `json:"resend_if_exists,omitempty" nullable:"true" doc:"invite again who has not accepted yet"`
	}
}

// InviteBase is where invites lead to.
type InviteBase struct {
	PublicBaseURL   string `json:"public_base_url"`
	AcceptInviteURL string `json:"accept_invite_url"`
}

type inviteOutput struct {
	Body struct {
		User      user.User `json:"user"`
		EmailSent bool      `json:"email_sent"`
		InviteBase
		InviteURL *string `json:"invite_url"`
		Token     *string `json:"token"`
	}
}

// invite makes an account that nobody can log in to until the invite is
// accepted. The mail is sent before the answer, which says whether it was.
func (f *Function) invite(ctx context.Context, in *inviteInput) (*inviteOutput, error) {
	if _, err := f.admin(ctx, in.WithToken); err != nil {
		return nil, f.fail(ctx, err)
	}
	out := &inviteOutput{}
	err := f.oneAtATime(ctx, func(ctx context.Context) (err error) {
		out.Body.User, err = f.invited(ctx, in)
		return err
	})
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	token, err := f.auth.Once(auth.Invite, out.Body.User, inviteLife)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	out.Body.InviteBase = f.inviteBase(in.Base)
	link := out.Body.AcceptInviteURL + "?token=" + token
	if in.Body.Mail == nil || *in.Body.Mail {
		out.Body.EmailSent = f.mailInvite(ctx, out.Body.User, link, token)
	}
	if in.Body.Return {
		out.Body.InviteURL, out.Body.Token = &link, &token
	}
	return out, nil
}

func (f *Function) mailInvite(ctx context.Context, u user.User, link, token string) bool {
	ctx, cancel := context.WithTimeout(ctx, mailTime)
	defer cancel()
	err := f.send(ctx, u, "Invite to the KernelCI API", fmt.Sprintf(
		"You have an account at the KernelCI API, by the name of %s. To set its password and begin, follow this link within a week:\n\n%s\n\nThe token in it, for programs:\n\n%s\n",
		u.Username, link, token))
	if err != nil {
		f.log.Warn("an invite is not mailed", "user", u.Username, "error", err)
	}
	return err == nil
}

// invited returns the account that is invited: a new one, or one that has not
// accepted yet.
func (f *Function) invited(ctx context.Context, in *inviteInput) (user.User, error) {
	for _, filter := range []store.UserFilter{{Username: string(in.Body.Username)}, {Email: string(in.Body.Email)}} {
		found, _, err := f.store.ListUsers(ctx, filter, 1, 0)
		if err != nil {
			return user.User{}, err
		}
		if len(found) > 0 {
			return found[0], mayInviteAgain(found[0], in)
		}
	}
	groups, err := f.groupsNamed(ctx, in.Body.Groups)
	if err != nil {
		return user.User{}, err
	}
	u := user.User{Username: string(in.Body.Username), Email: string(in.Body.Email), Active: true, Superuser: in.Body.Superuser, Groups: groups, Created: f.now()}
	if u.ID, err = f.newID(); err != nil {
		return u, err
	}
	if u.PasswordHash, err = f.randomHash(); err != nil {
		return u, err
	}
	return u, f.store.CreateUser(ctx, u)
}

func mayInviteAgain(there user.User, in *inviteInput) error {
	switch {
	case !in.Body.Resend:
		return plain(http.StatusBadRequest, "User already exists")
	case there.Verified:
		return plain(http.StatusBadRequest, "User already verified")
	case there.Username != string(in.Body.Username):
		return plain(http.StatusBadRequest, "Existing user has a different username")
	case there.Email != string(in.Body.Email):
		return plain(http.StatusBadRequest, "Existing user has a different email")
	}
	return nil
}

// randomHash is that of a password which nobody knows.
func (f *Function) randomHash() (string, error) {
	random := make([]byte, 32)
	if _, err := io.ReadFull(f.rand, random); err != nil {
		return "", errs.Wrap(errs.Temporary, err)
	}
	return f.auth.HashPassword(hex.EncodeToString(random))
}

// Base is embedded by the inputs of routes that tell where the API is.
type Base struct{ called string }

// Resolve implements huma.Resolver.
func (b *Base) Resolve(ctx huma.Context) []error {
	b.called = "http://" + ctx.Host()
	if ctx.TLS() != nil {
		b.called = "https://" + ctx.Host()
	}
	return nil
}

func (f *Function) inviteBase(b Base) InviteBase {
	base := f.url
	if base == "" {
		base = b.called
	}
	return InviteBase{base, base + "/user/accept-invite"}
}

type inviteURLOutput struct{ Body InviteBase }

func (f *Function) inviteURL(ctx context.Context, in *struct {
	WithToken
	Base
}) (*inviteURLOutput, error) {
	if _, err := f.admin(ctx, in.WithToken); err != nil {
		return nil, f.fail(ctx, err)
	}
	return &inviteURLOutput{Body: f.inviteBase(in.Base)}, nil
}

// acceptInvite sets the password and takes the address as proven: the token
// was sent there.
func (f *Function) acceptInvite(ctx context.Context, in *resetInput) (*userOutput, error) {
	ticket, err := f.auth.Redeem(auth.Invite, in.Body.Token)
	if err != nil {
		return nil, plain(http.StatusBadRequest, "Invalid or expired invite token")
	}
	hash, err := f.newHash(string(in.Body.Password), "UPDATE_USER_INVALID_PASSWORD")
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	u, err := f.store.UpdateUser(ctx, ticket.User, func(u *user.User) error {
		switch {
		case !u.Active:
			return plain(http.StatusBadRequest, "User is inactive")
		case u.Verified:
			return plain(http.StatusBadRequest, "Invite already accepted")
		case !ticket.Fits(*u):
			return plain(http.StatusBadRequest, "Invalid invite token")
		}
		u.PasswordHash, u.Verified = hash, true
		return nil
	})
	if errors.Is(err, errs.NotFound) {
		err = plain(http.StatusNotFound, "User not found")
	}
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	f.sendLater(ctx, u, "Welcome to the KernelCI API", fmt.Sprintf("The account %s is yours now.\n", u.Username))
	return &userOutput{Body: u}, nil
}
