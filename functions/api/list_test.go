package api_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/functions/api"
	"github.com/kernelflow/kernelflow/shared/node"
)

type page struct {
	Items  []node.Node `json:"items"`
	Total  int64       `json:"total"`
	Limit  int         `json:"limit"`
	Offset int         `json:"offset"`
	Next   *string     `json:"next"`
}

func (s *site) page(query string) page {
	s.t.Helper()
	var p page
	check(s.t, json.Unmarshal([]byte(s.want("", "GET", "/latest/nodes?"+query, "", 200, "")), &p))
	return p
}

func namesOf(nodes []node.Node) string {
	var names []string
	for _, n := range nodes {
		names = append(names, n.Name)
	}
	return strings.Join(names, " ")
}

func TestGetNodes(t *testing.T) {
	s := newSite(t)
	for i := range 60 {
		s.create(s.bob, fmt.Sprintf(`{"kind":"test","name":"t%02d","path":["t"]}`, i))
	}
	p := s.page("")
	if len(p.Items) != 50 || p.Total != 60 || p.Limit != 50 || p.Offset != 0 || p.Items[0].Name != "t00" || p.Next == nil {
		t.Errorf("%d items of %d, limit %d, offset %d", len(p.Items), p.Total, p.Limit, p.Offset)
	}
	if p = s.page("limit=10&offset=55"); namesOf(p.Items) != "t55 t56 t57 t58 t59" || p.Total != 60 || p.Offset != 55 || p.Next != nil {
		t.Errorf("%s of %d", namesOf(p.Items), p.Total)
	}
	for _, bad := range []string{"limit=0", "limit=1001", "limit=-1", "limit=x", "offset=-1", "offset=1e3", "limit=99999999999999999999"} {
		name, _, _ := strings.Cut(bad, "=")
		if text := s.want("", "GET", "/latest/nodes?"+bad, "", 422, ""); !strings.Contains(text, `"loc":["query","`+name+`"]`) {
			t.Errorf("%s: %s", bad, text)
		}
	}
}

func TestAClientReadsOnFromNextWhileNodesCome(t *testing.T) {
	s := newSite(t)
	for i := range 7 {
		s.create(s.bob, fmt.Sprintf(`{"kind":"test","name":"t%d","path":["t"]}`, i))
	}
	s.create(s.bob, named("another"))
	got, query := "", "kind=test&limit=3"
	for i := 0; ; i++ {
		p := s.page(query)
		got += namesOf(p.Items) + ","
		if p.Total != 7 {
			t.Errorf("total %d", p.Total)
		}
		if p.Next == nil {
			break
		}
		if i == 0 {
			s.create(s.bob, `{"kind":"test","name":"late","path":["t"]}`)
		}
		query = "kind=test&limit=3&after=" + url.QueryEscape(*p.Next)
	}
	if got != "t0 t1 t2,t3 t4 t5,t6 late," {
		t.Errorf("%s", got)
	}
	for _, bad := range []string{"x", "MSB6eg%3D%3D", "LTEgMQ", "MSA", strings.Repeat("A", 201)} {
		status, text := s.call("", "GET", "/latest/nodes?after="+bad, "")
		if status != 400 && status != 422 || !strings.Contains(text, "after") && !strings.Contains(text, "where a page has ended") {
			t.Errorf("%s: %d %s", bad, status, text)
		}
	}
}

func TestGetNodesFastAndCount(t *testing.T) {
	s := newSite(t)
	for i := range 60 {
		s.create(s.bob, fmt.Sprintf(`{"kind":"test","name":"t%02d","path":["t"],"treeid":"t%d"}`, i, i%2))
	}
	for query, want := range map[string]int{"": 60, "?treeid=t1": 30, "?limit=50&offset=0": 50, "?limit=50&offset=50": 10, "?offset=59": 1, "?limit=0": 60, "?kind=job": 0} {
		var list []map[string]any
		check(t, json.Unmarshal([]byte(s.want("", "GET", "/latest/nodes/fast"+query, "", 200, "")), &list))
		if len(list) != want || list == nil {
			t.Errorf("%s: %d nodes", query, len(list))
		}
		for _, n := range list { // what kci-dev reads of each
			for _, key := range []string{"id", "name", "kind", "state", "result", "updated", "treeid"} {
				if _, there := n[key]; !there {
					t.Errorf("no %s: %v", key, n)
				}
			}
		}
	}
	s.want("", "GET", "/latest/count?treeid=t1", "", 200, "30")
	s.want("", "GET", "/latest/count?treeid=none", "", 200, "0")
}

// sample are nodes that filters tell apart.
var sample = []string{
	`{"kind":"checkout","name":"checkout","path":["checkout"],"treeid":"t1","created":"2025-01-01T00:00:00","data":{"kernel_revision":{"tree":"mainline","url":"https://git.example.org/l.git","branch":"master","commit":"abc"}}}`,
	`{"kind":"kbuild","name":"kbuild-gcc","path":["checkout","kbuild-gcc"],"treeid":"t1","state":"done","result":"pass","created":"2025-01-02T00:00:00","data":{"arch":"x86_64","size":3,"ok":true},"artifacts":{"kernel":"https://x.example.org/k"}}`,
	`{"kind":"job","name":"baseline-x86","path":["checkout","kbuild-gcc","baseline-x86"],"treeid":"t1","state":"done","result":"fail","created":"2025-01-03T00:00:00","retry_counter":2,"data":{"arch":"arm64","size":10,"ok":false,"error_code":"Test","list":["a","b"]},"jobfilter":["baseline+"]}`,
	`{"kind":"job","name":"ltp","path":["checkout","kbuild-gcc","ltp"],"treeid":"t2","created":"2025-01-04T00:00:00","data":{"size":"3","error_code":"node_timeout"}}`,
}

func TestEveryQueryOperator(t *testing.T) {
	s := newSite(t)
	var ids []string
	for _, body := range sample {
		ids = append(ids, string(s.create(s.bob, body).ID))
	}
	child := s.create(s.bob, `{"kind":"test","name":"case","path":["case"],"parent":"`+ids[2]+`","created":"2025-01-05","data":{"regression":"`+ids[1]+`"}}`)
	_ = child
	for query, want := range map[string]string{
		"kind=job": "baseline-x86 ltp", "kind=job&state=done": "baseline-x86", "state=done": "kbuild-gcc baseline-x86", "result=null": "checkout ltp case",
		"result__ne=null": "kbuild-gcc baseline-x86", "state__ne=done": "checkout ltp case", "parent=" + ids[2]: "case", "parent=null": "checkout kbuild-gcc baseline-x86 ltp",
		"id=" + ids[0]: "checkout", "_id=" + ids[0]: "checkout", "data.regression=" + ids[1]: "case",
		"data.kernel_revision.tree=mainline": "checkout", "data.kernel_revision.url=https://git.example.org/l.git&data.kernel_revision.branch=master": "checkout",
		"data.arch=x86_64": "kbuild-gcc", "data.arch__in=x86_64,arm64": "kbuild-gcc baseline-x86", "data.arch__nin=x86_64,arm64": "checkout ltp case",
		"data.size__gt=3": "baseline-x86", "data.size__gte=3": "kbuild-gcc baseline-x86", "data.size__lt=10": "kbuild-gcc", "data.size__lte=10": "kbuild-gcc baseline-x86",
		"data.size=3": "kbuild-gcc ltp", "data.size__int=3": "kbuild-gcc", "data.ok=true": "kbuild-gcc", "data.ok=False": "baseline-x86",
		"data.error_code__ne=node_timeout&kind=job": "baseline-x86", "name__re=^base": "baseline-x86", "name__re=^(kbuild|ltp)": "kbuild-gcc ltp",
		"path=kbuild-gcc": "kbuild-gcc baseline-x86 ltp", "path__re=^base": "baseline-x86", "data.list=b": "baseline-x86", "jobfilter=baseline%2B": "baseline-x86",
		"created__gt=2025-01-02": "baseline-x86 ltp case", "created__gte=2025-01-02&created__lt=2025-01-04": "kbuild-gcc baseline-x86",
		"created__lte=2025-01-02T00:00:00": "checkout kbuild-gcc", "created=2025-01-02T00:00:00": "kbuild-gcc", "holdoff=null&treeid=t2": "ltp",
		"retry_counter=2": "baseline-x86", "retry_counter__gt=1": "baseline-x86", "processed_by_kcidb_bridge=false&treeid=t2": "ltp",
		"artifacts.kernel__re=^https": "kbuild-gcc", "artifacts.kernel__ne=null": "kbuild-gcc", "treeid__in=t2,t3": "ltp",
		"state=running&state=done": "kbuild-gcc baseline-x86", // the last one counts
		"name=":                    "",
	} {
		if got := namesOf(s.page(query).Items); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
		var list []node.Node
		check(t, json.Unmarshal([]byte(s.want("", "GET", "/latest/nodes/fast?"+query, "", 200, "")), &list))
		s.want("", "GET", "/latest/count?"+query, "", 200, fmt.Sprint(len(list)))
		if namesOf(list) != want {
			t.Errorf("fast: %s: %s, want %s", query, namesOf(list), want)
		}
	}
}

func TestAFilterThatMakesNoSenseIsNamed(t *testing.T) {
	s := newSite(t)
	s.create(s.bob, sample[1])
	long := strings.Repeat("x", 600)
	for query, name := range map[string]string{
		"nonsense=1": "nonsense", "name__like=x": "like", "parent=x": "parent", "id__in=" + unknownID + ",x": "id", "created__gt=soon": "created",
		"retry_counter=99999999999999999999": "retry_counter", "data.size__gt=99999999999999999999": "data.size__gt", "data.size__int=x": "data.size__int",
		"processed_by_kcidb_bridge=perhaps": "processed_by_kcidb_bridge", "name__re=%28": "name__re", "name__re=(a%2B)%7B1001%7D": "name__re", "name__re=" + long: "name__re",
		"name__re=" + url.QueryEscape(strings.Repeat("(a{99}", 9)+strings.Repeat("){99}", 9)): "name__re",
		"name=%00": "name", "name=%ff": "name", "data.=x": "data.", "data..x=y": "data..x", "$where=1": "$where", "data.$gt=1": "data.$gt",
		"name__in=" + strings.TrimSuffix(strings.Repeat("a,", 1200), ","): "name",
	} {
		for _, path := range []string{"/latest/nodes", "/latest/nodes/fast", "/latest/count"} {
			status, text := s.call("", "GET", path+"?"+query, "")
			if status != 400 || !strings.Contains(text, name) {
				t.Errorf("%s?%.80s: %d %.200s", path, query, status, text)
			}
		}
	}
	many := url.Values{}
	for i := range 70 {
		many.Set(fmt.Sprintf("data.x%d", i), "1")
	}
	s.want("", "GET", "/latest/nodes?"+many.Encode(), "", 400, "")
	s.want("", "GET", "/latest/nodes?name=%zz", "", 422, "")
}

func TestAHostileRegularExpressionTakesNoTime(t *testing.T) {
	s := newSite(t)
	s.create(s.bob, fmt.Sprintf(`{"name":%q,"path":["n"]}`, strings.Repeat("a", 20_000)))
	began := time.Now()
	for _, pattern := range []string{`^(a+)+$x`, `(a|a)*b`, `(.*)*(.*)*(.*)*y`, strings.Repeat("a?", 100) + strings.Repeat("a", 100) + "b"} {
		s.want("", "GET", "/latest/count?name__re="+url.QueryEscape(pattern), "", 200, "0")
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %s", took)
	}
}

func TestAListThatTakesTooLongIsBrokenOff(t *testing.T) {
	s := newSite(t, func(o *api.Options) { o.Patience = time.Nanosecond })
	s.create(s.bob, sample[1])
	for _, path := range []string{"/latest/nodes/fast?data.x=1", "/latest/nodes?data.x=1", "/latest/count?data.x=1"} {
		s.want("", "GET", path, "", 504, `{"detail":"Timeout while fetching nodes: "}`)
	}
}

func TestFieldsOfTheDescriptionAreThoseOfANode(t *testing.T) {
	s := newSite(t)
	n := object(t, s.want(s.bob, "POST", "/latest/node", sample[1], 200, ""))
	description := object(t, s.want("", "GET", "/v0/openapi.json", "", 200, ""))
	schemas := description["components"].(map[string]any)["schemas"].(map[string]any)
	properties := schemas["Node"].(map[string]any)["properties"].(map[string]any)
	for field := range n {
		if properties[field] == nil {
			t.Errorf("%s is not described", field)
		}
		if !slices.Contains(node.Fields, field) {
			t.Errorf("%s cannot be filtered on", field)
		}
	}
	if len(properties) != len(n) {
		t.Errorf("%d fields are described, a node has %d", len(properties), len(n))
	}
	if description["openapi"] != "3.1.0" {
		t.Errorf("version %v", description["openapi"])
	}
}
