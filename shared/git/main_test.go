package git_test

import (
	"context"
	"log/slog"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kernelflow/kernelflow/shared/git"
)

// repository is a real git repository that a test works on.
type repository struct {
	t   *testing.T
	dir string
}

func newRepository(t *testing.T) *repository {
	t.Helper()
	r := &repository{t: t, dir: filepath.Join(t.TempDir(), "torvalds", "linux.git")}
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	r.git("init", "--quiet", "--initial-branch=main")
	return r
}

func (r *repository) git(args ...string) string {
	r.t.Helper()
	cmd := exec.CommandContext(r.t.Context(), "git", append([]string{"-C", r.dir}, args...)...)
	const date = "2025-01-12T08:00:00Z"
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_DATE="+date, "GIT_COMMITTER_DATE="+date,
		"GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_COMMITTER_NAME=A", "GIT_COMMITTER_EMAIL=a@example.org")
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (r *repository) write(name, content string) {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// commit writes one file and returns the new commit.
func (r *repository) commit(name, content, message string) string {
	r.t.Helper()
	r.write(name, content)
	r.git("add", "--all")
	r.git("commit", "--quiet", "--message="+message)
	return r.git("rev-parse", "HEAD")
}

func (r *repository) tag(name string) { r.git("tag", "--annotate", "--message="+name, name) }

// url is where the repository is found by file protocol.
func (r *repository) url() string { return "file://" + r.dir }

// at names a commit of the branch main.
func (r *repository) at(id string) git.Commit {
	return git.Commit{URL: r.url(), Branch: "main", ID: id}
}

// serve publishes the repository over HTTP as git's own server does.
func (r *repository) serve() string {
	r.t.Helper()
	out, err := exec.CommandContext(r.t.Context(), "git", "--exec-path").Output()
	backend := filepath.Join(strings.TrimSpace(string(out)), "git-http-backend")
	if _, statErr := os.Stat(backend); err != nil || statErr != nil {
		r.t.Skipf("NO HTTP TEST: git http-backend is not installed (%v, %v)", err, statErr)
	}
	server := httptest.NewServer(&cgi.Handler{
		Path:   backend,
		Stderr: r.t.Output(),
		Env:    []string{"GIT_PROJECT_ROOT=" + filepath.Dir(r.dir), "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null"},
	})
	r.t.Cleanup(server.Close)
	return server.URL + "/" + filepath.Base(r.dir) + "/.git"
}

func newGit(t *testing.T) *git.Git { return openGit(t, filepath.Join(t.TempDir(), "mirrors"), true) }

func openGit(t *testing.T, dir string, local bool) *git.Git {
	t.Helper()
	g, err := git.New(git.Options{Dir: dir, AllowLocal: local, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func fetch(ctx context.Context, t *testing.T, g *git.Git, c git.Commit) *git.Snapshot {
	t.Helper()
	s, err := g.Fetch(ctx, c, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}
