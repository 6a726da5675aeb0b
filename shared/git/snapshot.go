package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
)

// Snapshot is a commit in its tree's mirror. While it is open nobody changes
// the mirror.
type Snapshot struct {
	mirror  *mirror
	tip     bool
	patched *patched // nil: no patches
}

// Close lets others change the mirror, and removes what Apply has made.
func (s *Snapshot) Close() error {
	var err error
	if s.patched != nil {
		err = os.RemoveAll(s.patched.dir)
	}
	return errors.Join(err, s.mirror.lock.Close())
}

// Limits on what is read of a repository, bytes.
const (
	maxMessage  = 64 << 10
	maxTags     = 64 << 10
	maxMakefile = 256 << 10
)

// Revision says what the commit is called, as KernelCI does:
//
//   - describe: `git describe` by the nearest annotated tag; without one the
//     first twelve digits of the commit.
//   - version: by the nearest tag that starts with v1 to v9, else by the
//     Makefile of the kernel; nil when neither says. Its name is the
//     Makefile's.
//   - the tags at the commit, its whole message (as valid UTF-8, its first 64
//     KiB), and whether it was the head of its branch when it was fetched.
//
// Tree is left empty. Temporary when the mirror turns out to be damaged: the
// next Fetch makes it anew.
func (s *Snapshot) Revision(ctx context.Context) (node.Revision, error) {
	c := s.mirror.want
	r := node.Revision{URL: c.URL, Branch: c.Branch, Commit: c.ID, TipOfBranch: &s.tip}
	var err error
	if r.Describe, err = s.line(ctx, "describe", "--always", "--abbrev=12", c.ID); err != nil {
		return r, err
	}
	if r.CommitMessage, err = s.text(ctx, maxMessage, "log", "-1", "--no-show-signature", "--encoding=UTF-8", "--format=%B", c.ID); err != nil {
		return r, err
	}
	if r.CommitTags, err = s.tags(ctx); err != nil {
		return r, err
	}
	r.Version, err = s.version(ctx)
	return r, err
}

func (s *Snapshot) tags(ctx context.Context) ([]string, error) {
	text, err := s.text(ctx, maxTags, "for-each-ref", "--points-at="+s.mirror.want.ID, "--format=%(refname:strip=2)", "refs/tags/")
	return strings.Fields(text), err
}

func (s *Snapshot) version(ctx context.Context) (*node.Version, error) {
	describe, err := s.line(ctx, "describe", "--always", "--abbrev=12", "--match=v[1-9]*", s.mirror.want.ID)
	if err != nil {
		return nil, err
	}
	batch, err := s.ask(ctx, maxMakefile, call{in: s.mirror.want.ID + ":Makefile\n", args: []string{"cat-file", "--batch"}})
	if err != nil {
		return nil, err
	}
	var makefile []byte
	if header, rest, ok := bytes.Cut(batch, []byte("\n")); ok && blobHeader.Match(header) {
		makefile = rest
	}
	return kernelVersion(describe, makefile), nil
}

// blobHeader is the first line of an answer that holds a file; else it says
// that there is none.
var blobHeader = regexp.MustCompile(`^[0-9a-f]{40,64} blob \d+$`)

func (s *Snapshot) line(ctx context.Context, args ...string) (string, error) {
	return s.text(ctx, maxLine, args...)
}

func (s *Snapshot) text(ctx context.Context, limit int, args ...string) (string, error) {
	b, err := s.ask(ctx, limit, call{args: args})
	return strings.TrimSpace(strings.ToValidUTF8(string(b), "\uFFFD")), err
}

func (s *Snapshot) ask(ctx context.Context, limit int, c call) ([]byte, error) {
	in := c.in
	c = s.call(c.args...)
	c.in = in
	b, err := s.mirror.git.ask(ctx, limit, c)
	return b, s.explain(err)
}

// call is a run of git on the mirror, and on what Apply has made.
func (s *Snapshot) call(args ...string) call {
	c := call{dir: s.mirror.dir, lock: s.mirror.lock, args: args}
	if s.patched != nil {
		c.env = s.patched.env
	}
	return c
}

// source is the commit whose source Archive writes.
func (s *Snapshot) source() string {
	if s.patched != nil {
		return s.patched.commit
	}
	return s.mirror.want.ID
}

// machine matches failures that are this machine's, not the mirror's.
var machine = regexp.MustCompile(`(?i)out of memory|cannot allocate|too many open files|no space|temporarily unavailable|cannot fork`)

// explain gives a failed reading its kind. The commit was there when it was
// fetched: unless this machine is at fault, the mirror is damaged, and is
// marked for the next Fetch.
func (s *Snapshot) explain(err error) error {
	var f *failure
	var exit *exec.ExitError
	if !errors.As(err, &f) || !errors.As(err, &exit) || !exit.Exited() || machine.MatchString(f.reason.all) {
		return meaning(err)
	}
	err = fmt.Errorf("the mirror is damaged and will be made anew: %w", err)
	mark, markErr := os.Create(s.mirror.markPath())
	if markErr == nil {
		markErr = mark.Close()
	}
	return errs.Wrap(errs.Temporary, errors.Join(err, markErr))
}
