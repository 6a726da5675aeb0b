package event_test

import (
	"encoding/json"
	"errors"
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/node"
)

func sample() node.Node {
	n := node.Node{ID: "65f000000000000000000001", Kind: node.KindKbuild, Name: "kbuild-gcc", Path: []string{"checkout", "kbuild-gcc"},
		Owner: "admin", TreeID: "t1", Data: map[string]any{"arch": "x86_64"}}
	n.SetDefaults(time.Date(2025, 1, 12, 8, 0, 0, 0, time.UTC))
	return n
}

func TestAnUpdateTellsHowTheNodeWasBefore(t *testing.T) {
	before := sample()
	after := before.Clone()
	after.State, after.Result = node.Available, node.Pass
	e, err := event.OfUpdated(before, after, 2, true)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"op":"updated","id":"65f000000000000000000001","kind":"kbuild","name":"kbuild-gcc","path":["checkout","kbuild-gcc"],` +
		`"group":null,"state":"available","result":"pass","owner":"admin","data":{"arch":"x86_64"},"is_hierarchy":true,"previous_state":"running","previous_result":null}`
	if string(e.Data) != want {
		t.Errorf("got  %s\nwant %s", e.Data, want)
	}
}

func TestTheDataOfANodeEventHasKernelCIsKeysAlone(t *testing.T) {
	n := sample()
	n.RetryCounter, n.JobFilter = 3, []string{"kunit"}
	created, err := event.OfCreated(n)
	if err != nil {
		t.Fatal(err)
	}
	updated, err := event.OfUpdated(n, n, 2, false)
	if err != nil {
		t.Fatal(err)
	}
	always := []string{"data", "group", "id", "is_hierarchy", "kind", "name", "op", "owner", "path", "result", "state"}
	for what, tc := range map[string]struct {
		event event.Event
		want  []string
	}{
		"created": {created, always},
		"updated": {updated, append(slices.Clone(always[:7]), "owner", "path", "previous_result", "previous_state", "result", "state")},
	} {
		var data map[string]any
		if err := json.Unmarshal(tc.event.Data, &data); err != nil {
			t.Fatal(err)
		}
		if got := slices.Sorted(maps.Keys(data)); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v\nwant %v", what, got, tc.want)
		}
	}
}

func TestAListenersMessageIsThatOfKernelCI(t *testing.T) {
	at := time.Date(2025, 1, 12, 8, 0, 0, 5000, time.UTC)
	logged := event.Event{ID: "u", Channel: "custom", Type: "api.kernelci.org", Source: "https://api.kernelci.org/", Time: at, Owner: "bob", TreeID: "t",
		Attributes: map[string]string{"color": "blue", "id": "not mine"}, Data: json.RawMessage(`{"n": 1}`), Sequence: 7}
	beep := event.Event{ID: "u", Type: "api.kernelci.org", Source: "https://api.kernelci.org/", Time: at, Data: json.RawMessage(`"BEEP"`)}
	for _, tc := range []struct {
		event event.Event
		want  string
	}{
		{logged, `{"_sequence_id":7,"color":"blue","data":{"n":1},"id":"u","owner":"bob","source":"https://api.kernelci.org/","specversion":"1.0",` +
			`"time":"2025-01-12T08:00:00.000005+00:00","type":"api.kernelci.org"}`},
		{beep, `{"data":"BEEP","id":"u","source":"https://api.kernelci.org/","specversion":"1.0","time":"2025-01-12T08:00:00.000005+00:00","type":"api.kernelci.org"}`},
	} {
		got, err := tc.event.Message()
		if err != nil || string(got) != tc.want {
			t.Errorf("got  %s\nwant %s: %v", got, tc.want, err)
		}
	}
}

func TestAKeyLeadsBackToTheSequence(t *testing.T) {
	for _, sequence := range []int64{1, 255, 1 << 40, math.MaxInt64} {
		key := event.Event{ID: "f81d4fae-7dec-11d0-a765-00a0c91e6bf6", Sequence: sequence}.Key()
		if got := event.SequenceOf(key); got != sequence || len(key) != 24 {
			t.Errorf("%d: key %s, which is of %d", sequence, key, got)
		}
	}
	foreign := event.Event{ID: "65f000000000000000000001", Sequence: 5}
	if foreign.Key() != "65f000000000000000000001" || event.SequenceOf(foreign.Key()) != 0 {
		t.Errorf("an event that KernelCI logged: key %s, of sequence %d", foreign.Key(), event.SequenceOf(foreign.Key()))
	}
}

func TestTheSameWriteIsTheSameEvent(t *testing.T) {
	n := sample()
	a, _ := event.OfCreated(n)
	b, _ := event.OfCreated(n)
	c, _ := event.OfUpdated(n, n, 2, false)
	if a.ID != b.ID || a.ID == c.ID {
		t.Errorf("ids %s, %s, %s", a.ID, b.ID, c.ID)
	}
}

func TestAnEventSurvivesTheCloud(t *testing.T) {
	e, _ := event.OfCreated(sample())
	e.Sequence, e.Attributes = 42, map[string]string{"traceparent": "00-1-2-3"}
	ce, err := e.CloudEvent()
	if err != nil {
		t.Fatal(err)
	}
	if got := ce.Extensions()["kind"]; got != "kbuild" {
		t.Errorf("extension kind is %v", got)
	}
	back, err := event.FromCloudEvent(ce)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := json.Marshal(e)
	if got, _ := json.Marshal(back); string(got) != string(want) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestFilterLooksAtWhatTheNodeBecame(t *testing.T) {
	e, _ := event.OfCreated(sample())
	for _, tc := range []struct {
		filter event.Filter
		want   bool
	}{
		{event.Filter{}, true},
		{event.Filter{Channel: "node"}, true},
		{event.Filter{Channel: "retry"}, false},
		{event.Filter{Channel: "node", Kinds: []node.Kind{node.KindCheckout, node.KindKbuild}}, true},
		{event.Filter{Channel: "node", Kinds: []node.Kind{node.KindCheckout}}, false},
		{event.Filter{Ops: []event.Op{event.Created}, States: []node.State{node.Running}}, true},
		{event.Filter{States: []node.State{node.Done}}, false},
		{event.Filter{Owner: "admin"}, true},
		{event.Filter{Channel: "node", Owner: "bob"}, false},
	} {
		if got := tc.filter.Match(e); got != tc.want {
			t.Errorf("%+v: %t, want %t", tc.filter, got, tc.want)
		}
	}
}

func TestDataThatNamesNoNodeIsInvalid(t *testing.T) {
	for _, data := range []string{`"BEEP"`, `{}`, `{"id":"xyz"}`, `[`} {
		if _, err := (event.Event{Data: json.RawMessage(data)}).Node(); !errors.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", data, err)
		}
	}
}
