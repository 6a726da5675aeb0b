package api_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"mime/multipart"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/kernelflow/kernelflow/functions/api"
)

// entry is one of a tar; a plain file unless it says otherwise.
type entry struct {
	name, content string
	kind          byte
}

func archive(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Typeflag: e.kind, Mode: 0o644, Size: int64(len(e.content)), ModTime: time.Unix(1736668800, 0)}
		switch e.kind {
		case 0:
			h.Typeflag = tar.TypeReg
		case tar.TypeSymlink, tar.TypeLink:
			h.Linkname, h.Size = "../../etc/passwd", 0
		case tar.TypeXGlobalHeader:
			h = &tar.Header{Typeflag: e.kind, PAXRecords: map[string]string{"comment": "a commit"}}
		}
		check(t, w.WriteHeader(h))
		if h.Size > 0 {
			_, err := io.WriteString(w, e.content)
			check(t, err)
		}
	}
	check(t, w.Close())
	return b.Bytes()
}

func zipped(t testing.TB, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write(content)
	check(t, err)
	check(t, z.Close())
	return b.Bytes()
}

// unpacked is the answer to an archive.
type unpacked struct {
	Status   string   `json:"status"`
	Uploaded int      `json:"uploaded"`
	Failed   int      `json:"failed"`
	Bytes    int64    `json:"bytes"`
	Prefix   string   `json:"prefix"`
	Failures []string `json:"failures"`
}

func (s *site) archive(token, folder, name string, content []byte) (int, unpacked) {
	s.t.Helper()
	status, answer := s.post(token, "/v1/archive", field{name: "path", content: folder}, field{"archive", name, string(content)})
	var u unpacked
	if err := json.Unmarshal([]byte(answer), &u); err != nil {
		s.t.Fatalf("%s: %d %s", name, status, answer)
	}
	return status, u
}

func TestPostV1ArchiveUnpacksEveryKindOfTar(t *testing.T) {
	s := newSite(t)
	plain := archive(t, entry{kind: tar.TypeXGlobalHeader}, entry{name: "./", kind: tar.TypeDir}, entry{name: "./a.dtb", content: "one\n"}, entry{name: "sub/b.dtb", content: "two\n"})
	encoder, err := zstd.NewWriter(nil)
	check(t, err)
	zst := encoder.EncodeAll(plain, nil)
	xz, err := os.ReadFile("testdata/dtbs.tar.xz")
	check(t, err)
	for name, content := range map[string][]byte{
		"x.tar": plain, "x.tar.gz": zipped(t, plain), "x.TGZ": zipped(t, plain), "x.tar.zst": zst, "x.tzst": zst, "x.tar.xz": xz, "x.txz": xz,
	} {
		status, u := s.archive(s.admin, "/"+name+"/dtbs/", name, content)
		if status != 200 || u.Status != "ok" || u.Uploaded != 2 || u.Failed != 0 || u.Bytes != 8 || u.Prefix != "/"+name+"/dtbs/" || u.Failures == nil {
			t.Errorf("%s: %d %+v", name, status, u)
		}
		s.want("", "GET", "/storage/"+name+"/dtbs/a.dtb", "", 200, "one")
		s.want("", "GET", "/storage/"+name+"/dtbs/sub/b.dtb", "", 200, "two")
	}
}

func TestPostV1ArchiveNeedsRightsToItsFolder(t *testing.T) {
	s := newSite(t)
	root := s.create(s.bob, checkoutBody)
	n, job := s.job(s.bob, root.ID)
	content := archive(t, entry{name: "x", content: "x"})
	for _, tc := range []struct {
		token, folder string
		status        int
	}{
		{"rubbish", "a", 401}, {s.bob, "a", 403}, {s.bob, "", 403}, {s.bob, "bob", 200}, {s.bob, string(root.ID), 200},
		{job, string(root.ID), 403}, {job, string(n.ID) + "/dtbs", 200}, {job, "job-" + string(n.ID), 200}, {s.admin, "", 200},
	} {
		status, u := s.archive(tc.token, tc.folder, "x.tar", content)
		if status != tc.status || (u.Status == "ok") != (status == 200) || (len(u.Failures) == 0) != (status == 200) {
			t.Errorf("%s: %d %+v, want %d", tc.folder, status, u, tc.status)
		}
	}
}

func TestAnArchiveThatIsNotGoodLeavesNothing(t *testing.T) {
	s := newSite(t)
	first := entry{name: "first", content: "x"}
	good := archive(t, first, entry{name: "second", content: strings.Repeat("x", 10_000)})
	huge := archive(t, first)
	{
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		check(t, w.WriteHeader(&tar.Header{Name: "huge", Typeflag: tar.TypeReg, Size: 600 << 20}))
		huge = append(huge[:1024:1024], b.Bytes()...)
	}
	window, err := os.ReadFile("testdata/window.tar.xz")
	check(t, err)
	broken := zipped(t, good)
	broken[len(broken)-5] ^= 1 // its checksum
	for _, tc := range []struct {
		name    string
		content []byte
		answer  string
	}{
		{"up.tar", archive(t, first, entry{name: "../evil", content: "x"}), "traversal"},
		{"deep.tar", archive(t, first, entry{name: "a/../../evil", content: "x"}), "traversal"},
		{"abs.tar", archive(t, first, entry{name: "/etc/evil", content: "x"}), "not relative"},
		{"back.tar", archive(t, first, entry{name: `..\evil`, content: "x"}), "backslashes"},
		{"line.tar", archive(t, first, entry{name: "a\nb", content: "x"}), "do not show"},
		{"long.tar", archive(t, first, entry{name: strings.Repeat("a/", 600) + "b", content: "x"}), "1024"},
		{"link.tar", archive(t, first, entry{name: "link", kind: tar.TypeSymlink}), "regular files"},
		{"hard.tar", archive(t, first, entry{name: "link", kind: tar.TypeLink}), "regular files"},
		{"fifo.tar", archive(t, first, entry{name: "fifo", kind: tar.TypeFifo}), "regular files"},
		{"dev.tar", archive(t, first, entry{name: "dev", kind: tar.TypeBlock}), "regular files"},
		{"empty.tar", archive(t), "any regular files"},
		{"folders.tar", archive(t, entry{name: "a/", kind: tar.TypeDir}), "any regular files"},
		{"cut.tar", good[:len(good)-8000], "unexpected EOF"},
		{"cut.tar.gz", zipped(t, good)[:60], "unexpected EOF"},
		{"sum.tar.gz", broken, "checksum"},
		{"no.tar.gz", good, "gzip"},
		{"no.tar.xz", good, "xz"},
		{"no.tar.zst", good, "magic"},
		{"no.tar", []byte(strings.Repeat("no tar", 1000)), "invalid tar header"},
		{"huge.tar", huge, "larger than"},
		{"window.tar.xz", window, "dictionary"},
		{"x.zip", good, "Unsupported archive type"},
		{"x", good, "Unsupported archive type"},
	} {
		status, u := s.archive(s.admin, "a", tc.name, tc.content)
		if status != 400 || u.Status != "error" || u.Uploaded != 0 || len(u.Failures) != 1 || !strings.Contains(u.Failures[0], tc.answer) {
			t.Errorf("%s: %d %+v", tc.name, status, u)
		}
	}
	if got := s.list(""); got != "" {
		t.Errorf("there is %q", got)
	}
}

func TestTheFormOfAnArchiveIsChecked(t *testing.T) {
	s := newSite(t, func(o *api.Options) { o.MaxUpload = 10_000 })
	file, folder := field{"archive", "x.tar", string(archive(t, entry{name: "x", content: "x"}))}, field{name: "path", content: "a"}
	for name, tc := range map[string]struct {
		fields []field
		status int
		answer string
	}{
		"any order":  {[]field{file, {name: "more"}, folder}, 200, `"uploaded":1`},
		"no path":    {[]field{file}, 400, "path: is missing"},
		"no archive": {[]field{folder}, 400, "No archive field"},
		"file0":      {[]field{folder, {"file0", "x.tar", "x"}}, 400, "No archive field"},
		"no name":    {[]field{folder, {name: "archive", content: "x"}}, 400, "No filename"},
		"two":        {[]field{folder, file, file}, 400, "given twice"},
		"large":      {[]field{folder, {"archive", "x.tar", strings.Repeat("x", 10_001)}}, 413, "MAX_UPLOAD"},
	} {
		if status, answer := s.post(s.admin, "/v1/archive", tc.fields...); status != tc.status || !strings.Contains(answer, tc.answer) {
			t.Errorf("%s: %d %s", name, status, answer)
		}
	}
}

func TestAnArchiveSaysWhatOfItFailed(t *testing.T) {
	s := newSite(t)
	// The second needs a folder where the first is a file.
	status, u := s.archive(s.admin, "a", "x.tar", archive(t, entry{name: "x", content: "1"}, entry{name: "x/y", content: "2"}, entry{name: "z", content: "3"}))
	if status != 409 || u.Status != "partial_failure" || u.Uploaded != 2 || u.Failed != 1 || u.Bytes != 2 || !strings.HasPrefix(u.Failures[0], "a/x/y: ") {
		t.Errorf("%d %+v", status, u)
	}
	if got := s.list(""); got != "a/x\na/z" {
		t.Errorf("there is %q", got)
	}
}

func TestAnArchiveOfAnySizeTakesLittleMemory(t *testing.T) {
	s := newSite(t)
	const size, count = 64 << 20, 4
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r, w := io.Pipe()
	large := multipart.NewWriter(w)
	go func() { w.CloseWithError(fillArchive(large, size, count)) }()
	if status, answer := s.postBody(s.admin, "/v1/archive", large.FormDataContentType(), r); status != 200 || !strings.Contains(answer, fmt.Sprintf(`"bytes":%d`, size*count)) {
		t.Errorf("%d %s", status, answer)
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > size*count/16 {
		t.Errorf("%d MiB were allocated for %d MiB", grown>>20, size*count>>20)
	}
}

func fillArchive(form *multipart.Writer, size int64, count int) error {
	if err := form.WriteField("path", "large"); err != nil {
		return err
	}
	part, err := form.CreateFormFile("archive", "x.tar")
	if err != nil {
		return err
	}
	w := tar.NewWriter(part)
	source := rand.NewChaCha8([32]byte{})
	for i := range count {
		if err := w.WriteHeader(&tar.Header{Name: filepath.Join("sub", fmt.Sprint(i)), Typeflag: tar.TypeReg, Mode: 0o644, Size: size}); err != nil {
			return err
		}
		if _, err := io.CopyN(w, source, size); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return form.Close()
}
