package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/kernelflow/kernelflow/shared/errs"
)

// failure is an error as KernelCI's clients know it: {"detail": "text"}, or a
// list of faults of the request's body with status 422.
type failure struct {
	status int
	after  time.Duration // how long to wait before the request is sent again; 0: not known
	Detail any           `json:"detail" doc:"what is wrong: a text, or a list of faults in the request"`
}

// fault is one thing wrong with a request's body or parameters.
type fault struct {
	Loc  []place `json:"loc"`
	Msg  string  `json:"msg"`
	Type string  `json:"type"`
}

// MarshalJSON writes the place in a list as a number.
func (p place) MarshalJSON() ([]byte, error) {
	if n, err := strconv.Atoi(string(p)); err == nil {
		return json.Marshal(n)
	}
	return json.Marshal(string(p))
}

// Error implements error.
func (f *failure) Error() string {
	if text, ok := f.Detail.(string); ok {
		return text
	}
	text, err := json.Marshal(f.Detail)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// GetStatus implements huma.StatusError.
func (f *failure) GetStatus() int { return f.status }

// comeBack are the statuses after which the same request may succeed.
var comeBack = []int{http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusGatewayTimeout}

// retryAfter is how long a client should wait then, where nothing better is
// known.
const retryAfter = 5 * time.Second

// GetHeaders implements huma.HeadersError.
func (f *failure) GetHeaders() http.Header {
	if !slices.Contains(comeBack, f.status) {
		return nil
	}
	after := cmp.Or(f.after, retryAfter)
	return http.Header{"Retry-After": {strconv.FormatInt(int64(math.Ceil(after.Seconds())), 10)}}
}

// tooMany answers who has tried too often and may again after that time.
func tooMany(after time.Duration) error {
	return &failure{status: http.StatusTooManyRequests, after: after, Detail: "Too many attempts, try again later"}
}

// huma asks this variable for the shape of its own errors.
func init() {
	huma.NewError = func(status int, msg string, causes ...error) huma.StatusError {
		switch {
		case status == http.StatusUnprocessableEntity || status == http.StatusBadRequest:
			return invalidRequest(msg, causes)
		case status == http.StatusInternalServerError && msg == "cannot read request body":
			// The client broke off, or its chunks are malformed.
			return &failure{status: http.StatusBadRequest, Detail: "the body cannot be read"}
		}
		return &failure{status: status, Detail: msg}
	}
}

// invalidRequest lists what huma found wrong with a request.
func invalidRequest(msg string, causes []error) *failure {
	faults := []fault{}
	for _, cause := range causes {
		faults = append(faults, faultOf(cause))
	}
	if len(faults) == 0 {
		faults = append(faults, fault{Loc: []place{"body"}, Msg: msg, Type: "missing"})
	}
	return &failure{status: http.StatusUnprocessableEntity, Detail: faults}
}

var missing = regexp.MustCompile(`^expected required property (.+) to be present$`)

func faultOf(cause error) fault {
	f := fault{Loc: []place{"body"}, Msg: cause.Error(), Type: "value_error"}
	var d *huma.ErrorDetail
	if errors.As(cause, &d) {
		f.Loc, f.Msg = placesOf(d.Location), d.Message
	}
	if location, text, ok := strings.Cut(f.Msg, beforeText); ok {
		f.Loc, f.Msg = placesOf(location), text
	}
	if m := missing.FindStringSubmatch(f.Msg); m != nil {
		f.Loc, f.Msg, f.Type = append(f.Loc, place(m[1])), "Field required", "missing"
	}
	return f
}

var inList = regexp.MustCompile(`\[(\d+)\]`)

// placesOf parts a dotted place: body.path[0] is body, path, 0.
func placesOf(location string) []place {
	var out []place
	for part := range strings.SplitSeq(inList.ReplaceAllString(location, ".$1"), ".") {
		if part != "" {
			out = append(out, place(part))
		}
	}
	return out
}

// invalidBody is the answer to a body that is not what the route takes: the
// field is the dotted name before the first ": " of the error's text.
func invalidBody(err error) error {
	text := err.Error()
	location := "body"
	if field, rest, ok := strings.Cut(text, ": "); ok && !strings.ContainsAny(field, " \"") {
		location, text = location+"."+field, rest
	}
	return &failure{status: http.StatusUnprocessableEntity, Detail: []fault{{Loc: placesOf(location), Msg: text, Type: "value_error"}}}
}

// fail turns an error of the domain into an answer. What nobody classified
// tells the client nothing: the log has it.
func (f *Function) fail(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	var ready *failure
	if errors.As(err, &ready) {
		return ready
	}
	status := errs.Status(err)
	text := err.Error()
	switch {
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		status, text = http.StatusServiceUnavailable, "the server is stopping or the client has gone"
	case status == http.StatusUnauthorized:
		text = "Unauthorized"
	case status >= http.StatusInternalServerError:
		f.log.Error("a request failed", "error", err)
		text = http.StatusText(status)
	}
	return &failure{status: status, Detail: text}
}

func plain(status int, text string) error { return &failure{status: status, Detail: text} }

// writeError is fail for the routes that are not huma's.
func (f *Function) writeError(w http.ResponseWriter, r *http.Request, err error) {
	answer := &failure{status: http.StatusInternalServerError}
	errors.As(f.fail(r.Context(), err), &answer)
	writeFailure(w, answer)
}

// answer writes an error that has become one of this API's.
func (f *Function) answer(hc huma.Context, err error) {
	r, w := humago.Unwrap(hc)
	f.writeError(w, r, err)
}

// writeFailure answers with a failure.
func writeFailure(w http.ResponseWriter, f *failure) {
	for name, values := range f.GetHeaders() {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(f.status)
	// The client has gone when this fails.
	_ = json.NewEncoder(w).Encode(f)
}
