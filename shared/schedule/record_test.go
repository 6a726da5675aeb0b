package schedule

import (
	"reflect"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/node"
)

// recordOf keeps what is decided about a subject.
func recordOf(s *Schedule, sub Subject) Record {
	r := Record{
		Event: "e", Channel: "node", Time: time.Date(2025, 1, 12, 8, 0, 0, 1000, time.UTC), Node: sub.Node.ID, Kind: sub.Node.Kind, Name: sub.Node.Name,
		State: sub.Event.State, Result: node.Pass, Previous: node.Running, Retry: 2,
	}
	for _, d := range s.Decide(sub) {
		r.Outcomes = append(r.Outcomes, OutcomeOf(d))
	}
	return r
}

func TestARecordIsUnpackedAsItWas(t *testing.T) {
	s := New(load(t, one(`{tree: [mainline], branch: ["!master"]}`)), nil)
	want := recordOf(s, checkout())
	want.Outcomes[0].Node = "65a0c0ffee65a0c0ffee65a9"
	packed, err := want.Pack()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Unpack(packed)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nwant %+v: %v", got, want, err)
	}
	for _, bad := range [][]byte{nil, []byte("x"), packed[:len(packed)/2]} {
		if _, err := Unpack(bad); err == nil {
			t.Errorf("%q is unpacked", bad)
		}
	}
}

func TestARecordOfSomeHundredDecisionsTakesSomeKilobytes(t *testing.T) {
	r := recordOf(New(production(t), nil), checkout())
	packed, err := r.Pack()
	if err != nil || len(r.Outcomes) < 100 || len(packed) > 16<<10 {
		t.Errorf("%d decisions take %d bytes: %v", len(r.Outcomes), len(packed), err)
	}
	t.Logf("%d decisions take %d bytes", len(r.Outcomes), len(packed))
}

func TestARefusedJobIsKeptWithAllThatSpokeAgainstIt(t *testing.T) {
	s := New(load(t, one(`{tree: [next], branch: ["!master"], min_version: {version: 6}}`)), nil)
	o := recordOf(s, checkout()).Outcomes[0]
	want := []Check{
		{"job it", "min_version", ""},
		{"job it", "tree", `rules of job it: tree "mainline" is not among "next"`},
		{"job it", "branch", `rules of job it: branch "master" is denied`},
	}
	if !reflect.DeepEqual(o.Checks, want) || o.Reason != want[1].Reason || o.Runtime != "shell" || o.Entry == "" {
		t.Errorf("%+v", o)
	}
}
