// Package auth makes and checks tokens and passwords. It keeps nothing: users
// are the store's, what each may do is shared/user's.
//
// All tokens are JWT signed with HS256; what a token is good for is its
// audience, and nothing else is:
//
//   - A user's token is KernelCI's (`sub` is the user's id, `aud` is
//     "fastapi-users:auth", `exp` only when a lifetime is set), so that tokens
//     move between the two systems when they share a key; a second, "unified"
//     key is accepted when one is configured.
//   - A personal token is one that a user makes for a program. It has an id,
//     under which the store knows its scopes until it is revoked, so that it
//     can be: see [Auth.Authenticate].
//   - A job's token names the one node that the job reports on, in `sub`, and
//     always ends.
//   - A mailed token lets its reader do one thing once: see [Auth.Once].
//
// Passwords are hashed with Argon2id. A bcrypt hash of an existing database is
// accepted, and [Auth.CheckPassword] then says that it should be replaced.
//
// Decisions. The parameters of Argon2id are the least that OWASP's password
// storage cheat sheet recommends (19 MiB, two passes), because a small instance
// must survive some logins at once. At most four hashes are computed at a time.
// A personal token has an audience of its own rather than that of a user's: a
// KernelCI that shares the key knows nothing of scopes and must refuse it.
package auth

import (
	"fmt"
	"strings"
	"time"

	"github.com/alexedwards/argon2id"
	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/crypto/bcrypt"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/user"
)

// The audiences of the kinds of token; those of mailed ones are a Purpose. The
// first is that of fastapi-users, on which KernelCI's API is built.
const (
	audienceUser     = "fastapi-users:auth"
	audiencePersonal = "kernelflow:token"
	audienceJob      = "kernelflow:job"
)

// minSecret is the least length of a signing key, bytes.
const minSecret = 16

// maxPassword bounds what is hashed, bytes.
const maxPassword = 1024

// Options configure an Auth.
type Options struct {
	Secret  []byte           // signs and checks
	Unified []byte           // only checks; may be empty
	Life    time.Duration    // of a user's token; 0: for ever
	Now     func() time.Time // the clock
}

// Auth makes and checks tokens.
type Auth struct {
	options Options
	hashing chan struct{}
}

// New checks the options; Invalid when the secret is too short.
func New(o Options) (*Auth, error) {
	if len(o.Secret) < minSecret {
		return nil, errs.New(errs.Invalid, "SECRET_KEY: must be %d bytes long at least", minSecret)
	}
	if n := len(o.Unified); n > 0 && n < minSecret {
		return nil, errs.New(errs.Invalid, "UNIFIED_SECRET: must be %d bytes long at least", minSecret)
	}
	return &Auth{options: o, hashing: make(chan struct{}, 4)}, nil
}

// UserToken makes a user's token.
func (a *Auth) UserToken(id node.ID) (string, error) {
	return a.sign(a.claims(string(id), audienceUser, a.options.Life))
}

// PersonalToken makes the token that t describes for its owner. It says the
// owner's address and the scopes, as permissions, for who cannot ask the store.
func (a *Auth) PersonalToken(t user.Token, owner user.User) (string, error) {
	c := a.claims(string(owner.ID), audiencePersonal, 0)
	c.ID, c.Email = string(t.ID), owner.Email
	for _, s := range t.Scopes {
		c.Permissions = append(c.Permissions, string(s))
	}
	if !t.Expires.IsZero() {
		c.ExpiresAt = jwt.NewNumericDate(t.Expires)
	}
	return a.sign(c)
}

// JobToken makes a token that lets a job report on the node id for life.
func (a *Auth) JobToken(id node.ID, life time.Duration) (string, error) {
	if life <= 0 {
		return "", errs.New(errs.Invalid, "auth.JobToken(%s): lifetime %s is not positive", id, life)
	}
	return a.sign(a.claims(string(id), audienceJob, life))
}

// claims are all that a token may say.
type claims struct {
	jwt.RegisteredClaims
	Email       string   `json:"email,omitempty"`
	Permissions []string `json:"permissions,omitempty"`
	Fingerprint string   `json:"fingerprint,omitempty"` // see Once
}

// claims begins a token; life 0 is for ever.
func (a *Auth) claims(subject, audience string, life time.Duration) claims {
	c := claims{RegisteredClaims: jwt.RegisteredClaims{Subject: subject, Audience: jwt.ClaimStrings{audience}}}
	if life > 0 {
		c.ExpiresAt = jwt.NewNumericDate(a.options.Now().Add(life))
	}
	return c
}

func (a *Auth) sign(c claims) (string, error) {
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString(a.options.Secret)
	if err != nil {
		return "", fmt.Errorf("auth.sign(%s): %w", c.Subject, err)
	}
	return token, nil
}

// Bearer is whom a token speaks for: a user or a node.
type Bearer struct {
	User  node.ID
	Token node.ID // set when it is a personal token of the user's
	Node  node.ID // a job's
}

// errToken is the only thing that a bad token learns.
var errToken = errs.New(errs.Unauthenticated, "Unauthorized")

// Verify checks a user's, personal or job's token. The error is always
// errs.Unauthenticated and says nothing about why. Whether the user is still
// there, and the personal token, is for [Auth.Authenticate] to say.
func (a *Auth) Verify(token string) (Bearer, error) {
	c, err := a.read(token)
	if err != nil {
		return Bearer{}, err
	}
	return c.bearer()
}

func (c *claims) bearer() (Bearer, error) {
	id, err := node.ParseID(c.Subject)
	if err != nil || len(c.Audience) != 1 {
		return Bearer{}, errToken
	}
	switch c.Audience[0] {
	case audienceUser:
		return Bearer{User: id}, nil
	case audiencePersonal:
		if token, err := node.ParseID(c.ID); err == nil {
			return Bearer{User: id, Token: token}, nil
		}
	case audienceJob:
		if c.ExpiresAt != nil {
			return Bearer{Node: id}, nil
		}
	}
	return Bearer{}, errToken
}

// read returns what a token says that one of the keys has signed and that has
// not ended. Whom it is for, its audience, is not looked at.
func (a *Auth) read(token string) (claims, error) {
	for _, key := range [][]byte{a.options.Secret, a.options.Unified} {
		if len(key) == 0 {
			continue
		}
		var c claims
		_, err := jwt.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return key, nil },
			jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}), jwt.WithTimeFunc(a.options.Now))
		if err == nil {
			return c, nil
		}
	}
	return claims{}, errToken
}

var hashParams = argon2id.Params{Memory: 19 * 1024, Iterations: 2, Parallelism: 1, SaltLength: 16, KeyLength: 32}

// HashPassword hashes a password for storing. An empty or endless one is
// Invalid.
func (a *Auth) HashPassword(password string) (string, error) {
	if password == "" || len(password) > maxPassword {
		return "", errs.New(errs.Invalid, "password: must be 1 to %d bytes long", maxPassword)
	}
	a.hashing <- struct{}{}
	defer func() { <-a.hashing }()
	hash, err := argon2id.CreateHash(password, &hashParams)
	if err != nil {
		return "", fmt.Errorf("auth.HashPassword: %w", err)
	}
	return hash, nil
}

// unknown is a hash that no password has: checking against it takes as long as
// against a real one, so that time does not tell who has an account.
const unknown = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

// CheckPassword says whether the password has the hash, and whether the hash
// should be replaced by a current one. An empty hash is nobody's.
func (a *Auth) CheckPassword(hash, password string) (ok, outdated bool) {
	if len(password) > maxPassword {
		return false, false
	}
	a.hashing <- struct{}{}
	defer func() { <-a.hashing }()
	if strings.HasPrefix(hash, "$2") {
		err := bcrypt.CompareHashAndPassword([]byte(hash), []byte(password))
		return err == nil, err == nil
	}
	nobody := hash == ""
	if nobody {
		hash = unknown
	}
	ok, params, err := argon2id.CheckHash(password, hash)
	if err != nil || nobody || !ok {
		return false, false
	}
	return true, *params != hashParams
}
