// Package user is who may use the API and what each may do to a node. It is
// pure: no I/O. Passwords and tokens are shared/auth's; keeping users is
// shared/store's.
//
// The rules are the KernelCI API's: a superuser may edit anything; others edit
// the nodes that they own, those that name one of their groups, everything with
// the group node:edit:any, and what runs on a runtime with the groups
// runtime:<name>:node-editor and runtime:<name>:node-admin. A job's own token
// acts as a user who may edit one node and nothing else.
package user

import (
	"slices"
	"time"

	"github.com/kernelflow/kernelflow/shared/node"
)

// Group is a set of users with rights in common.
type Group struct {
	ID   node.ID `json:"id"`
	Name string  `json:"name"`
}

// User is an account.
type User struct {
	ID           node.ID   `json:"id"`
	Email        string    `json:"email"`
	Username     string    `json:"username"`
	Active       bool      `json:"is_active"`
	Superuser    bool      `json:"is_superuser"`
	Verified     bool      `json:"is_verified"`
	Groups       []Group   `json:"groups"`
	PasswordHash string    `json:"-"` // argon2id or bcrypt, never sent
	Created      time.Time `json:"-"` // UTC
	// Node is set when the bearer is a job: the one node it reports on.
	Node node.ID `json:"-"`
	// Scopes is set when the bearer is a personal token: all that it may do.
	Scopes []Scope `json:"-"`
	// Prefixes are those of the personal token, if it has any.
	Prefixes []string `json:"-"`
	// Uploader says that the token may upload anywhere below its prefixes.
	Uploader bool `json:"-"`
}

// Job returns the actor behind a job's token: it may edit the node id alone.
func Job(id node.ID) User {
	return User{Username: "job:" + string(id), Active: true, Verified: true, Node: id, Groups: []Group{}}
}

// IsJob says whether the actor is a job's token rather than a person.
func (u User) IsJob() bool { return u.Node != "" }

// GroupNames lists the names of the user's groups.
func (u User) GroupNames() []string {
	names := make([]string, len(u.Groups))
	for i, g := range u.Groups {
		names[i] = g.Name
	}
	return names
}

// MayCreate says whether u may create a node below parent (the zero Node for a
// root). A job may add to its own node only.
func (u User) MayCreate(parent node.Node) bool {
	if u.IsJob() {
		return parent.ID == u.Node
	}
	return u.Active
}

// MayEdit says whether u may change n.
func (u User) MayEdit(n node.Node) bool {
	if u.IsJob() {
		return n.ID == u.Node
	}
	if !u.Active {
		return false
	}
	return u.Superuser || n.Owner == u.Username || slices.ContainsFunc(u.GroupNames(), func(g string) bool { return groupMayEdit(g, n) })
}

func groupMayEdit(group string, n node.Node) bool {
	if group == "node:edit:any" || slices.Contains(n.UserGroups, group) {
		return true
	}
	runtime := n.Text("runtime")
	return runtime != "" && (group == "runtime:"+runtime+":node-editor" || group == "runtime:"+runtime+":node-admin")
}
