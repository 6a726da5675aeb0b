package api

import (
	"bytes"
	"cmp"
	"encoding/json"
	"reflect"
	"regexp"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// Go's decoder takes a key for a field whatever its case; KernelCI and JSON
// Schema do not.
func init() { huma.ValidateStrictCasing = true }

// reader reads bodies as the description says.
type reader struct {
	schemas huma.Registry
	bodies  map[reflect.Type]*huma.Schema // what those of a type are described by
}

// learn takes the types of all bodies from the operations.
func (r *reader) learn(description *huma.OpenAPI) {
	for op := range operations(description) {
		if t, ok := op.Metadata[typedKey].(reflect.Type); ok {
			for _, media := range op.RequestBody.Content {
				r.bodies[t] = media.Schema
			}
		}
	}
}

// notPlain finds a key with more in it than names of fields have. It may find
// what is none, but misses no key.
var notPlain = regexp.MustCompile(`"[^"]*[^a-z0-9_"][^"]*"\s*:`)

// exact returns the body without the keys that differ from the name of a field
// by case alone, so that a decoder reads into v what the description says.
func (r *reader) exact(body []byte, v any) ([]byte, error) {
	schema := r.bodies[reflect.TypeOf(v).Elem()]
	if schema == nil || !notPlain.Match(body) {
		return body, nil
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, err
	}
	r.strip(schema, value)
	return json.Marshal(value)
}

// ownKeys marks the schema of an object that keeps what it does not name.
const ownKeys = "x-own-keys"

func (r *reader) strip(schema *huma.Schema, value any) {
	if schema == nil {
		return
	}
	if schema.Ref != "" {
		schema = r.schemas.SchemaFromRef(schema.Ref)
	}
	for _, branch := range schema.AnyOf {
		r.strip(branch, value)
	}
	switch value := value.(type) {
	case []any:
		for _, item := range value {
			r.strip(schema.Items, item)
		}
	case map[string]any:
		more, _ := schema.AdditionalProperties.(*huma.Schema)
		for key, item := range value {
			if schema.Properties[key] == nil && schema.Extensions[ownKeys] == nil && looksNamed(schema, key) {
				delete(value, key)
				continue
			}
			r.strip(cmp.Or(schema.Properties[key], more), item)
		}
	}
}

func looksNamed(schema *huma.Schema, key string) bool {
	for name := range schema.Properties {
		if strings.EqualFold(name, key) {
			return true
		}
	}
	return false
}
