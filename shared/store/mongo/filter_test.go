package mongo_test

import (
	"flag"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store/mongo"
	"github.com/kernelflow/kernelflow/shared/store/mongo/mongotest"
	"github.com/kernelflow/kernelflow/shared/store/storetest"
)

var update = flag.Bool("update", false, "write the golden files")

// questionsInUse are the filters that the pipeline's functions and KernelCI's
// clients ask with, as the API takes them.
var questionsInUse = []string{
	"state__in=running,available,closing&timeout__lt=2025-01-12T08:00:00",
	"state=available&holdoff__lt=2025-01-12T08:00:00",
	"parent=65f000000000000000000001&state__ne=done",
	"treeid=tree-1&kind__in=kbuild,job,test&result=fail",
	"kind=checkout&owner=admin&data.kernel_revision.tree=mainline&data.kernel_revision.branch=master&data.kernel_revision.commit=c0ffee",
	"kind=job&name=baseline&data.kernel_revision.tree=mainline&data.kernel_revision.branch=master&data.platform=qemu&data.arch=arm64",
	"kind=regression&result=fail",
	"data.fail_node=65f000000000000000000001",
	"data.pass_node=65f000000000000000000001",
	"data.regression=65f000000000000000000001",
	"data.job_id=1234",
	"id__in=65f000000000000000000001,65f000000000000000000002",
	"kind__ne=test",
	"result=null&state=done",
	"name__re=^baseline",
	"name__re=line-[01]$",
	"group=baseline",
	"owner=admin",
	"submitter=service:pipeline",
	"retry_counter__gt=0",
	"processed_by_kcidb_bridge=false",
	"created__gt=2025-01-12&created__lt=2030-01-01",
	"updated__gt=2025-01-12",
	"data.kernel_revision.url=https://example.org/linux.git",
	"data.kernel_revision.branch=master",
	"data.kernel_revision.commit=c0ffee&kind=kbuild&state=done&data.error_code__ne=node_timeout",
	"data.defconfig=defconfig",
	"data.compiler=gcc-12",
	"data.runtime=lava-1&state=running&kind=job",
	"data.error_code__ne=null",
}

func parse(t testing.TB, question string) node.Query {
	t.Helper()
	params, err := url.ParseQuery(question)
	if err != nil {
		t.Fatal(err)
	}
	q, err := node.ParseQuery(params)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// TestQuestionsAskTheServerThis holds what is asked of the server; a reviewer
// sees in the golden file what is decided where.
func TestQuestionsAskTheServerThis(t *testing.T) {
	const golden = "testdata/filters.golden"
	var out strings.Builder
	for _, question := range slices.Concat(questionsInUse, oddQuestions) {
		filter, exact, never := mongo.Plan(parse(t, question))
		how := "and decides"
		if !exact {
			how = "and Match decides"
		}
		if never {
			filter, how = "nothing", "nothing can match"
		}
		fmt.Fprintf(&out, "%s\n\t%s\n\t%s\n", question, filter, how)
	}
	if *update {
		if err := os.WriteFile(golden, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Errorf("differs from %s (go test -update writes it):\n%s", golden, out.String())
	}
}

var named = regexp.MustCompile(`\{"([a-z_.]+)":`)

func TestEveryQuestionInUseHasAnIndex(t *testing.T) {
	leading := mongo.LeadingFields()
	for _, question := range questionsInUse {
		filter, _, _ := mongo.Plan(parse(t, question))
		if !slices.ContainsFunc(named.FindAllStringSubmatch(filter, -1), func(m []string) bool { return slices.Contains(leading, m[1]) }) {
			t.Errorf("%s: no index begins with a field of %s", question, filter)
		}
	}
}

// oddQuestions are those about which MongoDB and Match could disagree: lists
// on the way, numbers as keys, null, types that meet, ids as text.
var oddQuestions = []string{
	"data.list.key=a", "data.list.key__ne=a", "data.list.key=null", "data.list.key__ne=null", "data.list.key__re=^a", "data.list.key__gt=5",
	"data.list.0=a", "data.list.0=null", "data.list.0.key=a", "data.deep.0=zero", "data.deep.0__ne=zero", "data.mixed=null", "data.mixed__ne=null",
	"data.mixed=a", "data.mixed=7", "data.mixed__in=a,7,null", "data.mixed__nin=a,7,null", "data.mixed__gt=5", "data.mixed__lt=5", "data.mixed__gte=a",
	"data.mixed=true", "data.mixed__ne=true", "data.mixed__re=.", "data.mixed__re=(?i)^A", "data.mixed__re=%5CA", "data.mixed__re=^$", "data.mixed__re=a|b",
	"data.empty=null", "data.empty__ne=null", "data.object=null", "data.object__gt=a", "data.object.a=1", "debug=null", "data=a", "data__re=a",
	"id__re=01$", "id__gt=65f000000000000000000003", "parent=null", "parent__ne=null", "parent__re=1$", "parent__lt=65f000000000000000000009",
	"parent__in=65f000000000000000000001,null", "name.below=a", "name.below=null", "path.0=checkout", "path.0=null", "jobfilter=null", "jobfilter__ne=null",
	"jobfilter=kver", "path__gt=d", "created__re=T08", "created=2025-01-12T08:00:00.123", "created__gt=2025-01-12T08:00:00.123", "holdoff__ne=null",
	"created=2025-01-12T08:00:00.123456", "created__ne=2025-01-12T08:00:00.123456", "created__lt=2025-01-12T08:00:00.123456", "created__lte=2025-01-12T08:00:00.123456",
	"created__gt=2025-01-12T08:00:00.123456", "created__gte=2025-01-12T08:00:00.123456", "created__gte=2025-01-12T08:00:00.124", "created__lt=2025-01-12T08:00:00.124",
	"data.regression=65f000000000000000000001", "data.regression__ne=65f000000000000000000001", "data.regression=null", "data.regression__re=01$",
	"processed_by_kcidb_bridge__ne=true", "processed_by_kcidb_bridge=true", "retry_counter__ne=0", "retry_counter__in=0,3", "retry_counter__nin=2,3", "user_groups=null", "user_groups__ne=null", "debug__ne=null", "artifacts.log__re=^http", "artifacts.log=null", "artifacts.log.more=null", "retry_counter__lt=2", "retry_counter__gt=a",
	"group__re=^base|^k", "group__re=[[:^ascii:]]", "data.text__re=^a.c$", "data.text__re=%5Ba%5D", "data.text__re=ä", "data.text=äöü", "data.text__gt=z",
	"data.kernel_revision.version.version__gte=6", "data.kernel_revision.version=null", "data.kernel_revision=null", "data.kernel_revision.commit_tags=v6.1",
	"data.kernel_revision.commit_tags.0=v6.1",
}

// oddNodes have free-form data of every shape that FerretDB keeps.
func oddNodes() []node.Node {
	object := func(kv ...any) map[string]any {
		m := map[string]any{}
		for i := 0; i < len(kv); i += 2 {
			m[kv[i].(string)] = kv[i+1]
		}
		return m
	}
	values := []any{
		nil, true, false, 7.0, -1.5, "a", "7", "", "b\nc", []any{}, []any{"a"}, []any{nil}, []any{7.0, "z"}, []any{true, 9.0},
		object(), object("key", "a"), []any{object("key", "a")}, []any{object("key", nil), "x"}, []any{object("other", 1.0)},
	}
	var list []node.Node
	for i, v := range values {
		n := storetest.Checkout(i + 1)
		n.Created = n.Created.Add(time.Duration(123+i%2) * time.Millisecond)
		n.Set("mixed", v)
		n.Set("list", v)
		n.Set("text", []string{"abc", "a\nc", "äöü", "[a]", "zz"}[i%5])
		n.Set("deep", object("0", "zero"))
		n.Set("object", object("a", float64(i)))
		n.Set("empty", []any{})
		n.RetryCounter = i % 4
		switch i % 3 {
		case 1:
			n.Parent, n.JobFilter, n.Group = storetest.ID(1), []string{"kver"}, "kbuild"
			n.Holdoff = n.Created
			n.Data["kernel_revision"].(map[string]any)["version"] = object("version", 6.0, "patchlevel", float64(i))
		case 2:
			n.JobFilter, n.Group = []string{}, "baseline-ä"
			n.Artifacts["log"] = "https://example.org/log"
			n.Data["kernel_revision"].(map[string]any)["commit_tags"] = []any{"v6.1", "next"}
		}
		list = append(list, n)
	}
	return list
}

func TestOddQuestionsMeanWhatMatchSays(t *testing.T) {
	st := open(t, mongo.Options{URI: mongotest.Start(t), Database: "odd", Now: clockAt(start)})
	nodes := oddNodes()
	for i := range nodes {
		made, err := st.Create(t.Context(), nodes[i])
		if err != nil {
			t.Fatal(err)
		}
		nodes[i] = made
	}
	matched := 0
	for _, question := range oddQuestions {
		q := parse(t, question)
		var want, got []node.ID
		for _, n := range nodes {
			if q.Match(n) {
				want = append(want, n.ID)
			}
		}
		matched += len(want)
		found, err := st.Find(t.Context(), q)
		if err != nil {
			t.Errorf("%s: %v", question, err)
		}
		for _, n := range found {
			got = append(got, n.ID)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s\n got %s\nwant %s", question, got, want)
		}
		if n, err := st.Count(t.Context(), q.Page(1, 1)); err != nil || n != int64(len(want)) {
			t.Errorf("%s: counted %d, want %d: %v", question, n, len(want), err)
		}
		page, err := st.Find(t.Context(), q.Page(2, 1))
		if err != nil || len(page) != min(2, max(len(want)-1, 0)) || len(page) > 0 && page[0].ID != want[1] {
			t.Errorf("%s: a page of %d nodes: %v", question, len(page), err)
		}
	}
	if matched < len(oddQuestions) {
		t.Errorf("%d matches of %d questions: they ask nothing", matched, len(oddQuestions))
	}
}

func TestConditionsThatNoParserMakesAreHarmless(t *testing.T) {
	st := open(t, mongo.Options{URI: mongotest.Start(t), Database: "harmless", Now: clockAt(start)})
	if _, err := st.Create(t.Context(), storetest.Checkout(1)); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		query node.Query
		want  int
	}{
		"the store's own field":      {node.Where("_rev", 1), 0},
		"the store's own id":         {node.Where("_id", storetest.ID(1)), 0},
		"null of a field not there":  {node.Where("_rev", nil), 1},
		"an operator as a field":     {node.Where("data.$where", "1"), 0},
		"an operator as a top field": {node.Where("$where", "1"), 0},
		"an empty name":              {node.Where("data.", nil).And("data.a..b", nil), 1},
		"NUL in a field":             {node.Where("data.a\x00b", nil), 1},
		"no value":                   {node.Where("name"), 0},
		"no value, none of them":     {node.Query{}.Cond("name", node.NotIn), 1},
		"no bound":                   {node.Query{}.Cond("name", node.Lt), 0},
		"a bound of no type":         {node.Query{}.Cond("name", node.Lt, nil), 0},
		"a broken expression":        {node.Query{}.Cond("name", node.Re, "("), 0},
		"an expression of no type":   {node.Query{}.Cond("name", node.Re, 5), 0},
		"an unknown operator":        {node.Query{}.Cond("name", "like", "checkout"), 0},
		"an unknown type of value":   {node.Where("name", []string{"checkout"}), 0},
		"an id that is none":         {node.Where("id", "checkout"), 0},
		"an id in upper case":        {node.Where("id", "65F000000000000000000001"), 0},
	} {
		found, err := st.Find(t.Context(), tc.query)
		if err != nil || len(found) != tc.want {
			t.Errorf("%s: %d nodes, want %d: %v", name, len(found), tc.want, err)
		}
	}
}

func TestEveryKeyAndTimeComesBackAsItWas(t *testing.T) {
	st := open(t, mongo.Options{URI: mongotest.Start(t), Database: "keys", Now: clockAt(start)})
	n := storetest.Checkout(1)
	n.Timeout, n.Holdoff = start.Add(time.Microsecond), start.Add(-time.Millisecond)
	n.Artifacts["config.gz"] = "https://example.org/config.gz"
	odd := []string{"a.b", "$set", "$", ".", "%2E", "%", "%%2E", "%2.", "100%", "%25", "%2525", "nul\x00nul", "", "_id", "ä"}
	for _, key := range odd {
		n.Set(key, map[string]any{key: []any{map[string]any{key: "value of " + key}}})
	}
	made, err := st.Create(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Update(t.Context(), n.ID, func(n *node.Node) error { n.Set("more", true); return nil }); err != nil {
		t.Fatal(err)
	}
	got, err := st.Get(t.Context(), n.ID)
	if err != nil {
		t.Fatal(err)
	}
	if !got.Timeout.Equal(start.Truncate(time.Millisecond)) || !got.Holdoff.Equal(made.Holdoff) || got.Artifacts["config.gz"] == "" {
		t.Errorf("timeout %s, holdoff %s, artifacts %v", got.Timeout, got.Holdoff, got.Artifacts)
	}
	for _, key := range odd {
		if fmt.Sprint(got.Data[key]) != fmt.Sprint(made.Data[key]) || got.Data[key] == nil {
			t.Errorf("%q: %v, want %v", key, got.Data[key], made.Data[key])
		}
	}
	if found, err := st.Find(t.Context(), node.Where("data.$set.$set", nil)); err != nil || len(found) != 0 {
		t.Errorf("%d nodes lack data.$set.$set: %v", len(found), err)
	}
}
