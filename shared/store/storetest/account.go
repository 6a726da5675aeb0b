package storetest

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
	"github.com/kernelflow/kernelflow/shared/user"
)

func account(n int, name string) user.User {
	return user.User{ID: ID(n), Username: name, Email: name + "@example.org", Active: true, PasswordHash: "hash-" + name,
		Groups: []user.Group{{ID: ID(100), Name: "lab"}}, Created: start}
}

func (s *suite) testUsers(t *testing.T) {
	st := s.open(t)
	ctx := t.Context()
	if err := st.CreateUser(ctx, account(1, "Alice")); err != nil {
		t.Fatal(err)
	}
	email := account(2, "alan")
	email.Email = "ALICE@example.org"
	for what, u := range map[string]user.User{"name": account(2, "aLICE"), "email": email, "id": account(1, "bob")} {
		if err := st.CreateUser(ctx, u); !errors.Is(err, errs.Conflict) {
			t.Errorf("the same %s: %v", what, err)
		}
	}
	for _, name := range []string{"Alice", "alice", "alice@EXAMPLE.org"} {
		got, err := st.UserByName(ctx, name)
		if err != nil || got.Username != "Alice" || got.PasswordHash != "hash-Alice" || len(got.Groups) != 1 || !got.Created.Equal(start) {
			t.Errorf("%s: %+v: %v", name, got, err)
		}
	}
	if _, err := st.UserByName(ctx, "nobody"); !errors.Is(err, errs.NotFound) {
		t.Errorf("nobody: %v", err)
	}
	if _, err := st.User(ctx, ID(9)); !errors.Is(err, errs.NotFound) {
		t.Errorf("unknown id: %v", err)
	}
	if err := st.CreateUser(ctx, account(3, "bob")); err != nil {
		t.Fatal(err)
	}
	if page, total, err := st.ListUsers(ctx, store.UserFilter{}, 1, 1); err != nil || total != 2 || len(page) != 1 || page[0].Username != "bob" {
		t.Errorf("page %+v of %d: %v", page, total, err)
	}
}

func (s *suite) testUpdateUser(t *testing.T) {
	st := s.open(t)
	ctx := t.Context()
	for i, name := range []string{"alice", "bob"} {
		if err := st.CreateUser(ctx, account(i+1, name)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := st.UpdateUser(ctx, ID(1), func(u *user.User) error { u.Username, u.PasswordHash = "carol", "new"; return nil })
	if err != nil || got.Username != "carol" {
		t.Fatalf("%+v: %v", got, err)
	}
	if kept, err := st.UserByName(ctx, "carol"); err != nil || kept.ID != ID(1) || kept.PasswordHash != "new" {
		t.Errorf("%+v: %v", kept, err)
	}
	if _, err := st.UpdateUser(ctx, ID(1), func(u *user.User) error { u.Username = "BOB"; return nil }); !errors.Is(err, errs.Conflict) {
		t.Errorf("a name that is taken: %v", err)
	}
	stop := errors.New("stop")
	if _, err := st.UpdateUser(ctx, ID(1), func(*user.User) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("a refused change: %v", err)
	}
	if _, err := st.UpdateUser(ctx, ID(9), func(*user.User) error { return nil }); !errors.Is(err, errs.NotFound) {
		t.Errorf("unknown id: %v", err)
	}
}

func (s *suite) testUserFilters(t *testing.T) {
	st := s.open(t)
	ctx := t.Context()
	yes, no := true, false
	for i, change := range []func(*user.User){
		func(u *user.User) { u.Superuser = true },
		func(u *user.User) { u.Active, u.Groups = false, nil },
		func(u *user.User) { u.Verified = true },
	} {
		u := account(i+1, "user-"+fmt.Sprint(i+1))
		change(&u)
		if err := st.CreateUser(ctx, u); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := st.UpdateUser(ctx, ID(3), func(u *user.User) error {
		u.Groups = append(u.Groups, user.Group{ID: ID(101), Name: "other"})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for what, tc := range map[string]struct {
		filter store.UserFilter
		want   string
	}{
		"all":              {store.UserFilter{}, "user-1 user-2 user-3"},
		"username":         {store.UserFilter{Username: "USER-2"}, "user-2"},
		"email":            {store.UserFilter{Email: "user-3@example.org"}, "user-3"},
		"superusers":       {store.UserFilter{Superuser: &yes}, "user-1"},
		"others":           {store.UserFilter{Superuser: &no}, "user-2 user-3"},
		"active":           {store.UserFilter{Active: &yes}, "user-1 user-3"},
		"verified":         {store.UserFilter{Verified: &yes}, "user-3"},
		"group":            {store.UserFilter{Group: "lab"}, "user-1 user-3"},
		"a group put on":   {store.UserFilter{Group: "other"}, "user-3"},
		"all of it":        {store.UserFilter{Group: "lab", Active: &yes, Superuser: &no, Username: "user-3"}, "user-3"},
		"none":             {store.UserFilter{Username: "user-3", Superuser: &yes}, ""},
		"an unknown group": {store.UserFilter{Group: "nothing"}, ""},
	} {
		got, total, err := st.ListUsers(ctx, tc.filter, 0, 0)
		var names []string
		for _, u := range got {
			names = append(names, u.Username)
		}
		if err != nil || strings.Join(names, " ") != tc.want || int(total) != len(got) {
			t.Errorf("%s: %v of %d, want %s: %v", what, names, total, tc.want, err)
		}
	}
}

func (s *suite) testDeleteUser(t *testing.T) {
	st := s.open(t)
	ctx := t.Context()
	for i, name := range []string{"alice", "bob"} {
		if err := st.CreateUser(ctx, account(i+1, name)); err != nil {
			t.Fatal(err)
		}
		if err := st.CreateToken(ctx, personal(i+11, ID(i+1))); err != nil {
			t.Fatal(err)
		}
	}
	if err := st.DeleteUser(ctx, ID(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := st.User(ctx, ID(1)); !errors.Is(err, errs.NotFound) {
		t.Errorf("a deleted account: %v", err)
	}
	if _, err := st.Token(ctx, ID(11)); !errors.Is(err, errs.NotFound) {
		t.Errorf("a deleted account's token: %v", err)
	}
	if _, err := st.Token(ctx, ID(12)); err != nil {
		t.Errorf("another account's token: %v", err)
	}
	if err := st.DeleteUser(ctx, ID(1)); !errors.Is(err, errs.NotFound) {
		t.Errorf("deleted twice: %v", err)
	}
	if err := st.CreateUser(ctx, account(3, "alice")); err != nil {
		t.Errorf("the name is free again: %v", err)
	}
	if _, total, err := st.ListUsers(ctx, store.UserFilter{Group: "lab"}, 1, 0); err != nil || total != 2 {
		t.Errorf("%d members: %v", total, err)
	}
}

func (s *suite) testGroups(t *testing.T) {
	st := s.open(t)
	ctx := t.Context()
	for i, name := range []string{"lab", "runtime:lava-x:node-editor", "free"} {
		if err := st.CreateGroup(ctx, user.Group{ID: ID(100 + i), Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	for what, g := range map[string]user.Group{"name": {ID: ID(200), Name: "lab"}, "id": {ID: ID(100), Name: "x"}} {
		if err := st.CreateGroup(ctx, g); !errors.Is(err, errs.Conflict) {
			t.Errorf("the same %s: %v", what, err)
		}
	}
	for what, g := range map[string]user.Group{"name": {ID: ID(200)}, "id": {ID: "x", Name: "x"}} {
		if err := st.CreateGroup(ctx, g); !errors.Is(err, errs.Invalid) {
			t.Errorf("no %s: %v", what, err)
		}
	}
	if g, err := st.Group(ctx, ID(101)); err != nil || g != (user.Group{ID: ID(101), Name: "runtime:lava-x:node-editor"}) {
		t.Errorf("%+v: %v", g, err)
	}
	if _, err := st.Group(ctx, ID(999)); !errors.Is(err, errs.NotFound) {
		t.Errorf("an unknown group: %v", err)
	}
	if page, total, err := st.ListGroups(ctx, "", 1, 1); err != nil || total != 3 || len(page) != 1 || page[0].ID != ID(101) {
		t.Errorf("a page: %+v of %d: %v", page, total, err)
	}
	if page, total, err := st.ListGroups(ctx, "free", 0, 0); err != nil || total != 1 || len(page) != 1 || page[0].ID != ID(102) {
		t.Errorf("by name: %+v of %d: %v", page, total, err)
	}
}

func (s *suite) testDeleteGroup(t *testing.T) {
	st := s.open(t)
	ctx := t.Context()
	if err := st.CreateGroup(ctx, user.Group{ID: ID(100), Name: "lab"}); err != nil {
		t.Fatal(err)
	}
	if err := st.CreateUser(ctx, account(1, "alice")); err != nil {
		t.Fatal(err)
	}
	if err := st.DeleteGroup(ctx, ID(100)); !errors.Is(err, errs.Conflict) {
		t.Errorf("a group with members: %v", err)
	}
	if _, err := st.Group(ctx, ID(100)); err != nil {
		t.Errorf("a group that was not removed: %v", err)
	}
	if _, err := st.UpdateUser(ctx, ID(1), func(u *user.User) error { u.Groups = nil; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := st.DeleteGroup(ctx, ID(100)); err != nil {
		t.Errorf("a group that nobody is in: %v", err)
	}
	if err := st.DeleteGroup(ctx, ID(100)); !errors.Is(err, errs.NotFound) {
		t.Errorf("removed twice: %v", err)
	}
}

func personal(n int, owner node.ID) user.Token {
	return user.Token{
		ID: ID(n), User: owner, Name: fmt.Sprint("token ", n), Scopes: []user.Scope{user.ScopeCheckout, user.ScopeEvents},
		Created: start, Expires: start.Add(time.Hour),
	}
}

func (s *suite) testTokens(t *testing.T) {
	first, second := s.pair(t)
	ctx := t.Context()
	lasting := personal(2, ID(50))
	lasting.Expires, lasting.Prefixes = time.Time{}, []string{"lab-one", "a b/ü"}
	for _, token := range []user.Token{personal(1, ID(50)), lasting, personal(3, ID(51))} {
		if err := first.CreateToken(ctx, token); err != nil {
			t.Fatal(err)
		}
		if got, err := second.Token(ctx, token.ID); err != nil || asJSON(t, got) != asJSON(t, token) {
			t.Errorf("%s, want %s: %v", asJSON(t, got), asJSON(t, token), err)
		}
	}
	if err := second.CreateToken(ctx, personal(1, ID(51))); !errors.Is(err, errs.Conflict) {
		t.Errorf("the same id: %v", err)
	}
	for limit, want := range map[int]int{0: 2, 1: 1, 5: 2} {
		if list, err := second.ListTokens(ctx, ID(50), limit); err != nil || len(list) != want || list[0].ID != ID(1) {
			t.Errorf("limit %d: %+v: %v", limit, list, err)
		}
	}
	if list, err := second.ListTokens(ctx, ID(99), 0); err != nil || len(list) != 0 {
		t.Errorf("of nobody: %+v: %v", list, err)
	}
	if err := second.DeleteToken(ctx, ID(51), ID(1)); !errors.Is(err, errs.NotFound) {
		t.Errorf("another's token: %v", err)
	}
	if err := second.DeleteToken(ctx, ID(50), ID(1)); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"again": second.DeleteToken(ctx, ID(50), ID(1)),
		"read":  func() error { _, err := first.Token(ctx, ID(1)); return err }(),
	} {
		if !errors.Is(err, errs.NotFound) {
			t.Errorf("a token that is gone, %s: %v", what, err)
		}
	}
}
