package api_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/functions/api"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/schedule"
	"github.com/kernelflow/kernelflow/shared/store"
	"github.com/kernelflow/kernelflow/shared/store/mongo"
	"github.com/kernelflow/kernelflow/shared/store/mongo/mongotest"
)

// onMongo gives the API a MongoDB.
func onMongo(t *testing.T) option {
	t.Helper()
	st, err := mongo.Open(t.Context(), mongo.Options{URI: mongotest.Start(t), Database: "api", Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	check(t, err)
	t.Cleanup(func() { check(t, st.Close()) })
	return func(o *api.Options) { o.Store = st }
}

// decide keeps two decisions about a checkout.
func decide(t *testing.T, st store.Decisions, of node.ID) {
	t.Helper()
	at := time.Date(2025, 1, 12, 8, 0, 0, 0, time.UTC)
	passed, refused := schedule.Check{Of: "job kunit", Rule: "tree"}, schedule.Check{Of: "job kunit", Rule: "branch", Reason: "rules of job kunit: branch \"x\" is denied"}
	for i, r := range []schedule.Record{
		{Event: "first", Channel: "node", Previous: node.Running, Result: node.Pass, Outcomes: []schedule.Outcome{
			{Job: "kver", Kind: "job", Runtime: "shell", Type: "shell", Platforms: []string{"shell"}, Entry: "a.yaml:1", Node: "65f0000000000000000000a2"},
			{Job: "kunit", Kind: "job", Type: "lava", Platforms: []string{"board", "shell"}, Entry: "a.yaml:2", Reason: refused.Reason, Checks: []schedule.Check{passed, refused}},
		}},
		{Event: "second", Channel: "retry", Retry: 1, Outcomes: []schedule.Outcome{{Job: "gone", Entry: "a.yaml:3", Reason: "x"}}},
	} {
		r.Node, r.Time, r.Kind, r.Name, r.State = of, at.Add(time.Duration(i)*time.Minute), node.KindCheckout, "checkout", node.Available
		body, err := r.Pack()
		check(t, err)
		check(t, st.PutDecided(t.Context(), store.Decided{Event: r.Event, Node: of, Time: r.Time, Body: body}))
	}
}

func TestANodeTellsWhyItsJobsWereCreatedOrNot(t *testing.T) {
	for name, make := range map[string]func(*testing.T) option{
		"sqlite": func(*testing.T) option { return func(*api.Options) {} },
		"mongo":  onMongo,
	} {
		t.Run(name, func(t *testing.T) {
			var st store.Decisions
			s := newSite(t, make(t), func(o *api.Options) { st = o.Store })
			const id = "65f0000000000000000000a1"
			decide(t, st, id)
			asked := func(query string) string {
				var page struct {
					Total int
					Items []struct {
						Event     string
						Created   int
						Decisions []struct{ Job string }
					}
				}
				check(t, json.Unmarshal([]byte(s.want("", "GET", "/latest/node/"+id+"/schedule"+query, "", 200, "")), &page))
				var out strings.Builder
				for _, i := range page.Items {
					fmt.Fprintf(&out, "%s(%d)", i.Event, i.Created)
					for _, d := range i.Decisions {
						out.WriteString(" " + d.Job)
					}
					out.WriteString("; ")
				}
				return fmt.Sprint(out.String(), page.Total)
			}
			for query, want := range map[string]string{
				"":                            "second(0) gone; first(1) kver kunit; 2",
				"?limit=1":                    "second(0) gone; 2",
				"?offset=1":                   "first(1) kver kunit; 2",
				"?job=kver":                   "second(0); first(1) kver; 2",
				"?runtime=shell":              "second(0); first(1) kver; 2",
				"?platform=board":             "second(0); first(1) kunit; 2",
				"?platform=shell":             "second(0); first(1) kver kunit; 2",
				"?created=true":               "second(0); first(1) kver; 2",
				"?created=false&job=kunit":    "second(0); first(1) kunit; 2",
				"?created=true&runtime=other": "second(0); first(1); 2",
			} {
				if got := asked(query); got != want {
					t.Errorf("%s: %s, want %s", query, got, want)
				}
			}
			s.want("", "GET", "/latest/node/"+id+"/schedule?limit=1&offset=1&job=kunit", "", 200, `{"origin":null,"items":[{"event":"first","channel":"node",`+
				`"time":"2025-01-12T08:00:00.000000","kind":"checkout","name":"checkout","state":"available","result":"pass","previous_state":"running",`+
				`"retry_counter":0,"created":1,"decisions":[{"job":"kunit","kind":"job","runtime":null,"runtime_type":"lava","platforms":["board","shell"],`+
				`"entry":"a.yaml:2","created":false,"node":null,"reason":"rules of job kunit: branch \"x\" is denied","rules":[`+
				`{"of":"job kunit","rule":"tree","allowed":true,"reason":null},{"of":"job kunit","rule":"branch","allowed":false,`+
				`"reason":"rules of job kunit: branch \"x\" is denied"}]}]}],"total":2,"limit":1,"offset":1}`)
		})
	}
}

func TestWithoutDecisionsANodesScheduleIsEmpty(t *testing.T) {
	s := newSite(t)
	n := s.create(s.bob, checkoutBody)
	s.want("", "GET", "/latest/node/"+string(n.ID)+"/schedule", "", 200, `{"origin":null,"items":[],"total":0,"limit":10,"offset":0}`)
	s.want("", "GET", "/latest/node/65f0000000000000000000ff/schedule", "", 404, "")
	s.want("", "GET", "/latest/node/nonsense/schedule", "", 400, "")
	for _, query := range []string{"created=maybe", "created=", "limit=0", "limit=51", "offset=-1"} {
		s.want("", "GET", "/latest/node/"+string(n.ID)+"/schedule?"+query, "", 422, "")
	}
}

func TestAJobTellsWhyItWasCreated(t *testing.T) {
	var st store.Store
	s := newSite(t, func(o *api.Options) { st, _ = o.Store.(store.Store) })
	parent := s.create(s.bob, checkoutBody)
	decide(t, st, parent.ID)
	for id, want := range map[node.ID]string{
		"65f0000000000000000000a2": `{"origin":{"event":"first",`,
		"65f0000000000000000000a3": `{"origin":null,`,
	} {
		_, err := st.Create(t.Context(), node.Node{ID: id, Kind: node.KindJob, Name: "kver", Path: []string{"checkout", "kver"}, Parent: parent.ID,
			Data: map[string]any{"runtime": "shell", "platform": string(id)}})
		check(t, err)
		answer := s.want("", "GET", "/latest/node/"+string(id)+"/schedule", "", 200, "")
		if !strings.HasPrefix(answer, want) || strings.Contains(answer, "kunit") {
			t.Errorf("%s: %s", id, answer)
		}
	}
}
