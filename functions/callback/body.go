package callback

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/patch"
)

// limitOf is how long the body of a request may be, bytes. JSON escapes make a
// patch longer.
func limitOf(permission string) int64 {
	if permission == "patchset" {
		return patch.MaxTotal + patch.MaxTotal/4
	}
	return 1 << 20
}

// bodyTime is how long a body may take to come: longer than clients wait.
const bodyTime = time.Minute

// timedBody reads a body that must come in time. A host that cannot bound a read
// bounds the request by its own means.
type timedBody struct {
	io.Reader
	control *http.ResponseController
	now     func() time.Time
	begun   bool
}

// Read implements io.Reader.
func (b *timedBody) Read(p []byte) (int, error) {
	if !b.begun {
		b.begun = true
		_ = b.control.SetReadDeadline(b.now().Add(bodyTime))
	}
	n, err := b.Reader.Read(p)
	if err != nil {
		_ = b.control.SetReadDeadline(time.Time{}) // or the connection would end with it
	}
	return n, err
}

// detail is how the framework under KernelCI's pipeline words an error.
type detail struct {
	Detail any `json:"detail"`
}

// fault is one thing wrong with the form of a body.
type fault struct {
	Type string `json:"type"`
	Loc  []any  `json:"loc"`
	Msg  string `json:"msg"`
}

// Error implements error.
func (f *fault) Error() string { return fmt.Sprint(f.Loc...) + ": " + f.Msg }

func wrongForm(kind, msg string, place ...any) error {
	return &fault{Type: kind, Loc: append([]any{"body"}, place...), Msg: msg}
}

// object reads a body that is a JSON object. Each known key is read once, by its
// reader, and a key that is missing by none; unknown keys are ignored.
func object(body io.Reader, readers map[string]func(*json.Decoder) error) error {
	text, err := io.ReadAll(body)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return err
	case err != nil:
		return errs.New(errs.Invalid, "the body cannot be read: %s", err)
	}
	if !utf8.Valid(text) {
		return wrongForm("json_invalid", "the body is not valid UTF-8")
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	if token, err := decoder.Token(); err != nil {
		return wrongForm("json_invalid", "JSON decode error: "+err.Error())
	} else if token != json.Delim('{') {
		return wrongForm("model_attributes_type", "Input should be a valid dictionary or object to extract fields from")
	}
	seen := map[string]bool{}
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return wrongForm("json_invalid", "JSON decode error: "+err.Error())
		}
		key, _ := token.(string)
		if err := member(decoder, key, seen[key], readers[key]); err != nil {
			return err
		}
		seen[key] = true
	}
	closing, _ := decoder.Token()
	if _, err := decoder.Token(); closing != json.Delim('}') || !errors.Is(err, io.EOF) {
		return wrongForm("json_invalid", "JSON decode error: the body does not end with its object")
	}
	return nil
}

// member reads the value of one key.
func member(decoder *json.Decoder, key string, twice bool, read func(*json.Decoder) error) error {
	if twice {
		return wrongForm("json_invalid", "the key is there twice", bounded(key))
	}
	if read == nil {
		var ignored json.RawMessage
		read = func(d *json.Decoder) error { return d.Decode(&ignored) }
	}
	err := read(decoder)
	var syntax *json.SyntaxError
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF):
		return wrongForm("json_invalid", "JSON decode error: "+err.Error(), bounded(key))
	case errors.As(err, &wrong):
		return wrongForm(kinds[wrong.Type.Kind().String()][0], kinds[wrong.Type.Kind().String()][1], bounded(key))
	}
	return err
}

// kinds says what was expected, by the kind of Go's type.
var kinds = map[string][2]string{
	"string": {"string_type", "Input should be a valid string"},
	"slice":  {"list_type", "Input should be a valid list"},
}

func bounded(key string) string { return strings.ToValidUTF8(key[:min(len(key), 80)], "") }

// text reads a string, or null, which leaves it empty.
func text(into *string, key string) func(*json.Decoder) error {
	return func(d *json.Decoder) error {
		if err := d.Decode(into); err != nil {
			return err
		}
		return withoutNUL(*into, key)
	}
}

func withoutNUL(s string, place ...any) error {
	if strings.ContainsRune(s, 0) {
		return wrongForm("value_error", "must not contain NUL", place...)
	}
	return nil
}

// texts reads a list of strings, or null.
func texts(into *[]string, key string) func(*json.Decoder) error {
	return func(d *json.Decoder) error {
		var list []any
		if err := d.Decode(&list); err != nil {
			return err
		}
		for i, v := range list {
			s, ok := v.(string)
			if !ok {
				return wrongForm("string_type", "Input should be a valid string", key, i)
			}
			if err := withoutNUL(s, key, i); err != nil {
				return err
			}
			*into = append(*into, s)
		}
		return nil
	}
}

// needed says that a key is missing or null where it must not be.
func needed(value, key string) error {
	if value == "" {
		return wrongForm("missing", "Field required", key)
	}
	return nil
}

// retryAfter is when a client should ask again, seconds.
const retryAfter = 5

// fail answers a request that did not end well.
func (f *Function) fail(w http.ResponseWriter, r *http.Request, err error) {
	var wrong *fault
	var large *http.MaxBytesError
	status := errs.Status(err)
	switch {
	case errors.As(err, &wrong):
		f.write(w, http.StatusUnprocessableEntity, detail{[]*fault{wrong}})
		return
	case errors.As(err, &large):
		f.write(w, http.StatusRequestEntityTooLarge, answer{Message: "the body is longer than " + strconv.FormatInt(large.Limit, 10) + " bytes"})
		return
	case errs.KindOf(err) == nil && r.Context().Err() != nil:
		return // nobody listens any more
	case status < http.StatusInternalServerError:
		f.write(w, status, answer{Message: err.Error()})
		return
	}
	f.Log.ErrorContext(r.Context(), "a request failed", "path", r.URL.Path, "error", err)
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
		f.write(w, status, answer{Message: "Service unavailable"})
		return
	}
	f.write(w, http.StatusInternalServerError, answer{Message: "Internal server error"})
}

func (f *Function) write(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		f.Log.Debug("writing an answer", "error", err)
	}
}

// recovered turns a panic into an error.
func recovered(do func() (answer, error)) (out answer, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return do()
}
