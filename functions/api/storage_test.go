package api_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"path"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/functions/api"
	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/storage"
)

// field is one part of a form: a file when it has a file name.
type field struct{ name, file, content string }

// form makes a form of parts in their order.
func form(t testing.TB, fields ...field) (body, contentType string) {
	t.Helper()
	var b strings.Builder
	w := multipart.NewWriter(&b)
	for _, f := range fields {
		params := map[string]string{"name": f.name}
		if f.file != "" {
			params["filename"] = f.file
		}
		part, err := w.CreatePart(textproto.MIMEHeader{"Content-Disposition": {mime.FormatMediaType("form-data", params)}})
		check(t, err)
		_, err = io.WriteString(part, f.content)
		check(t, err)
	}
	check(t, w.Close())
	return b.String(), w.FormDataContentType()
}

// post sends a form to a route of the storage.
func (s *site) post(token, route string, fields ...field) (int, string) {
	s.t.Helper()
	body, contentType := form(s.t, fields...)
	return s.postBody(token, route, contentType, strings.NewReader(body))
}

func (s *site) postBody(token, route, contentType string, body io.Reader) (int, string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), "POST", s.url+"/storage"+route, body)
	check(s.t, err)
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("Authorization", "Bearer "+token)
	return send(s.t, r)
}

// upload keeps a file as kci-dev does: the folder and the name come apart.
func (s *site) upload(token, target, content string) (int, string) {
	s.t.Helper()
	folder, name := path.Split(target)
	return s.post(token, "/v1/file", field{name: "path", content: folder}, field{"file0", name, content})
}

// get reads an artifact with more headers, which are key and value in turn.
func (s *site) get(method, target string, headers ...string) (*http.Response, string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url+"/storage/"+target, nil)
	check(s.t, err)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	// As it is stored: the client must not unpack it.
	client := http.Client{Transport: &http.Transport{DisableCompression: true, DisableKeepAlives: true}}
	response, err := client.Do(r)
	check(s.t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	check(s.t, err)
	return response, string(text)
}

func (s *site) list(query string) string {
	s.t.Helper()
	return s.want(s.admin, "GET", "/storage/v1/list"+query, "", 200, "")
}

func TestStorageRootSaysWhatItIs(t *testing.T) {
	newSite(t).want("", "GET", "/storage/", "", 200, "KernelCI Storage Server")
}

func TestPostV1FileKeepsAFileInItsFolder(t *testing.T) {
	s := newSite(t)
	status, answer := s.upload(s.admin, "ci/build-1/log.txt", "hello")
	if status != 200 || answer != "http://storage.example.org/storage/ci/build-1/log.txt" {
		t.Errorf("%d %s", status, answer)
	}
	s.want("", "GET", "/storage/ci/build-1/log.txt", "", 200, "hello")
	// The name is added to whatever the folder is called.
	s.post(s.admin, "/v1/file", field{name: "path", content: "a/log.txt"}, field{"file0", "log.txt", "x"})
	s.want("", "GET", "/storage/a/log.txt/log.txt", "", 200, "x")
	s.upload(s.admin, "ci/build-1/log.txt", "again")
	s.want("", "GET", "/storage/ci/build-1/log.txt", "", 200, "again")
}

func TestPostUploadIsPostV1File(t *testing.T) {
	s := newSite(t)
	// As KernelCI's library does it: several files, folders in their names, and
	// the token without a word before it.
	body, contentType := form(t, field{name: "path", content: "kbuild/"}, field{"file0", "a", "1"}, field{"file1", "sub/b", "2"})
	r, err := http.NewRequestWithContext(t.Context(), "POST", s.url+"/storage/upload", strings.NewReader(body))
	check(t, err)
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("Authorization", s.admin)
	status, answer := send(t, r)
	if status != 200 || answer != "http://storage.example.org/storage/kbuild/a\nhttp://storage.example.org/storage/kbuild/sub/b" {
		t.Errorf("%d %s", status, answer)
	}
	s.want("", "GET", "/storage/kbuild/a", "", 200, "1")
	s.want("", "GET", "/storage/kbuild/sub/b", "", 200, "2")
}

func TestTheFieldsOfAFormMayComeInAnyOrder(t *testing.T) {
	s := newSite(t)
	status, answer := s.post(s.admin, "/v1/file", field{"file0", "late", "content"}, field{name: "more", content: "ignored"}, field{name: "path", content: "a/b"})
	if status != 200 || answer != "http://storage.example.org/storage/a/b/late" {
		t.Errorf("%d %s", status, answer)
	}
	s.want("", "GET", "/storage/a/b/late", "", 200, "content")
}

func TestGetV1CheckauthNamesTheAccount(t *testing.T) {
	s := newSite(t)
	root := s.create(s.bob, checkoutBody)
	n, job := s.job(s.bob, root.ID)
	for _, tc := range []struct{ header, answer string }{
		{"Bearer " + s.bob, "Authorized: bob@example.org"},
		{"bearer  " + s.bob, "Authorized: bob@example.org"},
		{s.bob, "Authorized: bob@example.org"},
		{"Bearer " + job, "Authorized: job:" + string(n.ID)},
		{"Bearer rubbish", ""}, {"rubbish", ""}, {"Basic " + s.bob, ""}, {"", ""}, {"Bearer", ""}, {"Bearer ", ""},
		{"Bearer " + s.bob + "x", ""}, {"Bearer eyJhbGciOiJub25lIn0.e30.", ""},
	} {
		response, text := s.get("GET", "v1/checkauth", "Authorization", tc.header)
		if tc.answer == "" && (response.StatusCode != 401 || text != "Unauthorized") || tc.answer != "" && (response.StatusCode != 200 || text != tc.answer) {
			t.Errorf("%q: %d %q", tc.header, response.StatusCode, text)
		}
	}
}

func TestAnArtifactGoesWhereItsBearerMayWrite(t *testing.T) {
	s := newSite(t)
	root := s.create(s.bob, checkoutBody)
	n, token := s.job(s.bob, root.ID)
	other := s.create(s.admin, checkoutBody)
	// A person who is called like a node gets no right to it.
	twin := s.account("65f0000000000000000000b1", string(root.ID), false)
	id := string(n.ID)
	for _, tc := range []struct {
		token, target string
		status        int
	}{
		{token, id + "/log.txt", 200},
		{token, id + "/deep/er/log.txt", 200},
		{token, "kbuild-gcc-12-x86-" + id + "/log.txt", 200},
		{token, string(root.ID) + "/log.txt", 403},
		{token, "elsewhere/log.txt", 403},
		{token, id, 403},
		{token, id + "x/log.txt", 403},
		{token, "log.txt", 403},
		{token, "job:" + id + "/log.txt", 403},
		{token, id + "/../x", 400},
		{"rubbish", id + "/log.txt", 401},
		{s.bob, string(root.ID) + "/notes", 200},
		{s.bob, "checkout-" + string(root.ID) + "/notes", 200},
		{s.bob, string(other.ID) + "/notes", 403},
		{s.bob, "65f0000000000000000000ff/notes", 403},
		{s.bob, "bob/notes", 200},
		{s.bob, "bob", 403},
		{s.bob, "bobby/notes", 403},
		{s.bob, "alice/notes", 403},
		{s.bob, "anywhere", 403},
		{twin, string(root.ID) + "/notes", 403},
		{s.admin, "anywhere", 200},
		{s.admin, string(other.ID) + "/notes", 200},
		{s.admin, "v1/list", 400},
		{s.admin, "metrics", 400},
		{s.admin, ".uploads/x", 400},
		{s.admin, "anywhere/file", 409},
	} {
		if status, answer := s.upload(tc.token, tc.target, "x"); status != tc.status {
			t.Errorf("%s: %d %s, want %d", tc.target, status, answer, tc.status)
		}
	}
	if strings.Contains(s.list(""), "alice") || strings.Contains(s.list(""), string(other.ID)+"/x") {
		t.Errorf("what was refused is there: %s", s.list(""))
	}
	s.want(token, "PUT", "/latest/nodes/"+id, report(n, "pass"), 200, "")
	if status, _ := s.upload(token, id+"/log.txt", "later"); status != 409 {
		t.Errorf("another content after the end: %d", status)
	}
	if status, answer := s.upload(token, id+"/missing.txt", "x"); status != 200 {
		t.Errorf("what was missing, after the end: %d %s", status, answer)
	}
	s.want("", "GET", "/storage/"+id+"/log.txt", "", 200, "x")
}

func TestAPersonalTokenNeedsTheScopeOfTheStorage(t *testing.T) {
	s := newSite(t)
	good, other := s.token(s.bob, `"storage"`).Token, s.token(s.bob, `"events"`).Token
	for _, tc := range []struct {
		token  string
		status int
	}{{good, 200}, {other, 403}} {
		if status, answer := s.upload(tc.token, "bob/x", "x"); status != tc.status {
			t.Errorf("%d %s, want %d", status, answer, tc.status)
		}
		s.want(tc.token, "GET", "/storage/v1/checkauth", "", tc.status, "")
		s.want(tc.token, "GET", "/storage/v1/list", "", tc.status, "")
		if status, u := s.archive(tc.token, "bob", "x.tar", archive(t, entry{name: "y", content: "y"})); status != tc.status {
			t.Errorf("%d %+v, want %d", status, u, tc.status)
		}
	}
	if status, _ := s.upload(s.token(s.admin, `"storage"`).Token, "65f0000000000000000000ff/x", "x"); status != 403 {
		t.Errorf("a superuser's token without the scope of one: %d", status)
	}
}

func TestATokenWithPrefixesUploadsNowhereElse(t *testing.T) {
	s := newSite(t)
	n := s.create(s.bob, named("n"))
	token := func(owner, scopes, prefixes string) string {
		t.Helper()
		var made tokenAnswer
		check(t, json.Unmarshal([]byte(s.want(owner, "POST", "/latest/user/tokens", `{"name":"lab","scopes":[`+scopes+`],"prefixes":[`+prefixes+`]}`, 200, "")), &made))
		return made.Token
	}
	lab := token(s.admin, `"storage"`, `"/lab-one/","shared/logs"`)
	super := token(s.admin, `"storage","admin"`, `"lab-one"`)
	bobs := token(s.bob, `"storage"`, `"lab-one","bob/ci"`)
	ofNode := token(s.bob, `"storage"`, `"`+string(n.ID)+`"`)
	for _, tc := range []struct {
		token, target string
		status        int
	}{
		{lab, "lab-one/x/log.txt", 200}, {lab, "shared/logs/x", 200}, {lab, "lab-one", 403}, {lab, "lab-one2/x", 403}, {lab, "shared/x", 403},
		{lab, "lab-one/../other/x", 400}, {lab, "admin/x", 403}, {lab, string(n.ID) + "/x", 403},
		{super, "lab-one/y", 200}, {super, "other/y", 403},
		{bobs, "bob/ci/x", 200}, {bobs, "bob/x", 403}, {bobs, "lab-one/x", 403}, {bobs, string(n.ID) + "/x", 403},
		{ofNode, string(n.ID) + "/x", 200}, {ofNode, "bob/x", 403},
	} {
		if status, answer := s.upload(tc.token, tc.target, "x"); status != tc.status {
			t.Errorf("%s: %d %s, want %d", tc.target, status, answer, tc.status)
		}
	}
	if status, u := s.archive(lab, "lab-two", "x.tar", archive(t, entry{name: "y", content: "y"})); status != 403 {
		t.Errorf("an archive: %d %+v", status, u)
	}
	if list := s.want(s.admin, "GET", "/latest/user/tokens", "", 200, ""); !strings.Contains(list, `"prefixes":["lab-one","shared/logs"]`) {
		t.Errorf("%s", list)
	}
	for _, prefixes := range []string{`[".."]`, `[""]`, `["a//b"]`, `["a/../b"]`, `[7]`, `"a"`, `["a\u0000"]`} {
		s.want(s.bob, "POST", "/latest/user/tokens", `{"name":"x","scopes":["storage"],"prefixes":`+prefixes+`}`, 422, "")
	}
}

func TestNoPathOfAnUploadEscapes(t *testing.T) {
	s := newSite(t)
	for _, tc := range []struct{ folder, file string }{
		{"../etc", "passwd"}, {"a/../../etc", "passwd"}, {"/..", "x"}, {"..", "x"}, {"a", "../x"}, {"a", "b/../../../x"}, {"a", ".."},
		{`..\etc`, "x"}, {"a", `..\x`}, {"a\x00", "x"}, {"a", "x\x00"}, {"a\n", "x"}, {"a", "x\r\ny"}, {"\xc0\xae\xc0\xae", "x"}, {"a\xff", "x"},
		{"a\u202e", "x"}, {"a\u2028b", "x"}, {strings.Repeat("a/", 600), "x"}, {strings.Repeat("a", 300), "x"}, {strings.Repeat("a", 3000), "x"},
		{"v1", "checkauth"}, {".uploads", "x"},
	} {
		var b bytes.Buffer
		w := multipart.NewWriter(&b)
		check(t, w.WriteField("path", tc.folder))
		part, err := w.CreatePart(textproto.MIMEHeader{"Content-Disposition": {`form-data; name="file0"; filename="` + strings.ReplaceAll(tc.file, `\`, `\\`) + `"`}})
		check(t, err)
		_, err = part.Write([]byte("evil"))
		check(t, err)
		check(t, w.Close())
		if status, answer := s.postBody(s.admin, "/v1/file", w.FormDataContentType(), &b); status != 400 {
			t.Errorf("%.40q + %.40q: %d %s", tc.folder, tc.file, status, answer)
		}
	}
	if got := s.list(""); got != "" {
		t.Errorf("there is %q", got)
	}
	// What only looks like it stays below.
	for folder, want := range map[string]string{"/abs/": "abs/x", ".": "x", "": "x", "./a//b/.": "a/b/x", "%2e%2e": "%2e%2e/x", "．．": "．．/x", "...": ".../x"} {
		if status, answer := s.post(s.admin, "/v1/file", field{name: "path", content: folder}, field{"file0", "x", "x"}); status != 200 {
			t.Errorf("%q: %d %s", folder, status, answer)
		}
		s.want("", "GET", "/storage/"+(&url.URL{Path: want}).EscapedPath(), "", 200, "x")
	}
}

func TestNoPathOfADownloadEscapes(t *testing.T) {
	s := newSite(t)
	address := strings.TrimPrefix(s.url, "http://")
	for _, target := range []string{
		"%2e%2e/%2e%2e/etc/passwd", "..%2f..%2fetc%2fpasswd", "%2fetc/passwd", "a%00b", "..%5c..%5cetc", "%c0%ae%c0%ae/x", "a//b", "a/./b",
		".uploads/x", strings.Repeat("a", 5000), "%252e%252e/x",
	} {
		// Raw, since clients clean what they send.
		conn, err := net.Dial("tcp", address)
		check(t, err)
		_, err = fmt.Fprintf(conn, "GET /storage/%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", target)
		check(t, err)
		answer, err := io.ReadAll(conn)
		check(t, err)
		check(t, conn.Close())
		status := string(answer[9:12])
		if status != "400" && status != "404" && status != "307" && status != "301" || bytes.Contains(answer, []byte("root:")) {
			t.Errorf("%.40s: %.60q", target, answer)
		}
	}
}

func TestWhatIsNoFormIsRefused(t *testing.T) {
	s := newSite(t)
	good, contentType := form(t, field{name: "path", content: "a"}, field{"file0", "x", "content"})
	boundary := strings.TrimPrefix(contentType, "multipart/form-data; boundary=")
	many := []field{{name: "path", content: "a"}}
	for range 64 {
		many = append(many, field{name: "more", content: "x"})
	}
	manyBody, manyType := form(t, append(many, field{"file0", "x", "content"})...)
	for name, tc := range map[string]struct{ contentType, body, answer string }{
		"no form":           {"application/json", "{}", "no multipart form"},
		"no boundary":       {"multipart/form-data", good, "no multipart form"},
		"other boundary":    {"multipart/form-data; boundary=other", good, "breaks off"},
		"empty":             {contentType, "", "breaks off"},
		"cut in the file":   {contentType, good[:strings.Index(good, "tent")], "breaks off"},
		"cut in the end":    {contentType, good[:len(good)-5], "breaks off"},
		"cut in the header": {contentType, good[:strings.Index(good, "file0")], "breaks off"},
		"many parts":        {manyType, manyBody, "64 parts"},
		"a large header":    {contentType, strings.Replace(good, "Content-Disposition", "X: "+strings.Repeat("x", 100_000)+"\r\nContent-Disposition", 1), "bytes of headers"},
		"a long preamble":   {contentType, strings.Repeat("x\r\n", 100_000) + good, "bytes of headers"},
		"no file":           {contentType, "--" + boundary + "\r\nContent-Disposition: form-data; name=\"path\"\r\n\r\na\r\n--" + boundary + "--\r\n", "No file0 field in upload"},
		"no name":           {contentType, strings.Replace(good, `; filename=x`, "", 1), "No filename provided"},
		"no path":           {contentType, strings.Replace(good, "name=path", "name=pfad", 1), "path: is missing"},
		"two paths":         {contentType, strings.Replace(good, "name=file0", "name=path", 1), "path: is given twice"},
		"a long path":       {contentType, strings.Replace(good, "\r\n\r\na\r\n", "\r\n\r\n"+strings.Repeat("a", 5000)+"\r\n", 1), "path: is longer"},
	} {
		status, answer := s.postBody(s.admin, "/v1/file", tc.contentType, strings.NewReader(tc.body))
		if status != 400 || !strings.Contains(answer, tc.answer) {
			t.Errorf("%s: %d %s", name, status, answer)
		}
	}
	if got := s.list(""); got != "" {
		t.Errorf("there is %q", got)
	}
}

func TestAnUploadIsNotLargerThanAllowed(t *testing.T) {
	s := newSite(t, func(o *api.Options) { o.MaxUpload = 10_000 })
	for size, want := range map[int]int{10_000: 200, 10_001: 413, 5_000_000: 413} {
		for _, chunked := range []bool{false, true} {
			for _, fields := range [][]field{
				{{name: "path", content: "a"}, {"file0", "x", strings.Repeat("x", size)}},
				{{"file0", "x", strings.Repeat("x", size)}, {name: "path", content: "a"}},
			} {
				body, contentType := form(t, fields...)
				var r io.Reader = strings.NewReader(body)
				if chunked {
					r = io.MultiReader(r) // of no known length
				}
				if status, answer := s.postBody(s.admin, "/v1/file", contentType, r); status != want {
					t.Errorf("%d bytes, chunked %t: %d %s", size, chunked, status, answer)
				}
			}
		}
	}
	if got := s.list(""); got != "a/x" {
		t.Errorf("there is %q", got)
	}
}

func TestALyingContentLengthLeavesNothing(t *testing.T) {
	s := newSite(t, func(o *api.Options) { o.MaxUpload = 1_000_000 })
	body, contentType := form(t, field{name: "path", content: "a"}, field{"file0", "x", strings.Repeat("x", 100_000)})
	for length, want := range map[int]string{
		len(body) - 50_000: "400", len(body) - 4: "400", 10: "400", 0: "400", 100_000_000: "413", 1 << 62: "413",
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		check(t, err)
		// The server may answer and hang up before it has everything.
		_, _ = fmt.Fprintf(conn, "POST /storage/v1/file HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s",
			s.admin, contentType, length, body)
		answer, _ := io.ReadAll(conn)
		check(t, conn.Close())
		if len(answer) < 12 || string(answer[9:12]) != want {
			t.Errorf("Content-Length %d of %d: %.80q", length, len(body), answer)
		}
	}
	if got := s.list(""); got != "" {
		t.Errorf("there is %q", got)
	}
}

func TestAnUploadThatBreaksOffLeavesWhatWasThere(t *testing.T) {
	s := newSite(t)
	s.upload(s.admin, "a/x", "old")
	body, contentType := form(t, field{name: "path", content: "a"}, field{"file0", "x", strings.Repeat("new", 1_000_000)})
	ctx, cancel := context.WithCancel(t.Context())
	sent := io.MultiReader(strings.NewReader(body[:1_000_000]), readFunc(func() { cancel() }), strings.NewReader(body[1_000_000:]))
	r, err := http.NewRequestWithContext(ctx, "POST", s.url+"/storage/v1/file", sent)
	check(t, err)
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("Authorization", "Bearer "+s.admin)
	if response, err := http.DefaultClient.Do(r); err == nil {
		response.Body.Close()
		t.Errorf("a broken upload is answered with %d", response.StatusCode)
	}
	s.want("", "GET", "/storage/a/x", "", 200, "old")
	if got := s.list(""); got != "a/x" {
		t.Errorf("there is %q", got)
	}
}

// readFunc is an empty part of a body at which something happens.
type readFunc func()

func (f readFunc) Read([]byte) (int, error) {
	f()
	return 0, io.EOF
}

func TestTwoUploadsOfAPathLeaveOneWhole(t *testing.T) {
	s := newSite(t)
	var group sync.WaitGroup
	for _, c := range "abcdef" {
		group.Go(func() {
			if status, answer := s.upload(s.admin, "a/x", strings.Repeat(string(c), 300_000)); status != 200 {
				t.Errorf("%d %s", status, answer)
			}
		})
	}
	group.Wait()
	_, text := s.get("GET", "a/x")
	if len(text) != 300_000 || strings.Trim(text, text[:1]) != "" {
		t.Errorf("%d bytes, of %q and more", len(text), text[:1])
	}
}

// failing is a storage that does not answer.
type failing struct{ storage.Storage }

func (failing) Upload(context.Context, string, string, io.Reader) (string, error) {
	return "", errs.New(errs.Temporary, "secret of the storage")
}

func TestAStorageThatIsAwayIsTemporary(t *testing.T) {
	s := newSite(t, func(o *api.Options) { o.Storage = failing{o.Storage} })
	body, contentType := form(t, field{name: "path", content: "a"}, field{"file0", "x", "x"})
	r, err := http.NewRequestWithContext(t.Context(), "POST", s.url+"/storage/v1/file", strings.NewReader(body))
	check(t, err)
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("Authorization", "Bearer "+s.admin)
	response, err := http.DefaultClient.Do(r)
	check(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	check(t, err)
	if response.StatusCode != 503 || response.Header.Get("Retry-After") == "" || strings.Contains(string(text), "secret") {
		t.Errorf("%d %v %s", response.StatusCode, response.Header, text)
	}
	status, u := s.archive(s.admin, "a", "x.tar", archive(t, entry{name: "x", content: "x"}))
	if status != 503 || u.Status != "partial_failure" || strings.Contains(u.Failures[0], "secret") {
		t.Errorf("%d %+v", status, u)
	}
}

func TestGetV1ListIsPaged(t *testing.T) {
	s := newSite(t)
	for _, target := range []string{"a/1", "a/2", "b/1", "c"} {
		s.upload(s.admin, target, "x")
	}
	s.want("", "GET", "/storage/v1/list", "", 401, "Unauthorized")
	s.want("rubbish", "GET", "/storage/v1/list", "", 401, "Unauthorized")
	s.want(s.bob, "GET", "/storage/v1/list", "", 200, "a/1\na/2\nb/1\nc")
	for query, want := range map[string]string{
		"?prefix=a/": "a/1\na/2", "?prefix=/b": "b/1", "?after=a/2": "b/1\nc", "?limit=2": "a/1\na/2", "?prefix=none": "", "?after=z": "",
		"?limit=1&after=b/1": "c", "?limit=10000": "a/1\na/2\nb/1\nc", "?ignored=1": "a/1\na/2\nb/1\nc",
	} {
		if got := s.list(query); got != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
	for _, query := range []string{"?limit=0", "?limit=-1", "?limit=10001", "?limit=x", "?limit=99999999999999999999", "?prefix=../", "?prefix=a/../b/", "?prefix=%00/"} {
		if status, answer := s.call(s.admin, "GET", "/storage/v1/list"+query, ""); status != 400 {
			t.Errorf("%s: %d %s", query, status, answer)
		}
	}
	var all []string
	for next := "v1/list?limit=3"; next != ""; {
		response, text := s.get("GET", next, "Authorization", s.admin)
		all = append(all, text)
		link := response.Header.Get("Link")
		next, _, _ = strings.Cut(strings.TrimPrefix(link, "</storage/"), ">")
	}
	if got := strings.Join(all, "|"); got != "a/1\na/2\nb/1|c" {
		t.Errorf("page by page: %q", got)
	}
}

func TestGetStorageMetricsAreThoseOfKernelCI(t *testing.T) {
	s := newSite(t)
	got := s.want("", "GET", "/storage/metrics", "", 200, "")
	for _, name := range []string{"storage_free_space", "storage_total_space"} {
		if !strings.Contains(got, "# TYPE "+name+" gauge\n"+name+`{diskname="storage",hostname="kernelci-storage",mount_point="/"} `) {
			t.Errorf("no %s in %s", name, got)
		}
	}
}

func TestGetPathServesTextAsTextAndTheRestAsItIs(t *testing.T) {
	s := newSite(t)
	for name, want := range map[string]struct{ contentType, disposition string }{
		"log.txt":       {"text/plain; charset=utf-8", "inline"},
		"log.txt.gz":    {"application/gzip", "attachment"},
		"page.html":     {"text/plain; charset=utf-8", "inline"},
		"page.HTM":      {"text/plain; charset=utf-8", "inline"},
		"image.svg":     {"text/plain; charset=utf-8", "inline"},
		"sheet.xml":     {"text/plain; charset=utf-8", "inline"},
		"script.js":     {"application/octet-stream", "attachment"},
		"page.xhtml":    {"application/octet-stream", "attachment"},
		"picture.png":   {"image/png", "inline"},
		"data.json":     {"application/json", "inline"},
		"dtbs.tar.xz":   {"application/x-xz", "attachment"},
		"bzImage":       {"application/octet-stream", "attachment"},
		`odd "name;=.b`: {"application/octet-stream", "attachment"},
	} {
		content := "\x1f\x8b<script>alert(1)</script>"
		if status, answer := s.upload(s.admin, "a/"+name, content); status != 200 {
			t.Errorf("%s: %d %s", name, status, answer)
		}
		response, text := s.get("GET", "a/"+url.PathEscape(name)+"?download=1&path=../x", "Accept-Encoding", "gzip")
		h := response.Header
		kind, params, err := mime.ParseMediaType(h.Get("Content-Disposition"))
		if response.StatusCode != 200 || text != content || h.Get("Content-Type") != want.contentType || kind != want.disposition || params["filename"] != name || err != nil {
			t.Errorf("%s: %d %q %v %v", name, response.StatusCode, text, h, err)
		}
		if h.Get("Content-Encoding") != "" || h.Get("X-Content-Type-Options") != "nosniff" || !strings.HasPrefix(h.Get("Content-Security-Policy"), "sandbox;") {
			t.Errorf("%s: %v", name, h)
		}
	}
	response, text := s.get("GET", "a/none")
	if response.StatusCode != 404 || text != "Not Found: a/none" {
		t.Errorf("%d %s", response.StatusCode, text)
	}
}

func TestGetPathServesRanges(t *testing.T) {
	s := newSite(t)
	s.upload(s.admin, "a/x", "0123456789ABCDEF")
	first, _ := s.get("GET", "a/x")
	etag, modified := first.Header.Get("ETag"), first.Header.Get("Last-Modified")
	for _, tc := range []struct {
		headers        []string
		status         int
		text, position string
	}{
		{[]string{"Range", "bytes=5-"}, 206, "56789ABCDEF", "bytes 5-15/16"},
		{[]string{"Range", "bytes=0-0"}, 206, "0", "bytes 0-0/16"},
		{[]string{"Range", "bytes=2-4"}, 206, "234", "bytes 2-4/16"},
		{[]string{"Range", "bytes=-3"}, 206, "DEF", "bytes 13-15/16"},
		{[]string{"Range", "bytes=10-99"}, 206, "ABCDEF", "bytes 10-15/16"},
		{[]string{"Range", "bytes=16-"}, 416, "", "bytes */16"},
		{[]string{"Range", "bytes=5-2"}, 416, "", ""},
		{[]string{"Range", "bytes=x"}, 416, "", ""},
		{[]string{"Range", "bytes=99999999999999999999-"}, 416, "", ""},
		{[]string{"Range", "bytes=" + strings.Repeat("0-0,", 100) + "1-1"}, 200, "0123456789ABCDEF", ""},
		{[]string{"Range", "bytes=5-", "If-Range", etag}, 206, "56789ABCDEF", "bytes 5-15/16"},
		{[]string{"Range", "bytes=5-", "If-Range", modified}, 206, "56789ABCDEF", "bytes 5-15/16"},
		{[]string{"Range", "bytes=5-", "If-Range", `"other"`}, 200, "0123456789ABCDEF", ""},
		{[]string{"If-None-Match", etag}, 304, "", ""},
		{[]string{"If-None-Match", `"other"`}, 200, "0123456789ABCDEF", ""},
		{[]string{"If-Modified-Since", modified}, 304, "", ""},
		{[]string{"If-Match", `"other"`}, 412, "", ""},
	} {
		response, text := s.get("GET", "a/x", tc.headers...)
		if response.StatusCode != tc.status || response.StatusCode < 300 && text != tc.text || tc.position != "" && response.Header.Get("Content-Range") != tc.position {
			t.Errorf("%q: %d %q %s", tc.headers, response.StatusCode, text, response.Header.Get("Content-Range"))
		}
	}
	response, text := s.get("GET", "a/x", "Range", "bytes=0-1,10-11")
	_, params, err := mime.ParseMediaType(response.Header.Get("Content-Type"))
	check(t, err)
	parts := multipart.NewReader(strings.NewReader(text), params["boundary"])
	for _, want := range []string{"01", "AB"} {
		part, err := parts.NextPart()
		check(t, err)
		if got, err := io.ReadAll(part); err != nil || string(got) != want {
			t.Errorf("%q, want %q: %v", got, want, err)
		}
	}
	// Half of one content and half of another are never put together.
	s.upload(s.admin, "a/x", "a newer content.")
	if response, text := s.get("GET", "a/x", "Range", "bytes=5-", "If-Range", etag); response.StatusCode != 200 || text != "a newer content." {
		t.Errorf("%d %q", response.StatusCode, text)
	}
}

func TestHeadPathSaysWhatGetWould(t *testing.T) {
	s := newSite(t)
	s.upload(s.admin, "a/log.txt.gz", "0123456789")
	get, _ := s.get("GET", "a/log.txt.gz")
	head, text := s.get("HEAD", "a/log.txt.gz")
	if head.StatusCode != 200 || text != "" || head.ContentLength != 10 {
		t.Errorf("%d %q, %d bytes", head.StatusCode, text, head.ContentLength)
	}
	for _, name := range []string{"Content-Type", "Content-Length", "Etag", "Last-Modified", "Accept-Ranges", "Content-Disposition"} {
		if h := head.Header.Get(name); h == "" || h != get.Header.Get(name) {
			t.Errorf("%s: %q, GET says %q", name, h, get.Header.Get(name))
		}
	}
	if head, _ := s.get("HEAD", "a/none"); head.StatusCode != 404 {
		t.Errorf("%d", head.StatusCode)
	}
}

// TestAnArtifactOfAnySizeTakesLittleMemory sends and reads 256 MiB, with the
// client in the same process, and adds up all that was ever allocated.
func TestAnArtifactOfAnySizeTakesLittleMemory(t *testing.T) {
	s := newSite(t)
	const size = 256 << 20
	for name, order := range map[string]bool{"path first": true, "path last": false} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			sum := sha256.New()
			r, w := io.Pipe()
			large := multipart.NewWriter(w)
			go func() {
				w.CloseWithError(fill(large, order, io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{}), size), sum)))
			}()
			if status, answer := s.postBody(s.admin, "/v1/file", large.FormDataContentType(), r); status != 200 {
				t.Fatalf("%d %s", status, answer)
			}
			response, err := http.Get(s.url + "/storage/large/file")
			check(t, err)
			defer response.Body.Close()
			got := sha256.New()
			n, err := io.Copy(got, response.Body)
			check(t, err)
			runtime.ReadMemStats(&after)
			if n != size || !bytes.Equal(got.Sum(nil), sum.Sum(nil)) {
				t.Errorf("%d bytes come back, not what was sent", n)
			}
			grown := after.TotalAlloc - before.TotalAlloc
			t.Logf("%.1f MiB allocated for %d MiB both ways", float64(grown)/(1<<20), size>>20)
			if grown > size/16 {
				t.Errorf("%d MiB were allocated", grown>>20)
			}
		})
	}
}

// fill writes the form of an upload.
func fill(w *multipart.Writer, pathFirst bool, content io.Reader) error {
	if pathFirst {
		if err := w.WriteField("path", "large"); err != nil {
			return err
		}
	}
	part, err := w.CreateFormFile("file0", "file")
	if err == nil {
		_, err = io.Copy(part, content)
	}
	if err == nil && !pathFirst {
		err = w.WriteField("path", "large")
	}
	if err == nil {
		err = w.Close()
	}
	return err
}

// FuzzAnUploadStaysBelowItsFolder lets a job choose folder and name.
func FuzzAnUploadStaysBelowItsFolder(f *testing.F) {
	s := newSite(f)
	root := s.create(s.bob, checkoutBody)
	n := s.create(s.bob, fmt.Sprintf(`{"kind":"job","name":"fuzz","path":["checkout","fuzz"],"parent":%q,"data":{}}`, root.ID))
	token, err := s.auth.JobToken(n.ID, time.Hour)
	check(f, err)
	for _, seed := range [][2]string{{string(n.ID), "x"}, {"../" + string(n.ID), "x"}, {string(n.ID) + "/..", "x"}, {"", string(n.ID) + "/x"}, {"a-" + string(n.ID), "../x"}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, folder, name string) {
		if name == "" {
			return
		}
		body, contentType := form(t, field{name: "path", content: folder}, field{"file0", name, "x"})
		r, err := http.NewRequestWithContext(t.Context(), "POST", s.url+"/storage/v1/file", strings.NewReader(body))
		check(t, err)
		r.Header.Set("Content-Type", contentType)
		r.Header.Set("Authorization", "Bearer "+token)
		status, answer := send(t, r)
		link, ok := strings.CutPrefix(answer, "http://storage.example.org/storage/")
		first, _, _ := strings.Cut(link, "/")
		id, _ := node.ParseID(first[strings.LastIndex(first, "-")+1:])
		if status == 200 && (!ok || id != n.ID) || status != 200 && status != 400 && status != 403 && status != 409 {
			t.Errorf("%q + %q: %d %s", folder, name, status, answer)
		}
	})
}
