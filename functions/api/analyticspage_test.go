package api_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/functions/api"
)

func TestAnalyticsTellHowOftenJobsAndTestsPassed(t *testing.T) {
	s := observed(t)
	const all = "lava-a 6 33.3 % 2 1 3 0 3"
	for query, want := range map[string]string{
		"": all,
		"?window=48h&of=job_result&by=device_type": "board 7 42.9 % 3 1 3 0 3",
		"?by=device_id":                      "board-2 3 66.7 % 2 1 0 0 0",
		"?by=device_id&runtime=lava-a&tree=": "board-1 3 0 % 0 0 3 0 3",
		"?by=tree":                           "none 3 0 % 0 0 3 0 3",
		"?by=tree&tree=next":                 "next 3 66.7 % 2 1 0 0 0",
		"?of=test_result":                    "lava-a 6 100 % 6 0 0 0 0",
		"?of=test_result&by=arch&window=1h":  "together 6 100 % 6 0 0 0 0",
	} {
		name, _, _ := strings.Cut(want, " ")
		if got := row(t, s.html("/analytics"+query, 200), name); got != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
	page := s.html("/analytics?by=device_id", 200)
	contains(t, page, `<option value="6h" selected>6h</option>`, `<option value="device_id" selected>device</option>`, "Results of jobs by device")
	if got := row(t, page, "together"); got != "together 6 33.3 % 2 1 3 0 3" {
		t.Errorf("%q", got)
	}
}

func TestAnalyticsTellWhatStandsOut(t *testing.T) {
	s := observed(t)
	page := s.html("/analytics?scope=device&window=48h", 200)
	if got, want := row(t, page, "lava-a board"), "lava-a board board-1 4 75 % 75 % 2026-07-21 07:00:00 UTC Infrastructure: bootloader timed out"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := row(t, page, "lava-b"); got != "lava-b online_check 3" {
		t.Errorf("%q", got)
	}
	contains(t, s.html("/analytics", 200), "Nothing does.", "lava-b")
	contains(t, s.html("/analytics?threshold=0.25", 200), `<option value="0.25" selected>25 %</option><option value="0.3">`, "where 25 % or more of at least 3 events", "<th>lava-a</th><td>board</td>")
	if page := s.html("/analytics?min_total=4", 200); strings.Contains(page, "online_check") {
		t.Errorf("too few errors in\n%s", page)
	}
}

func TestAnalyticsLeadFromARuntimeToItsDevices(t *testing.T) {
	s := observed(t)
	for _, prefix := range []string{"/latest", "/v0", ""} {
		link := regexp.MustCompile(`<a href="(analytics\?[^"]*)">lava-a</a>`).FindStringSubmatch(s.html(prefix+"/analytics?window=48h", 200))
		if link == nil {
			t.Fatal("no link")
		}
		page := s.html(prefix+"/"+strings.ReplaceAll(link[1], "&amp;", "&"), 200)
		contains(t, page, `name="runtime" value="lava-a"`, `<option value="48h" selected>`)
		if got := row(t, page, "board"); got != "board 7 42.9 % 3 1 3 0 3" {
			t.Errorf("%q", got)
		}
	}
}

func TestAnalyticsSayThatThereIsNothing(t *testing.T) {
	s := newSite(t)
	contains(t, s.html("/analytics", 200), "There are none.", "Try a longer time.", "Nothing does.")
	contains(t, s.html("/analytics?runtime=x", 200), "or all runtimes and trees")
}

func TestAnalyticsSayWhatIsWrong(t *testing.T) {
	s := newSite(t)
	contains(t, s.html("/analytics?window=2h", 400), "window: &#34;2h&#34; is not one of 1h")
	contains(t, s.html("/analytics?runtime=%00", 400), "runtime: must be UTF-8")
	contains(t, s.html("/analytics?tree=%ff", 400), "tree: must be UTF-8")
	refuses(t, s, "/analytics?", map[string]string{
		"by=error_msg": "422 by", "of=job_skip": "422 of", "threshold=NaN": "422 threshold", "min_total=0": "422 min_total", "runtime=" + strings.Repeat("x", 1001): "422 runtime",
	})
}

func TestAnalyticsEscapeWhatOthersHaveWritten(t *testing.T) {
	s := newSite(t)
	const evil = `"><script>alert(1)</script>`
	text, err := json.Marshal(evil)
	check(t, err)
	event := fmt.Sprintf(`{"kind": "job_result", "runtime": %s, "device_type": %[1]s, "device_id": %[1]s, "result": "fail", "error_type": %[1]s, "error_msg": %[1]s}`, text)
	s.want(s.bob, "POST", "/telemetry", "["+event+","+strings.ReplaceAll(event, "job_result", "runtime_error")+"]", 200, "")
	const escaped = "&#34;&gt;&lt;script&gt;alert(1)&lt;/script&gt;"
	page := s.html("/analytics?min_total=1&scope=device&runtime="+url.QueryEscape(evil), 200)
	if n := strings.Count(page, escaped); n < 8 {
		t.Errorf("only %d of them in\n%s", n, page)
	}
}

func TestAnalyticsShowTheGroupsWithTheMostEvents(t *testing.T) {
	s := newSite(t)
	var events []string
	for i := range 103 {
		for range 1 + i/102 {
			events = append(events, fmt.Sprintf(`{"kind": "job_result", "runtime": "lab-%03d", "result": "pass"}`, i))
		}
	}
	s.want(s.bob, "POST", "/telemetry", "["+strings.Join(events, ",")+"]", 200, "")
	page := s.html("/analytics", 200)
	contains(t, page, "And 3 with fewer events", "lab-102", "lab-098")
	if strings.Contains(page, "lab-099") || row(t, page, "together") != "together 104 100 % 104 0 0 0 0" {
		t.Errorf("not those with the most events:\n%s", page)
	}
}

func TestAnalyticsAreMadeAnewAfterAWhile(t *testing.T) {
	now := time.Now()
	s := newSite(t, func(o *api.Options) { o.Now = func() time.Time { return now } })
	contains(t, s.html("/analytics", 200), "There are none.")
	s.want(s.bob, "POST", "/telemetry", `[{"kind": "job_result", "runtime": "lava-a", "result": "pass"}]`, 200, "")
	contains(t, s.html("/analytics", 200), "There are none.")
	now = now.Add(10 * time.Second)
	contains(t, s.html("/analytics", 200), ">lava-a</a>")
}
