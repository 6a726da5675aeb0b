package auth_test

import (
	"errors"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/auth"
	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/user"
)

func TestAMailedTokenFitsOneStateOfTheAccount(t *testing.T) {
	a := open(t, 0, func() time.Time { return start })
	u := user.User{ID: id, Email: "dev@example.org", Active: true, PasswordHash: "$argon2id$x"}
	token, err := a.Once(auth.Invite, u, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	ticket, err := a.Redeem(auth.Invite, token)
	if err != nil || ticket.User != id || !ticket.Fits(u) {
		t.Fatalf("%+v, %v", ticket, err)
	}
	for what, change := range map[string]func(*user.User){
		"another password":        func(u *user.User) { u.PasswordHash = "$argon2id$y" },
		"another address":         func(u *user.User) { u.Email = "eve@example.org" },
		"verified":                func(u *user.User) { u.Verified = true },
		"deactivated":             func(u *user.User) { u.Active = false },
		"another account":         func(u *user.User) { u.ID = gone },
		"the fields run together": func(u *user.User) { u.PasswordHash, u.Email = "$argon2id$xdev", "@example.org" },
	} {
		changed := u
		change(&changed)
		if ticket.Fits(changed) {
			t.Errorf("%s: the token still fits", what)
		}
	}
	u.Groups = []user.Group{{Name: "lab"}}
	if !ticket.Fits(u) {
		t.Error("another group made the token worthless")
	}
}

func TestAMailedTokenIsGoodForItsPurposeUntilItEnds(t *testing.T) {
	now := start
	a := open(t, 0, func() time.Time { return now })
	token, err := a.Once(auth.ResetPassword, user.User{ID: id}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	login, err := a.UserToken(id)
	if err != nil {
		t.Fatal(err)
	}
	redeem := func(p auth.Purpose, token string) error {
		_, err := a.Redeem(p, token)
		return err
	}
	if err := redeem(auth.ResetPassword, token); err != nil {
		t.Error(err)
	}
	for what, err := range map[string]error{
		"another purpose": redeem(auth.Invite, token),
		"a login":         redeem(auth.ResetPassword, login),
		"noise":           redeem(auth.ResetPassword, "a.b.c"),
	} {
		if !errors.Is(err, errs.Unauthenticated) {
			t.Errorf("%s: %v", what, err)
		}
	}
	now = start.Add(time.Hour + time.Second)
	if err := redeem(auth.ResetPassword, token); !errors.Is(err, errs.Unauthenticated) {
		t.Errorf("a lapsed token: %v", err)
	}
}
