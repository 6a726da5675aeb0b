package api_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/kernelflow/kernelflow/shared/node"
)

func TestPutBatchNodeset(t *testing.T) {
	s := newSite(t)
	add := func(token, name string) node.ID {
		t.Helper()
		_, body := s.call(token, "POST", "/node", fmt.Sprintf(`{"name": %q, "path": [%[1]q]}`, name))
		var n node.Node
		check(t, json.Unmarshal([]byte(body), &n))
		return n.ID
	}
	mine, too, others := add(s.bob, "mine"), add(s.bob, "too"), add(s.admin, "others")
	events, err := s.store.LastSequence(t.Context())
	check(t, err)
	set := func(token, field, value string, ids ...any) (int, string) {
		list, err := json.Marshal(ids)
		check(t, err)
		status, body := s.call(token, "PUT", "/latest/batch/nodeset", fmt.Sprintf(`{"nodes": %s, "field": %q, "value": %q}`, list, field, value))
		return status, strings.TrimSpace(body)
	}
	marked := func() string {
		t.Helper()
		got := ""
		for _, id := range []node.ID{mine, too, others} {
			n, err := s.store.Get(t.Context(), id)
			check(t, err)
			got += map[bool]string{true: "x", false: "."}[n.KCIDBProcessed]
		}
		return got
	}
	const flag = "processed_by_kcidb_bridge"
	for _, step := range []struct {
		token, field, value string
		ids                 []any
		status              int
		answer, marked      string
	}{
		{s.bob, flag, "true", []any{mine, others}, 200, "1", "x.."}, // those that bob may not edit are left out
		{s.admin, flag, "True", []any{too, others}, 200, "2", "xxx"},
		{s.bob, flag, "true", []any{mine}, 200, "1", "xxx"}, // so already
		{s.bob, flag, "False", []any{mine, too, others}, 200, "2", "..x"},
		{s.bob, flag, "true", []any{}, 200, "0", "..x"},
		{s.bob, "state", "true", []any{mine}, 400, "Field not supported", "..x"},
		{s.bob, flag, "maybe", []any{mine}, 422, "value", "..x"},
		{s.bob, flag, "true", []any{mine, "65f0000000000000000000ff"}, 404, "Node not found with id: 65f0000000000000000000ff", "..x"},
		{s.bob, flag, "true", []any{mine, "nonsense"}, 400, "nonsense", "..x"},
		{s.bob, flag, "true", []any{mine, 7}, 422, "nodes", "..x"},
		{"", flag, "true", []any{mine}, 401, "Unauthorized", "..x"},
	} {
		status, answer := set(step.token, step.field, step.value, step.ids...)
		if status != step.status || !strings.Contains(answer, step.answer) || marked() != step.marked {
			t.Errorf("%s=%s of %v: %d %s, now %s; want %d %s, %s", step.field, step.value, step.ids, status, answer, marked(), step.status, step.answer, step.marked)
		}
	}
	if last, err := s.store.LastSequence(t.Context()); err != nil || last != events {
		t.Errorf("%d events, want %d: nobody is told: %v", last, events, err)
	}
}
