package api_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/functions/api"
	"github.com/kernelflow/kernelflow/shared/telemetry"
)

// observed is a site at eight o'clock with a day's telemetry in it.
func observed(t *testing.T) *site {
	t.Helper()
	now := time.Date(2026, 7, 21, 8, 0, 0, 0, time.UTC)
	s := newSite(t, func(o *api.Options) { o.Now = func() time.Time { return now } })
	event := func(ago time.Duration, fields string) string {
		return fmt.Sprintf(`{"ts": %q, %s}`, now.Add(-ago).Format(time.RFC3339Nano), fields)
	}
	job := func(ago time.Duration, device, result string) string {
		return event(ago, fmt.Sprintf(`"kind": "job_result", "runtime": "lava-a", "device_type": "board", "device_id": %q, "tree": "next", "result": %q`, device, result))
	}
	broken := `, "is_infra_error": true, "error_type": "Infrastructure", "error_msg": "bootloader timed out"`
	all := []string{
		job(30*time.Hour, "board-1", "pass"),
		event(3*time.Hour, `"kind": "job_result", "runtime": "lava-a", "device_type": "board", "device_id": "board-1", "result": "incomplete"`+broken),
		event(2*time.Hour, `"kind": "job_result", "runtime": "lava-a", "device_type": "board", "device_id": "board-1", "result": "incomplete"`+broken),
		event(time.Hour, `"kind": "job_result", "runtime": "lava-a", "device_type": "board", "device_id": "board-1", "result": "incomplete"`+broken),
		job(time.Hour, "board-2", "pass"), job(2*time.Hour, "board-2", "pass"), job(3*time.Hour, "board-2", "fail"),
	}
	for i := range 6 {
		all = append(all, event(time.Hour, fmt.Sprintf(`"kind": "test_result", "runtime": "lava-a", "device_type": "board", "device_id": "board-1", "result": "pass", "test": %d`, i)))
	}
	for range 3 {
		all = append(all, event(time.Hour, `"kind": "runtime_error", "runtime": "lava-b", "error_type": "online_check"`))
	}
	status, body := s.call(s.bob, "POST", "/latest/telemetry", "["+strings.Join(all, ",")+"]")
	if status != 200 || strings.TrimSpace(body) != `{"inserted":16}` {
		t.Fatalf("POST /telemetry: %d %s", status, body)
	}
	return s
}

func TestPostTelemetry(t *testing.T) {
	s := newSite(t)
	stored := func() int64 {
		t.Helper()
		n, err := s.store.CountTelemetry(t.Context(), telemetry.Filter{})
		check(t, err)
		return n
	}
	timed := `[{"kind": "job_submission", "ts": "2026-07-21T08:00:00"}, {"kind": "job_submission", "ts": "2026-07-21T08:00:00"}]`
	for _, step := range []struct {
		token, body, answer string
		want                int64
	}{
		{s.bob, timed, `{"inserted":2}`, 2},
		{s.bob, timed, `{"inserted":2}`, 2}, // the same again
		{s.admin, timed, `{"inserted":2}`, 4},
		{s.bob, `[{"kind": "job_skip"}]`, `{"inserted":1}`, 5},
		{s.bob, `[{"kind": "job_skip"}]`, `{"inserted":1}`, 6}, // another time
		{s.bob, `[]`, `{"inserted":0}`, 6},
	} {
		status, body := s.call(step.token, "POST", "/telemetry", step.body)
		if n := stored(); status != 200 || strings.TrimSpace(body) != step.answer || n != step.want {
			t.Errorf("%s: %d %s, %d are stored, want %d", step.body, status, body, n, step.want)
		}
	}
	for _, bad := range []struct {
		token, body string
		status      int
		names       string
	}{
		{"", `[{"kind": "job_skip"}]`, 401, "Unauthorized"},
		{s.bob, `[{"kind": "job_skip"}, {"runtime": "x"}]`, 422, `"loc":["body",1,"kind"]`},
		{s.bob, `[{"kind": "job_skip", "tree": 7}]`, 422, `"loc":["body",0,"tree"]`},
		{s.bob, `[{"kind": "job_skip", "ts": "never"}]`, 422, `"loc":["body",0,"ts"]`},
		{s.bob, `[{"kind": "job_skip", "n": 1e999}]`, 422, "body"},
		{s.bob, `{"kind": "job_skip"}`, 422, "body"},
		{s.bob, `[7]`, 422, "body"},
		{s.bob, `[{"kind": "job_skip"`, 422, "body"},
		{s.bob, "[" + strings.Repeat(`{"kind": "job_skip"},`, 1000) + `{"kind": "job_skip"}]`, 422, "body"},
		{s.bob, `[{"kind": "` + strings.Repeat("x", 5<<20) + `"}]`, 413, "large"},
	} {
		if status, body := s.call(bad.token, "POST", "/telemetry", bad.body); status != bad.status || !strings.Contains(body, bad.names) {
			t.Errorf("%.60s: %d %.300s, want %d naming %s", bad.body, status, body, bad.status, bad.names)
		}
	}
	if n := stored(); n != 6 {
		t.Errorf("%d events after bad requests", n)
	}
}

func TestGetTelemetry(t *testing.T) {
	s := observed(t)
	for query, want := range map[string]string{
		"":                                 "16 of 16",
		"limit=2":                          "2 of 16",
		"limit=5&offset=12":                "4 of 16",
		"offset=99":                        "0 of 16",
		"kind=test_result":                 "6 of 6",
		"runtime=lava-a&device_id=board-2": "3 of 3",
		"lab=lava-b":                       "3 of 3",
		"is_infra_error=true&limit=50":     "3 of 3",
		"is_infra_error=False":             "13 of 13",
		"tree=null":                        "12 of 12",
		"since=2026-07-21T00:00:00":        "15 of 15",
		"since=2026-07-21T06:00:00Z&until=2026-07-21 06:00:00.000": "2 of 2",
		"until=2026-07-20": "0 of 0",
	} {
		status, body := s.call("", "GET", "/telemetry?"+strings.ReplaceAll(query, " ", "%20"), "")
		var page struct {
			Items         []map[string]any
			Total         int
			Limit, Offset int
		}
		check(t, json.Unmarshal([]byte(body), &page))
		if got := fmt.Sprintf("%d of %d", len(page.Items), page.Total); status != 200 || got != want || page.Limit == 0 {
			t.Errorf("%s: %d %s, want %s: %.200s", query, status, got, want, body)
		}
	}
	_, body := s.call("", "GET", "/telemetry?kind=test_result&limit=1", "")
	for _, part := range []string{`"test":0`, `"ts":"2026-07-21T07:00:00.000000"`, `"branch":null`, `"is_infra_error":false`, `"id":"`} {
		if !strings.Contains(body, part) {
			t.Errorf("no %s in %s", part, body)
		}
	}
	refuses(t, s, "/telemetry?", map[string]string{
		"since=yesterday": "400 since", "until=12": "400 until", "limit=0": "422 limit", "limit=1001": "422 limit", "limit=x": "422 limit",
		"offset=-1": "422 offset", "offset=99999999999999999999": "422 offset", "is_infra_error=2": "422 is_infra_error",
		"colour=red": "400 colour", "lab=a&runtime=b": "400 lab", "tree=%00": "400 tree", "tree=%ff": "400 tree",
	})
}

// refuses asks for bad things and wants the status and the name of the field.
func refuses(t *testing.T, s *site, path string, bad map[string]string) {
	t.Helper()
	for query, want := range bad {
		status, body := s.call("", "GET", path+query, "")
		code, field, _ := strings.Cut(want, " ")
		if fmt.Sprint(status) != code || !strings.Contains(body, field) {
			t.Errorf("%s%s: %d %s, want %s", path, query, status, body, want)
		}
	}
}

func TestGetTelemetryStats(t *testing.T) {
	s := observed(t)
	for query, want := range map[string]string{
		"group_by=runtime": `[{"fail":1,"incomplete":3,"infra_error":3,"pass":9,"runtime":"lava-a","skip":0,"total":13},` +
			`{"fail":0,"incomplete":0,"infra_error":0,"pass":0,"runtime":"lava-b","skip":0,"total":3}]`,
		"group_by=lab,device_id&kind=job_result&lab=lava-a&device_id=board-2": `[{"device_id":"board-2","fail":1,"incomplete":0,"infra_error":0,"lab":"lava-a","pass":2,"skip":0,"total":3}]`,
		"group_by=lab,runtime&kind=runtime_error":                             `[{"fail":0,"incomplete":0,"infra_error":0,"lab":"lava-b","pass":0,"runtime":"lava-b","skip":0,"total":3}]`,
		"group_by=branch&since=2026-07-21T07:00:00&kind=test_result":          `[{"branch":null,"fail":0,"incomplete":0,"infra_error":0,"pass":6,"skip":0,"total":6}]`,
		"group_by=tree&since=2026-07-22":                                      `[]`,
	} {
		if status, body := s.call("", "GET", "/telemetry/stats?"+query, ""); status != 200 || strings.TrimSpace(body) != want {
			t.Errorf("%s: %d %s, want %s", query, status, body, want)
		}
	}
	refuses(t, s, "/telemetry/stats?", map[string]string{
		"": "400 group_by", "group_by=": "400 group_by", "group_by=owner": "400 owner", "group_by=runtime,error_msg": "400 error_msg",
		"group_by=runtime&since=x": "400 since", "group_by=runtime&limit=3": "400 limit", "group_by=lab&lab=lava-a&runtime=lava-b": "400 lab",
		"group_by=" + strings.Repeat("x", 201): "422 group_by",
	})
}

func TestGetTelemetryAnomalies(t *testing.T) {
	s := observed(t)
	const board = `{"runtime":"lava-a","lab":"lava-a","device_type":"board"`
	const late = `"last_seen":"2026-07-21T07:00:00.000000","latest_error_type":"Infrastructure","latest_error_msg":"bootloader timed out"}`
	const errors = `[{"runtime":"lava-b","error_type":"online_check","count":3}]`
	for query, want := range map[string]string{
		"scope=device&window=48h": `{"window":"48h","threshold":0.5,"min_total":3,"scope":"device","since":"2026-07-19T08:00:00.000000","result_anomalies":[` +
			board + `,"device_id":"board-1","total":4,"pass":1,"fail":0,"incomplete":3,"skip":0,"infra_error":3,"infra_rate":0.75,"fail_rate":0.75,` +
			`"constant_failure":false,"constant_infra_failure":false,` + late + `],"error_anomalies":` + errors + `}`,
		"scope=device&window=6h&threshold=1": `{"window":"6h","threshold":1,"min_total":3,"scope":"device","since":"2026-07-21T02:00:00.000000","result_anomalies":[` +
			board + `,"device_id":"board-1","total":3,"pass":0,"fail":0,"incomplete":3,"skip":0,"infra_error":3,"infra_rate":1,"fail_rate":1,` +
			`"constant_failure":true,"constant_infra_failure":true,` + late + `],"error_anomalies":` + errors + `}`,
		"":                      `{"window":"6h","threshold":0.5,"min_total":3,"scope":"device_type","since":"2026-07-21T02:00:00.000000","result_anomalies":[],"error_anomalies":` + errors + `}`,
		"min_total=4&window=1h": `{"window":"1h","threshold":0.5,"min_total":4,"scope":"device_type","since":"2026-07-21T07:00:00.000000","result_anomalies":[],"error_anomalies":[]}`,
	} {
		if status, body := s.call("", "GET", "/telemetry/anomalies?"+query, ""); status != 200 || strings.TrimSpace(body) != want {
			t.Errorf("%s: %d\n%s, want\n%s", query, status, body, want)
		}
	}
	if _, body := s.call("", "GET", "/telemetry/anomalies?threshold=0.3", ""); !strings.Contains(body, board+`,"total":12,"pass":8,`) {
		t.Errorf("devices of one type: %s", body)
	}
	refuses(t, s, "/telemetry/anomalies?", map[string]string{
		"window=2h": "400 window", "threshold=1.1": "422 threshold", "threshold=-1": "422 threshold", "threshold=NaN": "422 threshold",
		"threshold=x": "422 threshold", "min_total=0": "422 min_total", "min_total=1.5": "422 min_total", "scope=lab": "422 scope",
	})
}
