package git_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/kernelflow/kernelflow/shared/git"
)

// bigTree commits 18 MiB that do not compress.
func bigTree(r *repository) string {
	r.t.Helper()
	r.git("config", "core.compression", "0")
	random := rand.NewChaCha8([32]byte{1})
	block := make([]byte, 64<<10)
	for i := range 18 {
		random.Read(block)
		r.write(fmt.Sprintf("dir/blob%02d", i), strings.Repeat(string(block), 16))
	}
	return r.commit("empty", "", "big")
}

func TestAnArchiveHoldsTheTreeBelowItsPrefix(t *testing.T) {
	r := newRepository(t)
	r.write("sub/dir/file", "below")
	id := r.commit("Makefile", makefile, "one")
	r.commit("later", "x", "two")
	var out bytes.Buffer
	if err := fetch(t.Context(), t, newGit(t), r.at(id)).Archive(t.Context(), "linux-mainline-main-v6.1", &out, nil); err != nil {
		t.Fatal(err)
	}
	gz, err := gzip.NewReader(&out)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for tr := tar.NewReader(gz); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			b, _ := io.ReadAll(tr)
			got[h.Name] = string(b)
		}
	}
	const top = "linux-mainline-main-v6.1/"
	if len(got) != 2 || got[top+"Makefile"] != makefile || got[top+"sub/dir/file"] != "below" {
		t.Errorf("files %v", got)
	}
}

func TestTheSameCommitGivesTheSameBytes(t *testing.T) {
	r := newRepository(t)
	id := bigTree(r)
	sums := map[[32]byte]int{}
	for _, cores := range []int{1, 2, 7} {
		before := runtime.GOMAXPROCS(cores)
		h := sha256.New()
		err := fetch(t.Context(), t, newGit(t), r.at(id)).Archive(t.Context(), "p", h, nil)
		runtime.GOMAXPROCS(before)
		if err != nil {
			t.Fatal(err)
		}
		sums[[32]byte(h.Sum(nil))]++
	}
	if len(sums) != 1 {
		t.Errorf("%d different archives", len(sums))
	}
}

var errFull = errors.New("the storage is full")

// full takes some bytes and then no more.
type full struct{ room int }

func (f *full) Write(p []byte) (int, error) {
	if f.room -= len(p); f.room < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestAWriterThatFailsEndsTheArchiveWithItsError(t *testing.T) {
	r := newRepository(t)
	g := newGit(t)
	s := fetch(t.Context(), t, g, r.at(bigTree(r)))
	for _, room := range []int{0, 5, 3 << 20, 17 << 20} {
		if err := s.Archive(t.Context(), "p", &full{room}, nil); !errors.Is(err, errFull) {
			t.Errorf("room for %d bytes: %v", room, err)
		}
	}
	s.Close()
	fetch(t.Context(), t, g, r.at(r.commit("a", "1", "the mirror is still in order")))
}

func TestACancelledArchiveLeavesNoGitBehind(t *testing.T) {
	r := newRepository(t)
	dir := filepath.Join(t.TempDir(), "mirrors")
	s := fetch(t.Context(), t, openGit(t, dir, true), r.at(bigTree(r)))
	ctx, cancel := context.WithCancel(t.Context())
	err := s.Archive(ctx, "p", io.Discard, func(git.Progress) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	s.Close()
	// git holds the lock as long as it lives: whoever gets it is alone.
	fetch(t.Context(), t, openGit(t, dir, true), r.at(r.git("rev-parse", "HEAD")))
}

func TestAnArchiveTellsHowFarItIs(t *testing.T) {
	r := newRepository(t)
	var last git.Progress
	s := fetch(t.Context(), t, newGit(t), r.at(bigTree(r)))
	if err := s.Archive(t.Context(), strings.Repeat("p", 9), io.Discard, func(p git.Progress) { last = p }); err != nil {
		t.Fatal(err)
	}
	if last.Phase != "Archiving" || last.Bytes < 16<<20 {
		t.Errorf("last report %+v", last)
	}
}
