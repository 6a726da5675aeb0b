package storetest

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"

	"github.com/kernelflow/kernelflow/shared/node"
)

// varied makes nodes that differ in what queries ask for, the same each time.
func varied(count int) []node.Node {
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(from ...string) string { return from[random.IntN(len(from))] }
	list := make([]node.Node, count)
	for i := range list {
		n := Checkout(i + 1)
		n.Kind = node.Kind(pick("checkout", "kbuild", "test"))
		n.Name = pick("checkout", "kbuild-gcc", "baseline-x86")
		n.Path = strings.Split(pick("checkout", "checkout kbuild-gcc", "checkout kbuild-gcc baseline-x86"), " ")
		n.Group = pick("", "kbuild-gcc", "baseline")
		n.State = node.State(pick("running", "available", "done"))
		n.Result = node.Result(pick("", "pass", "fail"))
		n.RetryCounter = random.IntN(3)
		n.KCIDBProcessed = random.IntN(2) == 0
		n.UserGroups = strings.Fields(pick("", "lab-a", "lab-a lab-b"))
		n.Created = start.AddDate(0, 0, random.IntN(3))
		switch random.IntN(4) {
		case 0:
			n.Set("value", float64(random.IntN(5)))
		case 1:
			n.Set("value", pick("a", "b", "3"))
		case 2:
			n.Set("value", []any{"a", float64(random.IntN(5)), true})
		}
		n.Set("nested", map[string]any{"flag": random.IntN(2) == 0, "null": nil})
		n.Set("arch", pick("x86_64", "arm64"))
		list[i] = n
	}
	return list
}

// questions are filters as a client writes them.
var questions = []string{
	"kind=test", "kind__ne=test", "kind__in=test,kbuild", "kind__nin=test,kbuild", "name__re=^base", "name__re=gcc|x86",
	"group=null", "group__ne=null", "group=baseline", "result=null", "result__in=pass,fail", "state=done&result=fail",
	"path=kbuild-gcc", "path__ne=kbuild-gcc", "path__in=kbuild-gcc,baseline-x86", "path__re=^base",
	"user_groups=lab-b", "user_groups__nin=lab-a", "retry_counter=1", "retry_counter__gt=0", "retry_counter__lte=1",
	"processed_by_kcidb_bridge=true", "processed_by_kcidb_bridge=false", "created__gt=2025-01-12", "created__gte=2025-01-13T08:00:00",
	"created__lt=2025-01-14&created__gt=2025-01-12T09:00:00", "data.value=3", "data.value=a", "data.value=true", "data.value__ne=a",
	"data.value__gt=2", "data.value__lt=b", "data.value__in=a,3", "data.value__nin=a,3", "data.value=null", "data.value__ne=null",
	"data.value__re=^[ab]$", "data.nested.flag=true", "data.nested.flag__ne=true", "data.nested.null=null", "data.nested=null",
	"data.missing=null", "data.missing=x", "data.missing__ne=x", "data.missing__gt=1", "data.arch=arm64&kind=kbuild",
	"data.kernel_revision.tree=mainline&retry_counter=2", "data.kernel_revision.commit__re=0001$", "treeid=tree-3", "parent=null",
	"id=65f000000000000000000002", "id__in=65f000000000000000000002,65f000000000000000000003", "owner=admin&submitter=service:pipeline",
	"kind__gt=k", "kind__lt=k", "kind__gt=5", "timeout__lt=2030-01-01", "holdoff=null", "holdoff__lt=2030-01-01", "artifacts.log=null", "artifacts=null",
}

func (s *suite) testQueriesMeanWhatMatchSays(t *testing.T) {
	st := s.open(t)
	nodes := varied(max(s.scale(300), 40))
	for i := range nodes {
		nodes[i] = create(t, st, nodes[i])
	}
	for _, question := range questions {
		params, err := url.ParseQuery(question)
		if err != nil {
			t.Fatal(err)
		}
		q, err := node.ParseQuery(params)
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, n := range nodes {
			if q.Match(n) {
				want = append(want, string(n.ID))
			}
		}
		found, err := st.Find(t.Context(), q)
		if err != nil {
			t.Errorf("%s: %v", question, err)
			continue
		}
		if got := ids(found); got != strings.Join(want, " ") {
			t.Errorf("%s\n got %s\nwant %s", question, got, strings.Join(want, " "))
		}
		if n, err := st.Count(t.Context(), q.Page(2, 1)); err != nil || n != int64(len(want)) {
			t.Errorf("%s: counted %d of %d: %v", question, n, len(want), err)
		}
	}
}

func ids(nodes []node.Node) string {
	list := make([]string, len(nodes))
	for i, n := range nodes {
		list[i] = string(n.ID)
	}
	return strings.Join(list, " ")
}

func (s *suite) testPagesFollowTheOrderOfCreation(t *testing.T) {
	st := s.open(t)
	for _, i := range []int{3, 1, 2, 5, 4} {
		create(t, st, Checkout(i))
	}
	for _, tc := range []struct {
		query node.Query
		want  []int
	}{
		{node.Query{}, []int{3, 1, 2, 5, 4}},
		{node.Query{}.Page(2, 0), []int{3, 1}},
		{node.Query{}.Page(2, 2), []int{2, 5}},
		{node.Query{}.Page(0, 3), []int{5, 4}},
		{node.Where("kind", node.KindCheckout).Page(2, 4), []int{4}},
		{node.Query{Newest: true, Limit: 2}, []int{4, 5}},
		{node.Where("treeid", "tree-2", "tree-5"), []int{2, 5}},
		{node.Where("treeid", "none"), nil},
	} {
		found, err := st.Find(t.Context(), tc.query)
		want := make([]node.Node, len(tc.want))
		for i, n := range tc.want {
			want[i].ID = ID(n)
		}
		if err != nil || found == nil || ids(found) != ids(want) {
			t.Errorf("%+v: %v\n got %s\nwant %s", tc.query, err, ids(found), fmt.Sprint(ids(want)))
		}
	}
}
