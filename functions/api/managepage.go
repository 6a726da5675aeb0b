package api

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"

	"github.com/danielgtaylor/huma/v2"

	"github.com/kernelflow/kernelflow/shared/user"
)

//go:embed manage.js
var manageScript []byte

// scopeTells says of each scope what it is for.
var scopeTells = map[user.Scope]string{
	user.ScopeNodeRead:  "read nodes where that needs a token",
	user.ScopeNodeWrite: "create and change nodes",
	user.ScopeEvents:    "listen to events and publish them",
	user.ScopeStorage:   "upload artifacts",
	user.ScopeCheckout:  "ask the pipeline for a checkout",
	user.ScopeTestRetry: "ask the pipeline to run a test again",
	user.ScopePatchset:  "ask the pipeline to test patches",
	user.ScopeAdmin:     "do what its owner may as an admin",
}

// showManage is a page whose one script does with the routes of accounts what
// they are there for. The script comes from an address of its own and is known
// by its hash alone: from where it comes strangers' artifacts come too.
//
// The script keeps the login in its memory. A cookie would need a defence
// against other pages that send it, and what a browser stores for an origin can
// be read by whatever else it shows of it. The price is to sign in after each
// reload.
func (f *Function) showManage(ctx context.Context, _ *struct{}) (*pageOutput, error) {
	sum := sha256.Sum256(manageScript)
	hash := "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
	page, err := f.draw(ctx, "manage", struct {
		Hash   string
		Scopes []user.Scope
	}{hash, user.Scopes}, nil)
	if err != nil {
		return nil, err
	}
	return newPage(page.Body, "form-action 'none'; connect-src 'self'; script-src '"+hash+"'"), nil
}

// sendManageScript answers with the script of that page.
func (f *Function) sendManageScript(context.Context, *struct{}) (*pageOutput, error) {
	script := newPage(manageScript, "sandbox")
	script.Type = scriptType
	return script, nil
}

// asScript describes an answer that is a script.
func asScript(op *huma.Operation) {
	op.Responses["200"] = &huma.Response{Description: "a script", Content: map[string]*huma.MediaType{scriptType: {Schema: &huma.Schema{Type: huma.TypeString}}}}
}

func tellsOf(s user.Scope) string { return scopeTells[s] }

const scriptType = "text/javascript; charset=utf-8"
