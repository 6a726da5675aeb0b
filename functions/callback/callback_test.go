package callback_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/kernelflow/kernelflow/functions/callback"
	"github.com/kernelflow/kernelflow/shared/auth"
	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/patch"
	"github.com/kernelflow/kernelflow/shared/pipeline"
	"github.com/kernelflow/kernelflow/shared/storage/blob"
	"github.com/kernelflow/kernelflow/shared/store"
	"github.com/kernelflow/kernelflow/shared/store/sqlite"
	"github.com/kernelflow/kernelflow/shared/user"
)

const configuration = `
runtimes:
  shell: {lab_type: shell}
platforms:
  shell: {}
  board: {}
trees:
  mainline: {url: "https://git.example.org/linux.git"}
  unused: {url: "https://git.example.org/unused.git"}
build_configs:
  mainline: {tree: mainline, branch: master}
jobs:
  kbuild: {template: kbuild.jinja2, kind: kbuild}
  ktest: {template: ktest.jinja2, kind: job}
scheduler:
  - {job: kbuild, event: {channel: node, kind: checkout, state: available}, runtime: {name: shell}}
  - {job: ktest, event: {channel: node, kind: kbuild, state: available}, runtime: {name: shell}, platforms: [shell, board]}
`

// service is a served function with what it keeps.
type service struct {
	t       *testing.T
	url     string
	options callback.Options
	store   store.Store
	auth    *auth.Auth
	dev     string // a token with all permissions
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// openStore opens an empty store, of the kind that is tested now.
var openStore = func(t *testing.T) (store.Store, error) {
	return sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "x.db"), Now: time.Now})
}

func newService(t *testing.T, change ...func(*callback.Options)) *service {
	t.Helper()
	st, err := openStore(t)
	check(t, err)
	t.Cleanup(func() { check(t, st.Close()) })
	files, err := blob.Open("file://"+t.TempDir(), "http://storage.example.org")
	check(t, err)
	t.Cleanup(func() { check(t, files.Close()) })
	a, err := auth.New(auth.Options{Secret: []byte("a secret of enough bytes"), Unified: []byte("another secret of enough bytes"), Now: time.Now})
	check(t, err)
	config, _, err := pipeline.Load(fstest.MapFS{"x.yaml": {Data: []byte(configuration)}}, pipeline.Options{})
	check(t, err)
	o := callback.Options{
		Config: config, Store: st, Storage: files, Patches: patch.NewSource([]string{"127.0.0.1"}, http.DefaultClient), Auth: a,
		Owner: "admin", Now: time.Now, Rand: rand.Reader, Log: slog.New(slog.DiscardHandler),
	}
	for _, c := range change {
		c(&o)
	}
	h, err := callback.New(o)
	check(t, err)
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	s := &service{t: t, url: server.URL, options: o, store: st, auth: a}
	s.dev = s.token(`{"email":"dev@example.org","permissions":["checkout","testretry","patchset"]}`)
	return s
}

// post sends a body and returns the status and the answer.
func (s *service) post(token, path, body string) (int, string) {
	s.t.Helper()
	status, answer, _ := s.send(http.MethodPost, token, path, body)
	return status, answer
}

func (s *service) send(method, token, path, body string) (int, string, http.Header) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body))
	check(s.t, err)
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	if token != "" {
		r.Header.Set("Authorization", token)
	}
	response, err := http.DefaultClient.Do(r)
	check(s.t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	check(s.t, err)
	return response.StatusCode, strings.TrimSpace(string(text)), response.Header
}

// refused posts a body and expects this message, and that nothing was written.
func (s *service) refused(path, body string, status int, message string) {
	s.t.Helper()
	before := s.written()
	got, answer := s.post(s.dev, path, body)
	if want := `{"message":"` + message + `"}`; got != status || answer != want {
		s.t.Errorf("%s %.200s: %d %s, want %d %s", path, body, got, answer, status, want)
	}
	if s.written() != before {
		s.t.Errorf("%s %.200s: something was written", path, body)
	}
}

// written counts nodes and events.
func (s *service) written() string {
	s.t.Helper()
	nodes, err := s.store.Count(s.t.Context(), node.Query{})
	check(s.t, err)
	last, err := s.store.LastSequence(s.t.Context())
	check(s.t, err)
	return fmt.Sprint(nodes, " nodes, ", last, " events")
}

// made posts a body, expects success, and returns the node in the answer, which
// must be the stored one.
func (s *service) made(path, body string) node.Node {
	s.t.Helper()
	status, text := s.post(s.dev, path, body)
	var answer struct {
		Message string
		Node    node.Node
	}
	check(s.t, json.Unmarshal([]byte(text), &answer))
	if status != http.StatusOK || answer.Message != "OK" {
		s.t.Fatalf("%s %.200s: %d %s", path, body, status, text)
	}
	stored, err := s.store.Get(s.t.Context(), answer.Node.ID)
	check(s.t, err)
	if a, b := asJSON(s.t, stored), asJSON(s.t, answer.Node); a != b {
		s.t.Errorf("answered\n%s\nstored\n%s", b, a)
	}
	return stored
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	check(t, err)
	return string(text)
}

const commit = "0123456789abcdef0123456789abcdef01234567"

// add stores a node below parent.
func (s *service) add(parent node.Node, kind node.Kind, name string, change ...func(*node.Node)) node.Node {
	s.t.Helper()
	n := node.Node{
		ID: node.DeriveID(parent.ID, name, rand.Text()), Kind: kind, Name: name, Path: append(slices.Clip(parent.Path), name), Parent: parent.ID,
		TreeID: "t1", Owner: "admin", State: node.Done, Result: node.Pass, Artifacts: map[string]string{"tarball": "https://storage.example.org/x.tar.gz"},
	}
	n.SetDefaults(time.Now())
	check(s.t, n.SetRevision(node.Revision{Tree: "mainline", URL: "https://git.example.org/linux.git", Branch: "master", Commit: commit, Describe: "v6.1"}))
	for _, c := range change {
		c(&n)
	}
	n, err := s.store.Create(s.t.Context(), n)
	check(s.t, err)
	return n
}

func at(state node.State, result node.Result) func(*node.Node) {
	return func(n *node.Node) { n.State, n.Result = state, result }
}

func TestTokenOfThePipelineIsBareOrBearer(t *testing.T) {
	s := newService(t)
	super := s.account("65f0000000000000000000a1", true, true)
	for name, tc := range map[string]struct {
		header string
		status int // 404 is that of a request that is let in
	}{
		"bare":                       {s.dev, 404},
		"bearer":                     {"Bearer " + s.dev, 404},
		"the unified secret":         {s.signed(`{"email":"a@b","permissions":["checkout"]}`, "another secret of enough bytes"), 404},
		"any audience":               {s.token(`{"email":"a@b","aud":"somebody","permissions":["checkout"]}`), 404},
		"not expired":                {s.token(fmt.Sprintf(`{"email":"a@b","permissions":["checkout"],"exp":%d}`, time.Now().Add(time.Hour).Unix())), 404},
		"a superuser's ordinary one": {super, 404},
		"expired":                    {s.token(fmt.Sprintf(`{"email":"a@b","permissions":["checkout"],"exp":%d}`, time.Now().Add(-time.Hour).Unix())), 401},
		"no e-mail":                  {s.token(`{"permissions":["checkout"]}`), 401},
		"no permissions":             {s.token(`{"email":"a@b"}`), 401},
		"another permission":         {s.token(`{"email":"a@b","permissions":["testretry","patchset"]}`), 401},
		"another secret":             {s.signed(`{"email":"a@b","permissions":["checkout"]}`, "some other secret of enough bytes"), 401},
		"an ordinary user's":         {s.account("65f0000000000000000000b0", false, true), 401},
		"a superuser who is off":     {s.account("65f0000000000000000000c0", true, false), 401},
		"a job's":                    {s.job("65f0000000000000000000d0"), 401},
		"none":                       {"", 401},
		"nonsense":                   {"Bearer", 401},
	} {
		status, answer := s.post(tc.header, "/api/checkout", `{"url":"x","branch":"master","commit":"`+commit+`"}`)
		if status != tc.status || status == 401 && answer != `{"message":"Unauthorized"}` {
			t.Errorf("%s: %d %s, want %d", name, status, answer, tc.status)
		}
	}
}

func TestEachEndpointHasItsPermission(t *testing.T) {
	s := newService(t)
	for path, permission := range map[string]string{"/api/checkout": "checkout", "/api/jobretry": "testretry", "/api/patchset": "patchset"} {
		for _, given := range []string{"checkout", "testretry", "patchset"} {
			status, _ := s.post(s.token(`{"email":"a@b","permissions":["`+given+`"]}`), path, `not JSON`)
			if let := status == http.StatusUnprocessableEntity; let != (given == permission) {
				t.Errorf("%s with %s: %d", path, given, status)
			}
		}
	}
}

func TestATokenForRetriesNeedsNoEMail(t *testing.T) {
	s := newService(t)
	for path, want := range map[string]int{"/api/jobretry": 404, "/api/checkout": 401, "/api/patchset": 401} {
		status, answer := s.post(s.token(`{"permissions":["checkout","testretry","patchset"]}`), path, `{"nodeid":"65f000000000000000000001"}`)
		if status != want {
			t.Errorf("%s: %d %s, want %d", path, status, answer, want)
		}
	}
}

func (s *service) account(id node.ID, super, active bool) string {
	s.t.Helper()
	check(s.t, s.store.CreateUser(s.t.Context(), user.User{
		ID: id, Username: string(id), Email: string(id) + "@example.org", Active: active, Verified: true, Superuser: super, Groups: []user.Group{},
	}))
	token, err := s.auth.UserToken(id)
	check(s.t, err)
	return token
}

func (s *service) job(id node.ID) string {
	s.t.Helper()
	token, err := s.auth.JobToken(id, time.Hour)
	check(s.t, err)
	return token
}

func TestABodyOfTheWrongFormIsNamed(t *testing.T) {
	s := newService(t)
	for _, tc := range []struct{ path, body, says string }{
		{"checkout", ``, `"type":"json_invalid"`},
		{"checkout", `{`, `"type":"json_invalid"`},
		{"checkout", `{"url":"x"`, `does not end with its object`},
		{"checkout", `{"url":"x"}}`, `does not end with its object`},
		{"checkout", `{"url":"x",}`, `"type":"json_invalid"`},
		{"checkout", `[]`, `valid dictionary`},
		{"checkout", `null`, `valid dictionary`},
		{"checkout", "{\"url\":\"\xff\"}", `not valid UTF-8`},
		{"checkout", `{"url":"a\u0000b"}`, `"loc":["body","url"],"msg":"must not contain NUL"`},
		{"checkout", `{"url":5}`, `"type":"string_type","loc":["body","url"]`},
		{"checkout", `{"url":"x","url":"y"}`, `"loc":["body","url"],"msg":"the key is there twice"`},
		{"checkout", `{"jobfilter":"kbuild"}`, `"type":"list_type","loc":["body","jobfilter"]`},
		{"checkout", `{"jobfilter":["kbuild",5]}`, `"type":"string_type","loc":["body","jobfilter",1]`},
		{"checkout", `{"platformfilter":{}}`, `"type":"list_type","loc":["body","platformfilter"]`},
		{"checkout", `{"x":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}`, `"type":"json_invalid","loc":["body","x"]`},
		{"jobretry", `{}`, `"type":"missing","loc":["body","nodeid"]`},
		{"jobretry", `{"nodeid":null}`, `"loc":["body","nodeid"]`},
		{"patchset", `{}`, `"type":"missing","loc":["body","nodeid"]`},
		{"patchset", `{"nodeid":"x","patch":"text"}`, `"type":"list_type","loc":["body","patch"]`},
		{"patchset", `{"nodeid":"x","patchurl":"text"}`, `"type":"list_type","loc":["body","patchurl"]`},
	} {
		status, answer := s.post(s.dev, "/api/"+tc.path, tc.body)
		if status != http.StatusUnprocessableEntity || !strings.HasPrefix(answer, `{"detail":[{`) || !strings.Contains(answer, tc.says) {
			t.Errorf("%s %.100s: %d %s, want %s", tc.path, tc.body, status, answer, tc.says)
		}
	}
	status, answer := s.post(s.dev, "/api/checkout", `{"x":"`+strings.Repeat("x", 1<<20)+`"}`)
	if status != http.StatusRequestEntityTooLarge || !strings.Contains(answer, "1048576") {
		t.Errorf("a long body: %d %s", status, answer)
	}
}

func TestWhatIsNotThereIsSaidInJSON(t *testing.T) {
	s := newService(t)
	for _, tc := range []struct {
		method, path string
		status       int
		answer       string
	}{
		{"GET", "/api/checkout", 405, `{"detail":"Method Not Allowed"}`},
		{"POST", "/api/metrics", 405, `{"detail":"Method Not Allowed"}`},
		{"GET", "/api/", 404, `{"detail":"Not Found"}`},
		{"POST", "/api/checkout/x", 404, `{"detail":"Not Found"}`},
	} {
		status, answer, header := s.send(tc.method, s.dev, tc.path, "{}")
		if status != tc.status || answer != tc.answer || (header.Get("Allow") != "") != (status == 405) {
			t.Errorf("%s %s: %d %s %v", tc.method, tc.path, status, answer, header)
		}
	}
}

// broken is a store that fails.
type broken struct {
	callback.Store
	err error
}

func (b broken) Create(context.Context, node.Node, ...store.Option) (node.Node, error) {
	if b.err == nil {
		panic("boom")
	}
	return node.Node{}, b.err
}

func (b broken) Append(context.Context, ...event.Event) error { return b.err }

func TestAnUnhandledErrorIsInternalAndTellsNothing(t *testing.T) {
	for _, tc := range []struct {
		err    error
		status int
		answer string
	}{
		{errors.New("secret"), 500, `{"message":"Internal server error"}`},
		{nil, 500, `{"message":"Internal server error"}`}, // a panic
		{errs.New(errs.Temporary, "secret"), 503, `{"message":"Service unavailable"}`},
	} {
		s := newService(t, func(o *callback.Options) { o.Store = broken{o.Store, tc.err} })
		status, answer, header := s.send(http.MethodPost, s.dev, "/api/checkout", checkoutBody(``))
		if status != tc.status || answer != tc.answer || (header.Get("Retry-After") != "") != (status == 503) {
			t.Errorf("%v: %d %s %v", tc.err, status, answer, header)
		}
	}
}

func TestMetricsAreOfThePipelineCallback(t *testing.T) {
	s := newService(t)
	s.post(s.dev, "/api/checkout", checkoutBody(``))
	s.post("nonsense", "/api/jobretry", `{}`)
	s.post(s.dev, "/api/nothing", `{}`)
	status, text, header := s.send(http.MethodGet, "", "/api/metrics", "")
	if status != 200 || !strings.HasPrefix(header.Get("Content-Type"), "text/plain") {
		t.Errorf("%d %v", status, header)
	}
	for _, line := range []string{
		`http_requests_total{kind="pipeline_callback"} 4`,
		`pipeline_api_requests_total{kind="pipeline_callback"} 2`,
		`pipeline_api_auth_fail_total{kind="pipeline_callback"} 1`,
		`# TYPE http_requests_total counter`,
	} {
		if !strings.Contains(text, line+"\n") && !strings.HasSuffix(text, line) {
			t.Errorf("no %s in\n%s", line, text)
		}
	}
}

func TestNewNamesWhatIsMissing(t *testing.T) {
	if _, err := callback.New(callback.Options{}); !errors.Is(err, errs.Invalid) {
		t.Error(err)
	}
}

func TestABodyThatDoesNotComeInTimeIsGivenUp(t *testing.T) {
	s := newService(t, func(o *callback.Options) {
		o.Now = func() time.Time { return time.Now().Add(-time.Hour) } // its minute is over
	})
	body, w := io.Pipe()
	defer w.Close()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/api/jobretry", body)
	check(t, err)
	r.Header.Set("Authorization", s.dev)
	response, err := http.DefaultClient.Do(r)
	check(t, err)
	defer response.Body.Close()
	if text, err := io.ReadAll(response.Body); err != nil || response.StatusCode != http.StatusBadRequest || !strings.Contains(string(text), "cannot be read") {
		t.Errorf("%d %s %v", response.StatusCode, text, err)
	}
}
