package lava_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/kernelflow/kernelflow/shared/node"
)

const labToken = "secret-of-the-lab"

// fakeLab answers as LAVA's REST API v0.2 does, and runs jobs on devices that do
// nothing until they are released.
type fakeLab struct {
	*httptest.Server

	mu       sync.Mutex
	jobs     []*fakeJob
	released map[string]bool // nodes
	devices  int
	requests []string
}

type fakeJob struct {
	ID         int     `json:"id"`
	State      string  `json:"state"`
	Health     string  `json:"health"`
	Device     *string `json:"actual_device"`
	Type       string  `json:"requested_device_type"`
	Definition string  `json:"definition"`
	node       string
	started    bool
}

func newFakeLab(t *testing.T) *fakeLab {
	l := &fakeLab{released: map[string]bool{}, devices: 2}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v0.2/jobs/{$}", l.list)
	mux.HandleFunc("POST /api/v0.2/jobs/{$}", l.submit)
	mux.HandleFunc("GET /api/v0.2/jobs/{id}/{$}", l.with(func(w http.ResponseWriter, j *fakeJob) { reply(w, 200, j) }))
	mux.HandleFunc("GET /api/v0.2/jobs/{id}/cancel/{$}", l.with(l.cancel))
	mux.HandleFunc("GET /api/v0.2/jobs/{id}/yaml/{$}", l.with(l.results))
	mux.HandleFunc("GET /api/v0.2/jobs/{id}/logs/{$}", l.with(l.logs))
	mux.HandleFunc("GET /api/v0.2/devices/{$}", l.list2)
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.requests = append(l.requests, r.Method+" "+r.URL.RequestURI())
		if r.Header.Get("Authorization") != "Token "+labToken {
			reply(w, 403, map[string]string{"detail": "Invalid token."})
			return
		}
		mux.ServeHTTP(w, r)
		l.schedule()
	}))
	t.Cleanup(l.Close)
	return l
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // to a client that is gone, for all we know
}

// with finds the job of a request.
func (l *fakeLab) with(do func(http.ResponseWriter, *fakeJob)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id, err := strconv.Atoi(r.PathValue("id"))
		if err != nil || id < 1 || id > len(l.jobs) {
			reply(w, 404, map[string]string{"detail": "Not found."})
			return
		}
		do(w, l.jobs[id-1])
	}
}

// list answers the queries that the driver makes.
func (l *fakeLab) list(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if kind := q.Get("requested_device_type"); kind != "" && kind != "qemu" {
		reply(w, 400, map[string][]string{"requested_device_type": {"Select a valid choice. That choice is not one of the available choices."}})
		return
	}
	after, _ := strconv.Atoi(q.Get("id__gt"))
	found := []*fakeJob{}
	for _, j := range l.jobs {
		if j.ID > after && strings.Contains(j.Definition, q.Get("definition__contains")) && (q.Get("state") == "" || q.Get("state") == j.State) {
			found = append(found, j)
		}
	}
	if q.Get("ordering") == "-id" {
		slices.Reverse(found)
	}
	limit, _ := strconv.Atoi(q.Get("limit"))
	reply(w, 200, map[string]any{"count": len(found), "next": nil, "results": found[:min(limit, len(found))]})
}

func (l *fakeLab) list2(w http.ResponseWriter, r *http.Request) {
	devices := []map[string]any{}
	for i := range l.devices {
		devices = append(devices, map[string]any{"hostname": fmt.Sprintf("qemu%02d", i), "device_type": "qemu", "health": "Good"})
	}
	devices = append(devices, map[string]any{"hostname": "broken", "device_type": "qemu", "health": "Bad"})
	if r.URL.Query().Get("device_type") != "qemu" {
		devices = devices[:0]
	}
	reply(w, 200, map[string]any{"count": len(devices), "next": nil, "results": devices})
}

var nodeOf = regexp.MustCompile(`node_id: ([0-9a-f]{24})`)

func (l *fakeLab) submit(w http.ResponseWriter, r *http.Request) {
	var in struct{ Definition string }
	if json.NewDecoder(r.Body).Decode(&in) != nil || !strings.Contains(in.Definition, "device_type: qemu") {
		reply(w, 400, map[string]string{"message": "Devices unavailable: Device type 'no-such-type' is unavailable."})
		return
	}
	j := &fakeJob{ID: len(l.jobs) + 1, State: "Submitted", Health: "Unknown", Type: "qemu", Definition: in.Definition, node: nodeOf.FindStringSubmatch(in.Definition)[1]}
	l.jobs = append(l.jobs, j)
	reply(w, 201, map[string]any{"message": "job(s) successfully submitted", "job_ids": []int{j.ID}})
}

func (l *fakeLab) cancel(w http.ResponseWriter, j *fakeJob) {
	if j.State != "Finished" {
		j.State, j.Health = "Finished", "Canceled"
	}
	reply(w, 200, map[string]string{"message": "Job cancel signal sent."})
}

func (l *fakeLab) results(w http.ResponseWriter, j *fakeJob) {
	w.Header().Set("Content-Type", "application/yaml")
	switch {
	case j.Health == "Complete":
		fmt.Fprint(w, "- name: login-action\n  result: pass\n  suite: lava\n- name: uname\n  result: pass\n  suite: 0_smoke\n- name: job\n  result: pass\n  suite: lava\n")
	case j.started:
		fmt.Fprint(w, "- name: job\n  result: fail\n  suite: lava\n  metadata: {error_type: Canceled, error_msg: The job was canceled}\n")
	default:
		fmt.Fprint(w, "[]\n")
	}
}

func (l *fakeLab) logs(w http.ResponseWriter, j *fakeJob) {
	if !j.started {
		reply(w, 404, map[string]string{"detail": "Not found."})
		return
	}
	fmt.Fprint(w, `- {"dt": "2026-11-23T17:00:15.016788", "lvl": "info", "msg": "start"}`+"\n"+`- {"dt": "2026-11-23T17:00:15.984641", "lvl": "target", "msg": "boots"}`+"\n")
}

// schedule gives jobs to devices, and ends those that were released.
func (l *fakeLab) schedule() {
	for range l.jobs {
		running := 0
		for _, j := range l.jobs {
			if j.State == "Running" && l.released[j.node] {
				j.State, j.Health = "Finished", "Complete"
			}
			if j.State == "Running" {
				running++
			}
		}
		for _, j := range l.jobs {
			if j.State == "Submitted" && running < l.devices {
				device := "qemu01"
				j.State, j.Device, j.started = "Running", &device, true
				running++
			}
		}
	}
}

func (l *fakeLab) started(id node.ID) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.schedule()
	n := 0
	for _, j := range l.jobs {
		if j.node == string(id) && j.started {
			n++
		}
	}
	return n
}

func (l *fakeLab) release(id node.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.released[string(id)] = true
	l.schedule()
}
