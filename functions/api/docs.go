package api

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"html/template"
	"iter"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
)

// docsRoutes serves the description of all routes: for programs, and as a page
// that needs nothing from anywhere else, not even scripts.
func docsRoutes(mux *router, description *huma.OpenAPI) {
	describePlain(description)
	text := sync.OnceValues(func() ([]byte, error) { return json.Marshal(description) })
	page := sync.OnceValues(func() ([]byte, error) { return renderDocs(description) })
	mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) { writeOnce(w, "application/json", text) })
	mux.HandleFunc("GET /docs", func(w http.ResponseWriter, _ *http.Request) { writeOnce(w, htmlType, page) })
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.Header.Get("Accept"), "text/html") {
			writePage(w, htmlType, indexPage)
			return
		}
		writePage(w, "application/json", []byte(`{"message":"KernelCI API"}`+"\n"))
	})
}

// describePlain describes the routes that are not huma's.
func describePlain(description *huma.OpenAPI) {
	text := map[string]*huma.MediaType{"text/plain": {Schema: &huma.Schema{Type: huma.TypeString}}}
	html := map[string]*huma.MediaType{"text/html": {Schema: &huma.Schema{Type: huma.TypeString}}}
	object := map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{Type: huma.TypeObject}}}
	either := map[string]*huma.MediaType{"text/html": html["text/html"], "application/json": object["application/json"]}
	for _, page := range []struct {
		path, summary string
		content       map[string]*huma.MediaType
	}{
		{"/", "What this is: a page for who asks for HTML", either}, {"/docs", "This description as a page", html}, {"/openapi.json", "This description", object},
		{"/healthz", "Whether the process lives", text}, {"/readyz", "Whether the store, the storage and the channel answer", text},
		{"/metrics", "Metrics for Prometheus", text},
	} {
		responses := map[string]*huma.Response{"200": {Description: http.StatusText(http.StatusOK), Content: page.content}}
		if page.path == "/readyz" {
			responses["503"] = &huma.Response{Description: "names what does not answer", Content: text}
		}
		description.AddOperation(&huma.Operation{
			OperationID: operationID(http.MethodGet, "page "+page.path), Method: http.MethodGet, Path: page.path, Summary: page.summary, Responses: responses,
		})
	}
}

const htmlType = "text/html; charset=utf-8"

//go:embed index.html
var indexPage []byte

//go:embed docs.html.tmpl
var docsText string

var docsTemplate = template.Must(template.New("docs").Parse(docsText))

// writeOnce writes what was made by the first request for it.
func writeOnce(w http.ResponseWriter, kind string, content func() ([]byte, error)) {
	b, err := content()
	if err != nil {
		writeFailure(w, &failure{status: http.StatusInternalServerError, Detail: http.StatusText(http.StatusInternalServerError)})
		return
	}
	writePage(w, kind, b)
}

// writePage writes a page that a browser lets run nothing.
func writePage(w http.ResponseWriter, kind string, content []byte) {
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	// The client has gone when this fails.
	_, _ = w.Write(content)
}

// operations returns all that is described, in no order.
func operations(description *huma.OpenAPI) iter.Seq[*huma.Operation] {
	return func(yield func(*huma.Operation) bool) {
		for _, item := range description.Paths {
			for _, op := range []*huma.Operation{item.Get, item.Post, item.Put, item.Patch, item.Delete} {
				if op != nil && !yield(op) {
					return
				}
			}
		}
	}
}

// docsRoute is a route as the page shows it.
type docsRoute struct {
	Method, Path string
	*huma.Operation
	Locked bool
	Bodies map[string]string // content type to schema
}

// docsSchema is a schema as the page shows it.
type docsSchema struct{ Name, Text string }

func renderDocs(description *huma.OpenAPI) ([]byte, error) {
	var page struct {
		Title   string
		Routes  []docsRoute
		Schemas []docsSchema
	}
	page.Title = description.Info.Title
	for op := range operations(description) {
		route := docsRoute{Method: op.Method, Path: op.Path, Operation: op, Locked: len(op.Security) > 0, Bodies: map[string]string{}}
		if op.RequestBody != nil {
			for kind, media := range op.RequestBody.Content {
				route.Bodies[kind] = indented(media.Schema)
			}
		}
		page.Routes = append(page.Routes, route)
	}
	slices.SortFunc(page.Routes, func(a, b docsRoute) int { return strings.Compare(a.Path+" "+a.Method, b.Path+" "+b.Method) })
	for name, schema := range description.Components.Schemas.Map() {
		page.Schemas = append(page.Schemas, docsSchema{name, indented(schema)})
	}
	slices.SortFunc(page.Schemas, func(a, b docsSchema) int { return strings.Compare(a.Name, b.Name) })
	var b bytes.Buffer
	err := docsTemplate.Execute(&b, page)
	return b.Bytes(), err
}

func indented(schema *huma.Schema) string {
	b, err := json.MarshalIndent(schema, "", "  ")
	if err != nil {
		return err.Error()
	}
	return string(b)
}
