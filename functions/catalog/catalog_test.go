package catalog_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"

	"github.com/kernelflow/kernelflow/functions/catalog"
	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/node"
)

var update = flag.Bool("update", false, "write infra/functions.json")

func TestTheInfrastructureReadsThisTable(t *testing.T) {
	const file = "../../infra/functions.json"
	want, err := json.MarshalIndent(catalog.Functions, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, '\n')
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is out of step with the table: run go test ./functions/catalog -update", file)
	}
}

func TestEachFunctionHasOneTriggerAndItsLimits(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range catalog.Functions {
		triggers := 0
		for _, set := range []bool{f.Trigger.Path != "", f.Trigger.Events != nil, f.Trigger.Every != 0} {
			if set {
				triggers++
			}
		}
		if triggers != 1 || f.Timeout <= 0 || f.MemoryMiB <= 0 || f.Concurrency <= 0 || f.Does == "" || f.Open == nil || seen[f.Name] {
			t.Errorf("row %q is incomplete or doubled: %+v", f.Name, f)
		}
		seen[f.Name] = true
	}
}

func TestTheSchedulerHearsOfNodesAndOfRetries(t *testing.T) {
	f, _ := catalog.Lookup("scheduler")
	for _, channel := range []string{event.ChannelNode, event.ChannelRetry} {
		if !f.Trigger.Events.Match(event.Event{Channel: channel, Data: []byte(`{"op":"updated","id":"65f000000000000000000001","kind":"kbuild"}`)}) {
			t.Errorf("channel %s", channel)
		}
	}
	if f.Trigger.Events.Match(event.Event{Channel: "telemetry", Data: []byte(`{"count":1}`)}) {
		t.Error("of what is about no node, too")
	}
}

// cloudEvent is an event about a node, as a request of the given mode.
func cloudEvent(t *testing.T, url string) *http.Request {
	t.Helper()
	n := node.Node{ID: "65f000000000000000000001", Name: "checkout", Path: []string{"checkout"}}
	n.SetDefaults(time.Date(2025, 1, 12, 8, 0, 0, 0, time.UTC))
	e, err := event.OfCreated(n)
	if err != nil {
		t.Fatal(err)
	}
	e.Sequence = 7
	ce, err := e.CloudEvent()
	if err != nil {
		t.Fatal(err)
	}
	r, err := cehttp.NewHTTPRequestFromEvent(t.Context(), url, ce)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func serve(t *testing.T, h catalog.Handler) *httptest.Server {
	t.Helper()
	f := catalog.Function{Name: "probe", Timeout: 5}
	server := httptest.NewServer(f.Handler(h))
	t.Cleanup(server.Close)
	return server
}

func TestAnEventArrivesAsItWasSent(t *testing.T) {
	var got event.Event
	server := serve(t, catalog.Handler{Event: func(_ context.Context, e event.Event) error { got = e; return nil }})
	response, err := http.DefaultClient.Do(cloudEvent(t, server.URL))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	p, err := got.Node()
	if response.StatusCode >= 300 || err != nil || p.ID != "65f000000000000000000001" || got.Sequence != 7 {
		t.Errorf("status %d, event %+v, %v", response.StatusCode, got, err)
	}
}

func TestTheStatusSaysWhetherToDeliverAgain(t *testing.T) {
	for _, tc := range []struct {
		err    error
		status int
	}{
		{nil, 204},
		{errs.New(errs.Invalid, "no such field"), 400},
		{errs.New(errs.NotFound, "no such node"), 404},
		{errs.New(errs.Conflict, "somebody else was first"), 409},
		{fmt.Errorf("store: %w", errs.New(errs.Temporary, "away")), 503},
		{errors.New("what nobody classified"), 500},
		{context.DeadlineExceeded, 504},
	} {
		server := serve(t, catalog.Handler{Event: func(context.Context, event.Event) error { return tc.err }})
		response, err := http.DefaultClient.Do(cloudEvent(t, server.URL))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != tc.status {
			t.Errorf("%v: status %d, want %d", tc.err, response.StatusCode, tc.status)
		}
	}
}

func TestAPanicIsAnErrorAndIsDeliveredAgain(t *testing.T) {
	server := serve(t, catalog.Handler{Event: func(context.Context, event.Event) error { panic("boom") }})
	response, err := http.DefaultClient.Do(cloudEvent(t, server.URL))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusInternalServerError {
		t.Errorf("status %d", response.StatusCode)
	}
}

func TestManyDeliveriesAtOnceAreEachAnswered(t *testing.T) {
	server := serve(t, catalog.Handler{Event: func(context.Context, event.Event) error { return nil }})
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			for range 50 {
				response, err := http.DefaultClient.Do(cloudEvent(t, server.URL))
				if err != nil {
					t.Error(err)
					return
				}
				response.Body.Close()
			}
		})
	}
	group.Wait()
}

func TestWhatIsNoEventIsNeverDeliveredAgain(t *testing.T) {
	server := serve(t, catalog.Handler{Event: func(context.Context, event.Event) error { return nil }})
	response, err := http.Post(server.URL, "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusBadRequest {
		t.Errorf("status %d", response.StatusCode)
	}
}

func TestAScheduledFunctionRunsOnPostOnly(t *testing.T) {
	ran := 0
	server := serve(t, catalog.Handler{Tick: func(context.Context) error { ran++; return nil }})
	for method, status := range map[string]int{http.MethodGet: 405, http.MethodPost: 204} {
		request, err := http.NewRequestWithContext(t.Context(), method, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != status {
			t.Errorf("%s: status %d, want %d", method, response.StatusCode, status)
		}
	}
	if ran != 1 {
		t.Errorf("ran %d times", ran)
	}
}

func TestBackoffGrowsToALimit(t *testing.T) {
	previous := time.Duration(0)
	for attempt := 1; attempt < 100; attempt++ {
		wait := catalog.Backoff(attempt)
		if wait < previous || wait > 30*time.Second {
			t.Errorf("attempt %d waits %s after %s", attempt, wait, previous)
		}
		previous = wait
	}
}
