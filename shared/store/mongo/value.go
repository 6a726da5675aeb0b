package mongo

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/kernelflow/kernelflow/shared/node"
)

// What a database keeps under a name of KernelCI's has KernelCI's types:
// dates, ObjectIds, null for what is not set.

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// stored brings a time to what a BSON date keeps: UTC, whole milliseconds.
func stored(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Millisecond)
}

func dateOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = stored(t)
	return &t
}

func dateOf(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

// idOrNull gives a node's id its ObjectId; null for none.
func idOrNull(id node.ID) (*bson.ObjectID, error) {
	if id == "" {
		return nil, nil
	}
	oid, err := bson.ObjectIDFromHex(string(id))
	return &oid, err
}

// orZero is the value that a field must have in a filter; 0 is also that of a
// document that lacks it, as KernelCI's own do.
func orZero(value int64) any {
	if value == 0 {
		return set("$in", bson.A{nil, int64(0)})
	}
	return value
}

// escape gives a key the form in which MongoDB takes it for a name and nothing
// else. A "%" is changed only where it would be read as part of such a form.
func escape(key string) string { return escaper.Replace(key) }

func unescape(key string) string { return unescaper.Replace(key) }

var (
	escaper = strings.NewReplacer("%25", "%2525", "%2E", "%252E", "%24", "%2524", "%00", "%2500",
		".", "%2E", "$", "%24", "\x00", "%00")
	unescaper = strings.NewReplacer("%25", "%", "%2E", ".", "%24", "$", "%00", "\x00")
)

func encodeMap(m map[string]any) bson.D {
	doc := make(bson.D, 0, len(m))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		doc = append(doc, bson.E{Key: escape(key), Value: encodeValue(m[key])})
	}
	return doc
}

func encodeValue(v any) any {
	switch v := v.(type) {
	case map[string]any:
		return encodeMap(v)
	case []any:
		list := make(bson.A, len(v))
		for i := range v {
			list[i] = encodeValue(v[i])
		}
		return list
	case float64:
		return number(v)
	}
	return v
}

// number gives a number of JSON the type that Python's driver would: a whole
// one is an integer, which KernelCI's models ask for.
func number(v float64) any {
	const exact = 1 << 53
	if v != math.Trunc(v) || math.Abs(v) > exact || v == 0 && math.Signbit(v) {
		return v
	}
	return whole(int64(v))
}

func whole(v int64) any {
	if int64(int32(v)) == v {
		return int32(v)
	}
	return v
}

func decodeMap(doc bson.D) map[string]any {
	m := make(map[string]any, len(doc))
	for _, e := range doc {
		m[unescape(e.Key)] = decodeValue(e.Value)
	}
	return m
}

// decodeValue gives back what JSON has: numbers are all float64, ids and dates
// are text.
func decodeValue(v any) any {
	switch v := v.(type) {
	case bson.D:
		return decodeMap(v)
	case bson.A:
		list := make([]any, len(v))
		for i := range v {
			list[i] = decodeValue(v[i])
		}
		return list
	case int32:
		return float64(v)
	case int64:
		return float64(v)
	}
	return scalar(v)
}

// scalar gives what JSON does not have its text; null for what is no number.
func scalar(v any) any {
	switch v := v.(type) {
	case bson.ObjectID:
		return v.Hex()
	case bson.DateTime:
		return node.FormatTime(v.Time())
	case bson.Decimal128:
		return v.String()
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil
		}
	}
	return v
}

// fromJSON reads a JSON text as what a document holds: keys in their order,
// whole numbers as such.
func fromJSON(doc []byte) (any, error) {
	// Unlike the tokens below, Valid has a limit for the depth.
	if !json.Valid(doc) {
		return nil, fmt.Errorf("not JSON: %.40q", doc)
	}
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	return readValue(d)
}

func readValue(d *json.Decoder) (any, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch token := token.(type) {
	case json.Delim:
		if token == '[' {
			return readList(d)
		}
		return readObject(d)
	case json.Number:
		if v, err := strconv.ParseInt(string(token), 10, 64); err == nil {
			return whole(v), nil
		}
		return token.Float64()
	}
	return token, nil
}

func readList(d *json.Decoder) (bson.A, error) {
	list := bson.A{}
	for d.More() {
		v, err := readValue(d)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	_, err := d.Token()
	return list, err
}

func readObject(d *json.Decoder) (bson.D, error) {
	doc, places := bson.D{}, map[string]int{}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, err
		}
		v, err := readValue(d)
		if err != nil {
			return nil, err
		}
		name := escape(key.(string))
		place, again := places[name]
		if again {
			doc[place].Value = v // the last one counts, as everywhere in JSON
			continue
		}
		places[name] = len(doc)
		doc = append(doc, bson.E{Key: name, Value: v})
	}
	_, err := d.Token()
	return doc, err
}

// toJSON writes what a document holds as JSON, keys in their order.
func toJSON(v any) (json.RawMessage, error) {
	var out bytes.Buffer
	err := writeValue(&out, v)
	return out.Bytes(), err
}

func writeValue(out *bytes.Buffer, v any) error {
	switch v := v.(type) {
	case bson.D:
		return writeAll(out, '{', '}', len(v), func(i int) error {
			key, err := json.Marshal(unescape(v[i].Key))
			out.Write(append(key, ':'))
			if err != nil {
				return err
			}
			return writeValue(out, v[i].Value)
		})
	case bson.A:
		return writeAll(out, '[', ']', len(v), func(i int) error { return writeValue(out, v[i]) })
	}
	b, err := json.Marshal(scalar(v))
	out.Write(b)
	return err
}

func writeAll(out *bytes.Buffer, begin, end byte, count int, write func(i int) error) error {
	out.WriteByte(begin)
	for i := range count {
		if i > 0 {
			out.WriteByte(',')
		}
		if err := write(i); err != nil {
			return err
		}
	}
	out.WriteByte(end)
	return nil
}
