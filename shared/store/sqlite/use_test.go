package sqlite_test

import (
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store/storetest"
)

// questionsInUse are the filters that the pipeline's functions and KernelCI's
// clients ask with, as the API takes them. What is in capitals stands for a
// value.
var questionsInUse = []string{
	// The pipeline's functions.
	"state__in=running,available,closing&timeout__lt=TIME",
	"state=available&holdoff__lt=TIME",
	"state=closing",
	"parent=ID",
	"parent=ID&state__ne=done",
	"parent=ID&state=running",
	"treeid=TREEID",
	"treeid=TREEID&kind=job",
	"treeid=TREEID&kind__in=kbuild,job,test&result=fail",
	"treeid=TREEID&state__ne=done",
	"treeid=TREEID&kind__in=checkout,kbuild,job",
	"treeid=TREEID&state__in=running,available,closing",
	"parent=ID&kind__in=checkout,kbuild,job",
	"state__in=running,available,closing",
	"kind=checkout&state__in=running,available,closing",
	"treeid=TREEID&kind=checkout",
	"treeid=TREEID&kind__in=kbuild,job,process",
	"treeid=TREEID&kind__in=kbuild,job,test",
	"parent=ID&kind__in=kbuild,job,test&result=fail",
	"parent=ID&name=baseline-1&data.runtime=lava-1&data.platform=board-5&retry_counter=0",
	"kind=job&name=baseline-1&data.kernel_revision.tree=tree-1&data.kernel_revision.branch=master&data.platform=board-5&created__gte=TIME&parent__nin=ID",
	"kind=checkout&owner=admin&data.kernel_revision.tree=tree-1&data.kernel_revision.branch=master&created__gt=TIME",
	"kind=test&name=case-7&data.kernel_revision.tree=tree-1&data.kernel_revision.branch=master&data.platform=board-5&data.arch=arm64&data.compiler=null&result__in=pass,fail",
	"kind=regression&result=fail&data.kernel_revision.tree=tree-1&data.kernel_revision.branch=master",
	"data.error_code__in=git_checkout_failure,submit_error&updated__gte=TIME",
	"kind=checkout&owner=admin&submitter=service:pipeline&data.kernel_revision.tree=tree-1&data.kernel_revision.branch=master&data.kernel_revision.commit=COMMIT",
	"kind=job&name=baseline-1&data.kernel_revision.tree=tree-1&data.kernel_revision.branch=master&data.platform=board-5&data.arch=arm64&treeid=TREEID&result__in=pass,fail",
	"parent=ID&name=baseline-1&data.platform=board-5",
	"kind=checkout&data.kernel_revision.tree=tree-1&data.kernel_revision.branch=master",
	"kind=job&name=baseline-1&data.kernel_revision.tree=tree-1&data.kernel_revision.branch=master&data.platform=board-5&data.arch=arm64",
	"kind=test&name=case-7&data.kernel_revision.tree=tree-1&data.kernel_revision.branch=master&state=done",
	"kind=regression&result=fail&name=case-7&data.kernel_revision.tree=tree-1&data.kernel_revision.branch=master",
	"kind=regression&result=fail",
	"parent=null&kind=checkout&state=done&updated__lt=TIME",
	"parent=null&kind=checkout&data.kernel_revision.tree=tree-3&data.kernel_revision.branch=master&created__gt=TIME",
	"data.regression=ID",
	"data.fail_node=ID",
	"data.pass_node=ID",
	"data.job_id=JOB",
	"id__in=ID,000000000000000000000001",
	// kci-dev and other clients.
	"kind=kbuild",
	"kind=test",
	"kind__ne=test",
	"kind=checkout",
	"kind__in=kbuild,job",
	"state=running",
	"state__ne=done",
	"result=fail",
	"result=null&state=done",
	"result__ne=pass&treeid=TREEID",
	"name=case-7",
	"name__re=^baseline",
	"name__re=^baseline&kind=job",
	"name__re=line-[01]$",
	"group=baseline-1",
	"owner=admin",
	"submitter=service:pipeline",
	"submitter=service:none",
	"retry_counter__gt=0",
	"retry_counter=0",
	"processed_by_kcidb_bridge=false",
	"processed_by_kcidb_bridge=false&state=done",
	"created__gt=TIME",
	"created__gt=TIME&created__lt=2030-01-01",
	"created__gte=TIME&kind=checkout",
	"created__lt=TIME&created__gt=2025-01-01&data.kernel_revision.tree=tree-3",
	"created__lte=2025-01-01T00:00:00",
	"updated__gt=2030-01-01",
	"timeout__lt=2020-01-01",
	"data.kernel_revision.tree=tree-3",
	"data.kernel_revision.url=https://example.org/linux.git",
	"data.kernel_revision.branch=master",
	"data.kernel_revision.commit=COMMIT",
	"data.kernel_revision.commit=COMMIT&kind=kbuild&state=done&data.error_code__ne=node_timeout",
	"data.kernel_revision.tree=tree-3&data.kernel_revision.branch=master&kind=checkout&created__gt=TIME",
	"data.arch=arm64",
	"data.arch=arm64&kind=kbuild&result=fail",
	"data.defconfig=defconfig",
	"data.defconfig=fragment-3",
	"data.compiler=gcc-12",
	"data.platform=board-5",
	"data.runtime=lava-1",
	"data.runtime=lava-1&state=running&kind=job",
	"data.error_code=node_timeout",
}

// fillIn puts values of the n-th node for the words in capitals.
func fillIn(question string, n int) string {
	return strings.NewReplacer("TREEID", treeID(n), "COMMIT", commit(n), "JOB", "1234", "TIME", node.FormatTime(benchStart.Add(1e9*15_000)),
		"ID", string(storetest.ID(n+1))).Replace(question)
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

// scan is a step that goes through the node table, or through a whole index of
// it, rather than searching.
var scan = regexp.MustCompile(`^SCAN node\b`)

// byRowid is a search through the table in the order of creation.
var byRowid = regexp.MustCompile(`INTEGER PRIMARY KEY \(rowid[<>]`)

func TestALaterPageIsFoundByTheSameIndexes(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "x.db"), time.Now)
	fill(t, s, 1)
	for _, question := range questionsInUse {
		q := parse(t, fillIn(question, 1))
		first, err := s.Explain(t.Context(), q)
		if err != nil {
			t.Fatalf("%s: %v", question, err)
		}
		q.After = "zz"
		later, err := s.Explain(t.Context(), q)
		if err != nil {
			t.Fatalf("%s: %v", question, err)
		}
		for _, step := range later {
			if scan.MatchString(step) || byRowid.MatchString(step) && !slices.ContainsFunc(first, byRowid.MatchString) {
				t.Errorf("%s: %s", question, step)
			}
		}
	}
}

func TestNoQueryInUseScansTheNodeTable(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "x.db"), time.Now)
	fill(t, s, 1)
	for _, question := range questionsInUse {
		steps, err := s.Explain(t.Context(), parse(t, fillIn(question, 1)))
		if err != nil {
			t.Fatalf("%s: %v", question, err)
		}
		searched := false
		for _, step := range steps {
			if scan.MatchString(step) {
				t.Errorf("%s: %s", question, step)
			}
			searched = searched || strings.HasPrefix(step, "SEARCH node")
		}
		if !searched {
			t.Errorf("%s: the plan searches nothing: %q", question, steps)
		}
	}
	unfiltered, err := s.Explain(t.Context(), node.Query{Where: []node.Condition{{Field: "debug.x", Op: node.In, Values: []any{"y"}}}})
	if err != nil || !slices.ContainsFunc(unfiltered, scan.MatchString) {
		t.Errorf("the test cannot fail: a field without an index is said to be searched: %q, %v", unfiltered, err)
	}
}

const everyKind = "node,checkout,kbuild,job,test,process,regression"

func TestCountsInUseReadAnIndexAlone(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "x.db"), time.Now)
	for _, count := range []struct {
		question string
		by       []string
	}{
		{"treeid=TREEID&kind__in=kbuild,job", []string{"treeid", "kind", "result"}},
		{"treeid__in=" + strings.Repeat("TREEID,", 49) + "t&kind__in=kbuild,job", []string{"treeid", "kind", "result"}},
		{"kind=job&created__gte=TIME", []string{"result", "state"}},
		{"kind=job&created__gte=TIME", []string{"data.kernel_revision.tree", "result"}},
		{"kind__in=" + everyKind + "&created__gte=TIME&created__lte=TIME", []string{"kind", "state", "result"}},
		{"kind__in=" + everyKind + "&created__gte=TIME&created__lte=TIME&data.kernel_revision.tree=TREE", []string{"kind", "state", "result"}},
		{"kind__in=kbuild,job,test&created__gte=TIME&created__lte=TIME", []string{"data.kernel_revision.tree", "kind", "result"}},
	} {
		steps, err := s.ExplainTally(t.Context(), parse(t, fillIn(count.question, 1)), count.by...)
		if err != nil || !strings.HasPrefix(steps[0], "SEARCH node USING COVERING INDEX ") {
			t.Errorf("%s by %s: %q, %v", count.question, count.by, steps, err)
		}
	}
}
