package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/kernelflow/kernelflow/shared/errs"
)

// failure is an error as KernelCI's clients know it: {"detail": "text"}, or a
// list of faults of the request's body with status 422.
type failure struct {
	status int
	Detail any `json:"detail" doc:"what is wrong: a text, or a list of faults in the request"`
}

// fault is one thing wrong with a request's body or parameters.
type fault struct {
	Loc  []string `json:"loc"`
	Msg  string   `json:"msg"`
	Type string   `json:"type"`
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

// huma asks this variable for the shape of its own errors.
func init() {
	huma.NewError = func(status int, msg string, causes ...error) huma.StatusError {
		if status == http.StatusUnprocessableEntity || status == http.StatusBadRequest && len(causes) > 0 {
			return invalidRequest(msg, causes)
		}
		return &failure{status: status, Detail: msg}
	}
}

// invalidRequest lists what huma found wrong with a request.
func invalidRequest(msg string, causes []error) *failure {
	faults := []fault{}
	for _, cause := range causes {
		f := fault{Loc: []string{"body"}, Msg: cause.Error(), Type: "value_error"}
		if d, ok := cause.(huma.ErrorDetailer); ok {
			f.Loc, f.Msg = strings.Split(d.ErrorDetail().Location, "."), d.ErrorDetail().Message
		}
		faults = append(faults, f)
	}
	if len(faults) == 0 {
		faults = append(faults, fault{Loc: []string{"body"}, Msg: msg, Type: "value_error"})
	}
	return &failure{status: http.StatusUnprocessableEntity, Detail: faults}
}

// invalidBody is the answer to a body that is not what the route takes: the
// field is the dotted name before the first ": " of the error's text.
func invalidBody(err error) error {
	text := err.Error()
	loc := []string{"body"}
	if field, rest, ok := strings.Cut(text, ": "); ok && !strings.ContainsAny(field, " \"") {
		loc, text = append(loc, strings.Split(field, ".")...), rest
	}
	return &failure{status: http.StatusUnprocessableEntity, Detail: []fault{{Loc: loc, Msg: text, Type: "value_error"}}}
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
	answer := f.fail(r.Context(), err)
	status := http.StatusInternalServerError
	var ready *failure
	if errors.As(answer, &ready) {
		status = ready.status
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		f.log.Debug("writing an answer", "error", err)
	}
}
