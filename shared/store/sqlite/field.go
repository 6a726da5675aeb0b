package sqlite

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"

	"github.com/kernelflow/kernelflow/shared/node"
)

// fieldOf gives the value of a column: see [expression] for its form.
func fieldOf(n *node.Node, column string) any {
	if field, ok := strings.CutPrefix(column, "data."); ok {
		return stored(n.Get(field))
	}
	switch column {
	case "id":
		return orNull(string(n.ID))
	case "kind":
		return orNull(string(n.Kind))
	case "name":
		return n.Name
	case "group":
		return orNull(n.Group)
	case "parent":
		return orNull(string(n.Parent))
	case "state":
		return orNull(string(n.State))
	case "result":
		return orNull(string(n.Result))
	case "owner":
		return orNull(n.Owner)
	case "submitter":
		return orNull(n.Submitter)
	case "treeid":
		return orNull(n.TreeID)
	case "created":
		return timeOrNull(n.Created)
	case "updated":
		return timeOrNull(n.Updated)
	case "timeout":
		return timeOrNull(n.Timeout)
	case "holdoff":
		return timeOrNull(n.Holdoff)
	case "processed_by_kcidb_bridge":
		return stored(n.KCIDBProcessed)
	case "retry_counter":
		return int64(n.RetryCounter)
	}
	panic("sqlite: no field " + column) // a column that this switch forgot
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func timeOrNull(t time.Time) any { return orNull(node.FormatTime(t)) }

// stored gives a value of free-form data the form that expression describes.
func stored(v any) any {
	switch v := v.(type) {
	case nil, string, float64:
		return v
	case bool:
		if v {
			return []byte("[true]")
		}
		return []byte("[false]")
	case []any:
		b, err := json.Marshal(v)
		if err == nil {
			return b
		}
	}
	return []byte("[]")
}

func same(a, b any) bool {
	x, isBlob := a.([]byte)
	if y, ok := b.([]byte); isBlob && ok {
		return bytes.Equal(x, y)
	}
	return !isBlob && !blob(b) && a == b
}

func blob(v any) bool {
	_, ok := v.([]byte)
	return ok
}
