package user_test

import (
	"testing"

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
