package callback_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/functions/callback"
	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/lavaresult"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/runtime"
	"github.com/kernelflow/kernelflow/shared/storage"
)

// withLabs gives the service two labs, and a log to look at.
func withLabs(log *bytes.Buffer) func(*callback.Options) {
	return func(o *callback.Options) {
		o.Tokens = map[string]runtime.Tokens{
			"lava-one": {Runtime: "secret-one", Callback: "secret-callback-one"}, "lava-two": {Runtime: "secret-two"}, "none": {},
		}
		o.Log = slog.New(slog.NewTextHandler(log, nil))
	}
}

// labJob stores a node whose job runs in the first lab.
func (s *service) labJob(number int, change ...func(*node.Node)) node.ID {
	s.t.Helper()
	n := node.Node{
		ID: node.DeriveID("", fmt.Sprint("lab job ", number)), Kind: node.KindJob, Name: fmt.Sprint("smoke-", number), Path: []string{"checkout", fmt.Sprint("smoke-", number)}, TreeID: "tree",
		Owner: "admin", Data: map[string]any{"runtime": "lava-one", "platform": "qemu", "job_id": "7"},
	}
	n.SetDefaults(time.Now())
	for _, c := range change {
		c(&n)
	}
	_, err := s.store.Create(s.t.Context(), n)
	check(s.t, err)
	return n.ID
}

const good = `{"id": 7, "status": 2, "token": "secret-callback-one", "definition": "token: secret-callback-one\n", "log": "- {\"lvl\": \"target\", \"msg\": \"hello\"}\n", "results": {"0_a": "- {name: x, result: pass}"}}`

// callbacks returns the events about callbacks.
func (s *service) callbacks() []event.Event {
	s.t.Helper()
	list, _, err := s.store.After(s.t.Context(), 0, event.Filter{Channel: event.ChannelCallback}, 100)
	check(s.t, err)
	return list
}

// kept returns the callback that is kept for a node; "" when there is none.
func (s *service) kept(id node.ID) string {
	s.t.Helper()
	files := s.options.Storage.(storage.Storage)
	file, _, err := files.Open(s.t.Context(), string(id)+"/"+lavaresult.CallbackFile)
	if errs.KindOf(err) == errs.NotFound {
		return ""
	}
	check(s.t, err)
	defer file.Close()
	z, err := gzip.NewReader(file)
	check(s.t, err)
	text, err := io.ReadAll(z)
	check(s.t, err)
	return string(text)
}

func TestACallbackIsKeptBeforeItsAnswer(t *testing.T) {
	var log bytes.Buffer
	s := newService(t, withLabs(&log))
	id := s.labJob(1)
	for range 2 {
		status, answer := s.post("secret-callback-one", "/node/"+string(id), good)
		if status != http.StatusAccepted || answer != `{"message":"OK"}` {
			t.Errorf("%d %s", status, answer)
		}
	}
	var kept map[string]any
	check(t, json.Unmarshal([]byte(s.kept(id)), &kept))
	if _, there := kept["token"]; there || strings.Contains(s.kept(id)+log.String(), "secret-") || kept["log"] != "- {\"lvl\": \"target\", \"msg\": \"hello\"}\n" {
		t.Errorf("kept %v", kept)
	}
	events := s.callbacks()
	if len(events) != 1 || events[0].Owner != "admin" || events[0].TreeID != "tree" || !strings.Contains(string(events[0].Data), `"job_id":"7"`) {
		t.Errorf("%d events: %+v", len(events), events)
	}
}

func TestTheLabsOwnTokenIsAsGoodAsTheCallbacks(t *testing.T) {
	s := newService(t, withLabs(new(bytes.Buffer)))
	if status, answer := s.post("secret-one", "/node/"+string(s.labJob(1)), good); status != http.StatusAccepted {
		t.Errorf("%d %s", status, answer)
	}
}

func TestACallbackThatIsNotTheNodesLeavesNothing(t *testing.T) {
	s := newService(t, withLabs(new(bytes.Buffer)))
	id := s.labJob(1)
	path := "/node/" + string(id)
	for what, tc := range map[string]struct {
		token, path, body string
		status            int
		message           string
	}{
		"no token":        {"", path, good, 401, "Unauthorized"},
		"nobody's":        {"secret-callback-on", path, good, 401, "Unauthorized"},
		"a person's":      {s.dev, path, good, 401, "Unauthorized"},
		"behind a scheme": {"Token secret-callback-one", path, good, 401, "Unauthorized"},
		"another lab's":   {"secret-two", path, good, 403, "the node's job runs in another lab"},
		"no id":           {"secret-one", "/node/x", good, 400, "nodeid: "},
		"no node":         {"secret-one", "/node/" + strings.Repeat("a", 24), good, 404, "Node not found"},
		"another job":     {"secret-one", path, strings.Replace(good, "7", "8", 1), 409, "the node's job is 7 in its lab, not 8"},
		"no JSON":         {"secret-one", path, good[:100], 400, "Error decoding JSON"},
		"no UTF-8":        {"secret-one", path, strings.Replace(good, "hello", "\xff", 1), 400, "Error decoding JSON"},
		"a list":          {"secret-one", path, "[" + good + "]", 400, "Error decoding JSON"},
		"under way":       {"secret-one", path, strings.Replace(good, "2", "1", 1), 400, "status: must be"},
		"nested deep":     {"secret-one", path, `{"id": 7, "status": 2, "x": ` + strings.Repeat("[", 100_000), 400, "nested too deep"},
	} {
		status, answer := s.post(tc.token, tc.path, tc.body)
		if status != tc.status || !strings.Contains(answer, tc.message) || strings.Contains(answer, "secret") {
			t.Errorf("%s: %d %s", what, status, answer)
		}
	}
	if kept := s.kept(id); kept != "" || len(s.callbacks()) != 0 {
		t.Errorf("kept %q, %d events", kept, len(s.callbacks()))
	}
	if _, metrics, _ := s.send(http.MethodGet, "", "/api/metrics", ""); !strings.Contains(metrics, `lava_callback_requests_total{kind="pipeline_callback"} 13`) ||
		!strings.Contains(metrics, `lava_callback_requests_authfail_total{kind="pipeline_callback"} 4`) {
		t.Error(metrics)
	}
}

func TestACallbackForANodeThatHasEndedChangesNothing(t *testing.T) {
	s := newService(t, withLabs(new(bytes.Buffer)))
	ended := s.labJob(1, func(n *node.Node) { n.State, n.Result = node.Done, node.Pass })
	late := s.labJob(2, func(n *node.Node) { n.SetError(node.Incomplete, node.ErrCodeTimeout, "too late") })
	for _, id := range []node.ID{ended, late} {
		if status, answer := s.post("secret-one", "/node/"+string(id), good); status != http.StatusAccepted {
			t.Errorf("%d %s", status, answer)
		}
	}
	if events := s.callbacks(); s.kept(ended) != "" || s.kept(late) == "" || len(events) != 1 || !strings.Contains(string(events[0].Data), string(late)) {
		t.Errorf("%+v", events)
	}
}

func TestACallbackOf100MegabytesStreams(t *testing.T) {
	s := newService(t, withLabs(new(bytes.Buffer)))
	id := s.labJob(1)
	line := []byte(strings.Repeat("- {\\\"lvl\\\": \\\"target\\\", \\\"msg\\\": \\\"hello\\\"}\\n", 1000))
	r, w := io.Pipe()
	go func() {
		_, _ = io.WriteString(w, `{"id": 7, "status": 2, "log": "`)
		for sent := 0; sent < 100<<20; sent += len(line) {
			_, _ = w.Write(line)
		}
		_, _ = io.WriteString(w, `", "results": {}}`)
		_ = w.Close()
	}()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/node/"+string(id), r)
	check(t, err)
	request.Header.Set("Authorization", "secret-one")
	response, err := http.DefaultClient.Do(request)
	check(t, err)
	defer response.Body.Close()
	if response.StatusCode != http.StatusAccepted || len(s.callbacks()) != 1 {
		t.Errorf("status %d", response.StatusCode)
	}
}

func TestACallbackThatIsTooLongIsRefused(t *testing.T) {
	s := newService(t, withLabs(new(bytes.Buffer)))
	id := s.labJob(1)
	body := io.MultiReader(strings.NewReader(`{"id": 7, "status": 2, "log": "`), io.LimitReader(endless{}, 300<<20))
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/node/"+string(id), body)
	check(t, err)
	request.Header.Set("Authorization", "secret-one")
	response, err := http.DefaultClient.Do(request)
	if err == nil {
		defer response.Body.Close()
		if response.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("status %d", response.StatusCode)
		}
	} // else the connection was closed while we still sent
	if s.kept(id) != "" || len(s.callbacks()) != 0 {
		t.Error("it is kept")
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

func TestACallbackToManyInstancesAtOnceIsOneEvent(t *testing.T) {
	s := newService(t, withLabs(new(bytes.Buffer)))
	id := s.labJob(1)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if status, answer := s.post("secret-one", "/node/"+string(id), good); status != http.StatusAccepted {
				t.Errorf("%d %s", status, answer)
			}
		})
	}
	all.Wait()
	if n := len(s.callbacks()); n != 1 {
		t.Errorf("%d events", n)
	}
}
