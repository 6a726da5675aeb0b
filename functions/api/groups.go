package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/user"
)

func (f *Function) groupRoutes(api huma.API) {
	register(api, http.MethodGet, "/user-groups", "A page of the user groups", f.listGroups, needsToken)
	register(api, http.MethodPost, "/user-groups", "Create a user group (admins)", f.postGroup, needsToken)
	register(api, http.MethodGet, "/user-groups/{id}", "One user group", f.getGroup, needsToken)
	register(api, http.MethodDelete, "/user-groups/{id}", "Delete a user group that nobody is in (admins)", f.deleteGroup, needsToken, noContent)
}

type groupsInput struct {
	WithToken
	Filters
	Name   string `query:"name" minLength:"1"`
	Limit  int    `query:"limit" default:"50" minimum:"1" maximum:"1000"`
	Offset int    `query:"offset" default:"0" minimum:"0"`
}

type groupsOutput struct{ Body page[user.Group] }

func (f *Function) listGroups(ctx context.Context, in *groupsInput) (*groupsOutput, error) {
	if _, err := f.person(ctx, in.WithToken); err != nil {
		return nil, f.fail(ctx, err)
	}
	if err := in.only("name", "limit", "offset"); err != nil {
		return nil, f.fail(ctx, err)
	}
	groups, total, err := f.store.ListGroups(ctx, in.Name, in.Limit, in.Offset)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	return &groupsOutput{Body: page[user.Group]{groups, total, in.Limit, in.Offset}}, nil
}

type postGroupInput struct {
	WithToken
	Body struct {
		Name string `json:"name" minLength:"1" maxLength:"200"`
	}
}

type groupOutput struct{ Body user.Group }

func (f *Function) postGroup(ctx context.Context, in *postGroupInput) (*groupOutput, error) {
	if _, err := f.admin(ctx, in.WithToken); err != nil {
		return nil, f.fail(ctx, err)
	}
	id, err := f.newID()
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	g := user.Group{ID: id, Name: in.Body.Name}
	err = f.store.CreateGroup(ctx, g)
	if errors.Is(err, errs.Conflict) {
		err = errs.New(errs.Invalid, "User group already exists with name: %s", g.Name)
	}
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	return &groupOutput{Body: g}, nil
}

type groupInput struct {
	WithToken
	ID idIn `path:"id"`
}

func (f *Function) getGroup(ctx context.Context, in *groupInput) (*groupOutput, error) {
	_, err := f.person(ctx, in.WithToken)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	id, err := in.ID.parse()
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	g, err := f.store.Group(ctx, id)
	if err != nil {
		return nil, f.fail(ctx, groupError(err, id))
	}
	return &groupOutput{Body: g}, nil
}

func (f *Function) deleteGroup(ctx context.Context, in *groupInput) (*struct{}, error) {
	if _, err := f.admin(ctx, in.WithToken); err != nil {
		return nil, f.fail(ctx, err)
	}
	id, err := in.ID.parse()
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	err = f.oneAtATime(ctx, func(ctx context.Context) error { return groupError(f.store.DeleteGroup(ctx, id), id) })
	return nil, f.fail(ctx, err)
}

// groupError says in KernelCI's words what the store says of a group.
func groupError(err error, id node.ID) error {
	switch {
	case errors.Is(err, errs.NotFound):
		return errs.New(errs.NotFound, "User group not found with id: %s", id)
	case errors.Is(err, errs.Conflict):
		return errs.New(errs.Conflict, "User group is assigned to users and cannot be deleted")
	}
	return err
}

// groupNames is a list of names, each once.
type groupNames []string

// Schema implements huma.SchemaProvider.
func (groupNames) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeString, Pattern: `^[^\x00]*$`}, MaxItems: new(1000), Description: "names of user groups",
		Extensions: unique,
	}
}

// UnmarshalJSON implements json.Unmarshaler: what stands twice is refused before
// anything is looked up.
func (g *groupNames) UnmarshalJSON(b []byte) error {
	if err := json.Unmarshal(b, (*[]string)(g)); err != nil {
		return err
	}
	for i, name := range *g {
		if slices.Contains((*g)[:i], name) {
			return inBody("groups", "Groups must have unique names.")
		}
	}
	return nil
}

// unique describes a list that has nothing twice. Huma is not to check it: it
// panics at items of other types than it should find.
var unique = map[string]any{"uniqueItems": true}

// groupsNamed returns the groups of those names.
func (f *Function) groupsNamed(ctx context.Context, names []string) ([]user.Group, error) {
	groups := []user.Group{}
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			return nil, invalidBody(errs.New(errs.Invalid, "groups: Groups must have unique names."))
		}
		found, err := f.groupNamed(ctx, name)
		if err != nil {
			return nil, err
		}
		groups = append(groups, found)
	}
	return groups, nil
}

// groupNamed returns the group of that name; Invalid when there is none.
func (f *Function) groupNamed(ctx context.Context, name string) (user.Group, error) {
	missing := errs.New(errs.Invalid, "User group does not exist with name: %.200s", name)
	if name == "" {
		return user.Group{}, missing
	}
	found, _, err := f.store.ListGroups(ctx, name, 1, 0)
	if err != nil {
		return user.Group{}, err
	}
	if len(found) == 0 {
		return user.Group{}, missing
	}
	return found[0], nil
}
