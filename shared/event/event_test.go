package event_test

import (
	"encoding/json"
	"errors"
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
		`"group":null,"state":"available","result":"pass","owner":"admin","data":{"arch":"x86_64"},"is_hierarchy":true,"previous_state":"running"}`
	if string(e.Data) != want {
		t.Errorf("got  %s\nwant %s", e.Data, want)
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
