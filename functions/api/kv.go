package api

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/kernelflow/kernelflow/shared/errs"
)

// longestValue bounds a value of the key-value store, bytes of JSON.
const longestValue = 1 << 20

// The key-value store holds the settings of services and what they must know
// after a restart. KernelCI keeps it in Redis; here it is in the store, since
// the channel keeps nothing.
func (f *Function) kvRoutes(api huma.API) {
	register(api, http.MethodGet, "/kv/{namespace}/{key}", "The value of a key; null when there is none", f.getKV, needsToken)
	register(api, http.MethodDelete, "/kv/{namespace}/{key}", "Remove a key", f.deleteKV, needsToken)
	var body *huma.RequestBody
	register(api, http.MethodPost, "/kv/{namespace}/{key}", "Set the value of a key; without a value, remove it", f.postKV, needsToken, takes[kvValue],
		func(op *huma.Operation) { op.MaxBodyBytes, body = longestValue, op.RequestBody })
	body.Required = false // which huma has just made it
}

// kvValue is a value as clients send it.
type kvValue struct{}

// Schema implements huma.SchemaProvider.
func (kvValue) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Nullable: true}
}

// KVName is embedded by the inputs of the routes of one key.
type KVName struct {
	Namespace string `path:"namespace" maxLength:"200"`
	Key       string `path:"key" maxLength:"200"`
}

type kvInput struct {
	WithToken
	KVName
}

type kvOutput struct{ Body *string }

// checkKV says whether who asks may, and whether the name is one.
func (f *Function) checkKV(ctx context.Context, token WithToken, name KVName) error {
	if _, err := f.person(ctx, token); err != nil {
		return err
	}
	if err := checkText("namespace", name.Namespace); err != nil {
		return err
	}
	return checkText("key", name.Key)
}

// checkText refuses what is no text.
func checkText(field, text string) error {
	if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		return errs.New(errs.Invalid, "%s: must be UTF-8 without NUL", field)
	}
	return nil
}

func (f *Function) getKV(ctx context.Context, in *kvInput) (*kvOutput, error) {
	err := f.checkKV(ctx, in.WithToken, in.KVName)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	value, err := f.store.KV(ctx, in.Namespace, in.Key)
	if errors.Is(err, errs.NotFound) {
		return &kvOutput{}, nil
	}
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	return &kvOutput{Body: &value}, nil
}

type setKVInput struct {
	WithToken
	KVName
	RawBody []byte `contentType:"application/json"`
}

func (f *Function) postKV(ctx context.Context, in *setKVInput) (*kvOutput, error) {
	err := f.checkKV(ctx, in.WithToken, in.KVName)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	var value *string
	if len(in.RawBody) > 0 {
		if err := decode(in.RawBody, &value); err != nil {
			return nil, f.fail(ctx, err)
		}
	}
	if value == nil || *value == "" {
		err = f.store.DeleteKV(ctx, in.Namespace, in.Key)
	} else {
		err = f.store.SetKV(ctx, in.Namespace, in.Key, *value)
	}
	return answerKV("OK"), f.fail(ctx, err)
}

func (f *Function) deleteKV(ctx context.Context, in *kvInput) (*kvOutput, error) {
	err := f.checkKV(ctx, in.WithToken, in.KVName)
	if err == nil {
		err = f.store.DeleteKV(ctx, in.Namespace, in.Key)
	}
	return answerKV("Key-value pair deleted successfully"), f.fail(ctx, err)
}

func answerKV(text string) *kvOutput { return &kvOutput{Body: &text} }
