package callback_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/functions/callback"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/patch"
	"github.com/kernelflow/kernelflow/shared/storage"
)

const diff = "--- a/file\n+++ b/file\n@@ -1 +1 @@\n-one\n+two\n"

func (s *service) body(id node.ID, more map[string]any) string {
	s.t.Helper()
	body := map[string]any{"nodeid": id}
	for key, value := range more {
		body[key] = value
	}
	text, err := json.Marshal(body)
	check(s.t, err)
	return string(text)
}

func TestPatchsetIsItsCheckoutWithPatches(t *testing.T) {
	s := newService(t)
	base := s.add(node.Node{}, node.KindCheckout, "checkout", func(n *node.Node) {
		n.JobFilter, n.UserGroups, n.Holdoff, n.Debug = []string{"kbuild+"}, []string{"g"}, time.Now(), map[string]any{"report": "x"}
		n.Set("architecture_filter", []any{"arm64"})
		n.Set("regressions", map[string]any{})
		n.Submitter, n.RetryCounter, n.KCIDBProcessed = "service:pipeline", 1, true
	})
	n := s.made("/api/patchset", s.body(base.ID, map[string]any{"patch": []string{diff, strings.ReplaceAll(diff, "two", "three \u00fc")}}))
	r, _ := n.Revision()
	if n.Kind != node.KindCheckout || n.Name != "patchset" || n.Group != "patchset" || !slices.Equal(n.Path, []string{"checkout", "patchset"}) ||
		n.Parent != base.ID || n.State != node.Running || n.Result != node.None || n.Owner != "admin" || n.Submitter != "user:dev@example.org" {
		t.Errorf("%+v", n)
	}
	if r.Commit != commit || r.Describe != "v6.1" || r.Patchset != "" || n.Get("architecture_filter") == nil || n.Get("regressions") != nil || len(n.Debug) != 0 {
		t.Errorf("%+v", n.Data)
	}
	if len(n.TreeID) != 64 || n.TreeID == base.TreeID || !n.Holdoff.IsZero() || n.RetryCounter != 0 || n.KCIDBProcessed || !slices.Equal(n.UserGroups, base.UserGroups) {
		t.Errorf("%+v", n)
	}
	if left := time.Until(n.Timeout); left < 299*time.Minute || left > 300*time.Minute {
		t.Errorf("times out in %s", left)
	}
	if !slices.Equal(n.JobFilter, []string{"kbuild+"}) || len(n.Artifacts) != 2 {
		t.Errorf("jobfilter %q, artifacts %v", n.JobFilter, n.Artifacts)
	}
	for i, want := range []string{"two", "three \u00fc"} {
		link := n.Artifacts[fmt.Sprint("patch", i)]
		place := regexp.MustCompile(fmt.Sprintf(`^http://storage\.example\.org/(patchset/dev_example\.org/%s-\d+-%d\.patch)$`, n.ID, i)).FindStringSubmatch(link)
		if place == nil {
			t.Fatalf("patch %d is at %s", i, link)
		}
		content, _, err := s.options.Storage.(storage.Storage).Open(t.Context(), place[1])
		check(t, err)
		text, err := io.ReadAll(content)
		check(t, err)
		check(t, content.Close())
		if !strings.HasSuffix(string(text), "+"+want+"\n") {
			t.Errorf("patch %d: %q", i, text)
		}
	}
	filtered := s.made("/api/patchset", s.body(base.ID, map[string]any{"patch": []string{diff}, "jobfilter": []string{"kbuild", "ktest"}, "platformfilter": []string{"board"}}))
	if !slices.Equal(filtered.JobFilter, []string{"kbuild", "ktest"}) || !slices.Equal(filtered.PlatformFilter, []string{"board"}) || filtered.TreeID == n.TreeID {
		t.Errorf("%+v", filtered)
	}
}

func TestPatchsetByURLKeepsTheURLs(t *testing.T) {
	s := newService(t)
	var methods []string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { methods = append(methods, r.Method) }))
	defer server.Close()
	base := s.add(node.Node{}, node.KindCheckout, "checkout")
	link := server.URL + "/series/123/mbox/"
	n := s.made("/api/patchset", s.body(base.ID, map[string]any{"patchurl": []string{link}}))
	if len(n.Artifacts) != 1 || n.Artifacts["patch0"] != link || !slices.Equal(methods, []string{http.MethodHead}) {
		t.Errorf("%v, asked by %q", n.Artifacts, methods)
	}
}

func TestPatchsetAsksNoHostThatIsNotAllowed(t *testing.T) {
	s := newService(t, func(o *callback.Options) {
		o.Patches = patch.NewSource([]string{"patchwork.kernel.org"}, http.DefaultClient)
	})
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer server.Close()
	base := s.add(node.Node{}, node.KindCheckout, "checkout")
	s.refused("/api/patchset", s.body(base.ID, map[string]any{"patchurl": []string{server.URL}}), 400, "Invalid patch URL")
	if asked.Load() != 0 {
		t.Errorf("%d requests", asked.Load())
	}
}

func TestPatchsetOfAPatchsetHasThePatchesOfBoth(t *testing.T) {
	s := newService(t)
	base := s.add(node.Node{}, node.KindCheckout, "checkout")
	first := s.made("/api/patchset", s.body(base.ID, map[string]any{"patch": []string{diff}}))
	second := s.made("/api/patchset", s.body(first.ID, map[string]any{"patch": []string{diff}}))
	if second.Parent != first.ID || len(second.Artifacts) != 2 || second.Artifacts["patch0"] != first.Artifacts["patch0"] || second.Artifacts["patch1"] == "" {
		t.Errorf("%+v", second)
	}
}

func TestPatchsetIsRefusedWithKernelCIsTexts(t *testing.T) {
	s := newService(t)
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	base := s.add(node.Node{}, node.KindCheckout, "checkout")
	build := s.add(base, node.KindKbuild, "kbuild")
	with := func(key string, value any) string { return s.body(base.ID, map[string]any{key: value}) }
	link := strings.ReplaceAll(diff, "file", "../file")
	for name, tc := range map[string]struct {
		body, message string
		status        int
	}{
		"no such node":        {s.body("65f000000000000000000001", nil), "Node not found", 404},
		"a build":             {s.body(build.ID, map[string]any{"patch": []string{diff}}), "Node is not a checkout", 400},
		"no patch":            {s.body(base.ID, nil), "Missing patch URL or patch", 400},
		"empty lists":         {s.body(base.ID, map[string]any{"patch": []string{}, "patchurl": []string{}}), "Missing patch URL or patch", 400},
		"33 patches":          {with("patch", slices.Repeat([]string{diff}, 33)), "Too many patches", 400},
		"33 URLs":             {with("patchurl", slices.Repeat([]string{server.URL}, 33)), "Too many patches", 400},
		"a large patch":       {with("patch", []string{diff + strings.Repeat("x", patch.MaxSize)}), "Patch too large", 400},
		"a NUL":               {with("patch", []string{diff + "\x00"}), "Binary patch content not allowed", 400},
		"a binary patch":      {with("patch", []string{"diff --git a/x b/x\nindex 0123456..89abcde 100644\nBinary files a/x and b/x differ\n"}), "Binary patch content not allowed", 400},
		"a number":            {with("patch", []any{diff, 5}), "Invalid patch element type", 400},
		"prose":               {with("patch", []string{"hello"}), "Invalid patch: there is no unified diff in it", 400},
		"an empty patch":      {with("patch", []string{""}), "Invalid patch: there is no unified diff in it", 400},
		"out of the tree":     {with("patch", []string{diff, link}), `Invalid patch: file \"../file\": leads out of the tree`, 400},
		"a URL that is none":  {with("patchurl", []any{5}), "Invalid patch URL", 400},
		"a URL that is gone":  {with("patchurl", []string{server.URL}), "Invalid patch URL", 400},
		"a file":              {with("patchurl", []string{"file:///etc/passwd"}), "Invalid patch URL", 400},
		"a job nobody knows":  {s.body(base.ID, map[string]any{"patch": []string{diff}, "jobfilter": []string{"none"}}), "Job none not found", 404},
		"a board nobody has":  {s.body(base.ID, map[string]any{"patch": []string{diff}, "platformfilter": []string{"none"}}), "Platform none not found", 404},
		"a node that is none": {s.body("x", nil), `nodeid: \"x\" is not a valid ObjectId, it must be a 24-character hex string`, 400},
	} {
		t.Run(name, func(*testing.T) { s.refused("/api/patchset", tc.body, tc.status, tc.message) })
	}
}

func TestPatchesThatAreTooMuchTogetherAreRefused(t *testing.T) {
	s := newService(t)
	base := s.add(node.Node{}, node.KindCheckout, "checkout")
	large := strings.Repeat("x", 9<<20)
	status, answer := s.post(s.dev, "/api/patchset", s.body(base.ID, map[string]any{"patch": slices.Repeat([]string{large}, 8)}))
	if status != http.StatusBadRequest || !strings.Contains(answer, "Patch too large") {
		t.Errorf("%d %s", status, answer)
	}
	if status, answer = s.post(s.dev, "/api/patchset", strings.Repeat(large, 9)); status != http.StatusRequestEntityTooLarge {
		t.Errorf("%d %s", status, answer)
	}
}
