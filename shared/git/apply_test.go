package git_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/git"
)

// archived returns what an archive of the snapshot holds: "mode content" by
// name.
func archived(t *testing.T, s *git.Snapshot) map[string]string {
	t.Helper()
	var out bytes.Buffer
	if err := s.Archive(t.Context(), "", &out, nil); err != nil {
		t.Fatal(err)
	}
	gz, err := gzip.NewReader(&out)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for in := tar.NewReader(gz); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			content, err := io.ReadAll(in)
			if err != nil {
				t.Fatal(err)
			}
			found[h.Name] = fmt.Sprintf("%o %s", h.Mode&0o111, content)
		}
	}
}

// patchOf is the change of one line of a file.
func patchOf(file, was, is string) []byte {
	return fmt.Appendf(nil, "diff --git a/%[1]s b/%[1]s\n--- a/%[1]s\n+++ b/%[1]s\n@@ -1 +1 @@\n-%s\n+%s\n", file, was, is)
}

// linked is a repository with the file a, the script run and the link to a.
func linked(t *testing.T) (r *repository, id string) {
	r = newRepository(t)
	if err := os.Symlink("a", filepath.Join(r.dir, "link")); err != nil {
		t.Fatal(err)
	}
	r.write("run", "#!/bin/sh\n")
	return r, r.commit("a", "one\n", "first")
}

func TestPatchesAreInTheArchiveAndNowhereElse(t *testing.T) {
	r, id := linked(t)
	dir := filepath.Join(t.TempDir(), "mirrors")
	g := openGit(t, dir, true)
	s := fetch(t.Context(), t, g, r.at(id))
	before := objects(t, dir)
	add := []byte("diff --git a/dir/new b/dir/new\nnew file mode 100755\n--- /dev/null\n+++ b/dir/new\n@@ -0,0 +1 @@\n+added\n")
	remove := []byte("diff --git a/run b/run\ndeleted file mode 100644\n--- a/run\n+++ /dev/null\n@@ -1 +0,0 @@\n-#!/bin/sh\n")
	if err := s.Apply(t.Context(), patchOf("a", "one", "two"), patchOf("a", "two", "three"), add, remove); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"a": "0 three\n", "dir/new": "111 added\n"}
	if got := archived(t, s); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("patched: %q, want %q", got, want)
	}
	if revision, err := s.Revision(t.Context()); err != nil || revision.Commit != id || revision.CommitMessage != "first" {
		t.Errorf("%+v, %v", revision, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if after := objects(t, dir); after != before {
		t.Errorf("the mirror went from %q to %q", before, after)
	}
	if got := archived(t, fetch(t.Context(), t, g, r.at(id))); got["a"] != "0 one\n" || len(got) != 2 {
		t.Errorf("another snapshot of the commit: %q", got)
	}
}

// objects lists the objects in the mirrors.
func objects(t *testing.T, dir string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "*.git", "objects", "*", "*"))
	if err != nil || len(found) == 0 {
		t.Fatal(found, err)
	}
	return strings.Join(found, "\n")
}

func TestTheSamePatchesGiveTheSameBytes(t *testing.T) {
	r, id := linked(t)
	var first []byte
	for range 2 {
		s := fetch(t.Context(), t, newGit(t), r.at(id))
		if err := s.Apply(t.Context(), patchOf("a", "one", "two")); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := s.Archive(t.Context(), "p", &out, nil); err != nil {
			t.Fatal(err)
		}
		if first != nil && !bytes.Equal(first, out.Bytes()) {
			t.Error("another archive")
		}
		first = out.Bytes()
	}
}

func TestAPatchThatDoesNotFitIsInvalidAndSaysWhy(t *testing.T) {
	created := func(name, mode string) []byte {
		return fmt.Appendf(nil, "diff --git a/%[1]s b/%[1]s\nnew file mode %[2]s\n--- /dev/null\n+++ b/%[1]s\n@@ -0,0 +1 @@\n+x\n", name, mode)
	}
	for name, tc := range map[string]struct {
		patch []byte
		says  string
	}{
		"other content":               {patchOf("a", "other", "two"), "patch 0: git apply: error: patch failed: a:1"},
		"no such file":                {patchOf("b", "one", "two"), "b: does not exist"},
		"no patch":                    {[]byte("hello\n"), "patch 0"},
		"out of the tree":             {created("../x", "100644"), "invalid path"},
		"absolute":                    {[]byte("diff --git a//etc/x b//etc/x\nnew file mode 100644\n--- /dev/null\n+++ b//etc/x\n@@ -0,0 +1 @@\n+x\n"), "etc/x"},
		"git's own folder":            {created(".git/config", "100644"), "invalid path"},
		"git's folder in other words": {created("sub/.GIT/config", "100644"), "invalid path"},
		"beyond a link":               {created("link/x", "100644"), "link"},
		"a new link":                  {created("l", "120000"), "mode 000000 to 120000"},
		"a link's target":             {[]byte("diff --git a/link b/link\n--- a/link\n+++ b/link\n@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+/etc/passwd\n\\ No newline at end of file\n"), "mode 120000 to 120000"},
		"a submodule":                 {[]byte("diff --git a/m b/m\nnew file mode 160000\n--- /dev/null\n+++ b/m\n@@ -0,0 +1 @@\n+Subproject commit 0123456789012345678901234567890123456789\n"), "160000"},
	} {
		r, id := linked(t)
		s := fetch(t.Context(), t, newGit(t), r.at(id))
		err := s.Apply(t.Context(), tc.patch)
		if !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatAKilledProcessLeftOfPatchesIsRemoved(t *testing.T) {
	r, id := linked(t)
	dir := filepath.Join(t.TempDir(), "mirrors")
	g := openGit(t, dir, true)
	s := fetch(t.Context(), t, g, r.at(id))
	if err := s.Apply(t.Context(), patchOf("a", "one", "two")); err != nil {
		t.Fatal(err)
	}
	left := func() []string {
		found, err := filepath.Glob(filepath.Join(dir, "*.patched", "*"))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	if len(left()) != 1 {
		t.Fatalf("%q", left())
	}
	kept := filepath.Join(filepath.Dir(left()[0]), "of-the-dead")
	if err := os.Mkdir(kept, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil || len(left()) != 1 {
		t.Fatalf("%v, %q", err, left())
	}
	fetch(t.Context(), t, g, r.at(id))
	if len(left()) != 0 {
		t.Errorf("%q", left())
	}
}

func TestACommitMayBeNamedByItsFirstDigits(t *testing.T) {
	r, first := linked(t)
	last := r.commit("a", "two\n", "second")
	r.git("tag", last[:8]) // a tag that looks like a commit
	r.git("tag", "deadbee", first)
	for given, want := range map[string]string{first[:7]: first, first[:12]: first, last: last, "deadbee": "", "0000000": ""} {
		s, err := newGit(t).Fetch(t.Context(), r.at(given), nil)
		if want == "" {
			if !errors.Is(err, errs.NotFound) || !strings.Contains(err.Error(), given) {
				t.Errorf("%s: %v", given, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		revision, err := s.Revision(t.Context())
		if err != nil || revision.Commit != want || *revision.TipOfBranch != (want == last) {
			t.Errorf("%s: %+v, %v", given, revision, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
