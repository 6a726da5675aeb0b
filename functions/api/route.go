package api

import (
	"context"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// maxBody is how many bytes a body may have where the route does not say
// otherwise.
const maxBody = 4 << 20

// bodyPatience is how long a client may take to send a body.
const bodyPatience = 30 * time.Second

// register adds one route and describes it: what it may answer follows from
// its method, path, input and options, in the two shapes of this API's errors.
//
// An input with a Body has it read and checked against the description before
// the handler runs; a body that is a form has the tag contentType:"…urlencoded".
// An input with a RawBody is described by the option takes and checked by the
// handler. The options of this file say more: needsToken, takes, answers.
func register[I, O any](api huma.API, method, path, summary string, handler func(context.Context, *I) (*O, error), options ...func(*huma.Operation)) {
	op := huma.Operation{
		OperationID: operationID(method, path), Method: method, Path: path, Summary: summary,
		DefaultStatus: http.StatusOK, MaxBodyBytes: maxBody, BodyReadTimeout: bodyPatience,
		Metadata: map[string]any{}, Responses: map[string]*huma.Response{},
	}
	input := reflect.TypeFor[I]()
	_, raw := input.FieldByName("RawBody")
	body, typed := input.FieldByName("Body")
	op.SkipValidateBody = raw && !typed
	if raw || typed {
		op.RequestBody = &huma.RequestBody{}
	}
	if typed {
		op.Metadata[typedKey] = body.Type
	}
	for _, option := range options {
		option(&op)
	}
	describeResult(&op, api.OpenAPI().Components.Schemas)
	describeErrors(&op, api.OpenAPI().Components.Schemas)
	huma.Register(api, op, handler)
	describeBody(&op, api.OpenAPI().Components.Schemas, typed)
}

// needsToken marks a route that only an active account or a job may use; who
// has no good token is told so before anything else of the request is read.
func needsToken(op *huma.Operation) {
	op.Security = []map[string][]string{{"token": {}}, {"password": {}}}
}

// orForm lets a body be a form as well: register(..., orForm).
func orForm(op *huma.Operation) { op.Metadata[orFormKey] = true }

// orFormKey is where orForm leaves its word.
const orFormKey = "form"

// typedKey is where register leaves the type of a Body.
const typedKey = "typed"

// bodyKey is where takes leaves its type.
const bodyKey = "body"

// takes describes the raw body of a route as T: register(..., takes[T]).
func takes[T any](op *huma.Operation) { op.Metadata[bodyKey] = reflect.TypeFor[T]() }

// returns describes what a route answers as T, where its output has no Body to
// tell: register(..., returns[T]).
func returns[T any](op *huma.Operation) { op.Metadata[resultKey] = reflect.TypeFor[T]() }

// resultKey is where returns leaves its type.
const resultKey = "result"

// answersKey is where answers leaves its statuses.
const answersKey = "answers"

// answers adds statuses that a route may end with and register cannot know of.
func answers(statuses ...int) func(*huma.Operation) {
	return func(op *huma.Operation) { op.Metadata[answersKey] = statuses }
}

// describeBody gives a raw body the schema of the type that it is read as.
func describeBody(op *huma.Operation, registry huma.Registry, typed bool) {
	if op.RequestBody == nil {
		return
	}
	if typed {
		// Beside a Body, a RawBody is the same bytes.
		delete(op.RequestBody.Content, "application/octet-stream")
	}
	if op.Metadata[orFormKey] != nil {
		op.RequestBody.Content[formType] = op.RequestBody.Content["application/json"]
	}
	if t, ok := op.Metadata[bodyKey].(reflect.Type); ok {
		for _, media := range op.RequestBody.Content {
			media.Schema = registry.Schema(t, true, t.Name())
		}
	}
}

func describeResult(op *huma.Operation, registry huma.Registry) {
	if t, ok := op.Metadata[resultKey].(reflect.Type); ok {
		op.Responses[strconv.Itoa(op.DefaultStatus)] = &huma.Response{
			Description: http.StatusText(op.DefaultStatus),
			Content:     map[string]*huma.MediaType{"application/json": {Schema: registry.Schema(t, true, op.OperationID)}},
		}
	}
}

// describeErrors says how a route may fail.
func describeErrors(op *huma.Operation, registry huma.Registry) {
	statuses := []int{http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusServiceUnavailable}
	if len(op.Security) > 0 {
		statuses = append(statuses, http.StatusUnauthorized, http.StatusForbidden)
		if op.Method != http.MethodGet {
			statuses = append(statuses, http.StatusConflict)
		}
	}
	if strings.Contains(op.Path, "{") {
		statuses = append(statuses, http.StatusNotFound)
	}
	if op.RequestBody != nil {
		statuses = append(statuses, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	}
	op.Responses[strconv.Itoa(http.StatusRequestHeaderFieldsTooLarge)] = &huma.Response{
		Description: "an address or headers of more than 64 KiB, refused by the server",
		Content:     map[string]*huma.MediaType{"text/plain": {Schema: &huma.Schema{Type: huma.TypeString}}},
	}
	more, _ := op.Metadata[answersKey].([]int)
	for _, status := range append(statuses, more...) {
		if op.Responses[strconv.Itoa(status)] != nil {
			continue // an option has said it
		}
		described := reflect.TypeFor[errorDoc]()
		if status == http.StatusUnprocessableEntity {
			described = reflect.TypeFor[faultsDoc]()
		}
		response := &huma.Response{
			Description: http.StatusText(status),
			Content:     map[string]*huma.MediaType{"application/json": {Schema: registry.Schema(described, true, "")}},
		}
		if slices.Contains(comeBack, status) {
			response.Headers = map[string]*huma.Param{"Retry-After": {Schema: &huma.Schema{Type: huma.TypeInteger}, Description: "seconds"}}
		}
		op.Responses[strconv.Itoa(status)] = response
	}
}

// asDescribed refuses what huma takes though no schema allows it: a body of
// another type than the route's, since huma reads any that it knows; a query
// parameter that says nothing where a number, a truth or a time is meant, which
// it takes for absent; and one that is there twice, of which it takes the first
// and KernelCI the last.
func asDescribed(ctx huma.Context, next func(huma.Context)) {
	wrong := unsupported(ctx)
	if wrong == nil {
		wrong = misplacedParameter(ctx)
	}
	if wrong != nil {
		_, w := humago.Unwrap(ctx)
		writeFailure(w, wrong)
		return
	}
	next(ctx)
}

func unsupported(ctx huma.Context) *failure {
	kind, body := ctx.Header("Content-Type"), ctx.Operation().RequestBody
	if body == nil || kind == "" {
		return nil
	}
	if name, _, err := mime.ParseMediaType(kind); err == nil && body.Content[name] != nil {
		return nil
	}
	return &failure{status: http.StatusUnsupportedMediaType, Detail: fmt.Sprintf("Content-Type: must be %s", strings.Join(slices.Sorted(maps.Keys(body.Content)), " or "))}
}

func misplacedParameter(ctx huma.Context) *failure {
	u, op := ctx.URL(), ctx.Operation()
	values := u.Query()
	for _, p := range op.Parameters {
		given := values[p.Name]
		if p.In != "query" || len(given) == 0 || p.Schema == nil {
			continue
		}
		free := mayBeEmpty(p.Schema)
		switch {
		case slices.Contains(given, "") && !free:
			return invalidParameter(p.Name, "must not be empty")
		case len(given) > 1 && (!free || op.Metadata[filteredKey] == nil):
			return invalidParameter(p.Name, "must not be there twice")
		}
	}
	return nil
}

func invalidParameter(name, text string) *failure {
	return invalidRequest("", []error{&huma.ErrorDetail{Location: "query." + name, Message: text}})
}

func mayBeEmpty(schema *huma.Schema) bool {
	if len(schema.Enum) > 0 {
		return slices.Contains(schema.Enum, any(""))
	}
	return schema.Type == huma.TypeString && schema.Extensions["anyOf"] == nil || schema.Type == "" || schema.Type == huma.TypeArray
}

var notWord = regexp.MustCompile(`[^a-z0-9]+`)

func operationID(method, path string) string {
	return strings.Trim(notWord.ReplaceAllString(strings.ToLower(method+"-"+path), "-"), "-")
}

// router is a ServeMux whose own answers have the shape of this API's errors.
type router struct {
	*http.ServeMux
	methods map[string][]string // of each path without a parameter
}

func newRouter() *router { return &router{http.NewServeMux(), map[string][]string{}} }

// HandleFunc adds a route. For huma "/" is a path like others, not what is left.
func (m *router) HandleFunc(pattern string, handler func(http.ResponseWriter, *http.Request)) {
	method, path, _ := strings.Cut(pattern, " ")
	if path == "/" {
		pattern += "{$}"
	}
	if !strings.Contains(path, "{") {
		m.methods[path] = append(m.methods[path], method)
	}
	m.ServeMux.HandleFunc(pattern, handler)
}

// close makes a path mean itself for every method: /nodes/fast is no id of
// /nodes/{id} that could be put to.
func (m *router) close() {
	for path, methods := range m.methods {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
			if !slices.Contains(methods, method) && path != "/" {
				m.ServeMux.HandleFunc(method+" "+path, m.refuseMethod)
			}
		}
	}
}

func (m *router) refuseMethod(w http.ResponseWriter, r *http.Request) {
	methods := slices.Clone(m.methods[r.URL.Path])
	if slices.Contains(methods, http.MethodGet) {
		methods = append(methods, http.MethodHead)
	}
	slices.Sort(methods)
	w.Header().Set("Allow", strings.Join(methods, ", "))
	writeFailure(w, &failure{status: http.StatusMethodNotAllowed, Detail: http.StatusText(http.StatusMethodNotAllowed)})
}

// ServeHTTP implements http.Handler.
func (m *router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	refuse, pattern := m.Handler(r)
	if pattern != "" {
		m.ServeMux.ServeHTTP(w, r)
		return
	}
	if len(m.methods[r.URL.Path]) > 0 {
		m.refuseMethod(w, r)
		return
	}
	refused := &refusal{ResponseWriter: w, status: http.StatusNotFound}
	refuse.ServeHTTP(refused, r) // leaves the header Allow for a wrong method
	writeFailure(w, &failure{status: refused.status, Detail: http.StatusText(refused.status)})
}

// refusal takes the status of an answer and drops its text.
type refusal struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (r *refusal) WriteHeader(status int) { r.status = status }

// Write implements http.ResponseWriter.
func (r *refusal) Write(b []byte) (int, error) { return len(b), nil }
