package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/kernelflow/kernelflow/functions/catalog"
	"github.com/kernelflow/kernelflow/shared/store/mongo/mongotest"
)

// waits returns when so many listeners wait at the service.
func (c *client) waits(t testing.TB, s *service, listeners int) {
	t.Helper()
	want := fmt.Sprintf("kernelflow_listeners_waiting %d\n", listeners)
	for {
		metrics, err := c.text(t.Context(), s, http.MethodGet, "/metrics", "")
		check(t, err)
		if strings.Contains(metrics, want) {
			return
		}
	}
}

func TestSIGTERMAnswersEveryLongPollAndLosesNoEvent(t *testing.T) {
	env := settings(t, "LISTEN_KEEPALIVE=1h")
	stopping, other := startService(t, "api", env), startService(t, "api", env)
	c := newClient(t)
	c.logIn(t, other)
	const listeners = 20
	ids := make([]int64, listeners)
	for i := range ids {
		ids[i] = c.subscribe(t, other, fmt.Sprint("subscriber-", i))
	}
	var polls sync.WaitGroup
	for _, id := range ids {
		polls.Go(func() {
			if h, err := c.listen(t.Context(), stopping, id); err != nil || h.Sequence != 0 {
				t.Errorf("a poll under way ends with %+v, %v", h, err)
			}
		})
	}
	c.waits(t, stopping, listeners)
	if err := stopping.terminate(); err != nil {
		t.Errorf("the process ends with %v", err)
	}
	polls.Wait()
	check(t, c.create(t.Context(), other, "later", 0))
	for _, id := range ids {
		h, err := c.listen(t.Context(), other, id)
		if name, _, wrong := h.created(); name != "later" || errors.Join(err, wrong) != nil {
			t.Errorf("then heard of %q: %v, %v", name, err, wrong)
		}
	}
}

func TestWhatAKilledInstanceAcknowledgedIsPublishedByAnother(t *testing.T) {
	env := settings(t, "MONGO_SERVICE="+mongotest.Start(t))
	killed, other, relay := startService(t, "api", env), startService(t, "api", env), startService(t, "relay", env)
	c := newClient(t)
	c.logIn(t, other)
	id := c.subscribe(t, other, "subscriber")
	for i := range 10 {
		name := fmt.Sprint("node-", i)
		check(t, c.create(t.Context(), killed, name, 0))
		killed.kill()
		check(t, c.ask(t.Context(), relay, http.MethodPost, "/", "", nil)) // as the schedule does
		h, err := c.listen(t.Context(), other, id)
		if heard, _, wrong := h.created(); heard != name || errors.Join(err, wrong) != nil {
			t.Errorf("heard of %q, not of %q: %v, %v", heard, name, err, wrong)
		}
		check(t, killed.start(t.Context()))
	}
}

func TestAnAnswerThatBreaksOffIsNotTakenForWhole(t *testing.T) {
	s := &stopper{ctx: t.Context()}
	function := s.stoppable(catalog.Function{}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "[1,")
		panic(http.ErrAbortHandler)
	}))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { _ = recover() }() // as the framework does
		function(w, r)
	}))
	defer server.Close()
	response, err := http.Get(server.URL)
	if err != nil {
		return // nothing of it came
	}
	defer response.Body.Close()
	if text, err := io.ReadAll(response.Body); err == nil {
		t.Errorf("%q came as the whole answer", text)
	}
}
