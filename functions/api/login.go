package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/user"
)

// LoginLimits bound how many passwords may be wrong before no more are looked
// at, by account and by address of the client, for a window that begins with
// the first one.
type LoginLimits struct {
	Account int64
	Address int64
	Window  time.Duration
}

// defaultLimits leave some 3,000 guesses a day at one account.
var defaultLimits = LoginLimits{Account: 10, Address: 50, Window: 5 * time.Minute}

func (f *Function) loginRoutes(api huma.API) {
	limited := answers(http.StatusTooManyRequests)
	register(api, http.MethodPost, "/user/login", "Get a token for a username and password", f.login, limited)
	register(api, http.MethodPost, "/user/update-password", "Change a password by the one before", f.updatePassword, limited)
	register(api, http.MethodPost, "/user/logout", "Does nothing: a login cannot be taken back before it ends", f.logout, needsToken, noContent)
}

type loginInput struct {
	Client
	Body LoginForm `contentType:"application/x-www-form-urlencoded"`
}

// LoginForm is the password form of OAuth 2.
type LoginForm struct {
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

func (f *Function) login(ctx context.Context, in *loginInput) (*loginOutput, error) {
	u, err := f.checkLogin(ctx, in.Client, in.Body)
	if err == nil && !u.Verified {
		err = plain(http.StatusBadRequest, "LOGIN_USER_NOT_VERIFIED")
	}
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

func (f *Function) logout(ctx context.Context, in *WithToken) (*struct{}, error) {
	_, err := f.person(ctx, *in)
	return nil, f.fail(ctx, err)
}

// errCredentials answers a wrong password and a wrong name alike.
var errCredentials = plain(http.StatusBadRequest, "LOGIN_BAD_CREDENTIALS")

// checkLogin returns the active account that the form's username and password
// belong to. It takes as long for an unknown name as for a wrong password.
func (f *Function) checkLogin(ctx context.Context, client Client, form LoginForm) (user.User, error) {
	forget, err := f.attempt(ctx, client, form.Username)
	if err != nil {
		return user.User{}, err
	}
	u, err := f.store.UserByName(ctx, form.Username)
	if err != nil && !errors.Is(err, errs.NotFound) {
		return user.User{}, err
	}
	ok, outdated := f.auth.CheckPassword(u.PasswordHash, form.Password)
	if !ok || !u.Active {
		return user.User{}, errCredentials
	}
	forget()
	if outdated {
		return f.rehash(ctx, u, form.Password)
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

// attempt counts a try before the password is looked at, so that many at once
// are not more than one after the other; forget takes it back. Beyond the
// limits the error is 429 and says when to come again. The address goes first:
// who is over its limit does not lock accounts any more.
//
// The counters are the bus's. Without them there is no login: a limit that goes
// away with the server that counts would be one to switch off.
func (f *Function) attempt(ctx context.Context, client Client, name string) (forget func(), err error) {
	counters := []struct {
		name string
		most int64
	}{
		{counter("login/address", client.address), f.limits.Address},
		{counter("login/account", strings.ToLower(name)), f.limits.Account},
	}
	for _, c := range counters {
		tries, rest, err := f.bus.Count(ctx, c.name, 1, f.limits.Window)
		if err != nil {
			return nil, err
		}
		if tries > c.most {
			return nil, tooMany(rest)
		}
	}
	return func() {
		for _, c := range counters {
			if _, _, err := f.bus.Count(ctx, c.name, -1, f.limits.Window); err != nil {
				f.log.Warn("a good login still counts as a try", "error", err)
			}
		}
	}, nil
}

// counter names a counter; what it is of may be long, and is nobody's business.
func counter(kind, of string) string {
	sum := sha256.Sum256([]byte(of))
	return kind + "/" + hex.EncodeToString(sum[:16])
}

type nullOutput struct{ Body any }

type updatePasswordInput struct {
	Client
	Body struct {
		LoginForm
		NewPassword passwordIn `json:"new_password"`
	} `contentType:"application/x-www-form-urlencoded"`
}

// updatePassword changes a password by the one before: no token is needed, and
// an account that is not verified may, as in KernelCI.
func (f *Function) updatePassword(ctx context.Context, in *updatePasswordInput) (*nullOutput, error) {
	u, err := f.checkLogin(ctx, in.Client, in.Body.LoginForm)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	hash, err := f.newHash(string(in.Body.NewPassword), "UPDATE_USER_INVALID_PASSWORD")
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	_, err = f.store.UpdateUser(ctx, u.ID, func(now *user.User) error {
		if now.PasswordHash != u.PasswordHash {
			return errCredentials // changed by somebody else meanwhile
		}
		now.PasswordHash = hash
		return nil
	})
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	return &nullOutput{}, nil
}

// longestPassword bounds a password to be set, characters.
const longestPassword = 256

// passwordIn is a password to be set. Its length is not huma's to check: a wrong
// one is answered with a code.
type passwordIn string

// Schema implements huma.SchemaProvider.
func (passwordIn) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Extensions: map[string]any{"minLength": 1, "maxLength": longestPassword}}
}

// newHash hashes a password to be set; one that cannot be is answered with the
// code.
func (f *Function) newHash(password, code string) (string, error) {
	var hash string
	err := errs.New(errs.Invalid, "password: must be %d characters long at most", longestPassword)
	if utf8.RuneCountInString(password) <= longestPassword {
		hash, err = f.auth.HashPassword(password)
	}
	if errors.Is(err, errs.Invalid) {
		err = &failure{status: http.StatusBadRequest, Detail: reason{code, err.Error()}}
	}
	return hash, err
}
