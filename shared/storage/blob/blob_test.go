package blob_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/storage"
	"github.com/kernelflow/kernelflow/shared/storage/blob"
	"github.com/kernelflow/kernelflow/shared/storage/storagetest"
)

func open(t *testing.T, dir string) *blob.Storage {
	t.Helper()
	s, err := blob.Open("file://"+dir, "http://example.org/storage/")
	check(t, err)
	t.Cleanup(func() { check(t, s.Close()) })
	return s
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestConformanceOfAFolder(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Storage { return open(t, t.TempDir()+"/storage") })
}

// files lists everything below dir that is no folder.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var found []string
	check(t, fs.WalkDir(os.DirFS(dir), ".", func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			found = append(found, name)
		}
		return err
	}))
	return found
}

func TestALinkLeadsNowhere(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	check(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600))
	s := open(t, dir)
	_, err := s.Upload(t.Context(), "inside/file", "", strings.NewReader("x"))
	check(t, err)
	for name, target := range map[string]string{
		"file": filepath.Join(outside, "secret"), "folder": outside, "up": "..", "chain": "folder", "inside/up": "../../..", "own": "inside/file",
	} {
		check(t, os.Symlink(target, filepath.Join(dir, name)))
	}
	for _, path := range []string{"file", "folder/secret", "folder", "up/" + filepath.Base(outside) + "/secret", "chain/secret", "inside/up/x", "own"} {
		if r, _, err := s.Open(t.Context(), path); !errors.Is(err, errs.NotFound) {
			t.Errorf("Open(%s): %v, %v", path, r, err)
		}
	}
	for _, path := range []string{"folder/new", "folder/secret", "chain/new", "up/new", "inside/up/new"} {
		if _, err := s.Upload(t.Context(), path, "", strings.NewReader("evil")); !errors.Is(err, errs.Denied) {
			t.Errorf("Upload(%s): %v", path, err)
		}
	}
	// A link of this name is replaced, not followed.
	_, err = s.Upload(t.Context(), "file", "", strings.NewReader("new"))
	check(t, err)
	if text, err := os.ReadFile(filepath.Join(outside, "secret")); err != nil || string(text) != "secret" || len(files(t, outside)) != 1 {
		t.Errorf("outside are %q, %q: %v", files(t, outside), text, err)
	}
	found, err := s.List(t.Context(), "", "", 100)
	if err != nil || len(found) != 2 || found[0].Path != "file" || found[1].Path != "inside/file" {
		t.Errorf("listed: %+v, %v", found, err)
	}
}

func TestWhatIsNoFileIsNoArtifact(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	check(t, syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	_, err := s.Upload(t.Context(), "folder/file", "", strings.NewReader("x"))
	check(t, err)
	for _, path := range []string{"pipe", "folder", "folder/file/deeper"} {
		if _, _, err := s.Open(t.Context(), path); !errors.Is(err, errs.NotFound) {
			t.Errorf("Open(%s): %v", path, err)
		}
	}
}

func TestAFileIsNoFolderNorTheReverse(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for _, path := range []string{"a/b", "c"} {
		_, err := s.Upload(t.Context(), path, "", strings.NewReader(path))
		check(t, err)
	}
	for _, path := range []string{"a", "c/d", "c/d/e"} {
		if _, err := s.Upload(t.Context(), path, "", strings.NewReader("x")); !errors.Is(err, errs.Conflict) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if got := files(t, dir); !slices.Equal(got, []string{"a/b", "c"}) {
		t.Errorf("%q", got)
	}
}

func TestTheHiddenFolderIsTaken(t *testing.T) {
	s := open(t, t.TempDir())
	for _, path := range []string{".uploads", ".uploads/x"} {
		_, err := s.Upload(t.Context(), path, "", strings.NewReader("x"))
		_, _, opened := s.Open(t.Context(), path)
		_, listed := s.List(t.Context(), path+"/", "", 1)
		if !errors.Is(err, errs.Invalid) || !errors.Is(opened, errs.Invalid) || !errors.Is(listed, errs.Invalid) {
			t.Errorf("%s: %v, %v, %v", path, err, opened, listed)
		}
	}
}

func TestWhatAKilledProcessLeftIsSwept(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	for name, age := range map[string]time.Duration{"dead": 25 * time.Hour, "alive": time.Hour} {
		file := filepath.Join(dir, ".uploads", name)
		check(t, os.WriteFile(file, []byte("half"), 0o600))
		then := time.Now().Add(-age)
		check(t, os.Chtimes(file, then, then))
	}
	open(t, dir)
	if got := files(t, dir); !slices.Equal(got, []string{".uploads/alive"}) {
		t.Errorf("%q", got)
	}
}

func TestWhatIsNotSupportedIsSaid(t *testing.T) {
	for _, tc := range [][2]string{{"gs://bucket", "http://x/"}, {"file://", "http://x/"}, {"file:///tmp", "not absolute"}, {":", "http://x/"}} {
		if _, err := blob.Open(tc[0], tc[1]); !errors.Is(err, errs.Invalid) {
			t.Errorf("Open(%s, %s): %v", tc[0], tc[1], err)
		}
	}
}

func TestAContentTypeIsOne(t *testing.T) {
	s := open(t, t.TempDir())
	if _, err := s.Upload(t.Context(), "a", "no type;", strings.NewReader("x")); !errors.Is(err, errs.Invalid) {
		t.Error(err)
	}
	if _, _, err := s.Open(t.Context(), "a"); !errors.Is(err, errs.NotFound) {
		t.Errorf("it was written: %v", err)
	}
}

func TestPingTellsAFolderThatIsGone(t *testing.T) {
	dir := t.TempDir() + "/storage"
	s := open(t, dir)
	check(t, os.RemoveAll(dir))
	if err := s.Ping(t.Context()); !errors.Is(err, errs.Temporary) {
		t.Error(err)
	}
}

// TestMain is also the process that a test kills: it uploads what it is sent.
func TestMain(m *testing.M) {
	if dir := os.Getenv("UPLOAD_TO"); dir != "" {
		s, err := blob.Open("file://"+dir, "http://example.org/")
		if err == nil {
			_, err = s.Upload(context.Background(), "a/b", "", os.Stdin)
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func TestAKilledUploadLeavesWhatWasThere(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	_, err := s.Upload(t.Context(), "a/b", "", strings.NewReader("old"))
	check(t, err)
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "UPLOAD_TO="+dir)
	stdin, err := cmd.StdinPipe()
	check(t, err)
	check(t, cmd.Start())
	_, err = stdin.Write(make([]byte, 1<<20))
	check(t, err)
	for half := int64(0); half < 1<<20 && t.Context().Err() == nil; {
		for _, name := range files(t, filepath.Join(dir, ".uploads")) {
			// The file may be the one by which the process tells the time.
			if info, err := os.Stat(filepath.Join(dir, ".uploads", name)); err == nil {
				half = info.Size()
			}
		}
	}
	check(t, cmd.Process.Kill())
	_ = cmd.Wait() // says that it was killed
	for _, want := range []string{"old", "new"} {
		r, info, err := s.Open(t.Context(), "a/b")
		check(t, err)
		text, err := io.ReadAll(r)
		check(t, errors.Join(err, r.Close()))
		if string(text) != want {
			t.Errorf("%d bytes are there, want %s", info.Size, want)
		}
		found, err := s.List(t.Context(), "", "", 10)
		if err != nil || len(found) != 1 {
			t.Errorf("%+v: %v", found, err)
		}
		_, err = s.Upload(t.Context(), "a/b", "", strings.NewReader("new"))
		check(t, err)
	}
}
