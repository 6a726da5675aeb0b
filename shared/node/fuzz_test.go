package node_test

import (
	"encoding/json"
	"errors"
	"net/url"
	"testing"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
)

func FuzzParseQuery(f *testing.F) {
	for _, seed := range []string{
		"kind=job&state__ne=done", "data.kernel_revision.tree=mainline", "name__re=^base", "created__gt=2025-01-12&created__lt=2025-01-13T08:00:00%2B02:00",
		"parent=null&id__in=65f000000000000000000002,65f000000000000000000003", "data.x__nin=1,,true", "retry_counter__gte=18446744073709551616",
		"data.x__int=-0", "path=%00", "name=%ff", "a__b__c=d", "data..x=1", "__re=(", "processed_by_kcidb_bridge=TRUE", "limit=1&offset=2", "name__re=(a{99}){99}",
	} {
		f.Add(seed)
	}
	n := checkout()
	n.Data["x"] = []any{1.0, "a", nil, true, map[string]any{"y": []any{}}}
	f.Fuzz(func(t *testing.T, text string) {
		params, err := url.ParseQuery(text)
		if err != nil {
			return
		}
		q, err := node.ParseQuery(params, "limit", "offset")
		if err != nil {
			if !errors.Is(err, errs.Invalid) || err.Error() == "" {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		if _, err := json.Marshal(q); err != nil {
			t.Errorf("%q: %v", text, err)
		}
		for _, c := range q.Where {
			if len(c.Values) == 0 || len(c.Values) > 2000 {
				t.Errorf("%q: %d values", text, len(c.Values))
			}
		}
		q.Match(n)
	})
}

func FuzzANodeReadsTheSameAgain(f *testing.F) {
	for _, seed := range []string{
		`{"name":"n","path":["n"]}`, `{"_id":"65f000000000000000000002","retry_counter":3.0,"data":{"x":[1e300,null]}}`, `{"created":"2025-01-12 08:00","holdoff":null}`,
		`{"retry_counter":-1e9}`, `{"data":{"kernel_revision":{"version":{"version":"6"}}}}`, `[]`, `null`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var n node.Node
		if json.Unmarshal([]byte(text), &n) != nil {
			return
		}
		n.SetDefaults(now)
		if n.Validate() != nil {
			return
		}
		first, err := json.Marshal(n)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		var again node.Node
		if err := json.Unmarshal(first, &again); err != nil {
			t.Fatalf("%s: %v", first, err)
		}
		if second, err := json.Marshal(again); err != nil || string(second) != string(first) {
			t.Errorf("%s became %s, %v", first, second, err)
		}
	})
}
