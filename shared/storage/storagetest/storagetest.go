// Package storagetest is the conformance suite of shared/storage.
package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"golang.org/x/sync/errgroup"

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
		"an abandoned upload leaves nothing":    testAbandoned,
		"a reader keeps what it opened":         testKeeps,
		"an ETag is one content's":              testETag,
		"what is deleted is gone":               testDelete,
		"a list is in order, page by page":      testList,
		"a list holds what is complete":         testListComplete,
		"a list takes bounds":                   testListBounds,
		"Space is not less than nothing":        testSpace,
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
		strings.Repeat("a", 256), "\xff", "..\xc0\xaf..\xc0\xafetc", "a\u2028b", "a\u202etxt.exe", "a\u0085b", "\ufffd", "a\u200b",
	} {
		if _, err := s.Upload(t.Context(), path, "", strings.NewReader("x")); !errors.Is(err, errs.Invalid) {
			t.Errorf("Upload(%.20q): %v", path, err)
		}
		if _, _, err := s.Open(t.Context(), path); !errors.Is(err, errs.Invalid) {
			t.Errorf("Open(%.20q): %v", path, err)
		}
		if path == "" || strings.HasSuffix(path, "/") {
			continue // good prefixes
		}
		if _, err := s.List(t.Context(), path+"/", "", 1); !errors.Is(err, errs.Invalid) {
			t.Errorf("List(%.20q): %v", path+"/", err)
		}
	}
}

func testOddNames(t *testing.T, s storage.Storage) {
	for _, path := range []string{"with space", "a.b", strings.Repeat("long", 63), "日本/ログ.txt", "per%cent", "plus+sign", "hash#tag", "question?mark", "ünïcödé", "..dots", "a/.hidden", "b&c=d;e"} {
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

// testAbandoned gives an upload up between two of its bytes.
func testAbandoned(t *testing.T, s storage.Storage) {
	ctx, cancel := context.WithCancel(t.Context())
	r := io.MultiReader(strings.NewReader("half"), readerFunc(func([]byte) (int, error) {
		cancel()
		return 0, io.EOF
	}))
	if _, err := s.Upload(ctx, "a/b", "", r); !errors.Is(err, context.Canceled) {
		t.Errorf("Upload: %v", err)
	}
	if _, _, err := s.Open(t.Context(), "a/b"); !errors.Is(err, errs.NotFound) {
		t.Errorf("Open: %v", err)
	}
	if got := list(t, s, "", "", 10); len(got) > 0 {
		t.Errorf("it is in the list: %q", got)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func testKeeps(t *testing.T, s storage.Storage) {
	upload(t, s, "a", "the first content")
	r, _, err := s.Open(t.Context(), "a")
	check(t, err)
	defer r.Close()
	upload(t, s, "a", "another")
	for range 2 {
		if b, err := io.ReadAll(r); err != nil || string(b) != "the first content" {
			t.Errorf("%q: %v", b, err)
		}
		_, err = r.Seek(0, io.SeekStart)
		check(t, err)
	}
}

func testETag(t *testing.T, s storage.Storage) {
	seen := map[string]bool{}
	for _, content := range []string{"1", "2", "3", "33"} {
		upload(t, s, "a", content)
		_, info := read(t, s, "a")
		if seen[info.ETag] || len(info.ETag) < 3 || info.ETag[0] != '"' || info.ETag[len(info.ETag)-1] != '"' {
			t.Errorf("content %s has the ETag %s", content, info.ETag)
		}
		seen[info.ETag] = true
		if _, again := read(t, s, "a"); again != info {
			t.Errorf("%+v becomes %+v", info, again)
		}
		if got, err := s.List(t.Context(), "", "", 10); err != nil || len(got) != 1 || got[0] != info {
			t.Errorf("the list has %+v, want %+v: %v", got, info, err)
		}
	}
}

// list returns the paths of one page.
func testDelete(t *testing.T, s storage.Storage) {
	for _, p := range []string{"a/b/c.txt", "a/b/d.txt", "a/e.txt"} {
		upload(t, s, p, "x")
	}
	r, _, err := s.Open(t.Context(), "a/b/c.txt")
	check(t, err)
	for _, p := range []string{"a/b/c.txt", "a/b/c.txt", "a/b/d.txt", "a/b", "nothing", "nothing/there"} {
		check(t, s.Delete(t.Context(), p))
	}
	if text, err := io.ReadAll(r); err != nil || string(text) != "x" {
		t.Errorf("who had opened it reads %q, %v", text, err)
	}
	check(t, r.Close())
	if got := list(t, s, "", "", 10); !slices.Equal(got, []string{"a/e.txt"}) {
		t.Errorf("left: %q", got)
	}
	for _, p := range []string{"", "..", "../x", "/a", "a/"} {
		if err := s.Delete(t.Context(), p); !errors.Is(err, errs.Invalid) {
			t.Errorf("%q: %v", p, err)
		}
	}
	upload(t, s, "a/b/c.txt", "again")
	if text, _ := read(t, s, "a/b/c.txt"); text != "again" {
		t.Errorf("%q", text)
	}
}

func list(t *testing.T, s storage.Storage, prefix, after string, limit int) []string {
	t.Helper()
	found, err := s.List(t.Context(), prefix, after, limit)
	check(t, err)
	paths := []string{}
	for _, info := range found {
		paths = append(paths, info.Path)
	}
	return paths
}

func testList(t *testing.T, s storage.Storage) {
	// "." comes before "/", and "0" after it.
	all := []string{"a", "b.txt", "b/c", "b/c.d", "b/d/e", "b/d/f", "b0", "c/x", "ü"}
	for _, path := range slices.Backward(all) {
		upload(t, s, path, path)
	}
	for limit := range len(all) {
		var got []string
		for after := ""; ; after = got[len(got)-1] {
			page := list(t, s, "", after, limit+1)
			if len(page) > limit+1 {
				t.Fatalf("%d in a page of %d", len(page), limit+1)
			}
			if got = append(got, page...); len(page) == 0 {
				break
			}
		}
		if !slices.Equal(got, all) {
			t.Errorf("in pages of %d: %q", limit+1, got)
		}
	}
	for _, prefix := range []string{"", "a", "b", "b/", "b/c", "b/d/", "b/d/e", "c/x", "c/x/", "none", "none/", "ü"} {
		for _, after := range append([]string{"", "b", "b/", "b/d", "b/d/", "b/d/ee", "bb", "z"}, all...) {
			var want []string
			for _, path := range all {
				if strings.HasPrefix(path, prefix) && path > after {
					want = append(want, path)
				}
			}
			if got := list(t, s, prefix, after, 100); !slices.Equal(got, want) {
				t.Errorf("prefix %q after %q: %q, want %q", prefix, after, got, want)
			}
		}
	}
}

// testListComplete lists while uploads go on.
func testListComplete(t *testing.T, s storage.Storage) {
	r, w := io.Pipe()
	done := make(chan error)
	go func() {
		_, err := s.Upload(t.Context(), "a/b", "", r)
		done <- err
	}()
	_, err := io.WriteString(w, "half")
	check(t, err)
	if got := list(t, s, "", "", 10); len(got) > 0 {
		t.Errorf("half an upload is listed: %q", got)
	}
	check(t, w.Close())
	check(t, <-done)
	if got := list(t, s, "", "", 10); !slices.Equal(got, []string{"a/b"}) {
		t.Errorf("%q", got)
	}
}

// testListBounds has more names in a folder than one should hold at once.
func testListBounds(t *testing.T, s storage.Storage) {
	for _, limit := range []int{0, -1} {
		if _, err := s.List(t.Context(), "", "", limit); !errors.Is(err, errs.Invalid) {
			t.Errorf("limit %d: %v", limit, err)
		}
	}
	const many = 2500
	var group errgroup.Group
	group.SetLimit(16)
	for i := range many {
		group.Go(func() error {
			_, err := s.Upload(t.Context(), fmt.Sprintf("many/%04d", many-1-i), "", strings.NewReader(""))
			return err
		})
	}
	check(t, group.Wait())
	var got []string
	for after := ""; len(got) < many; after = got[len(got)-1] {
		page := list(t, s, "many/", after, 1700)
		if len(page) == 0 {
			break
		}
		got = append(got, page...)
	}
	for i, path := range got {
		if want := fmt.Sprintf("many/%04d", i); path != want {
			t.Fatalf("%s at the place of %s", path, want)
		}
	}
	if len(got) != many {
		t.Errorf("%d of %d", len(got), many)
	}
}

func testSpace(t *testing.T, s storage.Storage) {
	if got, err := s.Space(t.Context()); err != nil || got.Free > got.Total {
		t.Errorf("%+v: %v", got, err)
	}
}
