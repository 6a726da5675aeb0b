package callback_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/node"
)

// checkoutBody is a good request with more fields.
func checkoutBody(more string) string {
	return `{"url":"https://git.example.org/linux.git","branch":"any","commit":"` + commit + `"` + more + `}`
}

func TestCheckoutMakesANodeThatTheTarballFunctionTakesUp(t *testing.T) {
	s := newService(t)
	n := s.made("/api/checkout", checkoutBody(`,"jobfilter":["kbuild","ktest+"],"platformfilter":["board"]`))
	r, _ := n.Revision()
	if n.Kind != node.KindCheckout || n.Name != "checkout" || !slices.Equal(n.Path, []string{"checkout"}) || n.Parent != "" || n.State != node.Running ||
		n.Result != node.None || n.Owner != "admin" || n.Submitter != "user:dev@example.org" || len(n.TreeID) != 64 {
		t.Errorf("%+v", n)
	}
	if r.Tree != "mainline" || r.URL != "https://git.example.org/linux.git" || r.Branch != "any" || r.Commit != commit || *r.TipOfBranch {
		t.Errorf("%+v", r)
	}
	if left := time.Until(n.Timeout); left < 299*time.Minute || left > 300*time.Minute {
		t.Errorf("times out in %s", left)
	}
	if !slices.Equal(n.JobFilter, []string{"kbuild", "ktest+"}) || !slices.Equal(n.PlatformFilter, []string{"board"}) {
		t.Errorf("filters %q %q", n.JobFilter, n.PlatformFilter)
	}
	if again := s.made("/api/checkout", checkoutBody(``)); again.TreeID == n.TreeID {
		t.Error("two checkouts with one treeid")
	}
}

func TestCheckoutWithoutFiltersAsKciDevSendsIt(t *testing.T) {
	s := newService(t)
	n := s.made("/api/checkout", checkoutBody(`,"jobfilter":null,"platformfilter":[]`))
	if n.JobFilter != nil || len(n.PlatformFilter) != 0 {
		t.Errorf("filters %q %q", n.JobFilter, n.PlatformFilter)
	}
}

func TestCheckoutIsRefusedWithKernelCIsTexts(t *testing.T) {
	s := newService(t)
	list := func(name string, n int) string { return `["` + strings.Repeat(name+`","`, n-1) + name + `"]` }
	for _, tc := range []struct {
		body, message string
		status        int
	}{
		{`{}`, "Missing tree URL, branch or commit", 400},
		{`{"url":"x","branch":"y"}`, "Missing tree URL, branch or commit", 400},
		{`{"url":"x","branch":"","commit":"` + commit + `"}`, "Missing tree URL, branch or commit", 400},
		{`{"branch":"y","commit":"bad"}`, "Missing tree URL, branch or commit", 400},
		{`{"url":"x","branch":"y","commit":"012345"}`, "Invalid commit format", 400},
		{`{"url":"x","branch":"y","commit":"` + commit + `0"}`, "Invalid commit format", 400},
		{`{"url":"x","branch":"y","commit":"` + strings.ToUpper(commit) + `"}`, "Invalid commit format", 400},
		{`{"url":"x","branch":"y","commit":"master"}`, "Invalid commit format", 400},
		{`{"url":"x","branch":"y","commit":"` + commit + `"}`, "Tree not found", 404},
		{`{"url":"https://git.example.org/unused.git","branch":"y","commit":"` + commit + `"}`, "Tree not found", 404},
		{checkoutBody(`,"jobfilter":` + list("kbuild", 9)), "Too many jobs in jobfilter", 400},
		{checkoutBody(`,"jobfilter":["kbuild","none+"]`), "Job none+ not found", 404},
		{checkoutBody(`,"platformfilter":` + list("board", 9)), "Too many platforms in platformfilter", 400},
		{checkoutBody(`,"platformfilter":["none"]`), "Platform none not found", 404},
		{`{"nodeid":"65f000000000000000000001","commit":"bad"}`, "Invalid commit format", 400},
		{`{"nodeid":"65f000000000000000000001","commit":"` + commit + `"}`, "Node not found", 404},
		{`{"nodeid":"x","commit":"` + commit + `"}`, `nodeid: \"x\" is not a valid ObjectId, it must be a 24-character hex string`, 400},
	} {
		s.refused("/api/checkout", tc.body, tc.status, tc.message)
	}
	s.made("/api/checkout", checkoutBody(`,"jobfilter":`+list("kbuild", 8)+`,"platformfilter":`+list("board", 8)))
	s.made("/api/checkout", strings.Replace(checkoutBody(``), commit, commit[:7], 1))
}

func TestCheckoutOfANodeTakesItsTreeAndTheJobsThatLedToIt(t *testing.T) {
	s := newService(t)
	root := s.add(node.Node{}, node.KindCheckout, "checkout")
	build := s.add(root, node.KindKbuild, "kbuild")
	job := s.add(build, node.KindJob, "ktest")
	test := s.add(job, node.KindTest, "case")
	other := s.add(node.Node{}, node.KindCheckout, "checkout", func(n *node.Node) {
		check(t, n.SetRevision(node.Revision{Tree: "x", URL: "https://git.example.org/x.git", Branch: "b", Commit: commit}))
	})
	plain := s.add(root, node.KindJob, "ktest", func(n *node.Node) { delete(n.Data, "kernel_revision") })
	body := func(id node.ID) string { return `{"nodeid":"` + string(id) + `","commit":"abcdef0"}` }
	for _, tc := range []struct {
		id   node.ID
		jobs []string
	}{{test.ID, []string{"kbuild", "ktest"}}, {job.ID, []string{"kbuild", "ktest"}}, {build.ID, nil}, {root.ID, nil}} {
		n := s.made("/api/checkout", body(tc.id))
		r, _ := n.Revision()
		if r.URL != "https://git.example.org/linux.git" || r.Branch != "master" || r.Commit != "abcdef0" || r.Describe != "" || !slices.Equal(n.JobFilter, tc.jobs) {
			t.Errorf("%s: %+v %q", tc.id, r, n.JobFilter)
		}
	}
	s.refused("/api/checkout", body(other.ID), 404, "Tree not found")
	s.refused("/api/checkout", body(plain.ID), 400, "Node does not have kernel revision data")
	n := s.made("/api/checkout", fmt.Sprintf(`{"nodeid":"%s","commit":"abcdef0","jobfilter":["kbuild+"]}`, test.ID))
	if !slices.Equal(n.JobFilter, []string{"kbuild+"}) {
		t.Errorf("jobfilter %q", n.JobFilter)
	}
}
