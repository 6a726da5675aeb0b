package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/kernelflow/kernelflow/shared/auth"
	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/store"
	"github.com/kernelflow/kernelflow/shared/user"
)

const (
	ticketLife = time.Hour // of a mailed token, as in fastapi-users
	maxMails   = 3         // that one address gets in that time, for the asking
)

func (f *Function) passwordRoutes(api huma.API) {
	register(api, http.MethodPost, "/user/forgot-password", "Have a token for a new password mailed", f.forgotPassword, accepted)
	register(api, http.MethodPost, "/user/reset-password", "Set a new password with a mailed token", f.resetPassword)
	register(api, http.MethodPost, "/user/request-verify-token", "Have a token that proves the address mailed", f.requestVerify, accepted)
	register(api, http.MethodPost, "/user/verify", "Prove an address with a mailed token", f.verify)
}

func accepted(op *huma.Operation) { op.DefaultStatus = http.StatusAccepted }

type emailInput struct {
	Body struct {
		Email emailIn `json:"email"`
	}
}

// forgotPassword answers alike whether or not there is such an account.
func (f *Function) forgotPassword(ctx context.Context, in *emailInput) (*nullOutput, error) {
	return f.mailTicket(ctx, auth.ResetPassword, in.Body.Email, func(u user.User) bool { return u.Active },
		"Password reset for your KernelCI API account",
		"Somebody, you we hope, has asked for a new password for the account %s.\nTo set it, send this token with the password to %s/user/reset-password within an hour:\n\n%s\n\nIf it was not you there is nothing to do.\n")
}

func (f *Function) requestVerify(ctx context.Context, in *emailInput) (*nullOutput, error) {
	return f.mailTicket(ctx, auth.VerifyEmail, in.Body.Email, func(u user.User) bool { return u.Active && !u.Verified },
		"Email verification for your KernelCI API account",
		"The account %s has this address.\nTo prove that it is yours, send this token to %s/user/verify within an hour:\n\n%s\n")
}

// mailTicket mails a token to the account of that address when it is one for
// whom it is meant. The text takes the account's name, the API's address and
// the token.
func (f *Function) mailTicket(ctx context.Context, p auth.Purpose, email emailIn, meant func(user.User) bool, subject, text string) (*nullOutput, error) {
	asked, _, err := f.bus.Count(ctx, counter("mail/"+string(p), strings.ToLower(string(email))), 1, ticketLife)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	found, _, err := f.store.ListUsers(ctx, store.UserFilter{Email: string(email)}, 1, 0)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	if asked > maxMails || len(found) == 0 || !meant(found[0]) {
		return &nullOutput{}, nil
	}
	token, err := f.auth.Once(p, found[0], ticketLife)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	f.sendLater(ctx, found[0], subject, fmt.Sprintf(text, found[0].Username, f.url, token))
	return &nullOutput{}, nil
}

type resetInput struct {
	Body struct {
		Token    string     `json:"token" maxLength:"4096"`
		Password passwordIn `json:"password"`
	}
}

func (f *Function) resetPassword(ctx context.Context, in *resetInput) (*nullOutput, error) {
	bad := plain(http.StatusBadRequest, "RESET_PASSWORD_BAD_TOKEN")
	ticket, err := f.auth.Redeem(auth.ResetPassword, in.Body.Token)
	if err != nil {
		return nil, bad
	}
	hash, err := f.newHash(string(in.Body.Password), "RESET_PASSWORD_INVALID_PASSWORD")
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	u, err := f.store.UpdateUser(ctx, ticket.User, func(u *user.User) error {
		if !u.Active || !ticket.Fits(*u) {
			return bad
		}
		u.PasswordHash = hash
		return nil
	})
	if errors.Is(err, errs.NotFound) {
		err = bad
	}
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	f.sendLater(ctx, u, "Password changed for your KernelCI API account", fmt.Sprintf("The password of the account %s was changed.\n", u.Username))
	return &nullOutput{}, nil
}

type verifyInput struct {
	Body struct {
		Token string `json:"token" maxLength:"4096"`
	}
}

func (f *Function) verify(ctx context.Context, in *verifyInput) (*userOutput, error) {
	bad := plain(http.StatusBadRequest, "VERIFY_USER_BAD_TOKEN")
	ticket, err := f.auth.Redeem(auth.VerifyEmail, in.Body.Token)
	if err != nil {
		return nil, bad
	}
	u, err := f.store.UpdateUser(ctx, ticket.User, func(u *user.User) error {
		switch {
		case u.Verified:
			return plain(http.StatusBadRequest, "VERIFY_USER_ALREADY_VERIFIED")
		case !ticket.Fits(*u):
			return bad
		}
		u.Verified = true
		return nil
	})
	if errors.Is(err, errs.NotFound) {
		err = bad
	}
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	return &userOutput{Body: u}, nil
}
