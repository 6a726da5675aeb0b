package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/functions/api"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/store"
)

func keysOf(t testing.TB, text string) string {
	t.Helper()
	var m map[string]any
	check(t, json.Unmarshal([]byte(text), &m))
	return strings.Join(slices.Sorted(maps.Keys(m)), " ")
}

// heardFrom polls once and returns the CloudEvent.
func (s *site) heardFrom(token string, id int64) map[string]any {
	s.t.Helper()
	var h heard
	check(s.t, json.Unmarshal([]byte(s.want(token, "GET", fmt.Sprint("/latest/listen/", id), "", 200, "")), &h))
	var ce map[string]any
	check(s.t, json.Unmarshal([]byte(h.Data), &ce))
	return ce
}

func TestEveryCreationAndUpdateUnlessNoeventIsAnEventOnChannelNode(t *testing.T) {
	s := newSite(t)
	id := s.subscribe(s.bob, "")
	n := s.create(s.bob, checkoutBody)
	path := "/latest/node/" + string(n.ID)
	s.want(s.bob, "PATCH", path+"?noevent=true", `{"debug":{"a":1}}`, 200, "")
	s.want(s.bob, "PATCH", path, `{"state":"available","result":"pass"}`, 200, "")
	for _, want := range []struct{ keys, op string }{
		{"data group id is_hierarchy kind name op owner path result state", "created"},
		{"data group id is_hierarchy kind name op owner path previous_result previous_state result state", "updated"},
	} {
		ce := s.heardFrom(s.bob, id)
		data := ce["data"].(map[string]any)
		if got := strings.Join(slices.Sorted(maps.Keys(ce)), " "); got != "_sequence_id data id owner source specversion time type" {
			t.Errorf("the CloudEvent has %s", got)
		}
		if got := strings.Join(slices.Sorted(maps.Keys(data)), " "); got != want.keys || data["op"] != want.op || data["id"] != string(n.ID) {
			t.Errorf("%v, want %s", data, want.keys)
		}
		if ce["specversion"] != "1.0" || ce["source"] != "https://api.kernelci.org/" || ce["type"] != "api.kernelci.org" || ce["owner"] != "bob" {
			t.Errorf("%v", ce)
		}
		if _, err := time.Parse(time.RFC3339, ce["time"].(string)); err != nil {
			t.Error(err)
		}
	}
}

func TestSubscribeAnswersIDChannelUserAndPromiscuous(t *testing.T) {
	s := newSite(t)
	for query, promiscuous := range map[string]string{"": "false", "?promisc=true": "true", "?subscriber_id=": "false", "?subscriber_id=x": "false"} {
		got := s.want(s.bob, "POST", "/latest/subscribe/some-channel"+query, "", 200, "")
		if !regexp.MustCompile(`^\{"id":[1-9][0-9]*,"channel":"some-channel","user":"bob","promiscuous":` + promiscuous + `\}$`).MatchString(got) {
			t.Errorf("%s: %s", query, got)
		}
	}
	s.want("", "POST", "/latest/subscribe/node", "", 401, "")
	s.want(s.bob, "POST", "/latest/subscribe/node?promisc=maybe", "", 422, "")
	s.want(s.bob, "POST", "/latest/subscribe/node?subscriber_id="+strings.Repeat("x", 201), "", 422, "")
	for _, hostile := range []string{"a\x00b", "a\nb", "a\xffb"} {
		if status, answer := s.call(s.bob, "POST", "/latest/subscribe/node?subscriber_id="+url.QueryEscape(hostile), ""); status != 400 && status != 422 {
			t.Errorf("%q: %d %s", hostile, status, answer)
		}
	}
}

func TestWithoutSubscriberIDAListenerHearsWhatComesFromNowOn(t *testing.T) {
	s := newSite(t, func(o *api.Options) { o.KeepAlive = 20 * time.Millisecond })
	s.create(s.bob, named("before"))
	id := s.subscribe(s.bob, "")
	if got := s.listen(s.bob, id); got != "BEEP" {
		t.Errorf("heard %s", got)
	}
	s.create(s.bob, named("after"))
	if got := s.listen(s.bob, id); got != "after" {
		t.Errorf("heard %s", got)
	}
	s.want(s.bob, "POST", fmt.Sprint("/latest/unsubscribe/", id), "", 200, "null")
	s.create(s.bob, named("missed"))
	if got := s.listen(s.bob, s.subscribe(s.bob, "")); got != "BEEP" {
		t.Errorf("heard %s", got)
	}
}

func TestListenAnswersTheMessageOfARedisClient(t *testing.T) {
	s := newSite(t)
	id := s.subscribe(s.bob, "")
	s.create(s.bob, named("x"))
	got := s.want(s.bob, "GET", fmt.Sprint("/latest/listen/", id), "", 200, "")
	var m map[string]any
	check(t, json.Unmarshal([]byte(got), &m))
	if keysOf(t, got) != "channel data pattern type" || m["type"] != "message" || m["pattern"] != nil || m["channel"] != "node" {
		t.Errorf("%s", got)
	}
}

func TestTheKeepAliveIsAnEventWithDataBEEP(t *testing.T) {
	s := newSite(t, func(o *api.Options) { o.KeepAlive = 20 * time.Millisecond })
	for _, query := range []string{"", "?promisc=true", "?subscriber_id=dash"} {
		ce := s.heardFrom(s.bob, s.subscribe(s.bob, query))
		if got := strings.Join(slices.Sorted(maps.Keys(ce)), " "); got != "data id source specversion time type" || ce["data"] != "BEEP" {
			t.Errorf("%s: %v", query, ce)
		}
	}
}

func TestOnlyTheOwnersOwnEventsUnlessPromiscuous(t *testing.T) {
	s := newSite(t)
	own, all := s.subscribe(s.bob, ""), s.subscribe(s.bob, "?promisc=true")
	s.want(s.admin, "POST", "/latest/publish/other", `{"data":{"n":1}}`, 200, "")
	s.create(s.admin, named("of admin"))
	s.create(s.bob, named("of bob"))
	if got := s.listen(s.bob, own); got != "of bob" {
		t.Errorf("own: %s", got)
	}
	if got := s.listen(s.bob, all); got != "of admin" {
		t.Errorf("all: %s", got)
	}
}

func TestAnUnknownSubscriptionIs404(t *testing.T) {
	s := newSite(t)
	for _, route := range [][2]string{{"GET", "/latest/listen/99"}, {"POST", "/latest/unsubscribe/99"}} {
		s.want(s.bob, route[0], route[1], "", 404, `{"detail":"Subscription id not found: 'Subscription 99 not found'"}`)
	}
	s.want(s.bob, "GET", "/latest/listen/abc", "", 422, "")
	s.want(s.bob, "GET", "/latest/listen/99999999999999999999", "", 422, "")
	s.want("", "GET", "/latest/listen/99", "", 401, "")
}

func TestAnothersSubscriptionIsRefused(t *testing.T) {
	s := newSite(t)
	id := s.subscribe(s.bob, "?subscriber_id=dash")
	refused := fmt.Sprintf(`{"detail":"Subscription %d not owned by admin"}`, id)
	s.want(s.admin, "GET", fmt.Sprint("/latest/listen/", id), "", 403, refused)
	s.want(s.admin, "POST", fmt.Sprint("/latest/unsubscribe/", id), "", 403, refused)
	s.want(s.admin, "POST", "/latest/subscribe/node?subscriber_id=dash", "", 403, `{"detail":"Subscriber dash owned by different user"}`)
}

func TestPollingForTheNextAcknowledgesThePreviousOne(t *testing.T) {
	s := newSite(t, func(o *api.Options) { o.KeepAlive = 20 * time.Millisecond })
	id := s.subscribe(s.bob, "?subscriber_id=dash")
	position := func() int64 {
		durable, err := s.store.Durable(t.Context(), 1)
		check(t, err)
		return durable[0].Acknowledged
	}
	delivered := int64(0)
	s.create(s.bob, named("one"))
	s.create(s.bob, named("two"))
	for i, want := range []string{"one", "two", "BEEP"} {
		got := s.listen(s.bob, id)
		delivered = min(delivered+1, 2)
		if s.noted(id, delivered); got != want || position() != int64(i) {
			t.Errorf("poll %d: heard %s, acknowledged %d", i, got, position())
		}
	}
	// One that waits has acknowledged already, however its poll ends.
	s.create(s.bob, named("three"))
	if got := s.listen(s.bob, id); got != "three" {
		t.Errorf("heard %s", got)
	}
	check(t, s.store.Append(t.Context(), event.Event{ID: "other", Channel: "other", Data: []byte("1")}))
	if got := s.listen(s.bob, id); got != "BEEP" || position() != 4 {
		t.Errorf("heard %s, acknowledged %d", got, position())
	}
}

func TestADurablePlaceOutlastsUnsubscribe(t *testing.T) {
	s := newSite(t)
	id := s.subscribe(s.bob, "?subscriber_id=dash")
	s.create(s.bob, named("one"))
	s.create(s.bob, named("two"))
	if got := s.listen(s.bob, id); got != "one" {
		t.Errorf("heard %s", got)
	}
	s.want(s.bob, "POST", fmt.Sprint("/latest/unsubscribe/", id), "", 200, "null")
	s.want(s.bob, "GET", fmt.Sprint("/latest/listen/", id), "", 404, "")
	s.create(s.bob, named("three"))
	id = s.subscribe(s.bob, "?subscriber_id=dash")
	for _, want := range []string{"one", "two", "three"} {
		if got := s.listen(s.bob, id); got != want {
			t.Errorf("heard %s, want %s", got, want)
		}
	}
}

func TestADurableSubscriberResumesWithoutLimit(t *testing.T) {
	s := newSite(t)
	id := s.subscribe(s.bob, "?subscriber_id=dash")
	const total = 1500 // more than KernelCI's 1000, and more than is kept in memory
	events := make([]event.Event, total)
	for i := range events {
		events[i] = event.Event{ID: fmt.Sprint(i), Channel: "node", Owner: "bob", Type: "t", Source: "s", Time: time.Now(),
			Data: fmt.Appendf(nil, `{"name":"%d"}`, i)}
	}
	check(t, s.store.Append(t.Context(), events...))
	for i := range total {
		if got := s.listen(s.bob, id); got != fmt.Sprint(i) {
			t.Fatalf("event %d: heard %s", i, got)
		}
	}
}

func TestStatsTellLastPollPositionAndLag(t *testing.T) {
	s := newSite(t)
	s.create(s.bob, named("zero"))
	durable, passing := s.subscribe(s.bob, "?subscriber_id=dash&promisc=true"), s.subscribe(s.bob, "")
	for _, name := range []string{"one", "two", "three"} {
		s.create(s.bob, named(name))
	}
	s.listen(s.bob, durable)
	s.listen(s.bob, durable)
	s.noted(durable, 3)
	text := s.want(s.admin, "GET", "/latest/stats/subscriptions", "", 200, "")
	var list []struct {
		ID           int64   `json:"id"`
		Channel      string  `json:"channel"`
		User         string  `json:"user"`
		Promiscuous  bool    `json:"promiscuous"`
		Created      string  `json:"created"`
		LastPoll     *string `json:"last_poll"`
		SubscriberID *string `json:"subscriber_id"`
		Position     int64   `json:"position"`
		Lag          int64   `json:"lag"`
	}
	check(t, json.Unmarshal([]byte(text), &list))
	if len(list) != 2 || list[0].ID != durable || list[1].ID != passing {
		t.Fatalf("%s", text)
	}
	d, p := list[0], list[1]
	if d.Channel != "node" || d.User != "bob" || !d.Promiscuous || *d.SubscriberID != "dash" || d.Position != 2 || d.Lag != 2 || len(*d.LastPoll) != 26 {
		t.Errorf("%s", text)
	}
	if p.SubscriberID != nil || p.LastPoll != nil || p.Position != 1 || p.Lag != 3 || len(p.Created) != 26 {
		t.Errorf("%s", text)
	}
	s.want(s.bob, "GET", "/latest/stats/subscriptions", "", 403, "")
	s.want("", "GET", "/latest/stats/subscriptions", "", 401, "")
}

func TestMetricsTellTheLagOfEachDurableSubscriber(t *testing.T) {
	s := newSite(t)
	s.subscribe(s.bob, "?subscriber_id="+url.QueryEscape(`a "quoted" \name`))
	for i := range 120 {
		sub := store.Subscription{Channel: "node", User: "bob", SubscriberID: fmt.Sprint("ahead-", i), Acknowledged: 2}
		_, err := s.store.Subscribe(t.Context(), sub)
		check(t, err)
	}
	s.create(s.bob, named("one"))
	s.create(s.bob, named("two"))
	metrics := s.want("", "GET", "/metrics", "", 200, "")
	for _, want := range []string{
		`kernelflow_subscriber_lag_events{subscriber_id="a \"quoted\" \\name"} 2`, `kernelflow_subscriber_lag_events{subscriber_id="ahead-0"} 0`,
		"kernelflow_subscriber_lag_up 1", "kernelflow_listeners_waiting 0",
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s", want)
		}
	}
	if n := strings.Count(metrics, "kernelflow_subscriber_lag_events{"); n != 100 {
		t.Errorf("%d lags", n)
	}
}

// waitsFor returns when that many listeners wait.
func (s *site) waitsFor(n int) {
	s.t.Helper()
	want := fmt.Sprintf("kernelflow_listeners_waiting %d\n", n)
	for !strings.Contains(s.want("", "GET", "/metrics", "", 200, "")+"\n", want) {
		if err := s.t.Context().Err(); err != nil {
			s.t.Fatal(err)
		}
	}
}

func TestALongPollEndsWithAWholeAnswerWhenTheServerStops(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	s := newSite(t, func(o *api.Options) { o.KeepAlive = time.Hour })
	handler := http.NewServeMux()
	handler.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		both, end := context.WithCancel(r.Context())
		defer end()
		defer context.AfterFunc(ctx, end)()
		s.handler.ServeHTTP(w, r.WithContext(both))
	})
	server := newServer(t, handler)
	id := s.subscribe(s.bob, "?subscriber_id=dash")
	s.create(s.bob, named("one"))
	if got := s.listen(s.bob, id); got != "one" {
		t.Errorf("heard %s", got)
	}
	at := &site{t: t, url: server.URL}
	var group sync.WaitGroup
	group.Go(func() {
		if got := at.listen(s.bob, id); got != "BEEP" {
			t.Errorf("heard %s", got)
		}
	})
	s.waitsFor(1)
	stop()
	group.Wait()
	s.create(s.bob, named("two"))
	if got := s.listen(s.bob, id); got != "two" {
		t.Errorf("heard %s after the stop", got)
	}
}

func newServer(t testing.TB, h http.Handler) *httptest.Server {
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server
}

func TestPublishAddsTheOwnerAndKeepsTypeSourceAndAttributes(t *testing.T) {
	s := newSite(t)
	answer := s.want(s.bob, "POST", "/latest/subscribe/custom?promisc=true", "", 200, "")
	var sub store.Subscription
	check(t, json.Unmarshal([]byte(answer), &sub))
	for _, tc := range []struct{ body, want string }{
		{`{"data":{"n":1}}`, `{"data":{"n":1},"owner":"admin","source":"https://api.kernelci.org/","type":"api.kernelci.org"}`},
		{`{"data":"text","type":"a.b","source":"https://x.example.org/","attributes":{"color":"blue","owner":"eve"}}`,
			`{"color":"blue","data":"text","owner":"admin","source":"https://x.example.org/","type":"a.b"}`},
	} {
		s.want(s.admin, "POST", "/latest/publish/custom", tc.body, 200, "null")
		ce := s.heardFrom(s.bob, sub.ID)
		for _, key := range []string{"id", "time", "specversion", "_sequence_id"} {
			delete(ce, key)
		}
		got, err := json.Marshal(ce)
		check(t, err)
		if string(got) != tc.want {
			t.Errorf("%s: heard %s, want %s", tc.body, got, tc.want)
		}
	}
	for _, empty := range []string{`{}`, `{"data":null}`, `{"data":{}}`, ``} {
		s.want(s.admin, "POST", "/latest/publish/custom", empty, 422, "")
	}
	s.want("", "POST", "/latest/publish/custom", `{"data":1}`, 401, "")
	if last, err := s.store.LastSequence(t.Context()); err != nil || last != 2 {
		t.Errorf("the log has come to %d: %v", last, err)
	}
}
