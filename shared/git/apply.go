package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/kernelflow/kernelflow/shared/errs"
)

// patched is the source of a snapshot with patches on it. Its index and its
// objects lie in a folder of their own, so that the mirror stays as it is.
type patched struct {
	dir    string
	env    []string // what git needs to find it
	commit string
}

// room is where the patched sources of the mirror lie.
func (m *mirror) room() string { return m.dir + ".patched" }

// Apply puts unified diffs, in their order, on the source that Archive writes;
// Revision still tells of the commit. Nothing is checked out, and the mirror is
// not changed. It may be called once. Invalid, with git's own reason, when a
// patch does not fit the source, when it leads out of it, or when what it
// changes is or becomes anything but a plain file (a symbolic link, a
// submodule).
func (s *Snapshot) Apply(ctx context.Context, patches ...[]byte) error {
	if err := s.apply(ctx, patches); err != nil {
		return fmt.Errorf("git.Apply(%s): %w", s.mirror.want.ID, err)
	}
	return nil
}

func (s *Snapshot) apply(ctx context.Context, patches [][]byte) error {
	if s.patched != nil {
		return errs.New(errs.Invalid, "patches are applied already")
	}
	p, err := s.mirror.newPatched()
	if err != nil {
		return errs.Wrap(errs.Temporary, err)
	}
	s.patched = p
	if _, err := s.line(ctx, "read-tree", s.mirror.want.ID); err != nil {
		return err
	}
	size := 0
	for i, text := range patches {
		size += len(text)
		if err := s.applyOne(ctx, text); err != nil {
			return fmt.Errorf("patch %d: %w", i, err)
		}
	}
	tree, err := s.line(ctx, "write-tree")
	if err == nil {
		err = s.onlyFiles(ctx, tree, size)
	}
	if err != nil {
		return err
	}
	return s.seal(ctx, tree)
}

// newPatched makes the folder. The mirror's own objects are found through it.
func (m *mirror) newPatched() (*patched, error) {
	if err := os.MkdirAll(m.room(), 0o755); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(m.room(), "")
	if err != nil {
		return nil, err
	}
	info := filepath.Join(dir, "objects", "info")
	if err = os.MkdirAll(info, 0o755); err == nil {
		err = os.WriteFile(filepath.Join(info, "alternates"), []byte(filepath.Join(m.dir, "objects")+"\n"), 0o600)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &patched{dir: dir, env: []string{
		"GIT_INDEX_FILE=" + filepath.Join(dir, "index"), "GIT_OBJECT_DIRECTORY=" + filepath.Join(dir, "objects"),
	}}, nil
}

// applyOne adds one patch. Unless this machine is at fault, the patch is when
// git refuses it: what it says quotes the patch, so it proves no damage of the
// mirror.
func (s *Snapshot) applyOne(ctx context.Context, text []byte) error {
	c := s.call("apply", "--cached", "--whitespace=nowarn", "-p1", "-")
	c.in = string(text)
	err := s.mirror.git.run(ctx, c)
	var f *failure
	var exit *exec.ExitError
	if errors.As(err, &f) && errors.As(err, &exit) && exit.Exited() && !machine.MatchString(f.reason.all) {
		return errs.Wrap(errs.Invalid, err)
	}
	return meaning(err)
}

// fileModes are those of plain files, and of none.
var fileModes = []string{"100644", "100755", "000000"}

// onlyFiles looks at all that differs from the commit: a patch may name the
// target of a symbolic link as its text without saying that it is one.
func (s *Snapshot) onlyFiles(ctx context.Context, tree string, size int) error {
	// A line here is not longer than the part of a patch that causes it, but
	// for what surrounds the name.
	const around, least = 128, 32
	limit := size + size/least*around + around
	out, err := s.ask(ctx, limit, call{args: []string{"diff-tree", "-r", "--raw", "--no-renames", s.mirror.want.ID, tree}})
	if err != nil {
		return err
	}
	for line := range bytes.Lines(out) {
		fields := bytes.Fields(line)
		if len(fields) < 6 {
			return errs.New(errs.Invalid, "git diff-tree: a line that says nothing: %.80q", line)
		}
		was, is := string(bytes.TrimPrefix(fields[0], []byte(":"))), string(fields[1])
		if !slices.Contains(fileModes, was) || !slices.Contains(fileModes, is) {
			return errs.New(errs.Invalid, "%.200s: a patch may change plain files alone, not mode %s to %s", bytes.Join(fields[5:], []byte(" ")), was, is)
		}
	}
	return nil
}

// seal makes a commit of the tree, with the date of the one below: an archive
// of a bare tree would carry the time at which it was made.
func (s *Snapshot) seal(ctx context.Context, tree string) error {
	date, err := s.line(ctx, "log", "-1", "--no-show-signature", "--format=%ct", s.mirror.want.ID)
	if err != nil {
		return err
	}
	for _, who := range []string{"AUTHOR", "COMMITTER"} {
		s.patched.env = append(s.patched.env, "GIT_"+who+"_NAME=Kernelflow", "GIT_"+who+"_EMAIL=kernelflow@localhost", "GIT_"+who+"_DATE="+date+" +0000")
	}
	s.patched.commit, err = s.line(ctx, "commit-tree", "-p", s.mirror.want.ID, "-m", "patched", tree)
	return err
}
