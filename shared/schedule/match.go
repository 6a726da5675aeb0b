package schedule

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/node"
)

// matches says whether the event holds everything that want asks for.
func matches(want map[string]any, ev *event.Node) bool {
	for k, w := range want {
		v, known := field(ev, k)
		if !known || !same(w, v) {
			return false
		}
	}
	return true
}

// field reads a top-level field of the event's data, as JSON would show it.
func field(ev *event.Node, name string) (v any, known bool) {
	switch name {
	case "op":
		return string(ev.Op), true
	case "id":
		return string(ev.ID), true
	case "kind":
		return string(ev.Kind), true
	case "name":
		return ev.Name, true
	case "path":
		return anys(ev.Path), true
	case "group":
		return orNil(ev.Group), true
	case "state":
		return string(ev.State), true
	case "result":
		return orNil(ev.Result), true
	case "owner":
		return ev.Owner, true
	case "data":
		return ev.Data, true
	case "is_hierarchy":
		return ev.IsHierarchy, true
	case "previous_state":
		return orNil(ev.PreviousState), ev.PreviousState != nil
	case "previous_result":
		return orNil(ev.PreviousResult), ev.PreviousState != nil
	}
	return nil, false
}

func orNil[T ~string](p *T) any {
	if p == nil {
		return nil
	}
	return string(*p)
}

func anys(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}

// same compares a value of the configuration with one of an event. Numbers are
// equal whatever their type; a mapping is found in one that has its keys.
func same(want, v any) bool {
	switch want := want.(type) {
	case map[string]any:
		m, ok := v.(map[string]any)
		if !ok {
			return false
		}
		for k, w := range want {
			inner, known := m[k]
			if !known || !same(w, inner) {
				return false
			}
		}
		return true
	case []any:
		list, ok := v.([]any)
		return ok && slices.EqualFunc(want, list, same)
	case int:
		return same(float64(want), v)
	case float64:
		switch v := v.(type) {
		case int:
			return want == float64(v)
		case int64:
			return want == float64(v)
		case float64:
			return want == v
		}
		return false
	case nil, string, bool:
		switch v.(type) {
		case nil, string, bool:
			return want == v
		}
	}
	return false
}

// previous gives the event as it would have been before the update; false when
// it was none.
func previous(ev *event.Node) (event.Node, bool) {
	if ev.PreviousState == nil {
		return event.Node{}, false
	}
	before := *ev
	before.State, before.Result = *ev.PreviousState, ev.PreviousResult
	return before, true
}

// filtered says whether the filters of node and checkout let a job in.
func filtered(sub Subject, look *lookup, d Decision, t *trail) {
	job := d.Job
	filter := sub.JobFilter
	if len(filter) == 0 {
		filter = sub.Node.JobFilter
	}
	if len(filter) > 0 {
		reason := ""
		if !inJobFilter(filter, sub.Node.Path, job.Name) {
			reason = fmt.Sprintf("jobfilter %s has no %q", among(filter), job.Name)
		}
		t.add("node", "jobfilter", reason)
	}
	if sub.Runtime != "" && d.Entry.RuntimeName != "" {
		reason := ""
		if d.Entry.RuntimeName != sub.Runtime {
			reason = fmt.Sprintf("the attempt before ran on %q", sub.Runtime)
		}
		t.add("node", "retry_runtime", reason)
	}
	if job.Kind != string(node.KindKbuild) {
		return
	}
	arch, given := job.Params["arch"].(string)
	if archs := texts(look.node("architecture_filter")); given && len(archs) > 0 {
		reason := ""
		if !slices.Contains(archs, arch) {
			reason = fmt.Sprintf("architecture_filter %s has no %q", among(archs), arch)
		}
		t.add("node", "architecture_filter", reason)
	}
}

// inJobFilter: the job's name, or "name+" of the job or of anything above it.
func inJobFilter(filter, path []string, name string) bool {
	return slices.ContainsFunc(filter, func(f string) bool {
		base, below := strings.CutSuffix(f, "+")
		return f == name || below && (base == name || slices.Contains(path, base))
	})
}

func platformFilter(sub Subject) []string {
	if len(sub.PlatformFilter) > 0 {
		return sub.PlatformFilter
	}
	return sub.Node.PlatformFilter
}
