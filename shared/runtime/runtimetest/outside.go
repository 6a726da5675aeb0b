package runtimetest

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/runtime"
)

// RunOutside runs, after Run, what is promised of labs that have an Outside.
func RunOutside(t *testing.T, open func(t *testing.T, api *API) Lab) {
	Run(t, open)
	runAll(t, open, map[string]func(*testing.T, *suite){
		"a job whose submitter died is found again":       testOrphan,
		"a lab that is down is worth another try":         testDown,
		"a lab that does not answer is bounded in time":   testHanging,
		"what a lab refuses is invalid, in its own words": testRefused,
	})
}

// collect asks the instance what came of a job, twice, and checks that it says
// the same.
func (s *suite) collect(t *testing.T, i Instance, j runtime.Job, id string) node.Node {
	t.Helper()
	c, ok := i.(runtime.Collector)
	if !ok {
		t.Fatalf("%T is no runtime.Collector", i)
	}
	n := j.Node.Clone()
	n.Set("job_id", id)
	var kept []string
	keep := func(_ context.Context, name, _ string, content io.Reader) (string, error) {
		kept = append(kept, name)
		_, err := io.Copy(io.Discard, content)
		return "https://storage.example.org/" + string(n.ID) + "/" + name, err
	}
	h, err := c.Collect(t.Context(), n, keep)
	check(t, err)
	first := kept
	kept = nil
	again, err := c.Collect(t.Context(), n, keep)
	check(t, err)
	if !slices.Equal(first, kept) || again.Node.Result != h.Node.Result || len(again.Children) != len(h.Children) {
		t.Errorf("collected %v, %s and %d children, and again %v, %s and %d",
			first, h.Node.Result, len(h.Children), kept, again.Node.Result, len(again.Children))
	}
	if h.Node.ID != n.ID || h.Node.State != node.Done {
		t.Errorf("collected node %s in state %s", h.Node.ID, h.Node.State)
	}
	if _, err := h.Descendants(h.Node, "request"); err != nil {
		t.Errorf("collected %v", err)
	}
	return h.Node
}

func testOrphan(t *testing.T, s *suite) {
	j := s.job(60)
	s.Outside.Orphan(t, j)
	s.race(t, j, []Instance{s.open(t), s.open(t)})
}

// soon calls do with a context that ends soon, and fails when the call does not
// end with it.
func soon(t *testing.T, what string, do func(context.Context) error) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- do(ctx) }()
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		t.Fatalf("%s goes on %s after its context ended", what, patience)
		return nil
	}
}

// calls are all that can be asked of an instance.
func calls(i Instance, id string, j runtime.Job) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"Submit": func(ctx context.Context) error { _, err := i.Submit(ctx, j); return err },
		"Cancel": func(ctx context.Context) error { return i.Cancel(ctx, id) },
		"State":  func(ctx context.Context) error { _, err := i.State(ctx, id); return err },
	}
}

func testDown(t *testing.T, s *suite) { s.through(t, Down, 70) }

func testHanging(t *testing.T, s *suite) { s.through(t, Hanging, 80) }

// through brings two jobs through a time in which the lab cannot be asked: one
// that runs meanwhile and one that is submitted.
func (s *suite) through(t *testing.T, fault Fault, number int) {
	t.Helper()
	i, running, waiting := s.open(t), s.job(number), s.job(number+1)
	id := submit(t, i, running)
	s.started(t, running.Node.ID)
	s.Outside.Fault(fault)
	for what, call := range calls(i, id, waiting) {
		err := soon(t, what, call)
		if !errors.Is(err, errs.Temporary) {
			t.Errorf("%s: %v", what, err)
		}
		if err != nil && strings.Contains(err.Error(), waiting.Token) {
			t.Errorf("%s: the error has the job's token", what)
		}
	}
	s.Outside.Fault(Healthy)
	if got := state(t, i, id); got != runtime.Running {
		t.Errorf("state %s afterwards", got)
	}
	s.Release(running.Node.ID)
	s.Release(waiting.Node.ID)
	s.ends(t, i, running, id, node.Pass, 1)
	s.ends(t, i, waiting, submit(t, i, waiting), node.Pass, 1)
}

func testRefused(t *testing.T, s *suite) {
	if s.Outside.Refused == "" {
		t.Skip("the lab takes any definition")
	}
	i, j := s.open(t), s.job(90)
	j.Definition = strings.ReplaceAll(s.Outside.Refused, "{NODE}", string(j.Node.ID))
	id, err := i.Submit(t.Context(), j)
	if !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), s.Outside.Words) {
		t.Fatalf("Submit gave %q, %v, want the words %q", id, err, s.Outside.Words)
	}
	if len(err.Error()) > 2000 || strings.ContainsAny(err.Error(), "<>") {
		t.Errorf("not readable: %v", err)
	}
	if n := s.Started(j.Node.ID); n != 0 {
		t.Errorf("started %d times", n)
	}
}
