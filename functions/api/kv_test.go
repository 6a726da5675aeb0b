package api_test

import (
	"net/http"
	"strings"
	"testing"
)

func TestKV(t *testing.T) {
	s := newSite(t)
	for _, step := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/kv/ns/k", "", 200, "null"},
		{"POST", "/latest/kv/ns/k", `"one \"two\""`, 200, `"OK"`},
		{"GET", "/v0/kv/ns/k", "", 200, `"one \"two\""`},
		{"GET", "/kv/other/k", "", 200, "null"},
		{"POST", "/kv/ns/k", `""`, 200, `"OK"`},
		{"GET", "/kv/ns/k", "", 200, "null"},
		{"POST", "/kv/ns/k", `"x"`, 200, `"OK"`},
		{"POST", "/kv/ns/k", "", 200, `"OK"`},
		{"GET", "/kv/ns/k", "", 200, "null"},
		{"POST", "/kv/ns/k", `"x"`, 200, `"OK"`},
		{"POST", "/kv/ns/k", "null", 200, `"OK"`},
		{"GET", "/kv/ns/k", "", 200, "null"},
		{"POST", "/kv/ns/k", `"x"`, 200, `"OK"`},
		{"DELETE", "/kv/ns/k", "", 200, `"Key-value pair deleted successfully"`},
		{"DELETE", "/kv/ns/k", "", 200, `"Key-value pair deleted successfully"`},
		{"GET", "/kv/ns/k", "", 200, "null"},
	} {
		status, body := s.call(s.bob, step.method, step.path, step.body)
		if status != step.status || strings.TrimSpace(body) != step.want {
			t.Errorf("%s %s %s: %d %s, want %d %s", step.method, step.path, step.body, status, body, step.status, step.want)
		}
	}
}

func TestBadKVWritesNothing(t *testing.T) {
	s := newSite(t)
	check(t, s.store.SetKV(t.Context(), "ns", "k", "kept"))
	for _, step := range []struct {
		token, method, path, body string
		status                    int
		names                     string
	}{
		{"", "GET", "/kv/ns/k", "", 401, "Unauthorized"},
		{"", "POST", "/kv/ns/k", `"x"`, 401, "Unauthorized"},
		{"", "DELETE", "/kv/ns/k", "", 401, "Unauthorized"},
		{s.bob, "POST", "/kv/ns/k", `{"value": "x"}`, 422, "body"},
		{s.bob, "POST", "/kv/ns/k", `7`, 422, "body"},
		{s.bob, "POST", "/kv/ns/k", `"broken`, 422, "body"},
		{s.bob, "POST", "/kv/ns/k", `"` + strings.Repeat("x", 1<<20) + `"`, 413, "large"},
		{s.bob, "POST", "/kv/ns/k%00", `"x"`, 400, "key"},
		{s.bob, "POST", "/kv/%ff/k", `"x"`, 400, "namespace"},
		{s.bob, "POST", "/kv/ns/" + strings.Repeat("k", 201), `"x"`, 422, "key"},
	} {
		status, body := s.call(step.token, step.method, step.path, step.body)
		if status != step.status || !strings.Contains(body, step.names) {
			t.Errorf("%s %.40s %.40s: %d %s, want %d naming %s", step.method, step.path, step.body, status, body, step.status, step.names)
		}
	}
	if status, body := s.call(s.bob, http.MethodGet, "/kv/ns/k", ""); status != 200 || strings.TrimSpace(body) != `"kept"` {
		t.Errorf("after bad requests: %d %s", status, body)
	}
}
