package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/user"
)

// Purpose is what a mailed token is good for. It is the token's audience.
type Purpose string

// The purposes; the names of the last two are those of fastapi-users.
const (
	Invite        Purpose = "kernelflow:invite"
	ResetPassword Purpose = "fastapi-users:reset"
	VerifyEmail   Purpose = "fastapi-users:verify"
)

// Once makes a token that lets its reader do one thing to the account once: it
// carries a fingerprint of what doing it changes, the password's hash, the
// address and whether that is verified, so that the token no longer fits
// afterwards, nor after any other such change. Nothing needs to be kept.
func (a *Auth) Once(p Purpose, u user.User, life time.Duration) (string, error) {
	c := a.claims(string(u.ID), string(p), life)
	c.Fingerprint = a.fingerprint(p, u)
	return a.sign(c)
}

func (a *Auth) fingerprint(p Purpose, u user.User) string {
	mac := hmac.New(sha256.New, a.options.Secret)
	// Every field but the last is of a form that cannot hold a NUL.
	fmt.Fprintf(mac, "%s\x00%s\x00%t\x00%t\x00%s\x00%s", p, u.ID, u.Active, u.Verified, u.PasswordHash, u.Email)
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// Ticket is a mailed token that was checked, but for whether it still fits.
type Ticket struct {
	User        node.ID
	auth        *Auth
	purpose     Purpose
	fingerprint string
}

// Redeem checks a mailed token's signature, purpose and end. The error is
// always errs.Unauthenticated and says nothing about why. Whoever does what the
// token is for must ask [Ticket.Fits] in the same write.
func (a *Auth) Redeem(p Purpose, token string) (Ticket, error) {
	c, err := a.read(token)
	if err != nil {
		return Ticket{}, err
	}
	id, err := node.ParseID(c.Subject)
	if err != nil || len(c.Audience) != 1 || c.Audience[0] != string(p) || c.ExpiresAt == nil {
		return Ticket{}, errToken
	}
	return Ticket{User: id, auth: a, purpose: p, fingerprint: c.Fingerprint}, nil
}

// Fits says whether u is the account as it was when the token was made.
func (t Ticket) Fits(u user.User) bool {
	return hmac.Equal([]byte(t.fingerprint), []byte(t.auth.fingerprint(t.purpose, u)))
}
