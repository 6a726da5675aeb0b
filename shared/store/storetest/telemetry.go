package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/store"
	"github.com/kernelflow/kernelflow/shared/telemetry"
)

// happened is the n-th event, n seconds after start.
func happened(n int, infra bool, texts map[telemetry.Field]string) telemetry.Event {
	return telemetry.Event{ID: ID(n), Time: start.Add(time.Duration(n) * time.Second), Texts: texts, InfraError: infra, Rest: map[string]any{}}
}

// shift is a day in three runtimes.
func shift() []telemetry.Event {
	type texts = map[telemetry.Field]string
	const kind, runtime, device, result = telemetry.Kind, telemetry.Runtime, telemetry.DeviceID, telemetry.Result
	return []telemetry.Event{
		happened(1, false, texts{kind: "job_result", runtime: "lava-a", device: "board-1", result: "pass"}),
		happened(2, true, texts{kind: "job_result", runtime: "lava-a", device: "board-1", result: "incomplete", telemetry.ErrorType: "Infrastructure"}),
		happened(3, false, texts{kind: "job_result", runtime: "lava-a", device: "board-2", result: "fail"}),
		happened(4, false, texts{kind: "test_result", runtime: "lava-b", result: "skip"}),
		happened(5, false, texts{kind: "test_result", runtime: "lava-b", result: "new"}),
		happened(6, true, texts{kind: "runtime_error", runtime: "lava-b", telemetry.ErrorType: "timeout"}),
		happened(7, false, texts{kind: "job_skip", telemetry.Tree: `"o'dd`}),
	}
}

func telemetryFilled(t *testing.T, st store.Store) []telemetry.Event {
	t.Helper()
	all := shift()
	all[0].Rest = map[string]any{"retry": 1.0, "extra": map[string]any{"a.b": []any{"$x", nil, true}}}
	if err := st.AddTelemetry(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	return all
}

// telemetryQuestions are filters of every sort.
func telemetryQuestions() []telemetry.Filter {
	type is = map[telemetry.Field][]string
	yes, no := true, false
	at := func(n int) time.Time { return start.Add(time.Duration(n) * time.Second) }
	return []telemetry.Filter{
		{},
		{Since: at(3)}, {Until: at(3)}, {Since: at(2), Until: at(5)}, {Since: at(9)},
		{InfraError: &yes}, {InfraError: &no, Since: at(2)},
		{Is: is{telemetry.Runtime: {"lava-b"}}},
		{Is: is{telemetry.Kind: {"job_result", "test_result"}, telemetry.Runtime: {"lava-a"}}},
		{Is: is{telemetry.Runtime: {""}}},
		{Is: is{telemetry.DeviceID: {"", "board-2"}}},
		{Is: is{telemetry.Tree: {`"o'dd`}}},
		{Is: is{telemetry.Result: {}}},
		{Set: []telemetry.Field{telemetry.DeviceID}},
		{Set: []telemetry.Field{telemetry.ErrorType, telemetry.Result}},
		{Set: []telemetry.Field{telemetry.Runtime}, Is: is{telemetry.Kind: {"job_skip"}}},
	}
}

func (s *suite) testTelemetryIsFound(t *testing.T) {
	st := s.open(t)
	all := telemetryFilled(t, st)
	for _, f := range telemetryQuestions() {
		want := slices.DeleteFunc(slices.Clone(all), func(e telemetry.Event) bool { return !f.Match(e) })
		want = append([]telemetry.Event{}, want...) // never nil
		got, err := st.FindTelemetry(t.Context(), f, store.TelemetryPage{})
		if err != nil || asJSON(t, got) != asJSON(t, want) {
			t.Errorf("%+v:\n%s, want\n%s: %v", f, asJSON(t, got), asJSON(t, want), err)
		}
		if n, err := st.CountTelemetry(t.Context(), f); err != nil || n != int64(len(want)) {
			t.Errorf("%+v: counted %d, want %d: %v", f, n, len(want), err)
		}
	}
	for _, page := range []struct {
		store.TelemetryPage
		want []telemetry.Event
	}{
		{store.TelemetryPage{Limit: 2, Offset: 1}, all[1:3]},
		{store.TelemetryPage{Limit: 1, NewestFirst: true}, all[6:]},
		{store.TelemetryPage{Limit: 5, Offset: 9}, all[:0]},
	} {
		if got, err := st.FindTelemetry(t.Context(), telemetry.Filter{}, page.TelemetryPage); err != nil || asJSON(t, got) != asJSON(t, page.want) {
			t.Errorf("page %+v: %s: %v", page.TelemetryPage, asJSON(t, got), err)
		}
	}
}

func (s *suite) testTelemetryIsStoredOnce(t *testing.T) {
	st := s.open(t)
	all := shift()
	for _, part := range [][]telemetry.Event{all[:3], all, nil, all[2:]} {
		if err := st.AddTelemetry(t.Context(), part); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := st.CountTelemetry(t.Context(), telemetry.Filter{}); err != nil || n != int64(len(all)) {
		t.Errorf("%d events, want %d: %v", n, len(all), err)
	}
}

func (s *suite) testTelemetryIsCounted(t *testing.T) {
	st := s.open(t)
	telemetryFilled(t, st)
	for _, test := range []struct {
		f    telemetry.Filter
		by   []telemetry.Field
		want string
	}{
		{telemetry.Filter{}, []telemetry.Field{telemetry.Runtime},
			"map[runtime:lava-a] {3 1 1 1 0 1}, map[runtime:lava-b] {3 0 0 0 1 1}, map[runtime:] {1 0 0 0 0 0}"},
		{telemetry.Filter{Set: []telemetry.Field{telemetry.DeviceID}}, []telemetry.Field{telemetry.Runtime, telemetry.DeviceID},
			"map[device_id:board-1 runtime:lava-a] {2 1 0 1 0 1}, map[device_id:board-2 runtime:lava-a] {1 0 1 0 0 0}"},
		{telemetry.Filter{}, nil, "map[] {7 1 1 1 1 2}"},
		{telemetry.Filter{}, []telemetry.Field{telemetry.Result},
			"map[result:] {2 0 0 0 0 1}, map[result:fail] {1 0 1 0 0 0}, map[result:incomplete] {1 0 0 1 0 1}, map[result:new] {1 0 0 0 0 0}, map[result:pass] {1 1 0 0 0 0}, map[result:skip] {1 0 0 0 1 0}"},
		{telemetry.Filter{Since: start.Add(time.Hour)}, []telemetry.Field{telemetry.Kind}, ""},
		{telemetry.Filter{Since: start.Add(time.Hour)}, nil, ""},
	} {
		tallies, err := st.TallyTelemetry(t.Context(), test.f, test.by)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for i, tally := range tallies {
			if i > 0 {
				got += ", "
			}
			got += fmt.Sprint(tally.Key, " ", tally.Counts)
		}
		if got != test.want {
			t.Errorf("by %v: got  %s\nwant %s", test.by, got, test.want)
		}
	}
}

func (s *suite) testPruneTelemetry(t *testing.T) {
	st := s.open(t)
	all := telemetryFilled(t, st)
	before := all[5].Time
	for _, want := range []int{3, 2, 0} {
		if n, err := st.PruneTelemetry(t.Context(), before, 3); err != nil || n != want {
			t.Fatalf("pruned %d, want %d: %v", n, want, err)
		}
	}
	if got, err := st.FindTelemetry(t.Context(), telemetry.Filter{}, store.TelemetryPage{}); err != nil || asJSON(t, got) != asJSON(t, all[5:]) {
		t.Errorf("left: %s: %v", asJSON(t, got), err)
	}
}
