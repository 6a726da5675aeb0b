package api_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kernelflow/kernelflow/functions/api"
	"github.com/kernelflow/kernelflow/shared/auth"
	"github.com/kernelflow/kernelflow/shared/bus/redis"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/relay"
	"github.com/kernelflow/kernelflow/shared/storage/blob"
	"github.com/kernelflow/kernelflow/shared/store"
	"github.com/kernelflow/kernelflow/shared/store/sqlite"
	"github.com/kernelflow/kernelflow/shared/user"
)

// site is a served API with two accounts.
type site struct {
	t       testing.TB
	url     string
	handler http.Handler
	store   store.Store
	auth    *auth.Auth
	admin   string // tokens
	bob     string
}

const password = "correct horse"

type option func(*api.Options)

func newSite(t testing.TB, options ...option) *site {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	st, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "x.db"), Now: time.Now})
	check(t, err)
	b, err := redis.Embedded(log)
	check(t, err)
	r := relay.New(st, b, log)
	w := relay.NewWatch(r, b, time.Second, log)
	a, err := auth.New(auth.Options{Secret: []byte("a secret of enough bytes"), Now: time.Now})
	check(t, err)
	files, err := blob.Open("file://"+t.TempDir(), "http://storage.example.org/storage")
	check(t, err)
	o := api.Options{Store: r, Watch: w, Bus: b, Storage: files, Auth: a, Now: time.Now, Rand: rand.Reader, Log: log}
	for _, option := range options {
		option(&o)
	}
	handler, err := api.New(o)
	check(t, err)
	server := httptest.NewServer(handler)
	t.Cleanup(func() {
		server.Close()
		for _, c := range []io.Closer{w, r, files} {
			check(t, c.Close())
		}
		_ = b.Close() // a test may have done so
	})
	s := &site{t: t, url: server.URL, handler: handler, store: r, auth: a}
	s.admin = s.account("65f0000000000000000000a1", "admin", true)
	s.bob = s.account("65f0000000000000000000b0", "bob", false)
	return s
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (s *site) account(id node.ID, name string, super bool) string {
	s.t.Helper()
	hash, err := s.auth.HashPassword(password)
	check(s.t, err)
	check(s.t, s.store.CreateUser(s.t.Context(), user.User{
		ID: id, Username: name, Email: name + "@example.org", Active: true, Verified: true, Superuser: super, PasswordHash: hash, Groups: []user.Group{},
	}))
	token, err := s.auth.UserToken(id)
	check(s.t, err)
	return token
}

// call sends a request and returns the status and the body.
func (s *site) call(token, method, path, body string) (int, string) {
	s.t.Helper()
	return s.callContext(s.t.Context(), token, method, path, body)
}

func (s *site) callContext(ctx context.Context, token, method, path, body string) (int, string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, s.url+path, strings.NewReader(body))
	check(s.t, err)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return send(s.t, r)
}

func send(t testing.TB, r *http.Request) (int, string) {
	t.Helper()
	response, text := respond(t, r)
	return response.StatusCode, text
}

// respond sends a request and reads the body of the response.
func respond(t testing.TB, r *http.Request) (*http.Response, string) {
	t.Helper()
	response, err := http.DefaultClient.Do(r)
	check(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	check(t, err)
	return response, strings.TrimSpace(string(text))
}

// want calls and compares the answer; "" as body compares the status alone.
func (s *site) want(token, method, path, body string, status int, answer string) string {
	s.t.Helper()
	gotStatus, got := s.call(token, method, path, body)
	if gotStatus != status || answer != "" && got != answer {
		s.t.Errorf("%s %s %s: %d %s\nwant %d %s", method, path, body, gotStatus, got, status, answer)
	}
	return got
}

const checkoutBody = `{"kind":"checkout","name":"checkout","path":["checkout"],"treeid":"t1","data":{"kernel_revision":
	{"tree":"mainline","url":"https://git.example.org/linux.git","branch":"master","commit":"abc","version":{"version":"6","patchlevel":"1"}}}}`

func (s *site) create(token, body string) node.Node {
	s.t.Helper()
	var n node.Node
	check(s.t, json.Unmarshal([]byte(s.want(token, "POST", "/latest/node", body, 200, "")), &n))
	return n
}

func (s *site) job(token string, parent node.ID) (node.Node, string) {
	s.t.Helper()
	n := s.create(token, fmt.Sprintf(`{"kind":"job","name":"ktest","path":["checkout","ktest"],"parent":%q,"data":{"runtime":"shell","platform":"p"}}`, parent))
	jobToken, err := s.auth.JobToken(n.ID, time.Hour)
	check(s.t, err)
	return n, jobToken
}

func TestEveryVersionPrefixLeadsToTheSameRoutes(t *testing.T) {
	s := newSite(t)
	for _, prefix := range []string{"", "/latest", "/v0"} {
		s.want("", "GET", prefix+"/", "", 200, `{"message":"KernelCI API"}`)
		s.want("", "GET", prefix+"/count", "", 200, "0")
	}
	s.want("", "GET", "/latest", "", 200, `{"message":"KernelCI API"}`)
	s.want("", "GET", "/v1/nodes", "", 400, "Unsupported API version: v1")
	s.want("", "GET", "/healthz", "", 200, "ok")
	s.want("", "GET", "/readyz", "", 200, "ready")
	s.want("", "GET", "/docs", "", 200, "")
	s.want("", "GET", "/openapi.json", "", 200, "")
	if metrics := s.want("", "GET", "/metrics", "", 200, ""); !strings.Contains(metrics, `route="count"`) {
		t.Errorf("metrics tell nothing of requests:\n%s", metrics)
	}
}

func TestMetricsHaveThoseOfTheOtherFunctionsToo(t *testing.T) {
	others := prometheus.NewRegistry()
	of := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "kernelflow_runtime_up", Help: "x"}, []string{"runtime"})
	others.MustRegister(of)
	of.WithLabelValues("lab").Set(0)
	s := newSite(t, func(o *api.Options) { o.Metrics = others })
	metrics := s.want("", "GET", "/metrics", "", 200, "")
	for _, want := range []string{"kernelflow_runtime_up{runtime=\"lab\"} 0", "go_goroutines"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in\n%s", want, metrics)
		}
	}
}

func TestLoginGivesATokenThatWhoamiKnows(t *testing.T) {
	s := newSite(t)
	login := func(name, word string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), "POST", s.url+"/latest/user/login",
			strings.NewReader(url.Values{"username": {name}, "password": {word}}.Encode()))
		check(t, err)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		return send(t, r)
	}
	status, answer := login("bob", password)
	var got struct {
		AccessToken string `json:"access_token"`
		TokenType   string `json:"token_type"`
	}
	check(t, json.Unmarshal([]byte(answer), &got))
	if status != 200 || got.TokenType != "bearer" {
		t.Fatalf("%d %s", status, answer)
	}
	me := s.want(got.AccessToken, "GET", "/latest/whoami", "", 200, "")
	if !strings.Contains(me, `"username":"bob"`) || strings.Contains(me, "argon2") {
		t.Errorf("whoami: %s", me)
	}
	for _, wrong := range [][2]string{{"bob", "x"}, {"nobody", password}} {
		if status, answer := login(wrong[0], wrong[1]); status != 400 || answer != `{"detail":"LOGIN_BAD_CREDENTIALS"}` {
			t.Errorf("%v: %d %s", wrong, status, answer)
		}
	}
	if status, _ := login("", ""); status != 422 {
		t.Errorf("an empty form: %d", status)
	}
	for _, token := range []string{"", "rubbish"} {
		s.want(token, "GET", "/latest/whoami", "", 401, `{"detail":"Unauthorized"}`)
	}
}

func TestANodeIsCreatedReadReplacedAndPatched(t *testing.T) {
	s := newSite(t)
	n := s.create(s.bob, checkoutBody)
	if n.Owner != "bob" || n.State != node.Running || n.Timeout.Sub(n.Created) != 6*time.Hour {
		t.Errorf("%+v", n)
	}
	path := "/latest/node/" + string(n.ID)
	var raw map[string]any
	check(t, json.Unmarshal([]byte(s.want("", "GET", path, "", 200, "")), &raw))
	if version := raw["data"].(map[string]any)["kernel_revision"].(map[string]any)["version"].(map[string]any); version["version"] != 6.0 {
		t.Errorf("version %v", version)
	}
	if created := raw["created"].(string); len(created) != 26 || raw["$schema"] != nil || raw["result"] != nil {
		t.Errorf("%v", raw)
	}
	raw["state"], raw["owner"] = "available", "eve"
	body, err := json.Marshal(raw)
	check(t, err)
	s.want(s.bob, "PUT", path, string(body), 200, "")
	got, err := s.store.Get(t.Context(), n.ID)
	check(t, err)
	if got.State != node.Available || got.Owner != "bob" {
		t.Errorf("after PUT: %+v", got)
	}
	s.want(s.bob, "PATCH", path, `{"result":"pass","artifacts":{"log":"https://x.example.org/log"}}`, 200, "")
	s.want(s.bob, "PATCH", path, `{"result":null,"holdoff":"2030-01-01 00:00"}`, 200, "")
	got, err = s.store.Get(t.Context(), n.ID)
	check(t, err)
	if got.Result != node.None || got.Artifacts["log"] == "" || got.Holdoff.Year() != 2030 {
		t.Errorf("after PATCH: %+v", got)
	}
	s.want(s.bob, "PATCH", path, `{}`, 400, `{"detail":"No fields to update"}`)
	s.want(s.bob, "PATCH", path, `{"state":"running"}`, 400, `{"detail":"Transition not allowed with state: running"}`)
	s.want(s.bob, "PATCH", path, `{"result":"great"}`, 422, "")
	s.want(s.bob, "PATCH", path, `{"timeout":"soon"}`, 422, "")
}

func TestAnArtifactMayBeAtAnyWebAddress(t *testing.T) {
	s := newSite(t)
	n := s.create(s.bob, checkoutBody)
	root := strings.Replace(checkoutBody, `"kind"`, `"artifacts":{"log":%q},"kind"`, 1)
	for link, status := range map[string]int{
		"http://127.0.0.1:35051/storage/x/log.txt.gz": 200, "http://[::1]:8001/a": 200, "https://x.example.org/good%20name+1?sig=a%2Fb&x=y": 200,
		"https://bucket_1.example.org/a,b": 200, "ftp://x.example.org/a": 422, "/storage/x": 422, "": 422,
	} {
		body := fmt.Sprintf(root, link)
		s.want(s.bob, "POST", "/latest/node", body, status, "")
		s.want(s.bob, "PUT", "/latest/node/"+string(n.ID), body, status, "")
		s.want(s.bob, "PATCH", "/latest/node/"+string(n.ID), fmt.Sprintf(`{"artifacts":{"log":%q}}`, link), status, "")
		s.want(s.bob, "PUT", "/latest/nodes/"+string(n.ID), `{"node":`+body+`,"child_nodes":[{"node":`+
			fmt.Sprintf(`{"kind":"test","name":"x","path":["checkout","x"],"artifacts":{"log":%q}}`, link)+`,"child_nodes":[]}]}`, status, "")
	}
}

func TestErrorsAreThoseOfKernelCI(t *testing.T) {
	s := newSite(t)
	n := s.create(s.admin, checkoutBody)
	unknown := "/latest/node/65f0000000000000000000ff"
	for _, tc := range []struct {
		token, method, path, body string
		status                    int
		answer                    string
	}{
		{"", "GET", unknown, "", 200, "null"},
		{"", "GET", "/latest/node/xyz", "", 400, ""},
		{s.bob, "PUT", unknown, checkoutBody, 404, `{"detail":"Node not found with id: 65f0000000000000000000ff"}`},
		{s.bob, "PATCH", unknown, `{"state":"done"}`, 404, `{"detail":"Node not found with id: 65f0000000000000000000ff"}`},
		{"", "POST", "/latest/node", checkoutBody, 401, `{"detail":"Unauthorized"}`},
		{s.bob, "PATCH", "/latest/node/" + string(n.ID), `{"state":"done"}`, 401, `{"detail":"Unauthorized to complete the operation"}`},
		{s.bob, "POST", "/latest/node", `{"name":"x","path":["x"],"kind":"nonsense"}`, 400, `{"detail":"Unsupported node kind: nonsense"}`},
		{s.bob, "POST", "/latest/node", `{"path":["x"]}`, 422, `{"detail":[{"loc":["body","name"],"msg":"Field required","type":"missing"}]}`},
		{s.bob, "POST", "/latest/node", `{"name":"x","path":"x"}`, 422, ""},
		{s.bob, "POST", "/latest/node", `{"name":`, 422, ""},
		{s.bob, "POST", "/latest/node", `{"name":"x","path":["x"],"parent":"65f0000000000000000000ff"}`, 404, `{"detail":"Parent not found with id: 65f0000000000000000000ff"}`},
		{s.bob, "POST", "/latest/node", `{"name":"x","path":["x"],"user_groups":["lab"]}`, 400, `{"detail":"User group does not exist with name: lab"}`},
		{"", "GET", "/latest/nodes?nonsense=1", "", 400, ""},
		{"", "GET", "/latest/nodes?name__re=%28", "", 400, ""},
		{"", "GET", "/latest/nodes?limit=5000", "", 422, ""},
		{s.bob, "GET", "/latest/stats/subscriptions", "", 403, ""},
		{s.bob, "GET", "/latest/listen/99", "", 404, ""},
		{s.bob, "POST", "/latest/publish/x", `{"data":{}}`, 422, ""},
		{"", "GET", "/latest/nothing-here", "", 404, ""},
	} {
		s.want(tc.token, tc.method, tc.path, tc.body, tc.status, tc.answer)
	}
}

func TestAPageTellsTheTotal(t *testing.T) {
	s := newSite(t)
	root := s.create(s.bob, checkoutBody)
	for i := range 7 {
		s.create(s.bob, fmt.Sprintf(`{"kind":"test","name":"t%d","path":["checkout","t"],"parent":%q}`, i, root.ID))
	}
	for _, tc := range []struct {
		path  string
		items int
		total int64
	}{
		{"/latest/nodes", 8, 8},
		{"/latest/nodes?kind=test&limit=3", 3, 7},
		{"/latest/nodes?kind=test&limit=3&offset=6", 1, 7},
		{"/latest/nodes?kind=test&limit=3&offset=60", 0, 7},
		{"/latest/nodes?name__re=%5Et%5B12%5D", 2, 2},
		{"/latest/nodes?parent=" + string(root.ID) + "&created__gt=2020-01-01", 7, 7},
	} {
		var page struct {
			Items []node.Node `json:"items"`
			Total int64       `json:"total"`
		}
		check(t, json.Unmarshal([]byte(s.want("", "GET", tc.path, "", 200, "")), &page))
		if len(page.Items) != tc.items || page.Total != tc.total {
			t.Errorf("%s: %d of %d", tc.path, len(page.Items), page.Total)
		}
	}
	var list []node.Node
	check(t, json.Unmarshal([]byte(s.want("", "GET", "/latest/nodes/fast?kind=test", "", 200, "")), &list))
	if len(list) != 7 {
		t.Errorf("fast: %d nodes", len(list))
	}
	s.want("", "GET", "/latest/nodes/fast?kind=job", "", 200, "[]")
	s.want("", "GET", "/latest/count?kind=test", "", 200, "7")
}

func report(n node.Node, result string) string {
	return fmt.Sprintf(`{"node":{"id":%q,"kind":"job","name":"ktest","path":["checkout","ktest"],"parent":%q,"state":"done","result":%q,
		"data":{"runtime":"other","platform":"p"}},"child_nodes":[{"node":{"kind":"test","name":"suite","state":"done","result":%q},
		"child_nodes":[{"node":{"kind":"test","name":"case","state":"done","result":%q},"child_nodes":[]}]}]}`, n.ID, n.Parent, result, result, result)
}

func TestAJobReportsOnceForItsOwnNode(t *testing.T) {
	s := newSite(t)
	root := s.create(s.bob, checkoutBody)
	n, token := s.job(s.bob, root.ID)
	other, _ := s.job2(s.bob, root.ID)
	path := "/latest/nodes/" + string(n.ID)
	s.want(token, "PUT", "/latest/nodes/"+string(other.ID), report(other, "pass"), 401, `{"detail":"Unauthorized to complete the operation"}`)
	s.want(token, "PATCH", "/latest/node/"+string(root.ID), `{"state":"done"}`, 401, "")
	s.want(token, "GET", "/latest/whoami", "", 401, "")
	first := s.want(token, "PUT", path, report(n, "pass"), 200, "")
	s.want(token, "PUT", path, report(n, "pass"), 200, first)
	s.want(token, "PUT", path, report(n, "fail"), 409, "")
	var nodes []node.Node
	check(t, json.Unmarshal([]byte(first), &nodes))
	if len(nodes) != 3 || nodes[0].Text("runtime") != "shell" || nodes[2].Parent != nodes[1].ID || nodes[2].TreeID != "t1" || nodes[2].Owner != "bob" {
		t.Errorf("%+v", nodes)
	}
	s.want("", "GET", "/latest/count", "", 200, "5")
	s.want("", "GET", "/latest/count?result=pass", "", 200, "3")
}

func TestAReportLosesNoArtifactThatCameSinceItsJobReadItsNode(t *testing.T) {
	s := newSite(t)
	n, token := s.job(s.bob, s.create(s.bob, checkoutBody).ID)
	path := "/latest/node/" + string(n.ID)
	s.want(s.bob, "PATCH", path, `{"artifacts":{"job_definition":"https://x.example.org/job.sh"}}`, 200, "")
	s.want(token, "PATCH", path, `{"artifacts":{"log":"https://x.example.org/log"}}`, 200, "")
	s.want(token, "PUT", "/latest/nodes/"+string(n.ID), report(n, "pass"), 200, "")
	answer := s.want("", "GET", path, "", 200, "")
	if !strings.Contains(answer, "https://x.example.org/job.sh") || !strings.Contains(answer, "https://x.example.org/log") {
		t.Error(answer)
	}
	s.want(s.bob, "PATCH", path, `{"artifacts":{}}`, 200, "")
	if answer := s.want("", "GET", path, "", 200, ""); !strings.Contains(answer, `"artifacts":{}`) {
		t.Errorf("its owner cannot take one away: %s", answer)
	}
}

func (s *site) job2(token string, parent node.ID) (node.Node, string) {
	n := s.create(token, fmt.Sprintf(`{"kind":"job","name":"other","path":["checkout","other"],"parent":%q,"data":{"runtime":"shell","platform":"p"}}`, parent))
	jobToken, err := s.auth.JobToken(n.ID, time.Hour)
	check(s.t, err)
	return n, jobToken
}

func TestAJobThatSomebodyElseEndedMayAddItsLogAndNothingElse(t *testing.T) {
	s := newSite(t)
	n, token := s.job(s.bob, s.create(s.bob, checkoutBody).ID)
	path := "/latest/node/" + string(n.ID)
	s.want(s.bob, "PATCH", path, `{"state":"done","result":"incomplete","artifacts":{"job_definition":"https://x.example.org/job.sh"}}`, 200, "")
	for body, status := range map[string]int{
		`{"result":"pass"}`: 409,
		`{"data":{}}`:       409,
		`{"artifacts":{}}`:  409,
		`{"artifacts":{"job_definition":"https://x.example.org/other","log":"https://x.example.org/log"}}`:                  409,
		`{"result":"pass","artifacts":{"job_definition":"https://x.example.org/job.sh","log":"https://x.example.org/log"}}`: 409,
	} {
		s.want(token, "PATCH", path, body, status, "")
	}
	s.want(token, "PATCH", path, `{"artifacts":{"job_definition":"https://x.example.org/job.sh","log":"https://x.example.org/log"}}`, 200, "")
	got, err := s.store.Get(t.Context(), n.ID)
	check(t, err)
	if got.Result != node.Incomplete || len(got.Artifacts) != 2 {
		t.Errorf("%+v", got)
	}
	s.want(token, "PATCH", path, `{"artifacts":{"job_definition":"https://x.example.org/job.sh","log":"https://x.example.org/log2"}}`, 409, "")
}

type heard struct {
	Channel string `json:"channel"`
	Data    string `json:"data"`
}

func (s *site) subscribe(token, query string) int64 {
	s.t.Helper()
	var sub store.Subscription
	check(s.t, json.Unmarshal([]byte(s.want(token, "POST", "/latest/subscribe/node"+query, "", 200, "")), &sub))
	return sub.ID
}

// listen returns the name of the node of the next event, or BEEP.
func (s *site) listen(token string, id int64) string {
	s.t.Helper()
	var h heard
	check(s.t, json.Unmarshal([]byte(s.want(token, "GET", fmt.Sprint("/latest/listen/", id), "", 200, "")), &h))
	var ce struct {
		SpecVersion string          `json:"specversion"`
		Owner       string          `json:"owner"`
		Data        json.RawMessage `json:"data"`
	}
	check(s.t, json.Unmarshal([]byte(h.Data), &ce))
	var data struct{ Name string }
	if string(ce.Data) == `"BEEP"` {
		return "BEEP"
	}
	check(s.t, json.Unmarshal(ce.Data, &data))
	if ce.SpecVersion != "1.0" || ce.Owner == "" || h.Channel != "node" {
		s.t.Errorf("%+v, %+v", h, ce)
	}
	return data.Name
}

func named(name string) string { return fmt.Sprintf(`{"name":%q,"path":[%q]}`, name, name) }

func TestAListenerHearsItsOwnEventsInOrder(t *testing.T) {
	s := newSite(t)
	own, all := s.subscribe(s.bob, ""), s.subscribe(s.bob, "?promisc=true")
	s.create(s.admin, named("one"))
	s.create(s.bob, named("two"))
	s.create(s.bob, named("three"))
	for i, want := range []string{"two", "three"} {
		if got := s.listen(s.bob, own); got != want {
			t.Errorf("own %d: %s", i, got)
		}
	}
	for i, want := range []string{"one", "two", "three"} {
		if got := s.listen(s.bob, all); got != want {
			t.Errorf("all %d: %s", i, got)
		}
	}
	s.want(s.bob, "POST", fmt.Sprint("/latest/unsubscribe/", own), "", 200, "")
	s.want(s.bob, "GET", fmt.Sprint("/latest/listen/", own), "", 404, "")
}

func TestAListenerIsWokenByTheNextEvent(t *testing.T) {
	s := newSite(t)
	id := s.subscribe(s.bob, "")
	var group sync.WaitGroup
	group.Go(func() {
		if got := s.listen(s.bob, id); got != "late" {
			t.Errorf("heard %s", got)
		}
	})
	s.create(s.bob, named("late"))
	group.Wait()
}

func TestASilentListenerGetsASignOfLife(t *testing.T) {
	s := newSite(t, func(o *api.Options) { o.KeepAlive = 20 * time.Millisecond })
	if got := s.listen(s.bob, s.subscribe(s.bob, "")); got != "BEEP" {
		t.Errorf("heard %s", got)
	}
}

func TestADurableSubscriberLosesNothing(t *testing.T) {
	s := newSite(t)
	id := s.subscribe(s.bob, "?subscriber_id=dash")
	for _, name := range []string{"one", "two", "three"} {
		s.create(s.bob, named(name))
	}
	if got := s.listen(s.bob, id) + " " + s.listen(s.bob, id); got != "one two" {
		t.Errorf("heard %s", got)
	}
	// It stops before it has dealt with "two".
	if again := s.subscribe(s.bob, "?subscriber_id=dash"); again != id {
		t.Errorf("another subscription: %d, was %d", again, id)
	}
	if got := s.listen(s.bob, id) + " " + s.listen(s.bob, id); got != "two three" {
		t.Errorf("after the return: %s", got)
	}
	s.want(s.admin, "POST", "/latest/subscribe/node?subscriber_id=dash", "", 403, "")
}

func TestTheHistoryIsFiltered(t *testing.T) {
	s := newSite(t)
	n := s.create(s.bob, checkoutBody)
	s.create(s.bob, named("other"))
	s.want(s.bob, "PATCH", "/latest/node/"+string(n.ID), `{"state":"done","result":"pass"}`, 200, "")
	s.want(s.bob, "PATCH", "/latest/node/"+string(n.ID)+"?noevent=true", `{"result":"fail"}`, 200, "")
	for query, want := range map[string]int{
		"": 3, "?kind=checkout": 2, "?op=updated": 1, "?state=done&result=pass": 1, "?node_id=" + string(n.ID): 2,
		"?limit=1": 1, "?from=2100-01-01": 0, "?recursive=true&limit=10": 3, "?path=che.*out": 2, "?owner=eve": 0,
	} {
		var list []map[string]any
		check(t, json.Unmarshal([]byte(s.want("", "GET", "/latest/events"+query, "", 200, "")), &list))
		if len(list) != want {
			t.Errorf("%s: %d events, want %d", query, len(list), want)
		}
		if strings.Contains(query, "recursive") && list[0]["node"] == nil {
			t.Errorf("%s: no node", query)
		}
	}
	s.want("", "GET", "/latest/events?recursive=true", "", 400, "")
}

func TestAListGivesEachItemToOneConsumer(t *testing.T) {
	s := newSite(t)
	for i := range 3 {
		s.want(s.bob, "POST", "/latest/push/work", fmt.Sprintf(`{"data":{"n":%d}}`, i), 200, "")
	}
	for i := range 3 {
		if got := s.want(s.bob, "GET", "/latest/pop/work", "", 200, ""); !strings.Contains(got, fmt.Sprintf(`"data":{"n":%d}`, i)) {
			t.Errorf("%d: %s", i, got)
		}
	}
}

func TestADeadLetterIsDeliveredAgainOnRequest(t *testing.T) {
	s := newSite(t)
	s.create(s.bob, named("one"))
	events, _, err := s.store.After(t.Context(), 0, eventFilter, 10)
	check(t, err)
	check(t, s.store.Bury(t.Context(), store.DeadLetter{Function: "report", Event: events[0], Error: "boom", Attempts: 8, Time: time.Now()}))
	s.want(s.bob, "GET", "/latest/dead-letters", "", 403, "")
	if got := s.want(s.admin, "GET", "/latest/dead-letters", "", 200, ""); !strings.Contains(got, "boom") {
		t.Errorf("%s", got)
	}
	path := "/latest/dead-letters/report/" + events[0].ID + "/replay"
	s.want(s.admin, "POST", path, "", 200, "")
	s.want(s.admin, "POST", path, "", 404, "")
	if events, _, err := s.store.After(t.Context(), 0, eventFilter, 10); err != nil || len(events) != 2 {
		t.Errorf("%d events, %v", len(events), err)
	}
}

var eventFilter = event.Filter{Channel: event.ChannelNode}
