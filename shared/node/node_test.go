package node_test

import (
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
)

var now = time.Date(2025, 1, 12, 8, 0, 0, 0, time.UTC)

// checkout is a whole valid node; a test changes only the field it is about.
func checkout() node.Node {
	n := node.Node{
		ID: "65f000000000000000000001", Kind: node.KindCheckout, Name: "checkout", Path: []string{"checkout"},
		Owner: "admin", Submitter: "service:pipeline", TreeID: "t1", RetryCounter: 2, UserGroups: []string{"lab"},
		Data: map[string]any{"kernel_revision": map[string]any{
			"tree": "mainline", "url": "https://example.org/linux.git", "branch": "master", "commit": "708283ab",
			"version": map[string]any{"version": "6", "patchlevel": "5"},
		}},
	}
	n.SetDefaults(now)
	return n
}

func TestDefaultsAreKernelCIs(t *testing.T) {
	n := node.Node{Name: "x", Path: []string{"x"}, UserGroups: []string{"a", "b", "a"}}
	n.SetDefaults(now)
	got, err := json.Marshal(n)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"id":null,"kind":"node","name":"x","path":["x"],"group":null,"parent":null,"state":"running","result":null,` +
		`"artifacts":{},"data":{},"debug":{},"jobfilter":null,"platform_filter":[],"created":"2025-01-12T08:00:00.000000",` +
		`"updated":"2025-01-12T08:00:00.000000","timeout":"2025-01-12T14:00:00.000000","holdoff":null,"owner":null,` +
		`"submitter":null,"treeid":null,"user_groups":["a","b"],"processed_by_kcidb_bridge":false,"retry_counter":0}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestANodeSurvivesJSON(t *testing.T) {
	n := checkout()
	n.Data["own"] = map[string]any{"kept": []any{"as", "it", "is"}}
	first, _ := json.Marshal(n)
	var back node.Node
	if err := json.Unmarshal(first, &back); err != nil {
		t.Fatal(err)
	}
	if second, _ := json.Marshal(back); string(first) != string(second) {
		t.Errorf("first  %s\nsecond %s", first, second)
	}
}

func TestUnderscoreIDIsAccepted(t *testing.T) {
	var n node.Node
	if err := json.Unmarshal([]byte(`{"_id":"65F000000000000000000001","created":"2025-01-12 08:00:00+02:00"}`), &n); err != nil {
		t.Fatal(err)
	}
	if n.ID != "65f000000000000000000001" || node.FormatTime(n.Created) != "2025-01-12T06:00:00.000000" {
		t.Errorf("id %s, created %s", n.ID, node.FormatTime(n.Created))
	}
}

func TestStatesGoForwardOnly(t *testing.T) {
	allowed := map[string]bool{
		"running available": true, "running closing": true, "running done": true,
		"available closing": true, "available done": true, "closing done": true,
	}
	for _, from := range node.States {
		for _, to := range node.States {
			want := from == to || allowed[string(from)+" "+string(to)]
			if err := node.CheckTransition(from, to); (err == nil) != want {
				t.Errorf("%s to %s: %v", from, to, err)
			} else if err != nil && err.Error() != "Transition not allowed with state: "+string(to) {
				t.Errorf("text %q", err)
			}
		}
	}
}

// nested is a map in a map, so many levels deep.
func nested(levels int) map[string]any {
	m := map[string]any{}
	for range levels {
		m = map[string]any{"below": []any{m}}
	}
	return m
}

func TestDataMayBeLeftOut(t *testing.T) {
	for _, kind := range node.Kinds {
		n := checkout()
		n.Kind, n.Data = kind, map[string]any{"kernel_revision": nil, "fail_node": nil, "arch": nil, "own": nested(20)}
		if err := n.Validate(); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func TestValidateNamesTheField(t *testing.T) {
	for field, spoil := range map[string]func(*node.Node){
		"kind":                 func(n *node.Node) { n.Kind = "banana" },
		"name":                 func(n *node.Node) { n.Name = "" },
		"path":                 func(n *node.Node) { n.Path = nil },
		"state":                func(n *node.Node) { n.State = "sleeping" },
		"result":               func(n *node.Node) { n.Result = "maybe" },
		"retry_counter":        func(n *node.Node) { n.RetryCounter = -1 },
		"artifacts.log":        func(n *node.Node) { n.Artifacts["log"] = "file:///etc/passwd" },
		"data.kernel_revision": func(n *node.Node) { n.Data["kernel_revision"] = "v6.5" },
		"data.kernel_revision.commit": func(n *node.Node) {
			n.Data["kernel_revision"].(map[string]any)["commit"] = ""
		},
		"data.kernel_revision.url": func(n *node.Node) {
			n.Data["kernel_revision"].(map[string]any)["url"] = "not a url"
		},
		"data.kernel_revision.version.version": func(n *node.Node) {
			n.Data["kernel_revision"].(map[string]any)["version"] = map[string]any{"version": "six", "patchlevel": 1.0}
		},
		"data.arch":      func(n *node.Node) { n.Data["arch"] = 64.0 },
		"data.fail_node": func(n *node.Node) { n.Data["fail_node"] = "the one before" },
		"data.pass_node": func(n *node.Node) { n.Data["pass_node"] = 1.0 },
		"debug":          func(n *node.Node) { n.Debug = nested(100) },
	} {
		n := checkout()
		spoil(&n)
		err := n.Validate()
		if !errors.Is(err, errs.Invalid) || !strings.HasPrefix(err.Error(), field+":") {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func TestNumericStringsInAVersionBecomeIntegers(t *testing.T) {
	n := checkout()
	if err := n.Validate(); err != nil {
		t.Fatal(err)
	}
	r, ok := n.Revision()
	if !ok || r.Version == nil || r.Version.Version != 6 || r.Version.PatchLevel != 5 {
		t.Errorf("revision %+v", r)
	}
}

func TestSetRevisionKeepsForeignKeys(t *testing.T) {
	n := checkout()
	n.Data["kernel_revision"].(map[string]any)["extra_key"] = "kept"
	r, _ := n.Revision()
	r.Describe = "v6.5"
	if err := n.SetRevision(r); err != nil {
		t.Fatal(err)
	}
	if n.Text("kernel_revision.extra_key") != "kept" || n.Text("kernel_revision.describe") != "v6.5" {
		t.Errorf("revision is %v", n.Data["kernel_revision"])
	}
}

func TestIDs(t *testing.T) {
	if _, err := node.ParseID("xyz"); !errors.Is(err, errs.Invalid) {
		t.Errorf("ParseID(xyz): %v", err)
	}
	a := node.NewID(now, [8]byte{1})
	if _, err := node.ParseID(string(a)); err != nil {
		t.Error(err)
	}
	d := node.DeriveID(a, "request", "/0")
	if d != node.DeriveID(a, "request", "/0") {
		t.Error("the same words give another id")
	}
	if d == node.DeriveID(a, "request/", "0") || d == node.DeriveID(a, "request", "/1") {
		t.Error("other words give the same id")
	}
}

func TestACloneSharesNothing(t *testing.T) {
	n := checkout()
	c := n.Clone()
	c.Data["kernel_revision"].(map[string]any)["tree"] = "next"
	c.UserGroups[0], c.Path[0] = "x", "x"
	if n.Text("kernel_revision.tree") != "mainline" || n.UserGroups[0] != "lab" || n.Path[0] != "checkout" {
		t.Error("changing the clone changed the node")
	}
}

func TestQueryOperators(t *testing.T) {
	n := checkout()
	n.Data["count"] = 5.0
	n.Data["flag"] = true
	for _, tc := range []struct {
		query string
		want  bool
	}{
		{"kind=checkout", true},
		{"kind=job", false},
		{"kind__ne=job", true},
		{"kind__in=job,checkout", true},
		{"kind__nin=job,checkout", false},
		{"result=null", true},
		{"result__ne=null", false},
		{"group=null", true},
		{"user_groups=lab", true},
		{"user_groups__ne=lab", false},
		{"path=checkout", true},
		{"retry_counter=2", true},
		{"retry_counter__gt=1", true},
		{"retry_counter__gte=3", false},
		{"data.count=5", true},
		{"data.count__lt=10", true},
		{"data.flag=true", true},
		{"data.kernel_revision.tree=mainline", true},
		{"data.kernel_revision.tree__re=^main", true},
		{"data.kernel_revision.tree__re=^next", false},
		{"data.missing=null", true},
		{"data.missing__ne=x", true},
		{"data.missing__lt=5", false},
		{"created__gt=2025-01-12", true},
		{"created__lt=2025-01-12T08:00:00%2B01:00", false},
		{"created__gte=2025-01-12T08:00:00&created__lte=2025-01-12T08:00:00", true},
		{"processed_by_kcidb_bridge=false", true},
		{"name__re=^check&limit=3", true},
		{"_id=65f000000000000000000001", true},
	} {
		params, err := url.ParseQuery(tc.query)
		if err != nil {
			t.Fatal(err)
		}
		q, err := node.ParseQuery(params, "limit", "offset")
		if err != nil {
			t.Errorf("%s: %v", tc.query, err)
		} else if got := q.Match(n); got != tc.want {
			t.Errorf("%s matches: %t, want %t", tc.query, got, tc.want)
		}
	}
}

func TestABadQueryIsRefusedByName(t *testing.T) {
	for _, bad := range []string{
		"banana=1", "kind__like=x", "name__re=(", "name__re=" + strings.Repeat("a", 600), "created__lt=yesterday",
		"parent=xyz", "retry_counter=99999999999999999999", "processed_by_kcidb_bridge=maybe", "data..x=1", "data.$where=1",
	} {
		params, err := url.ParseQuery(bad)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := node.ParseQuery(params); !errors.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", bad, err)
		} else if field, _, _ := strings.Cut(bad, "="); !strings.Contains(err.Error(), strings.Split(field, "__")[0]) {
			t.Errorf("%s: the error does not name it: %v", bad, err)
		}
	}
}

func TestDescendantsHaveTheRootsPlaceAndLastingIDs(t *testing.T) {
	root := checkout()
	h := node.Hierarchy{Children: []node.Hierarchy{
		{Node: node.Node{Name: "suite", Kind: node.KindTest, Result: node.Fail}, Children: []node.Hierarchy{
			{Node: node.Node{Name: "case", Result: node.Fail}},
		}},
	}}
	list, err := h.Descendants(root, "r1")
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 2 || list[0].Parent != root.ID || list[1].Parent != list[0].ID {
		t.Fatalf("parents wrong: %+v", list)
	}
	if got := strings.Join(list[1].Path, "/"); got != "checkout/suite/case" {
		t.Errorf("path %s", got)
	}
	if list[1].Kind != node.KindTest || list[1].TreeID != "t1" || list[1].Owner != "admin" {
		t.Errorf("not inherited: %+v", list[1])
	}
	again, _ := h.Descendants(root, "r1")
	other, _ := h.Descendants(root, "r2")
	if again[1].ID != list[1].ID || other[1].ID == list[1].ID {
		t.Error("ids do not follow from the request")
	}
	h.Children[0].Children[0].Node.Result = "maybe"
	if _, err := h.Descendants(root, "r1"); !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "child_nodes/0/0: result") {
		t.Errorf("bad child: %v", err)
	}
}

func TestATooDeepHierarchyIsRefused(t *testing.T) {
	h := node.Hierarchy{}
	for range 200 {
		h = node.Hierarchy{Node: node.Node{Name: "x", Kind: node.KindTest}, Children: []node.Hierarchy{h}}
	}
	if _, err := h.Descendants(checkout(), "r"); !errors.Is(err, errs.Invalid) {
		t.Errorf("200 levels: %v", err)
	}
}

func TestAPathIsTheSameBelowACheckoutAndAPatchset(t *testing.T) {
	for path, want := range map[string]string{
		"checkout": "checkout", "checkout/kbuild": "kbuild", "checkout/kbuild/job/t": "kbuild/job/t", "": "",
		"checkout/patchset": "patchset", "checkout/patchset/kbuild": "kbuild", "checkout/patchset/kbuild/patchset": "kbuild/patchset",
	} {
		if got := strings.Join(node.Below(strings.Split(path, "/")), "/"); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}
