package user_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/user"
)

func TestWhoMayEditANode(t *testing.T) {
	n := node.Node{ID: "65f000000000000000000001", Owner: "alice", UserGroups: []string{"lab"}, Data: map[string]any{"runtime": "lava-x"}}
	in := func(group string) user.User {
		return user.User{Username: "bob", Active: true, Groups: []user.Group{{Name: group}}}
	}
	for name, tc := range map[string]struct {
		user user.User
		want bool
	}{
		"owner":                       {user.User{Username: "alice", Active: true}, true},
		"owner who was deactivated":   {user.User{Username: "alice"}, false},
		"superuser":                   {user.User{Username: "root", Active: true, Superuser: true}, true},
		"stranger":                    {user.User{Username: "bob", Active: true}, false},
		"member of the node's group":  {in("lab"), true},
		"member of another group":     {in("other"), false},
		"editor of any node":          {in("node:edit:any"), true},
		"editor of the runtime":       {in("runtime:lava-x:node-editor"), true},
		"admin of the runtime":        {in("runtime:lava-x:node-admin"), true},
		"editor of another runtime":   {in("runtime:lava-y:node-editor"), false},
		"the job of this node":        {user.Job("65f000000000000000000001"), true},
		"the job of another node":     {user.Job("65f000000000000000000002"), false},
		"a job that has a good group": {user.User{Node: "65f000000000000000000002", Active: true, Groups: []user.Group{{Name: "lab"}}}, false},
	} {
		if got := tc.user.MayEdit(n); got != tc.want {
			t.Errorf("%s may edit: %t, want %t", name, got, tc.want)
		}
	}
}

func TestATokenWithoutTheScopeIsNoSuperuser(t *testing.T) {
	root := user.User{Username: "root", Active: true, Superuser: true}
	foreign := node.Node{ID: "65f000000000000000000001", Owner: "alice"}
	for name, tc := range map[string]struct {
		scopes []user.Scope
		want   bool
	}{
		"admin":      {[]user.Scope{user.ScopeAdmin}, true},
		"node:write": {[]user.Scope{user.ScopeNodeWrite}, false},
		"nothing":    {[]user.Scope{}, false},
	} {
		if u := root.With(user.Token{Scopes: tc.scopes}); u.Superuser != tc.want || u.MayEdit(foreign) != tc.want {
			t.Errorf("%s: %+v", name, u)
		}
	}
	if u := (user.User{Active: true}).With(user.Token{Scopes: user.Scopes}); u.Superuser {
		t.Error("a token made its owner a superuser")
	}
}

func TestATokenAllowsItsScopesAlone(t *testing.T) {
	u := user.User{Active: true}
	limited := u.With(user.Token{Scopes: []user.Scope{user.ScopeEvents}})
	if !u.Allows(user.ScopeStorage) || !limited.Allows(user.ScopeEvents) || limited.Allows(user.ScopeStorage) || limited.Allows("") {
		t.Errorf("%+v", limited)
	}
}

func TestAnInvalidTokenIsRefusedByField(t *testing.T) {
	now := time.Date(2025, 1, 12, 8, 0, 0, 0, time.UTC)
	good := user.Token{Name: "laptop", Scopes: []user.Scope{user.ScopeCheckout}, Created: now, Expires: now.Add(time.Hour)}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for field, change := range map[string]func(*user.Token){
		"name":    func(t *user.Token) { t.Name = "" },
		"name: ":  func(t *user.Token) { t.Name = strings.Repeat("x", 101) },
		"scopes":  func(t *user.Token) { t.Scopes = nil },
		"scopes:": func(t *user.Token) { t.Scopes = []user.Scope{"everything"} },
		"twice":   func(t *user.Token) { t.Scopes = []user.Scope{user.ScopeAdmin, user.ScopeAdmin} },
		"expires": func(t *user.Token) { t.Expires = now },
	} {
		bad := good
		change(&bad)
		if err := bad.Validate(); !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}
