package api_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/event"
)

type listed struct {
	ID        string          `json:"id"`
	Timestamp string          `json:"timestamp"`
	Sequence  int64           `json:"sequence_id"`
	Channel   string          `json:"channel"`
	Owner     *string         `json:"owner"`
	Data      json.RawMessage `json:"data"`
	Node      *struct {
		ID string `json:"id"`
	} `json:"node"`
}

func (s *site) events(query string) []listed {
	s.t.Helper()
	var list []listed
	check(s.t, json.Unmarshal([]byte(s.want("", "GET", "/latest/events"+query, "", 200, "")), &list))
	return list
}

func sequencesOf(list []listed) string {
	var out []string
	for _, e := range list {
		out = append(out, fmt.Sprint(e.Sequence))
	}
	return strings.Join(out, " ")
}

func TestEachFilterOfEventsSelects(t *testing.T) {
	s := newSite(t)
	n := s.create(s.bob, checkoutBody)
	s.create(s.admin, `{"name":"other","path":["a","other"],"group":"g"}`)
	s.want(s.bob, "PATCH", "/latest/node/"+string(n.ID), `{"state":"done","result":"pass"}`, 200, "")
	s.want(s.bob, "POST", "/latest/publish/custom", `{"data":{"n":1}}`, 200, "")
	all := s.events("")
	if sequencesOf(all) != "1 2 3 4" || len(all[0].ID) != 24 || len(all[0].Timestamp) != 26 || *all[1].Owner != "admin" || all[3].Channel != "custom" || all[0].Node != nil {
		t.Fatalf("%+v", all)
	}
	for query, want := range map[string]string{
		"kind=checkout": "1 3", "state=done": "3", "result=pass": "3", "op=created": "1 2", "name=other": "2", "group=g": "2", "owner=bob": "1 3 4",
		"channel=custom": "4", "channel=node&kind=checkout&state=running&op=created": "1", "node_id=" + string(n.ID): "1 3", "data.id=" + string(n.ID): "1 3",
		"path=" + url.QueryEscape(`^a\.oth`): "2", "id=" + all[2].ID: "3", "ids=" + all[3].ID + "%20,," + all[0].ID: "1 4", "id=65f0000000000000000000ff": "",
		"limit=2": "1 2", "limit=0": "1 2 3 4", "limit=1000000": "1 2 3 4", "result=null": "", "kind=": "1 2 3 4",
		"from=" + all[1].Timestamp: "3 4", "from=" + url.QueryEscape(strings.Replace(all[1].Timestamp, "T", " ", 1)+"+00:00"): "3 4",
		"from=2100-01-01": "", "from=1970-01-01T00:00:00.000000&limit=1": "1",
	} {
		if got := sequencesOf(s.events("?" + query)); got != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
}

func TestRecursiveBringsTheNodeOfEachEvent(t *testing.T) {
	s := newSite(t)
	n := s.create(s.bob, checkoutBody)
	s.want(s.bob, "POST", "/latest/publish/custom", `{"data":{"n":1}}`, 200, "")
	list := s.events("?recursive=true&limit=1000")
	if len(list) != 2 || list[0].Node == nil || list[0].Node.ID != string(n.ID) || list[1].Node != nil {
		t.Errorf("%+v", list)
	}
	if list := s.events("?recursive=false"); list[0].Node != nil {
		t.Errorf("%+v", list)
	}
	for _, query := range []string{"recursive=true", "recursive=true&limit=0", "recursive=true&limit=1001"} {
		s.want("", "GET", "/latest/events?"+query, "", 400, `{"detail":"Recursive limit is too large, max is 1000"}`)
	}
}

func TestABadFilterOfEventsIsNamed(t *testing.T) {
	s := newSite(t)
	for query, want := range map[string]string{
		"id=x":                                   "Invalid id format",
		"ids=65f0000000000000000000ff,x":         "Invalid ids format",
		"ids=,":                                  "ids must contain at least one id",
		"ids=a&id=b":                             "Provide either id or ids, not both",
		"node_id=a&data.id=b":                    "Provide either node_id or data.id, not both",
		"colour=blue":                            "colour: is no filter of events",
		"ids=" + strings.Repeat("0", 24*1000+24): "Invalid ids format",
	} {
		s.want("", "GET", "/latest/events?"+query, "", 400, fmt.Sprintf(`{"detail":%q}`, want))
	}
	for _, query := range []string{"from=yesterday", "path=%28", "node_id=xyz"} {
		field, _, _ := strings.Cut(query, "=")
		if got := s.want("", "GET", "/latest/events?"+query, "", 400, ""); !strings.Contains(got, field) {
			t.Errorf("%s: %s", query, got)
		}
	}
	for _, query := range []string{"limit=-1", "limit=many", "recursive=2", "path=" + strings.Repeat("a", 513)} {
		s.want("", "GET", "/latest/events?"+query, "", 422, "")
	}
}

func TestEventsAnswerAtMostTenThousandAndFromGoesOn(t *testing.T) {
	s := newSite(t)
	const total = 10_300
	at := time.Date(2025, 1, 12, 8, 0, 0, 0, time.UTC)
	events := make([]event.Event, total)
	for i := range events {
		events[i] = event.Event{ID: fmt.Sprint(i), Channel: "c", Owner: "bob", Time: at.Add(time.Duration(i) * time.Millisecond), Data: []byte(`{}`)}
	}
	check(t, s.store.Append(t.Context(), events...))
	first := s.events("?channel=c")
	if len(first) != 10_000 {
		t.Fatalf("%d events", len(first))
	}
	rest := s.events("?channel=c&from=" + first[len(first)-1].Timestamp)
	if len(rest) != total-10_000 || rest[0].Sequence != 10_001 {
		t.Errorf("%d events behind the first answer", len(rest))
	}
	for i, e := range append(first, rest...) {
		if e.Sequence != int64(i+1) {
			t.Fatalf("event %d has sequence %d", i, e.Sequence)
		}
	}
}
