package git_test

import (
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/git"
)

func TestNewNamesWhatIsMissing(t *testing.T) {
	for _, o := range []git.Options{{Logger: slog.Default()}, {Dir: t.TempDir()}} {
		if _, err := git.New(o); !errors.Is(err, errs.Invalid) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestHeadsOfManyBranchesComeInOneCall(t *testing.T) {
	r := newRepository(t)
	first := r.commit("a", "1", "one")
	r.git("branch", "for-next/core")
	r.git("update-ref", "refs/odd/refs/heads/hidden", first)
	second := r.commit("a", "2", "two")
	for name, address := range map[string]string{"file": r.url(), "path": r.dir, "http": r.serve()} {
		heads, err := newGit(t).Heads(t.Context(), address, "main", "for-next/core", "missing", "hidden")
		if err != nil {
			t.Fatal(err)
		}
		if len(heads) != 2 || heads["main"] != second || heads["for-next/core"] != first {
			t.Errorf("%s: %v, want main %s, for-next/core %s", name, heads, second, first)
		}
	}
}

func TestAnEmptyRepositoryHasNoHeads(t *testing.T) {
	heads, err := newGit(t).Heads(t.Context(), newRepository(t).url(), "main")
	if err != nil || len(heads) != 0 {
		t.Errorf("%v, %v", heads, err)
	}
}

// closedPort is an address where nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestAnErrorSaysItsKindAndGitsReason(t *testing.T) {
	r := newRepository(t)
	served := r.serve()
	for _, tc := range []struct {
		address string
		kind    *errs.Kind
		says    string
	}{
		{"http://" + closedPort(t) + "/linux.git", errs.Temporary, "unable to access"},
		{"git://" + closedPort(t) + "/linux.git", errs.Temporary, "unable to connect"},
		{"file://" + filepath.Join(t.TempDir(), "none"), errs.NotFound, "does not appear to be a git repository"},
		{strings.Replace(served, "linux.git", "other.git", 1), errs.NotFound, "not found"},
	} {
		_, err := newGit(t).Heads(t.Context(), tc.address, "main")
		if !errors.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v, want %v, %q", tc.address, err, tc.kind, tc.says)
		}
	}
}

func TestPasswordsStayOutOfErrors(t *testing.T) {
	address := "http://user:s3cret@" + closedPort(t) + "/linux.git"
	g := newGit(t)
	_, headsErr := g.Heads(t.Context(), address, "main")
	_, fetchErr := g.Fetch(t.Context(), git.Commit{URL: address, Branch: "main", ID: strings.Repeat("a", 40)}, nil)
	_, formErr := g.Heads(t.Context(), "ftp://user:s3cret@example.org/linux.git", "main")
	for _, err := range []error{headsErr, fetchErr, formErr} {
		if err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("error %v", err)
		}
	}
}

func TestNothingIsTakenForAnOptionOrAnotherTransport(t *testing.T) {
	g := newGit(t)
	good := git.Commit{URL: newRepository(t).url(), Branch: "main", ID: strings.Repeat("0", 40)}
	for _, spoil := range []func(*git.Commit){
		func(c *git.Commit) { c.URL = "--upload-pack=touch /tmp/x" },
		func(c *git.Commit) { c.URL = "ext::sh -c true" },
		func(c *git.Commit) { c.URL = "ext::true" },
		func(c *git.Commit) { c.URL = "ftp://example.org/x" },
		func(c *git.Commit) { c.URL = "ssh://-oProxyCommand=true/x" },
		func(c *git.Commit) { c.URL = "ssh://-oProxyCommand=true@host/x" },
		func(c *git.Commit) { c.URL = "https://example.org/a\nb" },
		func(c *git.Commit) { c.URL = "relative/path" },
		func(c *git.Commit) { c.URL = "" },
		func(c *git.Commit) { c.Branch = "--all" },
		func(c *git.Commit) { c.Branch = "" },
		func(c *git.Commit) { c.Branch = "a..b" },
		func(c *git.Commit) { c.Branch = "a*" },
		func(c *git.Commit) { c.Branch = "a:refs/heads/b" },
		func(c *git.Commit) { c.Branch = "a/.b" },
		func(c *git.Commit) { c.Branch = "a.lock" },
		func(c *git.Commit) { c.Branch = "a/" },
		func(c *git.Commit) { c.Branch = "a b" },
		func(c *git.Commit) { c.ID = "main" },
		func(c *git.Commit) { c.ID = "-h" },
		func(c *git.Commit) { c.ID = "ABCDEF" },
	} {
		c := good
		spoil(&c)
		if _, err := g.Fetch(t.Context(), c, nil); !errors.Is(err, errs.Invalid) {
			t.Errorf("Fetch(%+v): %v, want Invalid", c, err)
		}
		if _, err := g.Heads(t.Context(), c.URL, c.Branch); c.ID == good.ID && !errors.Is(err, errs.Invalid) {
			t.Errorf("Heads(%+v): %v, want Invalid", c, err)
		}
	}
}

func TestTreesOfThisMachineNeedPermission(t *testing.T) {
	r := newRepository(t)
	r.commit("a", "1", "one")
	g := openGit(t, t.TempDir(), false)
	for _, address := range []string{r.url(), r.dir} {
		if _, err := g.Heads(t.Context(), address, "main"); !errors.Is(err, errs.Invalid) {
			t.Errorf("%s: %v, want Invalid", address, err)
		}
	}
}

func TestTheConfigurationOfThisMachineIsNotSeen(t *testing.T) {
	r := newRepository(t)
	head := r.commit("a", "1", "one")
	elsewhere := "http://" + closedPort(t) + "/"
	home := t.TempDir()
	outer := &repository{t: t, dir: home}
	outer.git("init", "--quiet")
	outer.git("config", "url."+elsewhere+".insteadOf", "file://")
	outer.write(".gitconfig", "[url \""+elsewhere+"\"]\n\tinsteadOf = file://\n")
	t.Setenv("HOME", home)
	t.Setenv("GIT_CONFIG_COUNT", "1")
	t.Setenv("GIT_CONFIG_KEY_0", "url."+elsewhere+".insteadOf")
	t.Setenv("GIT_CONFIG_VALUE_0", "file://")
	heads, err := openGit(t, filepath.Join(home, "mirrors"), true).Heads(t.Context(), r.url(), "main")
	if err != nil || heads["main"] != head {
		t.Errorf("%v, %v", heads, err)
	}
}
