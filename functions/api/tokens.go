package api

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/storage"
	"github.com/kernelflow/kernelflow/shared/user"
)

// maxTokens is how many personal tokens one account may have, lapsed ones too.
const maxTokens = 100

func (f *Function) tokenRoutes(api huma.API) {
	register(api, http.MethodPost, "/user/tokens", "Make a personal token; it is shown this once", f.postToken, needsToken)
	register(api, http.MethodGet, "/user/tokens", "One's own personal tokens", f.listTokens, needsToken)
	register(api, http.MethodDelete, "/user/tokens/{id}", "Revoke a personal token", f.deleteToken, needsToken, noContent)
}

// TokenView is a personal token as its owner sees it.
type TokenView struct {
	ID       node.ID      `json:"id"`
	Name     string       `json:"name"`
	Scopes   []user.Scope `json:"scopes"`
	Prefixes []string     `json:"prefixes" nullable:"true" doc:"folders in the storage outside of which it uploads nothing; null: no such bound"`
	Created  timeOut      `json:"created"`
	Expires  *timeOut     `json:"expires" nullable:"true" doc:"null: never"`
}

func view(t user.Token) TokenView {
	v := TokenView{ID: t.ID, Name: t.Name, Scopes: t.Scopes, Prefixes: t.Prefixes, Created: timeOut(node.FormatTime(t.Created))}
	if !t.Expires.IsZero() {
		expires := timeOut(node.FormatTime(t.Expires))
		v.Expires = &expires
	}
	return v
}

// scopesIn is a list of scopes, each once.
type scopesIn []user.Scope

// Schema implements huma.SchemaProvider.
func (scopesIn) Schema(huma.Registry) *huma.Schema {
	item := &huma.Schema{Type: huma.TypeString}
	for _, scope := range user.Scopes {
		item.Enum = append(item.Enum, string(scope))
	}
	return &huma.Schema{Type: huma.TypeArray, Items: item, MinItems: new(1), Extensions: unique}
}

// prefixIn is a folder in the storage. What is one is for the storage to say.
type prefixIn string

// Schema implements huma.SchemaProvider.
func (prefixIn) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Pattern: `^/?[A-Za-z0-9_-][A-Za-z0-9._-]{0,200}(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,200}){0,3}/?$`}
}

// cleanPrefixes takes folders with or without slashes around them, as
// KernelCI's storage does.
func cleanPrefixes(given []prefixIn) ([]string, error) {
	var clean []string
	for i, prefix := range given {
		p, err := storage.CleanPath(strings.Trim(string(prefix), "/"))
		if err != nil {
			return nil, invalidBody(errs.New(errs.Invalid, "prefixes.%d: %s", i, err))
		}
		clean = append(clean, p)
	}
	return clean, nil
}

type postTokenInput struct {
	WithToken
	Body struct {
		Name     string     `json:"name" minLength:"1" maxLength:"100"`
		Scopes   scopesIn   `json:"scopes"`
		Prefixes []prefixIn `json:"prefixes,omitempty" nullable:"true" maxItems:"20" doc:"folders in the storage outside of which it uploads nothing; an admin's token uploads anywhere in them"`
		Expires  *timeIn    `json:"expires,omitempty" nullable:"true" doc:"never when it is left out"`
	}
}

type postTokenOutput struct {
	Body struct {
		TokenView
		Token string `json:"token"`
	}
}

func (f *Function) postToken(ctx context.Context, in *postTokenInput) (*postTokenOutput, error) {
	u, err := f.person(ctx, in.WithToken)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	t := user.Token{User: u.ID, Name: in.Body.Name, Scopes: in.Body.Scopes, Created: f.now().UTC().Truncate(time.Second)}
	if in.Body.Expires != nil {
		if err := setTime("expires", &t.Expires, string(*in.Body.Expires)); err != nil {
			return nil, f.fail(ctx, err)
		}
		t.Expires = t.Expires.Truncate(time.Second)
	}
	if t.Prefixes, err = cleanPrefixes(in.Body.Prefixes); err != nil {
		return nil, f.fail(ctx, err)
	}
	if err := t.Validate(); err != nil {
		return nil, f.fail(ctx, invalidBody(err))
	}
	if slices.Contains(t.Scopes, user.ScopeAdmin) && !u.Superuser {
		return nil, f.fail(ctx, errs.New(errs.Denied, "scopes: only an admin's token can have %s", user.ScopeAdmin))
	}
	token, err := f.keepToken(ctx, u, &t)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	out := &postTokenOutput{}
	out.Body.TokenView, out.Body.Token = view(t), token
	return out, nil
}

// keepToken gives t an id, stores it and signs it.
func (f *Function) keepToken(ctx context.Context, u user.User, t *user.Token) (string, error) {
	there, err := f.store.ListTokens(ctx, u.ID, maxTokens)
	if err != nil {
		return "", err
	}
	if len(there) == maxTokens {
		return "", errs.New(errs.Conflict, "there are %d tokens already: revoke one first", maxTokens)
	}
	if t.ID, err = f.newID(); err != nil {
		return "", err
	}
	if err := f.store.CreateToken(ctx, *t); err != nil {
		return "", err
	}
	return f.auth.PersonalToken(*t, u)
}

type tokensOutput struct{ Body []TokenView }

func (f *Function) listTokens(ctx context.Context, in *WithToken) (*tokensOutput, error) {
	u, err := f.person(ctx, *in)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	tokens, err := f.store.ListTokens(ctx, u.ID, maxTokens)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	out := &tokensOutput{Body: []TokenView{}}
	for _, t := range tokens {
		out.Body = append(out.Body, view(t))
	}
	return out, nil
}

func (f *Function) deleteToken(ctx context.Context, in *userInput) (*struct{}, error) {
	u, err := f.person(ctx, in.WithToken)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	id, err := in.ID.parse()
	if err == nil {
		err = f.store.DeleteToken(ctx, u.ID, id)
	}
	if errors.Is(err, errs.NotFound) {
		err = errs.New(errs.NotFound, "Token not found with id: %s", id)
	}
	return nil, f.fail(ctx, err)
}
