package telemetry_test

import (
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/telemetry"
)

var now = time.Date(2026, 7, 21, 8, 0, 0, 0, time.UTC)

func TestAnEventGoesOutAsItCameIn(t *testing.T) {
	var wire map[string]any
	in := `{"kind": "job_result", "ts": "2026-07-21T01:24:01.322987+00:00", "runtime": "lava-a", "result": "fail", "is_infra_error": true,
		"id": "forged", "_id": "forged", "branch": null, "retry": 2, "extra": {"a.b": [1, null]}}`
	if err := json.Unmarshal([]byte(in), &wire); err != nil {
		t.Fatal(err)
	}
	e, err := telemetry.Parse(wire, now)
	if err != nil {
		t.Fatal(err)
	}
	e.ID = "65f000000000000000000001"
	got, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"arch":null,"branch":null,"device_id":null,"device_type":null,"error_msg":null,"error_type":null,"extra":{"a.b":[1,null]},` +
		`"id":"65f000000000000000000001","is_infra_error":true,"job_id":null,"job_name":null,"kind":"job_result","node_id":null,` +
		`"result":"fail","retry":2,"runtime":"lava-a","tree":null,"ts":"2026-07-21T01:24:01.322000"}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestABadEventIsRefusedByTheNameOfItsField(t *testing.T) {
	for field, wire := range map[string]map[string]any{
		"kind":           {"runtime": "x"},
		"runtime":        {"kind": "job_result", "runtime": 7.0},
		"tree":           {"kind": "job_result", "tree": "a\x00b"},
		"job_name":       {"kind": "job_result", "job_name": strings.Repeat("x", 1001)},
		"error_msg":      {"kind": "job_result", "error_msg": strings.Repeat("x", 64_001)},
		"is_infra_error": {"kind": "job_result", "is_infra_error": "yes"},
		"ts":             {"kind": "job_result", "ts": "yesterday"},
	} {
		if _, err := telemetry.Parse(wire, now); !errors.Is(err, errs.Invalid) || !strings.HasPrefix(err.Error(), field+": ") {
			t.Errorf("%s: %v", field, err)
		}
	}
	for _, ts := range []any{1.0, "2026-07-23T08:00:00"} {
		if _, err := telemetry.Parse(map[string]any{"kind": "job_skip", "ts": ts}, now); !errors.Is(err, errs.Invalid) {
			t.Errorf("ts %v: %v", ts, err)
		}
	}
}

func TestAnAnomalyIsARateOfEnoughEvents(t *testing.T) {
	tally := func(runtime string, total, fail, incomplete, infra int64) telemetry.Tally {
		return telemetry.Tally{Key: map[telemetry.Field]string{telemetry.Runtime: runtime},
			Counts: telemetry.Counts{Total: total, Pass: total - fail - incomplete, Fail: fail, Incomplete: incomplete, InfraError: infra}}
	}
	all := []telemetry.Tally{
		tally("half", 4, 1, 1, 0), tally("good", 100, 10, 5, 2), tally("few", 2, 2, 0, 0), tally("infra", 10, 0, 0, 6), tally("dead", 5, 0, 5, 5),
	}
	var names []string
	for _, a := range telemetry.Anomalies(all, 0.5, 3) {
		names = append(names, a.Key[telemetry.Runtime])
	}
	if got := strings.Join(names, " "); got != "dead infra half" {
		t.Errorf("anomalies: %s", got)
	}
	if c := all[4].Counts; c.FailRate() != 1 || c.InfraRate() != 1 {
		t.Errorf("rates of %+v: %v %v", c, c.FailRate(), c.InfraRate())
	}
	if (telemetry.Counts{}).FailRate() != 0 {
		t.Error("nothing at all fails at a rate")
	}
}

func TestAnEventAboutAJobSaysWhatItsNodeSays(t *testing.T) {
	job := node.Node{ID: node.ID(strings.Repeat("6", 24)), Name: "boot", Data: map[string]any{
		"runtime": "lab", "platform": "board", "device": "board-1", "job_id": "7", "arch": strings.Repeat("x", telemetry.Longest(telemetry.Arch)+1),
		"kernel_revision": map[string]any{"tree": "mainline", "branch": "master", "url": "https://git.example.org/linux.git", "commit": "abc"},
	}}
	e := telemetry.About(job, telemetry.JobResult, time.Date(2026, 1, 2, 3, 4, 5, 6_789_000, time.UTC))
	want := map[telemetry.Field]string{
		telemetry.Kind: "job_result", telemetry.Runtime: "lab", telemetry.DeviceType: "board", telemetry.DeviceID: "board-1", telemetry.JobName: "boot",
		telemetry.JobID: "7", telemetry.NodeID: string(job.ID), telemetry.Tree: "mainline", telemetry.Branch: "master",
	}
	if !maps.Equal(e.Texts, want) || e.Time.Nanosecond() != 6_000_000 {
		t.Errorf("%v at %s, want %v", e.Texts, e.Time, want)
	}
}
