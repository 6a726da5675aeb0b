package api_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/functions/api"
	"github.com/kernelflow/kernelflow/shared/bus"
)

func TestPushAndPop(t *testing.T) {
	s := newSite(t)
	for _, body := range []string{
		`{"data": {"n": 1}, "type": "job", "source": "https://lab.example.org/", "priority": "high", "id": "forged", "owner": "eve", "Odd Name": "x", "n": 7}`,
		`{"data": "text", "attributes": {"priority": "low"}}`,
		`{"data": {}}`, `{"data": null}`, `{"data": [false]}`,
	} {
		if status, answer := s.call(s.bob, "POST", "/latest/push/work", body); status != 200 || strings.TrimSpace(answer) != "null" {
			t.Errorf("%s: %d %s", body, status, answer)
		}
	}
	for _, want := range []map[string]string{
		{"data": `{"n":1}`, "type": `"job"`, "source": `"https://lab.example.org/"`, "priority": `"high"`, "owner": `"bob"`, "specversion": `"1.0"`},
		{"data": `"text"`, "type": `"api.kernelci.org"`, "source": `"https://api.kernelci.org/"`, "priority": `"low"`},
		{"data": `{}`}, {"data": `null`}, {"data": `[false]`},
	} {
		// Whoever asks gets the next item: a list has no owner.
		status, answer := s.call(s.admin, "GET", "/v0/pop/work", "")
		var got map[string]json.RawMessage
		check(t, json.Unmarshal([]byte(answer), &got))
		for name, value := range want {
			if status != 200 || string(got[name]) != value {
				t.Errorf("%d %s: %s, want %s", status, name, answer, value)
			}
		}
		if string(got["id"]) == `"forged"` || got["n"] != nil {
			t.Errorf("an id or a number that the client has chosen: %s", answer)
		}
	}
}

func TestPopOfAnEmptyListEnds(t *testing.T) {
	s := newSite(t, func(o *api.Options) { o.PopWait = time.Second })
	if status, answer := s.call(s.bob, "GET", "/pop/nothing", ""); status != 404 || !strings.Contains(answer, "nothing") {
		t.Errorf("%d %s", status, answer)
	}
}

func TestPopWaitsForAnItem(t *testing.T) {
	s := newSite(t)
	got := make(chan string, 1)
	go func() {
		status, answer := s.call(s.bob, "GET", "/pop/later", "")
		got <- fmt.Sprint(status, answer)
	}()
	if status, answer := s.call(s.bob, "POST", "/push/later", `{"data": "now"}`); status != 200 {
		t.Errorf("%d %s", status, answer)
	}
	if answer := <-got; !strings.HasPrefix(answer, "200") || !strings.Contains(answer, `"data":"now"`) {
		t.Error(answer)
	}
}

func TestBadItemsAreNotPushed(t *testing.T) {
	s := newSite(t, func(o *api.Options) { o.PopWait = time.Second })
	for _, bad := range []struct {
		token, path, body string
		status            int
		names             string
	}{
		{"", "/push/work", `{"data": 1}`, 401, "Unauthorized"},
		{s.bob, "/push/work", `{"type": "job"}`, 422, `"data"`},
		{s.bob, "/push/work", `{"data": 1, "type": 7}`, 422, `"type"`},
		{s.bob, "/push/work", `{"data": 1, "attributes": {"x": null}}`, 422, "x must be a text"},
		{s.bob, "/push/work", `{"data": 1, "attributes": {"x": 1}}`, 422, "attributes"},
		{s.bob, "/push/work", `[1]`, 422, "body"},
		{s.bob, "/push/work", `{"data": `, 422, "body"},
		{s.bob, "/push/work", `{"data": 1, "source": "%%"}`, 400, "source"},
		{s.bob, "/push/work", `{"data": "` + strings.Repeat("x", 64<<10) + `"}`, 413, "large"},
		{s.bob, "/push/" + strings.Repeat("x", 201), `{"data": 1}`, 422, `"list"`},
	} {
		if status, answer := s.call(bad.token, "POST", bad.path, bad.body); status != bad.status || !strings.Contains(answer, bad.names) {
			t.Errorf("%.60s: %d %s, want %d naming %s", bad.body, status, answer, bad.status, bad.names)
		}
	}
	if status, answer := s.call(s.bob, "GET", "/pop/work", ""); status != 404 {
		t.Errorf("something was pushed: %d %s", status, answer)
	}
	if status, _ := s.call("", "GET", "/pop/work", ""); status != 401 {
		t.Errorf("pop without a token: %d", status)
	}
}

func TestAFullListIsToldToComeBack(t *testing.T) {
	var lists bus.Bus
	s := newSite(t, func(o *api.Options) { lists = o.Bus })
	for range bus.MostItems {
		check(t, lists.Push(t.Context(), "full", []byte("{}")))
	}
	if status, answer := s.call(s.bob, "POST", "/push/full", `{"data": 1}`); status != 503 {
		t.Errorf("%d %s", status, answer)
	}
}
