// Package storagetest is the conformance suite of shared/storage.
package storagetest

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/storage"
)

// Run runs the suite. open makes an empty storage, which is closed at the end
// of the test.
func Run(t *testing.T, open func(t *testing.T) storage.Storage) {
	for promise, run := range map[string]func(*testing.T, storage.Storage){
		"what goes in comes out":                testRoundTrip,
		"an upload replaces what was there":     testReplace,
		"a failed upload leaves what was there": testFailedUpload,
		"what is not there is not found":        testNotFound,
		"a path cannot escape":                  testEscape,
		"odd names survive":                     testOddNames,
		"a reader seeks":                        testSeek,
		"uploads at once leave one, whole":      testConcurrent,
		"a large upload is streamed":            testStreamed,
		"compressed data stays compressed":      testGzip,
		"Ping answers":                          func(t *testing.T, s storage.Storage) { check(t, s.Ping(t.Context())) },
	} {
		t.Run(promise, func(t *testing.T) { run(t, open(t)) })
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func upload(t *testing.T, s storage.Storage, path, content string) string {
	t.Helper()
	link, err := s.Upload(t.Context(), path, "", strings.NewReader(content))
	check(t, err)
	return link
}

func read(t *testing.T, s storage.Storage, path string) (string, storage.Info) {
	t.Helper()
	r, info, err := s.Open(t.Context(), path)
	check(t, err)
	defer r.Close()
	b, err := io.ReadAll(r)
	check(t, err)
	return string(b), info
}

func testRoundTrip(t *testing.T, s storage.Storage) {
	link := upload(t, s, "65f0/log.txt", "hello")
	got, info := read(t, s, "65f0/log.txt")
	if got != "hello" || info.Size != 5 || info.Modified.IsZero() || !strings.HasPrefix(info.ContentType, "text/plain") {
		t.Errorf("%q, %+v", got, info)
	}
	if link != s.URL("65f0/log.txt") || !strings.HasSuffix(link, "/65f0/log.txt") {
		t.Errorf("link %s, URL %s", link, s.URL("65f0/log.txt"))
	}
}

func testReplace(t *testing.T, s storage.Storage) {
	upload(t, s, "a/b", "a long first content")
	upload(t, s, "a/b", "short")
	if got, _ := read(t, s, "a/b"); got != "short" {
		t.Errorf("%q", got)
	}
}

func testFailedUpload(t *testing.T, s storage.Storage) {
	upload(t, s, "a/b", "old")
	broken := errors.New("the line broke")
	for _, path := range []string{"a/b", "a/new"} {
		r := io.MultiReader(strings.NewReader(strings.Repeat("x", 1<<20)), iotest.ErrReader(broken))
		if _, err := s.Upload(t.Context(), path, "", r); !errors.Is(err, broken) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if got, _ := read(t, s, "a/b"); got != "old" {
		t.Errorf("%d bytes of a failed upload are there", len(got))
	}
	if _, _, err := s.Open(t.Context(), "a/new"); !errors.Is(err, errs.NotFound) {
		t.Errorf("half a new file: %v", err)
	}
}

func testNotFound(t *testing.T, s storage.Storage) {
	upload(t, s, "folder/file", "x")
	for _, path := range []string{"none", "folder/none", "folder/file/deeper"} {
		if _, _, err := s.Open(t.Context(), path); err == nil {
			t.Errorf("%s is there", path)
		}
	}
	if _, _, err := s.Open(t.Context(), "none"); !errors.Is(err, errs.NotFound) {
		t.Errorf("none: %v", err)
	}
}

func testEscape(t *testing.T, s storage.Storage) {
	for _, path := range []string{
		"", "/etc/passwd", "..", "../x", "a/../../x", "a/./b", "a//b", "a/", "a\x00b", "a\nb", `a\b`, strings.Repeat("a", 2000),
	} {
		if _, err := s.Upload(t.Context(), path, "", strings.NewReader("x")); !errors.Is(err, errs.Invalid) {
			t.Errorf("Upload(%.20q): %v", path, err)
		}
		if _, _, err := s.Open(t.Context(), path); !errors.Is(err, errs.Invalid) {
			t.Errorf("Open(%.20q): %v", path, err)
		}
	}
}

func testOddNames(t *testing.T, s storage.Storage) {
	for _, path := range []string{"with space", "per%cent", "plus+sign", "hash#tag", "question?mark", "ünïcödé", "..dots", "a/.hidden", "b&c=d;e"} {
		link := upload(t, s, path, path)
		if got, _ := read(t, s, path); got != path {
			t.Errorf("%q came back as %q", path, got)
		}
		if u, err := url.Parse(link); err != nil || !strings.HasSuffix(u.Path, "/"+path) || u.RawQuery != "" {
			t.Errorf("%q: link %s: %v", path, link, err)
		}
	}
}

func testSeek(t *testing.T, s storage.Storage) {
	upload(t, s, "a", "0123456789")
	r, _, err := s.Open(t.Context(), "a")
	check(t, err)
	defer r.Close()
	if end, err := r.Seek(0, io.SeekEnd); err != nil || end != 10 {
		t.Errorf("the end is at %d: %v", end, err)
	}
	_, err = r.Seek(7, io.SeekStart)
	check(t, err)
	if b, err := io.ReadAll(r); err != nil || string(b) != "789" {
		t.Errorf("%q: %v", b, err)
	}
}

func testConcurrent(t *testing.T, s storage.Storage) {
	var group sync.WaitGroup
	for _, c := range "abcdefgh" {
		group.Go(func() {
			if _, err := s.Upload(t.Context(), "same", "", strings.NewReader(strings.Repeat(string(c), 100_000))); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	got, _ := read(t, s, "same")
	if len(got) != 100_000 || strings.Trim(got, got[:1]) != "" {
		t.Errorf("%d bytes, mixed: %t", len(got), strings.Trim(got, got[:1]) != "")
	}
}

// testStreamed uploads more than it lets the driver allocate.
func testStreamed(t *testing.T, s storage.Storage) {
	const size = 256 << 20
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	source := rand.NewChaCha8([32]byte{})
	_, err := s.Upload(t.Context(), "large", "", io.LimitReader(source, size))
	check(t, err)
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > size/4 {
		t.Errorf("%d MiB were allocated for %d MiB of upload", grown>>20, size>>20)
	}
	r, info, err := s.Open(t.Context(), "large")
	check(t, err)
	if err := r.Close(); err != nil || info.Size != size {
		t.Errorf("size %d: %v", info.Size, err)
	}
}

func testGzip(t *testing.T, s storage.Storage) {
	content := []byte{0x1f, 0x8b, 8, 0, 1, 2, 3}
	_, err := s.Upload(t.Context(), "log.txt.gz", "", bytes.NewReader(content))
	check(t, err)
	got, info := read(t, s, "log.txt.gz")
	if !bytes.Equal([]byte(got), content) || info.ContentType != "application/gzip" {
		t.Errorf("%x, %+v", got, info)
	}
}
