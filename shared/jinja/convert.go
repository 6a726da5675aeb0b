package jinja

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
)

// FromJSON is the value of a JSON text: objects keep the order of their keys.
func FromJSON(text []byte) (Value, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	v, err := decode(decoder)
	if err != nil {
		return nil, fmt.Errorf("jinja.FromJSON: %w", err)
	}
	return v, nil
}

func decode(d *json.Decoder) (Value, error) {
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case json.Number:
		return number(t)
	case json.Delim:
		if t == '{' {
			return decodeDict(d)
		}
		list := newList()
		for d.More() {
			item, err := decode(d)
			if err != nil {
				return nil, err
			}
			list.Items = append(list.Items, item)
		}
		_, err := d.Token()
		return list, err
	}
	return t, nil
}

func decodeDict(d *json.Decoder) (Value, error) {
	dict := NewDict()
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, err
		}
		value, err := decode(d)
		if err != nil {
			return nil, err
		}
		dict.Set(key, value)
	}
	_, err := d.Token()
	return dict, err
}

func number(n json.Number) (Value, error) {
	if !strings.ContainsAny(n.String(), ".eE") {
		if i, ok := new(big.Int).SetString(n.String(), 10); ok {
			return norm(i), nil
		}
	}
	return n.Float64()
}

// From makes a value of what decoders give: it copies maps, whose keys it
// sorts, and slices.
func From(v any) Value {
	switch v := v.(type) {
	case map[string]any:
		if v == nil {
			return nil
		}
		d := NewDict()
		for _, key := range slices.Sorted(maps.Keys(v)) {
			d.Set(key, From(v[key]))
		}
		return d
	case []any:
		l := newList()
		for _, item := range v {
			l.Items = append(l.Items, From(item))
		}
		return l
	case []string:
		l := newList()
		for _, item := range v {
			l.Items = append(l.Items, item)
		}
		return l
	case int64:
		return int(v)
	case uint64:
		return norm(new(big.Int).SetUint64(v))
	}
	return v
}

// DictOf is a dict of keys and values: key, value, key, value.
func DictOf(pairs ...Value) *Dict {
	d := NewDict()
	for i := 0; i+1 < len(pairs); i += 2 {
		d.Set(pairs[i], pairs[i+1])
	}
	return d
}

// Text is a value as Python's str() prints it; an *Error for what cannot be
// printed.
func Text(v Value) (text string, err error) {
	defer func() {
		if e := caught(recover()); e != nil {
			text, err = "", &Error{Class: e.class, Text: e.text}
		}
	}()
	return (&machine{ctx: context.Background()}).str(v), nil
}
