package tarball_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/node"
)

// changes is a patch of the tree's file, in a mail.
func changes(was, is string) string {
	return "From: A <a@example.org>\nSubject: [PATCH] " + is + "\n\n---\n file | 2 +-\n\ndiff --git a/file b/file\nindex 0123456..89abcde 100644\n--- a/file\n+++ b/file\n" +
		"@@ -1 +1 @@\n-" + was + "\n\\ No newline at end of file\n+" + is + "\n\\ No newline at end of file\n-- \n2.39.5\n"
}

// patchset stores a patchset of the commit and returns its event.
func (f *fixture) patchset(commit string, artifacts map[string]string) (node.ID, event.Event) {
	f.t.Helper()
	n := node.Node{
		ID: node.DeriveID("", f.t.Name(), artifacts["patch0"]), Kind: node.KindCheckout, Name: "patchset", Group: "patchset", Path: []string{"checkout", "patchset"},
		Parent: node.DeriveID("", commit, f.url()), TreeID: "patched", Owner: "admin", Submitter: "user:dev@example.org", Artifacts: artifacts,
	}
	n.SetDefaults(start)
	check(f.t, n.SetRevision(node.Revision{Tree: "sample", URL: f.url(), Branch: "main", Commit: commit}))
	n, err := f.store.Create(f.t.Context(), n)
	check(f.t, err)
	e, err := event.OfCreated(n)
	check(f.t, err)
	return n.ID, e
}

// keep stores a patch that came without a URL and returns the one it got.
func (f *fixture) keep(name, text string) string {
	f.t.Helper()
	link, err := f.storage.Upload(f.t.Context(), "patchset/dev_example.org/"+name, "text/x-patch", strings.NewReader(text))
	check(f.t, err)
	return link
}

func TestAPatchsetBecomesAnArchiveOfItsOwn(t *testing.T) {
	f := newFixture(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, err := w.Write([]byte(changes("two", "three")))
		check(t, err)
	}))
	defer server.Close()
	commit := f.commit("first", "one")
	fn := f.function(f.storage)
	base, e := f.checkout(f.url(), commit)
	check(t, fn.Handle(t.Context(), e))

	id, e := f.patchset(commit, map[string]string{"patch0": f.keep("a b.patch", changes("one", "two")), "patch1": server.URL + "/series.mbox"})
	check(t, fn.Handle(t.Context(), e))
	n := f.get(id)
	r, _ := n.Revision()
	if n.State != node.Available || n.Result != node.Pass || !n.Holdoff.Equal(start.Add(10*time.Minute)) || len(r.Patchset) != 64 || r.Commit != commit {
		t.Fatalf("%+v", n)
	}
	name := "linux-sample-main-" + r.Describe + "-" + r.Patchset[:12]
	if link := "http://storage.example.org/" + string(id) + "/" + name + ".tar.gz"; n.Artifacts["tarball"] != link || n.Artifacts["patch1"] == "" {
		t.Errorf("artifacts %v, want %s", n.Artifacts, link)
	}
	content, _, err := f.storage.Open(t.Context(), string(id)+"/"+name+".tar.gz")
	check(t, err)
	defer content.Close()
	if got := files(t, content); got[name+"/file"] != "three" {
		t.Errorf("%v", got)
	}
	unpatched := f.get(base)
	if r, _ := unpatched.Revision(); r.Patchset != "" || unpatched.Artifacts["tarball"] == n.Artifacts["tarball"] {
		t.Errorf("the checkout that is patched: %v %v", r, unpatched.Artifacts)
	}
	check(t, fn.Handle(t.Context(), e))
	if again := f.get(id); !again.Updated.Equal(n.Updated) || again.State != node.Available {
		t.Errorf("the second delivery changed the node: %+v", again)
	}
}

func TestTheHashOfPatchesIsThatOfTheirChanges(t *testing.T) {
	f := newFixture(t)
	commit := f.commit("first", "one")
	hash := func(name, text string) string {
		id, e := f.patchset(commit, map[string]string{"patch0": f.keep(name, text)})
		check(t, f.function(f.storage).Handle(t.Context(), e))
		n := f.get(id)
		r, _ := n.Revision()
		if r.Patchset == "" {
			t.Fatal(n.Data)
		}
		return r.Patchset
	}
	mailed := changes("one", "two")
	_, bare, _ := strings.Cut(mailed, "\n\ndiff")
	if a, b, c := hash("a", mailed), hash("b", "diff"+bare), hash("c", changes("one", "three")); a != b || a == c {
		t.Errorf("in a mail %s, bare %s, another %s", a, b, c)
	}
}

func TestAPatchThatCannotBeAppliedEndsThePatchset(t *testing.T) {
	for name, tc := range map[string]struct {
		link func(f *fixture) string
		says string
	}{
		"other source": {func(f *fixture) string { return f.keep("x", changes("other", "two")) }, "patch failed: file:1"},
		"no patch":     {func(f *fixture) string { return f.keep("x", "hello") }, "no unified diff"},
		"out of tree": {func(f *fixture) string {
			return f.keep("x", strings.ReplaceAll(changes("one", "two"), "file", "../file"))
		}, "leads out"},
		"gone":           {func(f *fixture) string { return f.storage.URL("patchset/none") }, "patchset/none"},
		"another folder": {func(f *fixture) string { return f.storage.URL("patchset") + "/..%2Fsecret" }, "path"},
		"a strange host": {func(*fixture) string { return "http://127.0.0.2/x.patch" }, "the host is none of"},
		"none at all":    {func(*fixture) string { return "" }, "artifacts.patch0"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			commit := f.commit("first", "one")
			artifacts := map[string]string{"tarball": "http://storage.example.org/x"}
			if link := tc.link(f); link != "" {
				artifacts["patch0"] = link
			}
			id, e := f.patchset(commit, artifacts)
			check(t, f.function(f.storage).Handle(t.Context(), e))
			n := f.get(id)
			if n.State != node.Done || n.Result != node.Fail || n.Text("error_code") != node.ErrCodeGitCheckout || !strings.Contains(n.Text("error_msg"), tc.says) {
				t.Errorf("%s %s %v", n.State, n.Result, n.Data)
			}
		})
	}
}

func TestAServerOfPatchesThatIsAwayIsAskedAgain(t *testing.T) {
	f := newFixture(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }))
	defer server.Close()
	id, e := f.patchset(f.commit("first", "one"), map[string]string{"patch0": server.URL})
	if err := f.function(f.storage).Handle(t.Context(), e); !errors.Is(err, errs.Temporary) {
		t.Error(err)
	}
	if n := f.get(id); n.State != node.Running {
		t.Errorf("%+v", n)
	}
}
