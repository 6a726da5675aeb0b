package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

//go:embed invite.html
var invitePage []byte

//go:embed accept.html.tmpl
var acceptText string

var acceptPage = template.Must(template.New("accept").Parse(acceptText))

// asPage describes an answer that is a page.
func asPage(op *huma.Operation) {
	op.Responses["200"] = &huma.Response{Description: "a page", Content: map[string]*huma.MediaType{htmlType: {Schema: &huma.Schema{Type: huma.TypeString}}}}
}

type pageOutput struct {
	Status   int
	Type     string `header:"Content-Type"`
	Security string `header:"Content-Security-Policy"`
	Referrer string `header:"Referrer-Policy"`
	Caching  string `header:"Cache-Control"`
	Body     []byte
}

// newPage is a page that may do what the policy adds to nothing.
func newPage(content []byte, policy string) *pageOutput {
	return &pageOutput{
		Status:   http.StatusOK,
		Type:     htmlType,
		Security: "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'; " + policy,
		Referrer: "no-referrer", // an address may have a token
		Caching:  "no-store",
		Body:     content,
	}
}

// showInvite is a page whose one script, which is known by its hash, sends what
// invite takes.
func (f *Function) showInvite(context.Context, *struct{}) (*pageOutput, error) {
	_, script, _ := strings.Cut(string(invitePage), "<script>")
	script, _, _ = strings.Cut(script, "</script>")
	sum := sha256.Sum256([]byte(script))
	return newPage(invitePage, "form-action 'none'; connect-src 'self'; script-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'"), nil
}

// showAccept is the page that the link in an invite leads to: a form for what
// acceptInvite takes, without scripts.
func (f *Function) showAccept(ctx context.Context, in *struct {
	Token string `query:"token"`
}) (*pageOutput, error) {
	var page bytes.Buffer
	if err := acceptPage.Execute(&page, in.Token); err != nil {
		return nil, f.fail(ctx, err)
	}
	return newPage(page.Bytes(), "form-action 'self'"), nil
}
