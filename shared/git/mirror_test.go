package git_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/git"
)

func TestFetchBringsWhatIsNew(t *testing.T) {
	r := newRepository(t)
	for name, address := range map[string]string{"file": r.url(), "path": r.dir, "http": r.serve()} {
		g := newGit(t)
		for i := range 3 {
			want := git.Commit{URL: address, Branch: "main", ID: r.commit("a", fmt.Sprint(name, i), "step")}
			s := fetch(t.Context(), t, g, want)
			if rev, err := s.Revision(t.Context()); err != nil || rev.Commit != want.ID || !*rev.TipOfBranch {
				t.Errorf("%s, step %d: %+v, %v", name, i, rev, err)
			}
			s.Close()
		}
	}
}

func TestAnOlderCommitOfTheBranchIsNotItsTip(t *testing.T) {
	r := newRepository(t)
	old := r.commit("a", "1", "one")
	r.commit("a", "2", "two")
	rev, err := fetch(t.Context(), t, newGit(t), r.at(old)).Revision(t.Context())
	if err != nil || *rev.TipOfBranch {
		t.Errorf("%+v, %v", rev, err)
	}
}

func TestACommitThatAForcedPushTookAwayIsHadByItsID(t *testing.T) {
	r := newRepository(t)
	r.commit("a", "1", "one")
	lost := r.commit("a", "2", "two")
	r.git("reset", "--hard", "--quiet", "HEAD^")
	r.commit("a", "3", "another two")
	rev, err := fetch(t.Context(), t, newGit(t), r.at(lost)).Revision(t.Context())
	if err != nil || rev.CommitMessage != "two" || *rev.TipOfBranch {
		t.Errorf("%+v, %v", rev, err)
	}
}

func TestACommitThatVanishedIsNotFound(t *testing.T) {
	r := newRepository(t)
	r.commit("a", "1", "one")
	lost := r.commit("a", "2", "two")
	kept := newGit(t)
	fetch(t.Context(), t, kept, r.at(lost)).Close()
	r.git("reset", "--hard", "--quiet", "HEAD^")
	r.git("reflog", "expire", "--expire=now", "--all")
	r.git("gc", "--quiet", "--prune=now")
	_, err := newGit(t).Fetch(t.Context(), r.at(lost), nil)
	if !errors.Is(err, errs.NotFound) || !strings.Contains(err.Error(), "cannot be had by its id") {
		t.Errorf("error %v", err)
	}
	fetch(t.Context(), t, kept, r.at(lost)) // a mirror that has it needs no server for it
}

func TestABranchThatIsGoneIsNotFound(t *testing.T) {
	empty := newRepository(t)
	_, err := newGit(t).Fetch(t.Context(), empty.at(strings.Repeat("a", 40)), nil)
	if !errors.Is(err, errs.NotFound) || !strings.Contains(err.Error(), "couldn't find remote ref") {
		t.Errorf("empty repository: %v", err)
	}
	r := newRepository(t)
	id := r.commit("a", "1", "one")
	r.git("branch", "--move", "other")
	rev, err := fetch(t.Context(), t, newGit(t), r.at(id)).Revision(t.Context())
	if err != nil || *rev.TipOfBranch {
		t.Errorf("the server still has the commit: %+v, %v", rev, err)
	}
}

func TestABranchMayBecomeAFolderOfBranches(t *testing.T) {
	r := newRepository(t)
	g := newGit(t)
	id := r.commit("a", "1", "one")
	for _, branch := range []string{"topic", "topic/next", "topic"} {
		r.git("checkout", "--quiet", "--detach")
		for old := range strings.FieldsSeq(r.git("for-each-ref", "--format=%(refname)", "refs/heads/topic")) {
			r.git("update-ref", "-d", old)
		}
		r.git("branch", branch)
		fetch(t.Context(), t, g, git.Commit{URL: r.url(), Branch: branch, ID: id}).Close()
	}
}

func TestTagsFollowTheServer(t *testing.T) {
	r := newRepository(t)
	g := newGit(t)
	describe := func(id string) string {
		s := fetch(t.Context(), t, g, r.at(id))
		defer s.Close()
		rev, err := s.Revision(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return rev.Describe
	}
	one := r.commit("a", "1", "one")
	r.tag("v1.0")
	two := r.commit("a", "2", "two")
	if got := describe(two); !strings.HasPrefix(got, "v1.0-1-g") {
		t.Errorf("describe %s", got)
	}
	r.git("tag", "--annotate", "--force", "--message=moved", "v1.0")
	if got := describe(two); got != "v1.0" {
		t.Errorf("after the tag moved: %s", got)
	}
	r.git("tag", "--delete", "v1.0")
	if got := describe(one); got != one[:12] {
		t.Errorf("after the tag was deleted: %s", got)
	}
}

func TestAShallowTreeIsMirrored(t *testing.T) {
	r := newRepository(t)
	r.commit("a", "1", "one")
	r.commit("a", "2", "two")
	shallow := &repository{t: t, dir: filepath.Join(t.TempDir(), "shallow")}
	r.git("clone", "--quiet", "--depth=1", r.url(), shallow.dir)
	g := newGit(t)
	for range 2 {
		s := fetch(t.Context(), t, g, shallow.at(shallow.git("rev-parse", "HEAD")))
		if _, err := s.Revision(t.Context()); err != nil {
			t.Error(err)
		}
		s.Close()
	}
}

func TestManyInstancesShareOneMirror(t *testing.T) {
	r := newRepository(t)
	var ids []string
	for i := range 4 {
		ids = append(ids, r.commit("a", fmt.Sprint(i), fmt.Sprint("step ", i)))
	}
	dir := filepath.Join(t.TempDir(), "mirrors")
	var all sync.WaitGroup
	for i := range 12 {
		g := openGit(t, dir, true)
		all.Go(func() {
			s, err := g.Fetch(t.Context(), r.at(ids[i%4]), nil)
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			rev, err := s.Revision(t.Context())
			if err == nil {
				err = s.Archive(t.Context(), "p", io.Discard, nil)
			}
			if want := fmt.Sprint("step ", i%4); err != nil || rev.CommitMessage != want {
				t.Errorf("message %q, want %q, %v", rev.CommitMessage, want, err)
			}
		})
	}
	all.Wait()
}

func TestWaitingForAMirrorEndsWithTheContext(t *testing.T) {
	r := newRepository(t)
	id := r.commit("a", "1", "one")
	g := newGit(t)
	open := fetch(t.Context(), t, g, r.at(id))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.Fetch(ctx, r.at(id), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	open.Close()
	fetch(t.Context(), t, g, r.at(id))
}

// only returns the one mirror below dir.
func only(t *testing.T, dir string) string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "*.git"))
	if err != nil || len(list) != 1 {
		t.Fatalf("mirrors: %v, %v", list, err)
	}
	return list[0]
}

func TestAFetchThatWasKilledIsFinishedByTheNext(t *testing.T) {
	r := newRepository(t)
	for i := range 300 {
		r.write(fmt.Sprintf("dir%d/file%d", i%7, i), strings.Repeat(fmt.Sprint(i), 1000))
	}
	id := r.commit("a", "1", "many files")
	for stop := range 6 {
		dir := filepath.Join(t.TempDir(), "mirrors")
		g := openGit(t, dir, true)
		ctx, cancel := context.WithCancel(t.Context())
		heard := 0
		_, err := g.Fetch(ctx, r.at(id), func(git.Progress) {
			if heard++; heard > stop*stop {
				cancel()
			}
		})
		cancel()
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		mirror := only(t, dir)
		for _, left := range []string{"HEAD.lock", "config.lock", "packed-refs.lock", "refs/heads/main.lock", "shallow.lock", "objects/pack/tmp_pack_left"} {
			if err := os.WriteFile(filepath.Join(mirror, left), nil, 0o644); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
		}
		s := fetch(t.Context(), t, g, r.at(id))
		if err := s.Archive(t.Context(), "p", io.Discard, nil); err != nil {
			t.Error(err)
		}
		s.Close()
		if left, _ := filepath.Glob(filepath.Join(mirror, "objects", "pack", "tmp_*")); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

// spoil overwrites every file that the pattern finds below dir.
func spoil(t *testing.T, dir, pattern, content string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %v, %v", pattern, files, err)
	}
	for _, f := range files {
		if err := errors.Join(os.Chmod(f, 0o644), os.WriteFile(f, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestADamagedMirrorIsMadeAnew(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, dir string){
		"empty packs":     func(t *testing.T, dir string) { spoil(t, dir, "objects/pack/*.pack", "") },
		"garbage packs":   func(t *testing.T, dir string) { spoil(t, dir, "objects/pack/*.pack", strings.Repeat("garbage", 999)) },
		"garbage indexes": func(t *testing.T, dir string) { spoil(t, dir, "objects/pack/*.idx", strings.Repeat("garbage", 999)) },
		"no objects":      func(t *testing.T, dir string) { must(t, os.RemoveAll(filepath.Join(dir, "objects"))) },
		"no refs":         func(t *testing.T, dir string) { must(t, os.RemoveAll(filepath.Join(dir, "refs"))) },
		"garbage HEAD":    func(t *testing.T, dir string) { spoil(t, dir, "HEAD", "garbage") },
		"no HEAD":         func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "HEAD"))) },
		"garbage config":  func(t *testing.T, dir string) { spoil(t, dir, "config", "[garbage") },
		"empty ref":       func(t *testing.T, dir string) { spoil(t, dir, "refs/heads/main", "") },
		"dangling ref":    func(t *testing.T, dir string) { spoil(t, dir, "refs/heads/main", strings.Repeat("a", 40)+"\n") },
		"a file":          func(t *testing.T, dir string) { must(t, os.RemoveAll(dir), os.WriteFile(dir, []byte("x"), 0o644)) },
		"marked":          func(t *testing.T, dir string) { must(t, os.WriteFile(dir+".damaged", nil, 0o644)) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRepository(t)
			old := r.commit("a", "1", "one")
			dir := filepath.Join(t.TempDir(), "mirrors")
			g := openGit(t, dir, true)
			fetch(t.Context(), t, g, r.at(old)).Close()
			damage(t, only(t, dir))
			id := r.commit("a", "2", "two")
			readBack(t, g, r.at(old))
			readBack(t, g, r.at(id))
		})
	}
}

// readBack reads a commit as the tarball function does: a damage that only
// reading finds makes one try fail.
func readBack(t *testing.T, g *git.Git, c git.Commit) {
	t.Helper()
	var err error
	for range 2 {
		if err = read(t, g, c); err == nil {
			return
		}
		if !errors.Is(err, errs.Temporary) {
			break
		}
	}
	t.Errorf("%s: %v", c.ID, err)
}

func read(t *testing.T, g *git.Git, c git.Commit) error {
	s, err := g.Fetch(t.Context(), c, nil)
	if err != nil {
		return err
	}
	defer s.Close()
	if _, err := s.Revision(t.Context()); err != nil {
		return err
	}
	return s.Archive(t.Context(), "p", io.Discard, nil)
}

func must(t *testing.T, list ...error) {
	t.Helper()
	if err := errors.Join(list...); err != nil {
		t.Fatal(err)
	}
}

func TestSmallFetchesDoNotPileUp(t *testing.T) {
	r := newRepository(t)
	dir := filepath.Join(t.TempDir(), "mirrors")
	g := openGit(t, dir, true)
	for i := range 40 {
		fetch(t.Context(), t, g, r.at(r.commit("a", fmt.Sprint(i), "step"))).Close()
	}
	packs, err := filepath.Glob(filepath.Join(only(t, dir), "objects", "pack", "*.pack"))
	if err != nil || len(packs) > 33 {
		t.Errorf("%d packs after 40 fetches, %v", len(packs), err)
	}
}

func TestAMirrorHasNoWorkTree(t *testing.T) {
	r := newRepository(t)
	dir := filepath.Join(t.TempDir(), "mirrors")
	fetch(t.Context(), t, openGit(t, dir, true), r.at(r.commit("only-here", "1", "one")))
	must(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if strings.Contains(path, "only-here") {
			t.Errorf("work tree file %s", path)
		}
		return err
	}))
}

func TestAFetchTellsHowFarItIs(t *testing.T) {
	r := newRepository(t)
	id := r.commit("a", "1", "one")
	phases := map[string]git.Progress{}
	s, err := newGit(t).Fetch(t.Context(), r.at(id), func(p git.Progress) { phases[p.Phase] = p })
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if p := phases["Receiving objects"]; p.Total == 0 || p.Done != p.Total {
		t.Errorf("phases %v", phases)
	}
}
