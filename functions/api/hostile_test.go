package api_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/kernelflow/kernelflow/functions/api"
	"github.com/kernelflow/kernelflow/shared/bus"
	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
	"github.com/kernelflow/kernelflow/shared/user"
)

// nodeWith is a valid node but for what is put into its data.
func nodeWith(data string) string { return `{"name":"n","path":["n"],"data":` + data + `}` }

func TestABadBodyIsRefusedWithTheFieldAndWritesNothing(t *testing.T) {
	s := newSite(t)
	n := s.create(s.bob, named("n"))
	before, err := s.store.LastSequence(t.Context())
	check(t, err)
	deep := strings.Repeat(`{"a":`, 400) + "1" + strings.Repeat("}", 400)
	for _, tc := range []struct{ what, body, loc string }{
		{"nothing", ``, `["body"]`},
		{"no JSON", `{"name":`, `["body","name"]`},
		{"no object", `[]`, `["body"]`},
		{"null", `null`, `["body"]`},
		{"two values", named("n") + named("m"), `["body"]`},
		{"a key twice", `{"name":"n","path":["n"],"name":"m"}`, `["body","name"]`},
		{"a key twice further down", nodeWith(`{"x":[{"y":1,"y":2}]}`), `["body","data","x",0,"y"]`},
		{"NUL in a text", nodeWith(`{"x":"a\u0000b"}`), `["body","data","x"]`},
		{"NUL in a key", nodeWith(`{"a\u0000b":1}`), `["body","data","ab"]`},
		{"invalid UTF-8", nodeWith("{\"x\":\"\xff\xfe\"}"), `["body"]`},
		{"an integer beyond 64 bits", nodeWith(`{"x":{"y":12345678901234567890123}}`), `["body","data","x","y"]`},
		{"a number beyond 64 bits", nodeWith(`{"x":1e999}`), `["body","data","x"]`},
		{"a counter that is too large", `{"name":"n","path":["n"],"retry_counter":9223372036854775807}`, `["body","retry_counter"]`},
		{"a negative counter", `{"name":"n","path":["n"],"retry_counter":-1}`, `["body","retry_counter"]`},
		{"a fraction", `{"name":"n","path":["n"],"retry_counter":1.5}`, `["body","retry_counter"]`},
		{"endless nesting", strings.Repeat(`[`, 100_000), `["body"]`},
		{"deep nesting", nodeWith(`{"x":` + strings.Repeat(`[`, 600) + strings.Repeat(`]`, 600) + `}`), `["body"]`},
		{"data deeper than a store takes", nodeWith(deep), `["body","data"]`},
		{"a text for a list", `{"name":"n","path":"n"}`, `["body","path"]`},
		{"a number for a text", `{"name":7,"path":["n"]}`, `["body","name"]`},
		{"an empty name", `{"name":"","path":["n"]}`, `["body","name"]`},
		{"a date that is none", `{"name":"n","path":["n"],"timeout":"2025-13-45"}`, ``},
		{"a number for a date", `{"name":"n","path":["n"],"holdoff":5}`, `["body","holdoff"]`},
		{"an id that is none", `{"name":"n","path":["n"],"parent":"x"}`, `["body","parent"]`},
		{"a list for data", nodeWith(`[]`), `["body","data"]`},
		{"a revision without a commit", nodeWith(`{"kernel_revision":{"tree":"m","url":"https://x.example.org","branch":"b"}}`), ``},
		{"a revision that is a text", nodeWith(`{"kernel_revision":"v6.1"}`), `["body","data","kernel_revision"]`},
		{"a version that is no number", nodeWith(`{"kernel_revision":{"tree":"m","url":"https://x.example.org","branch":"b","commit":"c","version":{"version":"six","patchlevel":1}}}`), ``},
		{"an arch that is a number", nodeWith(`{"arch":64}`), `["body","data","arch"]`},
		{"an artifact that is no URL", `{"name":"n","path":["n"],"artifacts":{"log":"javascript:alert(1)"}}`, `["body","artifacts","log"]`},
		{"an artifact without a host", `{"name":"n","path":["n"],"artifacts":{"log":"http:///log"}}`, ``},
	} {
		for method, path := range map[string]string{"POST": "/latest/node", "PUT": "/latest/node/" + string(n.ID)} {
			status, text := s.call(s.bob, method, path, tc.body)
			if status < 400 || status >= 500 || !strings.Contains(text, `"loc":`+tc.loc) && tc.loc != "" || !strings.Contains(text, `"detail":`) {
				t.Errorf("%s, %s: %d %.300s", method, tc.what, status, text)
			}
		}
		hierarchy := `{"node":` + named("n") + `,"child_nodes":[{"node":` + tc.body + `}]}`
		if status, text := s.call(s.bob, "PUT", "/latest/nodes/"+string(n.ID), hierarchy); status < 400 || status >= 500 {
			t.Errorf("in a hierarchy, %s: %d %.300s", tc.what, status, text)
		}
	}
	s.want("", "GET", "/latest/count", "", 200, "1")
	if after, err := s.store.LastSequence(t.Context()); err != nil || after != before {
		t.Errorf("%d events, %v", after-before, err)
	}
}

func TestABodyThatIsTooLargeIsRefused(t *testing.T) {
	s := newSite(t)
	n := s.create(s.bob, named("n"))
	for path, size := range map[string]int{"/latest/node": 5 << 20, "/latest/nodes/" + string(n.ID): 65 << 20} {
		method := map[bool]string{true: "POST", false: "PUT"}[path == "/latest/node"]
		// No length is told, so that it is counted.
		body := io.MultiReader(strings.NewReader(`{"name":"`), io.LimitReader(letters{}, int64(size)))
		r, err := http.NewRequestWithContext(t.Context(), method, s.url+path, body)
		check(t, err)
		r.Header.Set("Authorization", "Bearer "+s.bob)
		if status, text := send(t, r); status != 413 || !strings.Contains(text, "too large") {
			t.Errorf("%s: %d %.200s", path, status, text)
		}
	}
	s.want("", "GET", "/latest/count", "", 200, "1")
}

// letters is an endless text.
type letters struct{}

func (letters) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'a'
	}
	return len(b), nil
}

func TestABodyOfAnotherTypeIsRefused(t *testing.T) {
	s := newSite(t)
	for kind, want := range map[string]int{
		"": 200, "application/json": 200, "application/json; charset=utf-8": 200, "text/plain": 415, "application/xml": 415,
		"application/x-www-form-urlencoded": 415, "multipart/form-data; boundary=x": 415, ";+": 415, "\xff": 415,
	} {
		r, err := http.NewRequestWithContext(t.Context(), "POST", s.url+"/latest/node", strings.NewReader(named("n")))
		check(t, err)
		r.Header.Set("Authorization", "Bearer "+s.bob)
		if kind != "" {
			r.Header.Set("Content-Type", kind)
		}
		if status, text := send(t, r); status != want {
			t.Errorf("%q: %d %.200s", kind, status, text)
		}
	}
}

func TestAnswersAreJSONWhateverIsAsked(t *testing.T) {
	s := newSite(t)
	for _, accept := range []string{"text/html", "application/x-www-form-urlencoded", "application/cbor", "*/*;q=0", "\x7f", "application/json"} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", s.url+"/latest/nodes", nil)
		check(t, err)
		r.Header["Accept"] = []string{accept}
		response, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			continue // no client sends this
		}
		text, err := io.ReadAll(response.Body)
		check(t, err)
		response.Body.Close()
		if kind := response.Header.Get("Content-Type"); response.StatusCode != 200 || kind != "application/json" || !json.Valid(text) {
			t.Errorf("%q: %d %s", accept, response.StatusCode, kind)
		}
	}
}

// raw sends bytes as they are and returns the status of the first answer.
func (s *site) raw(request string) int {
	s.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	check(s.t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, request)
	check(s.t, err)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	return response.StatusCode
}

func TestMalformedHTTPIsTheClientsFault(t *testing.T) {
	s := newSite(t)
	chunked := "POST /latest/node HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + s.bob + "\r\nTransfer-Encoding: chunked\r\n\r\n"
	for what, request := range map[string]string{
		"a chunk without a length":  chunked + "zz\r\n{}",
		"two lengths":               "POST /latest/node HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
		"a header without a name":   "GET /latest/count HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n",
		"no host":                   "GET /latest/count HTTP/1.1\r\n\r\n",
		"a path that is none":       "GET /latest/node/%zz HTTP/1.1\r\nHost: x\r\n\r\n",
		"a NUL in a header":         "GET /latest/count HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n",
		"a flood of headers":        "GET /latest/count HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X: "+strings.Repeat("y", 1000)+"\r\n", 2000) + "\r\n",
		"a path above the root":     "GET /latest/../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
		"a token with a line break": "GET /latest/whoami HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a\tb\r\n\r\n",
	} {
		if status := s.raw(request); status >= 500 || status > 0 && status < 300 {
			t.Errorf("%s: %d", what, status)
		}
	}
	s.want("", "GET", "/latest/count", "", 200, "0")
}

// leaky is a store that can be away: every call then fails as of an
// unreachable database.
type leaky struct {
	api.Store
	away atomic.Bool
}

var errAway = errs.Wrap(errs.Temporary, errors.New("connection refused by db.internal:27017"))

func (l *leaky) err() error {
	if l.away.Load() {
		return errAway
	}
	return nil
}

func (l *leaky) Ping(ctx context.Context) error {
	return errors.Join(l.err(), l.Store.Ping(ctx))
}

func (l *leaky) Get(ctx context.Context, id node.ID) (node.Node, error) {
	if err := l.err(); err != nil {
		return node.Node{}, err
	}
	return l.Store.Get(ctx, id)
}

func (l *leaky) Each(ctx context.Context, q node.Query) iter.Seq2[node.Node, error] {
	if err := l.err(); err != nil {
		return func(yield func(node.Node, error) bool) { yield(node.Node{}, err) }
	}
	return l.Store.Each(ctx, q)
}

func (l *leaky) Page(ctx context.Context, q node.Query) ([]node.Node, string, error) {
	if err := l.err(); err != nil {
		return nil, "", err
	}
	return l.Store.Page(ctx, q)
}

func (l *leaky) Count(ctx context.Context, q node.Query) (int64, error) {
	if err := l.err(); err != nil {
		return 0, err
	}
	return l.Store.Count(ctx, q)
}

func (l *leaky) User(ctx context.Context, id node.ID) (user.User, error) {
	if err := l.err(); err != nil {
		return user.User{}, err
	}
	return l.Store.User(ctx, id)
}

func (l *leaky) Create(ctx context.Context, n node.Node, opts ...store.Option) (node.Node, error) {
	if err := l.err(); err != nil {
		return n, err
	}
	return l.Store.Create(ctx, n, opts...)
}

func TestWithoutItsStoreTheAPISaysComeBack(t *testing.T) {
	l := &leaky{}
	s := newSite(t, func(o *api.Options) { l.Store = o.Store; o.Store = l })
	n := s.create(s.bob, named("n"))
	l.away.Store(true)
	for _, tc := range []struct{ method, path, body string }{
		{"GET", "/latest/node/" + string(n.ID), ""}, {"GET", "/latest/nodes", ""}, {"GET", "/latest/nodes/fast", ""}, {"GET", "/latest/count", ""},
		{"POST", "/latest/node", named("m")}, {"PATCH", "/latest/node/" + string(n.ID), `{"result":"pass"}`}, {"GET", "/latest/whoami", ""}, {"GET", "/readyz", ""},
	} {
		r, err := http.NewRequestWithContext(t.Context(), tc.method, s.url+tc.path, strings.NewReader(tc.body))
		check(t, err)
		r.Header.Set("Authorization", "Bearer "+s.bob)
		response, text := respond(t, r)
		if response.StatusCode != 503 || response.Header.Get("Retry-After") == "" || strings.Contains(text, "db.internal") {
			t.Errorf("%s %s: %d, Retry-After %q, %s", tc.method, tc.path, response.StatusCode, response.Header.Get("Retry-After"), text)
		}
	}
	s.want("", "GET", "/readyz", "", 503, "the store does not answer")
	for _, path := range []string{"/healthz", "/", "/docs", "/openapi.json"} {
		s.want("", "GET", path, "", 200, "")
	}
	s.want("", "GET", "/nothing", "", 404, "")
	l.away.Store(false)
	s.want("", "GET", "/readyz", "", 200, "ready")
	s.want("", "GET", "/latest/count", "", 200, "1")
}

func TestWithoutItsChannelTheAPIKeepsWhatItAcknowledges(t *testing.T) {
	var channel bus.Bus
	s := newSite(t, func(o *api.Options) { channel = o.Bus })
	check(t, channel.Close())
	n := s.create(s.bob, named("n"))
	s.want(s.bob, "PATCH", "/latest/node/"+string(n.ID), `{"state":"done"}`, 200, "")
	var events []map[string]any
	check(t, json.Unmarshal([]byte(s.want("", "GET", "/latest/events?node_id="+string(n.ID), "", 200, "")), &events))
	if len(events) != 2 {
		t.Errorf("%d events", len(events))
	}
	for _, tc := range []struct{ method, path, body string }{{"POST", "/latest/push/work", `{"data":{"x":1}}`}, {"GET", "/latest/pop/work", ""}} {
		r, err := http.NewRequestWithContext(t.Context(), tc.method, s.url+tc.path, bytes.NewBufferString(tc.body))
		check(t, err)
		r.Header.Set("Authorization", "Bearer "+s.bob)
		if response, text := respond(t, r); response.StatusCode != 503 || response.Header.Get("Retry-After") == "" {
			t.Errorf("%s %s: %d %s", tc.method, tc.path, response.StatusCode, text)
		}
	}
	s.want("", "GET", "/readyz", "", 503, "the channel does not answer")
	s.want("", "GET", "/healthz", "", 200, "ok")
}

func FuzzABodyNeverBreaksTheAPI(f *testing.F) {
	s := newSite(f)
	for _, seed := range append(sample, named("n"), cases(3, "x"), nodeWith(`{"x":[1,2.5,null,{"y":"\u0000"}]}`), `{"name":"n","name":"m"}`, "\xff", "[[[[", `{"retry_counter":1e400}`) {
		f.Add(seed)
	}
	n := s.create(s.bob, named("n"))
	f.Fuzz(func(t *testing.T, body string) {
		s := &site{t: t, url: s.url, store: s.store, bob: s.bob}
		for method, path := range map[string]string{"POST": "/latest/node", "PATCH": "/latest/node/" + string(n.ID)} {
			status, text := s.call(s.bob, method, path, body)
			if status >= 500 || !json.Valid([]byte(text)) {
				t.Errorf("%s %q: %d %s", method, body, status, text)
			}
			if status == 200 && method == "POST" {
				again := fmt.Sprint(object(t, text)["id"])
				if got := s.want("", "GET", "/latest/node/"+again, "", 200, ""); got != text {
					t.Errorf("stored otherwise than answered:\n%s\n%s", text, got)
				}
			}
		}
	})
}
