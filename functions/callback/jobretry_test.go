package callback_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"testing"

	"github.com/kernelflow/kernelflow/functions/callback"
	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/node"
)

func retryBody(id node.ID) string { return `{"nodeid":"` + string(id) + `"}` }

// requests returns the retry requests in the log.
func (s *service) requests() []event.Event {
	s.t.Helper()
	list, _, err := s.store.After(s.t.Context(), 0, event.Filter{Channel: event.ChannelRetry}, 100)
	check(s.t, err)
	return list
}

// asked posts a good request and returns the events that there are then.
func (s *service) asked(id node.ID) []event.Event {
	s.t.Helper()
	if status, answer := s.post(s.dev, "/api/jobretry", retryBody(id)); status != http.StatusOK || answer != `{"message":"OK"}` {
		s.t.Fatalf("%d %s", status, answer)
	}
	return s.requests()
}

func onBoard(n *node.Node) {
	n.Set("runtime", "shell")
	n.Set("platform", "board")
}

func attempt(i int) func(*node.Node) {
	return func(n *node.Node) { onBoard(n); n.RetryCounter = i }
}

func TestJobRetryIsAnEventAndNoNode(t *testing.T) {
	s := newService(t)
	build := s.add(s.add(node.Node{}, node.KindCheckout, "checkout"), node.KindKbuild, "kbuild", func(n *node.Node) {
		n.Set("artifacts", map[string]any{"kernel": "x"})
		n.Submitter, n.UserGroups = "service:pipeline", []string{"g"}
	})
	job := s.add(build, node.KindJob, "ktest", attempt(0))
	s.add(build, node.KindJob, "ktest", attempt(1))
	nodes, err := s.store.Count(t.Context(), node.Query{})
	check(t, err)
	events := s.asked(job.ID)
	if after, err := s.store.Count(t.Context(), node.Query{}); err != nil || after != nodes || len(events) != 1 {
		t.Fatalf("%d nodes, were %d, %v; %d events", after, nodes, err, len(events))
	}
	e := events[0]
	if e.Owner != "admin" || e.TreeID != "t1" || e.ID == "" {
		t.Errorf("%+v", e)
	}
	var data map[string]any
	check(t, json.Unmarshal(e.Data, &data))
	for _, key := range []string{"created", "updated", "timeout", "owner", "submitter", "user_groups"} {
		if _, there := data[key]; there {
			t.Errorf("%s is in the event", key)
		}
	}
	if _, there := data["data"].(map[string]any)["artifacts"]; there || data["artifacts"] == nil {
		t.Errorf("artifacts: %v", data)
	}
	p, err := e.Node()
	check(t, err)
	if p.Op != event.Updated || p.ID != build.ID || p.Kind != node.KindKbuild || p.State != node.Done || *p.Result != node.Pass || p.PreviousState != nil ||
		p.RetryCounter != 2 || !slices.Equal(p.JobFilter, []string{"kbuild", "ktest"}) || asJSON(t, data["platform_filter"]) != `["board"]` {
		t.Errorf("%+v %v", p, data)
	}
}

func TestJobRetryIsRefusedWithKernelCIsTexts(t *testing.T) {
	s := newService(t)
	root := s.add(node.Node{}, node.KindCheckout, "checkout")
	running := s.add(root, node.KindKbuild, "kbuild", at(node.Running, node.None))
	available := s.add(root, node.KindKbuild, "kbuild", at(node.Available, node.Pass))
	failed := s.add(root, node.KindKbuild, "kbuild", at(node.Done, node.Fail))
	for _, tc := range []struct {
		id      node.ID
		status  int
		message string
	}{
		{"65f000000000000000000001", 404, "Node not found"},
		{root.ID, 400, "Node is not a job"},
		{failed.ID, 400, "Node is not a job"},
		{s.add(root, node.KindJob, "kver").ID, 404, "Kernel build not found"},
		{s.add(running, node.KindJob, "ktest").ID, 400, "Kernel build is not done"},
		{s.add(available, node.KindJob, "ktest").ID, 400, "Kernel build is not done"},
		{s.add(failed, node.KindJob, "ktest").ID, 400, "Kernel build result is not pass"},
		{"x", 400, `nodeid: \"x\" is not a valid ObjectId, it must be a 24-character hex string`},
	} {
		s.refused("/api/jobretry", retryBody(tc.id), tc.status, tc.message)
	}
}

func TestJobRetryWhileAnAttemptIsUnderWayAddsNone(t *testing.T) {
	s := newService(t)
	build := s.add(s.add(node.Node{}, node.KindCheckout, "checkout"), node.KindKbuild, "kbuild")
	job := s.add(build, node.KindJob, "ktest", attempt(0), at(node.Running, node.None))
	if got := s.asked(job.ID); len(got) != 1 { // of itself another attempt may be asked for
		t.Fatalf("%d events", len(got))
	}
	// The same number is asked for as long as its node is not there.
	first, second := s.asked(job.ID)[0], s.asked(job.ID)[1]
	if string(first.Data) != string(second.Data) {
		t.Errorf("%s\n%s", first.Data, second.Data)
	}
	next := s.add(build, node.KindJob, "ktest", attempt(1), at(node.Running, node.None))
	before := len(s.requests())
	if got := len(s.asked(job.ID)); got != before {
		t.Errorf("%d events, were %d", got, before)
	}
	s.add(build, node.KindJob, "ktest", attempt(7), func(n *node.Node) { n.Set("platform", "shell") })
	_, err := s.store.Update(t.Context(), next.ID, func(n *node.Node) error { n.State, n.Result = node.Done, node.Fail; return nil })
	check(t, err)
	events := s.asked(job.ID)
	p, err := events[len(events)-1].Node()
	if err != nil || len(events) != before+1 || p.RetryCounter != 2 {
		t.Errorf("%d events, attempt %d, %v", len(events), p.RetryCounter, err)
	}
}

func TestJobRetryThatCannotBeToldIsNotOK(t *testing.T) {
	s := newService(t, func(o *callback.Options) { o.Store = broken{o.Store, errs.New(errs.Temporary, "away")} })
	build := s.add(s.add(node.Node{}, node.KindCheckout, "checkout"), node.KindKbuild, "kbuild")
	if status, answer := s.post(s.dev, "/api/jobretry", retryBody(s.add(build, node.KindJob, "ktest", attempt(0)).ID)); status != 503 {
		t.Errorf("%d %s", status, answer)
	}
}
