package git

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/kernelflow/kernelflow/shared/errs"
)

// Commit names a commit of a tree. Branch is where it was found; it may have
// moved on since. ID may be the first digits of it, 7 or more.
type Commit struct {
	URL    string
	Branch string
	ID     string
}

// mirror is the bare copy of one tree. Beside its folder lie the lock file and,
// when a reader has found it damaged, a mark.
type mirror struct {
	git  *Git
	dir  string
	lock *os.File
	want Commit
}

func (m *mirror) lockPath() string { return m.dir + ".lock" }
func (m *mirror) markPath() string { return m.dir + ".damaged" }

func (g *Git) mirrorOf(c Commit) *mirror {
	sum := sha256.Sum256([]byte(c.URL))
	name := fmt.Sprintf("%s-%x.git", label(c.URL), sum[:8])
	return &mirror{git: g, dir: filepath.Join(g.dir, name), want: c}
}

// Fetch brings the commit into its tree's mirror and returns it for reading;
// the caller closes it. It fetches what is new on the branch and the tags; a
// commit that the branch no longer holds is taken from the mirror or asked for
// by its whole id. Progress goes to report, which may be nil. NotFound when the
// server has no such repository, or the commit cannot be had any more.
func (g *Git) Fetch(ctx context.Context, c Commit, report func(Progress)) (*Snapshot, error) {
	if err := errors.Join(g.checkURL(c.URL), checkBranch(c.Branch), checkAbbreviation(c.ID)); err != nil {
		return nil, err
	}
	m := g.mirrorOf(c)
	s, err := m.open(ctx, report)
	if err != nil {
		return nil, fmt.Errorf("git.Fetch(%s, %s, %s): %w", redact(c.URL), c.Branch, c.ID, err)
	}
	return s, nil
}

func (m *mirror) open(ctx context.Context, report func(Progress)) (_ *Snapshot, err error) {
	if m.lock, err = openLock(ctx, m.lockPath()); err != nil {
		return nil, err
	}
	head, err := m.update(ctx, report)
	if damaged(err) {
		m.git.logger.Warn("a mirror is damaged and is made anew", "mirror", m.dir, "reason", err)
		if err = m.discard(); err == nil {
			head, err = m.update(ctx, report)
		}
	}
	if err == nil {
		err = flock(ctx, m.lock, syscall.LOCK_SH)
	}
	if err != nil {
		m.lock.Close()
		return nil, err
	}
	return &Snapshot{mirror: m, tip: head == m.want.ID}, nil
}

// update makes the mirror hold the commit and returns the branch's head; "" if
// the branch is gone.
func (m *mirror) update(ctx context.Context, report func(Progress)) (head string, err error) {
	if err := m.prepare(ctx); err != nil {
		return "", err
	}
	ref := "refs/heads/" + url.PathEscape(m.want.Branch)
	branchErr := m.fetch(ctx, report, "--prune", "+refs/heads/"+m.want.Branch+":"+ref)
	if branchErr != nil && !errors.Is(branchErr, errs.NotFound) {
		return "", branchErr
	}
	if branchErr == nil {
		if head, err = m.resolve(ctx, ref); err != nil {
			return "", err
		}
	}
	if err := m.ensure(ctx, report, branchErr); err != nil {
		return "", err
	}
	return head, m.tidy(ctx)
}

// ensure makes sure of the commit itself: a forced push may have taken it off
// the branch.
func (m *mirror) ensure(ctx context.Context, report func(Progress), branchErr error) error {
	found, err := m.resolve(ctx, m.want.ID)
	if err != nil {
		return err
	}
	// A name that looks like the digits of a commit may be a tag's.
	if found != "" && strings.HasPrefix(found, m.want.ID) {
		m.want.ID = found
		return nil
	}
	if checkCommit(m.want.ID) != nil {
		return errs.New(errs.NotFound, "no commit of the tree starts with %s, or more than one does", m.want.ID)
	}
	err = m.fetch(ctx, report, "--no-prune", m.want.ID+":refs/commits/"+m.want.ID)
	if errors.Is(err, errs.NotFound) && branchErr != nil {
		return branchErr
	}
	if errors.Is(err, errs.NotFound) {
		return fmt.Errorf("the commit is not on the branch any more and cannot be had by its id: %w", err)
	}
	return err
}

// resolve returns the id of the commit that name leads to; "" when there is
// none.
func (m *mirror) resolve(ctx context.Context, name string) (string, error) {
	answer, err := m.git.ask(ctx, maxLine, call{
		dir: m.dir, lock: m.lock, in: name + "^{commit}\n", args: []string{"cat-file", "--batch-check=%(objectname)"},
	})
	if err != nil {
		return "", meaning(err)
	}
	id := strings.TrimSpace(string(answer))
	if checkCommit(id) != nil {
		return "", nil
	}
	return id, nil
}

// fetch asks the server for what refspec names, and for all tags.
func (m *mirror) fetch(ctx context.Context, report func(Progress), prune, refspec string) error {
	return meaning(m.git.run(ctx, call{dir: m.dir, lock: m.lock, report: report, args: []string{
		"fetch", "--no-write-fetch-head", "--no-tags", prune, "--update-shallow", "--no-recurse-submodules", "--progress",
		"--end-of-options", m.want.URL, refspec, "+refs/tags/*:refs/tags/*",
	}}))
}

// prepare makes the mirror usable, whatever a killed process has left. It
// needs the lock.
func (m *mirror) prepare(ctx context.Context) error {
	_, err := os.Lstat(m.markPath())
	if err == nil {
		err = m.discard()
	} else if errors.Is(err, fs.ErrNotExist) {
		err = m.sweep()
	}
	err = errors.Join(err, os.RemoveAll(m.room()))
	if err != nil {
		return errs.Wrap(errs.Temporary, err)
	}
	return meaning(m.git.run(ctx, call{lock: m.lock, args: []string{"init", "--bare", "--quiet", "--template=", m.dir}}))
}

// sweep removes lock files and half-written packs: whoever holds the lock is
// alone, so they are nobody's.
func (m *mirror) sweep() error {
	return filepath.WalkDir(m.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		if strings.HasSuffix(path, ".lock") || strings.HasPrefix(d.Name(), "tmp_") {
			return os.Remove(path)
		}
		return nil
	})
}

// discard removes the mirror. The folder is moved away first: a crash in
// between leaves no half of it under its name. The mark goes last.
func (m *mirror) discard() error {
	old := m.dir + ".old"
	if err := os.RemoveAll(old); err != nil {
		return errs.Wrap(errs.Temporary, err)
	}
	if err := os.Rename(m.dir, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errs.Wrap(errs.Temporary, err)
	}
	err := errors.Join(os.RemoveAll(old), os.RemoveAll(m.markPath()))
	return errs.Wrap(errs.Temporary, err)
}

// maxPacks is how many packs a mirror may gather before they are joined.
const maxPacks = 32

// tidy joins the packs that many small fetches left. The work grows with what
// is new, not with the mirror: each pack ends up at least twice as big as the
// next.
func (m *mirror) tidy(ctx context.Context) error {
	packs, err := filepath.Glob(filepath.Join(m.dir, "objects", "pack", "*.pack"))
	if err != nil || len(packs) <= maxPacks {
		return err
	}
	for _, args := range [][]string{{"repack", "-d", "-q", "--geometric=2"}, {"pack-refs", "--all"}} {
		if err := m.git.run(ctx, call{dir: m.dir, lock: m.lock, args: args}); err != nil {
			return meaning(err)
		}
	}
	return nil
}
