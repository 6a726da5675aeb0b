package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/kernelflow/kernelflow/shared/errs"
)

// maxNesting bounds how deep a body's JSON may go. A hierarchy takes two levels
// for each of its own.
const maxNesting = 512

const formType = "application/x-www-form-urlencoded"

// formats are what bodies may be written in. Answers are JSON whatever was
// asked for, as KernelCI's are.
func (r *reader) formats() map[string]huma.Format {
	return map[string]huma.Format{
		"application/json": {Marshal: huma.DefaultJSONFormat.Marshal, Unmarshal: r.unmarshalJSON},
		formType:           {Marshal: huma.DefaultJSONFormat.Marshal, Unmarshal: r.unmarshalForm},
	}
}

// unmarshalJSON reads a body. A body comes here twice: first as any, to be
// checked against its schema, then as what the handler takes.
func (r *reader) unmarshalJSON(body []byte, v any) error {
	if _, first := v.(*any); first {
		if err := checkJSON(body); err != nil {
			return err
		}
	}
	body, err := r.exact(body, v)
	if err != nil {
		return err
	}
	return unmarshal(body, v)
}

// unmarshal is json.Unmarshal, with the place where another type is needed.
func unmarshal(body []byte, v any) error {
	err := json.Unmarshal(body, v)
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) && wrong.Field != "" {
		return inBody(wrong.Field, "is a "+wrong.Value+" where another type is needed")
	}
	return err
}

// unmarshalForm reads a form as if it were an object of texts.
func (r *reader) unmarshalForm(body []byte, v any) error {
	values, err := url.ParseQuery(string(body))
	if err != nil {
		return errors.New("is no form")
	}
	object := map[string]any{}
	for key, list := range values {
		if all := key + strings.Join(list, ""); strings.ContainsRune(all, 0) || !utf8.ValidString(all) {
			return inBody(key, "must be UTF-8 without NUL")
		}
		if object[key] = list[0]; len(list) > 1 {
			object[key] = list // which no field is
		}
	}
	text, err := json.Marshal(object)
	if err != nil {
		return err
	}
	if text, err = r.exact(text, v); err != nil {
		return err
	}
	return json.Unmarshal(text, v)
}

// misplaced is what is wrong at a place of a body. huma knows such an error by
// its text alone: faultOf takes it apart again.
type misplaced struct{ place, text string }

const beforeText = "\x00"

func (m *misplaced) Error() string { return m.place + beforeText + m.text }

func inBody(place, text string) error {
	location := "body"
	if place != "" {
		location += "." + strings.ReplaceAll(place, beforeText, "")
	}
	return &misplaced{location, text}
}

// checkJSON refuses what decoders disagree about or what a store cannot keep:
// text that is not UTF-8 or has a NUL, a key that an object has twice, numbers
// beyond 64 bits, and nesting without end. The error names the place.
func checkJSON(body []byte) error {
	if !utf8.Valid(body) {
		return inBody("", "is not valid UTF-8")
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	c := checker{decoder: decoder}
	if err := c.value(0); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return inBody("", "goes on after its JSON value")
	}
	return nil
}

type checker struct {
	decoder *json.Decoder
	path    []string
}

func (c *checker) fault(text string) error { return inBody(strings.Join(c.path, "."), text) }

func (c *checker) value(depth int) error {
	token, err := c.decoder.Token()
	if err != nil {
		return c.fault("is no JSON: " + err.Error())
	}
	if depth > maxNesting {
		return inBody("", "is nested more than "+strconv.Itoa(maxNesting)+" levels deep")
	}
	switch token := token.(type) {
	case json.Delim:
		if token == '{' {
			return c.object(depth)
		}
		return c.list(depth)
	case string:
		if strings.ContainsRune(token, 0) {
			return c.fault("must not contain NUL")
		}
	case json.Number:
		return c.number(token)
	}
	return nil
}

func (c *checker) number(n json.Number) error {
	if strings.ContainsAny(n.String(), ".eE") {
		if _, err := n.Float64(); err != nil {
			return c.fault("is a number beyond 64 bits")
		}
		return nil
	}
	if _, err := n.Int64(); err != nil {
		return c.fault("is a number beyond 64 bits")
	}
	return nil
}

func (c *checker) object(depth int) error {
	seen := map[string]bool{}
	for c.decoder.More() {
		token, err := c.decoder.Token()
		if err != nil {
			return c.fault("is no JSON: " + err.Error())
		}
		key, _ := token.(string)
		c.path = append(c.path, key)
		if seen[key] {
			return c.fault("is there twice")
		}
		if strings.ContainsRune(key, 0) {
			return c.fault("must not contain NUL")
		}
		seen[key] = true
		if err := c.value(depth + 1); err != nil {
			return err
		}
		c.path = c.path[:len(c.path)-1]
	}
	return c.end()
}

func (c *checker) list(depth int) error {
	for i := 0; c.decoder.More(); i++ {
		c.path = append(c.path, strconv.Itoa(i))
		if err := c.value(depth + 1); err != nil {
			return err
		}
		c.path = c.path[:len(c.path)-1]
	}
	return c.end()
}

// end takes the closing bracket.
func (c *checker) end() error {
	if _, err := c.decoder.Token(); err != nil {
		return c.fault("is no JSON: " + err.Error())
	}
	return nil
}

// decode reads a body that is one JSON value; the error is an answer.
func decode(body []byte, v any) error {
	err := checkJSON(body)
	if err == nil {
		err = unmarshal(body, v)
	}
	if err == nil || errors.Is(err, errs.Invalid) {
		return err
	}
	return invalidRequest("", []error{err})
}

// isNull says whether a field of a body is JSON's null.
func isNull(raw json.RawMessage) bool { return bytes.Equal(bytes.TrimSpace(raw), []byte("null")) }
