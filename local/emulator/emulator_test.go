package emulator_test

import (
	"bytes"
	"context"
	crand "crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/local/emulator"
	"github.com/kernelflow/kernelflow/local/sample"
	"github.com/kernelflow/kernelflow/shared/app"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/job"
	"github.com/kernelflow/kernelflow/shared/node"
)

// TestMain lets the test binary be the supervisor of the shell runtime's jobs.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "job" {
		if err := job.Run(context.Background(), os.Args[2], os.Stderr); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// pipeline is an opened application with its emulator on the sample.
type pipeline struct {
	*emulator.Emulator
	app *app.App
}

func open(t *testing.T, data string, transport func(http.RoundTripper) http.RoundTripper) *pipeline {
	t.Helper()
	ctx := t.Context()
	config, err := sample.Write(ctx, data)
	check(t, err)
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	check(t, err)
	c, err := app.FromEnvironment()
	check(t, err)
	self, err := os.Executable()
	check(t, err)
	c.Data, c.ConfigDir, c.URL, c.LocalGit, c.Speed = data, config, "http://"+listener.Addr().String(), true, 300
	c.Supervisor = []string{self, "job"}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	a, err := app.Open(ctx, c, log, time.Now, crand.Reader)
	check(t, err)
	t.Cleanup(func() { check(t, a.Close()) })
	e, err := emulator.New(ctx, a, listener, emulator.Options{Secret: crand.Text(), Transport: transport})
	check(t, err)
	return &pipeline{Emulator: e, app: a}
}

// breakTest makes the sample's second commit, the same everywhere.
func breakTest(t *testing.T, data string) {
	t.Helper()
	tree := filepath.Join(data, "sample-tree")
	file := filepath.Join(tree, "text.c")
	source, err := os.ReadFile(file)
	check(t, err)
	broken := bytes.Replace(source, []byte(`c == ' ' || c == '\t'`), []byte(`c == ' '`), 1)
	check(t, os.WriteFile(file, broken, 0o644))
	cmd := exec.CommandContext(t.Context(), "git", "-C", tree, "commit", "--quiet", "--all", "--message=text: only spaces are blank")
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_DATE=2025-01-13T08:00:00Z", "GIT_COMMITTER_DATE=2025-01-13T08:00:00Z")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// summary is every node without what differs from run to run (ids of results
// follow from the report, which holds times): one line each.
func (p *pipeline) summary(t *testing.T) string {
	t.Helper()
	var lines []string
	for n, err := range p.app.Store.Each(t.Context(), node.Query{}) {
		check(t, err)
		r, _ := n.Revision()
		var artifacts []string
		for name := range n.Artifacts {
			artifacts = append(artifacts, name)
		}
		slices.Sort(artifacts)
		lines = append(lines, fmt.Sprintf("%s %s %s %s %s %d %s %v", r.Describe, n.Kind, strings.Join(n.Path, "."), n.State, n.Result,
			n.RetryCounter, n.Text("error_code"), artifacts))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func (p *pipeline) mails(t *testing.T) int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(p.app.Config.Data, "mail", "*.eml"))
	check(t, err)
	return len(files)
}

// both runs the two commits of the demonstration in one folder and returns the
// pipeline of the second.
func both(t *testing.T, data string, transport func(http.RoundTripper) http.RoundTripper) *pipeline {
	t.Helper()
	for commit := 1; ; commit++ {
		p := open(t, data, transport)
		faults, err := p.RunOnce(t.Context())
		check(t, err)
		if len(faults) > 0 {
			t.Fatalf("commit %d: %v", commit, faults)
		}
		if commit == 2 {
			return p
		}
		breakTest(t, data)
	}
}

// twice sends each delivery two times at once, and answers with the worse of
// the two. Ticks, which have no body, pass as they are.
type twice struct{ next http.RoundTripper }

func (tw twice) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		return tw.next.RoundTrip(r)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	var responses [2]*http.Response
	var failures [2]error
	var group sync.WaitGroup
	for i := range responses {
		again := r.Clone(r.Context())
		again.Body = io.NopCloser(bytes.NewReader(body))
		group.Go(func() { responses[i], failures[i] = tw.next.RoundTrip(again) })
	}
	group.Wait()
	if err := errors.Join(failures[0], failures[1]); err != nil {
		return nil, err
	}
	if responses[0].StatusCode > responses[1].StatusCode {
		return responses[0], responses[1].Body.Close()
	}
	return responses[1], responses[0].Body.Close()
}

func doubled(next http.RoundTripper) http.RoundTripper { return twice{next} }

func TestEveryEventTwiceAndABurstOutOfOrderGiveTheSameNodes(t *testing.T) {
	calm := both(t, t.TempDir(), nil)
	want := calm.summary(t)
	if n := strings.Count(want, " regression "); n != 1 {
		t.Fatalf("%d regressions in an undisturbed run:\n%s", n, want)
	}
	data := t.TempDir()
	p := both(t, data, doubled)
	if got := p.summary(t); got != want {
		t.Errorf("every event twice:\n%s\nwant\n%s", got, want)
	}
	burst(t, data)
	p = open(t, data, doubled)
	if got := p.summary(t); got != want {
		t.Errorf("after a burst out of order:\n%s\nwant\n%s", got, want)
	}
	if n := p.mails(t); n != 2 {
		t.Errorf("%d mails", n)
	}
}

// burst delivers the whole log again, many events at a time, in random order,
// and lets the pipeline come to rest.
func burst(t *testing.T, data string) {
	t.Helper()
	p := open(t, data, nil)
	events, _, err := p.app.Store.After(t.Context(), 0, event.Filter{}, 10_000)
	check(t, err)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	events = append(events, events...)
	random.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	var group sync.WaitGroup
	slots := make(chan struct{}, 16)
	for _, e := range events {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			if err := p.Deliver(ctx, e); err != nil {
				t.Errorf("event %d: %v", e.Sequence, err)
			}
		})
	}
	group.Wait()
	cancel()
	check(t, <-ended)
	faults, err := open(t, data, nil).RunOnce(t.Context())
	check(t, err)
	if len(faults) > 0 {
		t.Error(faults)
	}
}

func TestTheLogHoldsEachEventOnceAndInOrder(t *testing.T) {
	p := both(t, t.TempDir(), nil)
	events, _, err := p.app.Store.After(t.Context(), 0, event.Filter{}, 10_000)
	check(t, err)
	seen := map[string]bool{}
	created := map[node.ID]int{}
	for i, e := range events {
		if e.Sequence != int64(i+1) || seen[e.ID] {
			t.Errorf("event %d: sequence %d, id %s", i, e.Sequence, e.ID)
		}
		seen[e.ID] = true
		var data event.Node
		check(t, json.Unmarshal(e.Data, &data))
		if data.Op == event.Created {
			created[data.ID]++
		}
	}
	for id, times := range created {
		if times != 1 {
			t.Errorf("node %s was created %d times", id, times)
		}
	}
}
