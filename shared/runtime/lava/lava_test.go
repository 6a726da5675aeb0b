package lava_test

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/runtime"
	"github.com/kernelflow/kernelflow/shared/runtime/lava"
	"github.com/kernelflow/kernelflow/shared/runtime/runtimetest"
	"github.com/kernelflow/kernelflow/shared/store/sqlite"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const definition = "device_type: qemu\njob_name: test\nmetadata:\n  node_id: {NODE}\n"

func claims(t *testing.T) lava.Claims {
	t.Helper()
	st, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "kernelflow.db"), Now: time.Now})
	check(t, err)
	t.Cleanup(func() { check(t, st.Close()) })
	return st
}

func options(t *testing.T, address string) lava.Options {
	return lava.Options{
		Name: "lava-lab", URL: address, Tokens: runtime.Tokens{Runtime: labToken, Callback: "secret-of-the-callback"},
		Claims: claims(t), Holder: rand.Text(), Now: time.Now,
	}
}

func open(t *testing.T, o lava.Options) *lava.Runtime {
	t.Helper()
	r, err := lava.New(o)
	check(t, err)
	return r
}

// deaf loses the answer to each submission.
type deaf struct{ http.RoundTripper }

func (d deaf) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := d.RoundTripper.RoundTrip(r)
	if err == nil && r.Method == http.MethodPost {
		response.Body.Close()
		return nil, errors.New("killed")
	}
	return response, err
}

func TestConformance(t *testing.T) {
	runtimetest.RunOutside(t, func(t *testing.T, _ *runtimetest.API) runtimetest.Lab {
		l := newFakeLab(t)
		door := runtimetest.NewDoor(t, "tcp", l.Listener.Addr().String())
		o := options(t, "http://"+door.Address())
		instance := func(t *testing.T, transport http.RoundTripper) *lava.Runtime {
			mine := o
			mine.Holder, mine.Transport = rand.Text(), transport
			return open(t, mine)
		}
		return runtimetest.Lab{
			Open:       func(t *testing.T) runtimetest.Instance { return instance(t, &http.Transport{}) },
			Definition: definition, Started: l.started, Release: l.release, Collected: true,
			Outside: &runtimetest.Outside{
				Fault: door.Set,
				Orphan: func(t *testing.T, j runtime.Job) {
					if id, err := instance(t, deaf{&http.Transport{}}).Submit(t.Context(), j); !errors.Is(err, errs.Temporary) {
						t.Errorf("Submit gave %q, %v", id, err)
					}
				},
				Refused: strings.ReplaceAll(definition, "qemu", "no-such-type"), Words: "Device type 'no-such-type' is unavailable",
			},
		}
	})
}

func newJob(number int) runtime.Job {
	n := runtimetest.NewNode(node.KindJob, number)
	return runtime.Job{Node: n, Definition: strings.ReplaceAll(definition, "{NODE}", string(n.ID)), Token: "token-of-the-job", Limit: time.Minute}
}

func TestADefinitionThatBelongsToNobodyIsInvalid(t *testing.T) {
	r := open(t, options(t, newFakeLab(t).URL))
	for what, spoil := range map[string]func(*runtime.Job){
		"no node":             func(j *runtime.Job) { j.Definition = "device_type: qemu\n" },
		"another node":        func(j *runtime.Job) { j.Definition = strings.ReplaceAll(definition, "{NODE}", strings.Repeat("a", 24)) },
		"a token of the lab":  func(j *runtime.Job) { j.Definition += "token: " + labToken },
		"the callback's":      func(j *runtime.Job) { j.Definition += "token: secret-of-the-callback" },
		"the node in a value": func(j *runtime.Job) { j.Definition = "device_type: qemu\nurl: http://x/" + string(j.Node.ID) },
	} {
		j := newJob(1)
		spoil(&j)
		id, err := r.Submit(t.Context(), j)
		if !errors.Is(err, errs.Invalid) || strings.Contains(fmt.Sprint(err), "secret-of") {
			t.Errorf("%s: %q, %v", what, id, err)
		}
	}
}

// recorded answers every request with a recorded answer.
func recorded(t *testing.T, name string) http.HandlerFunc {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", name))
	check(t, err)
	_, raw, _ = bytes.Cut(raw, []byte("\n")) // the request
	return func(w http.ResponseWriter, _ *http.Request) {
		response, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(raw)), nil)
		if err != nil {
			t.Error(err)
			return
		}
		w.Header().Set("Content-Type", response.Header.Get("Content-Type"))
		w.WriteHeader(response.StatusCode)
		_, _ = io.Copy(w, io.LimitReader(response.Body, response.ContentLength)) // the record may lack its last line's end
	}
}

func TestWhatALabAnswersIsClear(t *testing.T) {
	answer := func(status int, contentType, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.Header().Set("Location", "https://elsewhere.example.org/?token="+labToken)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, text)
		}
	}
	for what, tc := range map[string]struct {
		answer http.HandlerFunc
		kind   *errs.Kind
		words  string
	}{
		"bad YAML":       {recorded(t, "rest-post-err-bad-yaml.http"), errs.Invalid, "while parsing a flow sequence in"},
		"no device type": {recorded(t, "rest-post-err-unknown-device-type.http"), errs.Invalid, "Devices unavailable: Device type 'no-such-type' is unavailable."},
		"no tag":         {recorded(t, "rest-post-err-unknown-tag.http"), errs.Invalid, "500 Internal Server Error Device tag 'nope' does not exist in the database."},
		"bad token":      {recorded(t, "rest-post-err-bad-token.http"), errs.Temporary, "Invalid token.: is the token of the runtime right?"},
		"fields":         {recorded(t, "rest-jobs-unknown-dt.http"), errs.Invalid, "requested_device_type: Select a valid choice."},
		"HTML":           {answer(200, "text/html", "<html><style>x</style><h1>Welcome</h1><p>to nginx"), errs.Temporary, `type "text/html": Welcome`},
		"an HTML error":  {answer(502, "text/html", "<title>x</title><h1>Bad &lt;Gateway&gt;</h1>"), errs.Temporary, "status 502: Bad (Gateway)"},
		"500":            {answer(500, "text/plain", labToken+" failed"), errs.Temporary, "status 500: [secret] failed"},
		"nothing":        {answer(200, "application/json", ""), errs.Temporary, "empty answer"},
		"no object":      {answer(200, "application/json", "[1"), errs.Temporary, "not as LAVA's"},
		"a redirect":     {answer(302, "text/html", ""), errs.Temporary, "a redirect to https://elsewhere.example.org/?token=[secret]"},
		"not found":      {answer(404, "text/html", "<h1>Not Found</h1>"), errs.Temporary, "status 404: Not Found"},
		"huge":           {func(w http.ResponseWriter, _ *http.Request) { huge(w) }, errs.Temporary, "longer than"},
	} {
		t.Run(what, func(t *testing.T) {
			// Only the submission is answered so, for the search comes before it.
			l := newFakeLab(t)
			front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPost {
					tc.answer(w, r)
					return
				}
				l.Config.Handler.ServeHTTP(w, r)
			}))
			defer front.Close()
			id, err := open(t, options(t, front.URL)).Submit(t.Context(), newJob(1))
			if !errors.Is(err, tc.kind) || !strings.Contains(fmt.Sprint(err), tc.words) || strings.Contains(fmt.Sprint(err), labToken) || strings.Contains(fmt.Sprint(err), "<") {
				t.Errorf("%q, %v, want %v and %q", id, err, tc.kind, tc.words)
			}
		})
	}
}

func huge(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	line := bytes.Repeat([]byte(" "), 1<<20)
	for range 70 {
		if _, err := w.Write(line); err != nil {
			return
		}
	}
}

func TestAFullQueueIsToldOf(t *testing.T) {
	l := newFakeLab(t)
	now := time.Now()
	o := options(t, l.URL)
	o.QueueDepth, o.Factor, o.Now = 2, 2, func() time.Time { return now }
	r := open(t, o)
	full := func(kind string, priority float64) string {
		t.Helper()
		reason, err := r.Full(t.Context(), kind, priority)
		check(t, err)
		return reason
	}
	// Two good devices and two jobs for each: four, and eight at the top.
	for n := range 4 {
		if reason := full("qemu", 0); reason != "" {
			t.Errorf("job %d: %s", n, reason)
		}
	}
	if reason := full("qemu", 0); !strings.Contains(reason, "4 jobs are waiting, 4 may: 2 for each of 2 online devices") {
		t.Error(reason)
	}
	for n := range 4 {
		if reason := full("qemu", 1); reason != "" {
			t.Errorf("urgent job %d: %s", n, reason)
		}
	}
	if full("qemu", 1) == "" {
		t.Error("no end for urgent jobs")
	}
	before := len(l.requests)
	now = now.Add(time.Minute)
	if reason := full("qemu", 0); reason != "" || len(l.requests) == before {
		t.Errorf("the lab is not asked again: %q", reason)
	}
	if _, err := r.Full(t.Context(), "nope", 0); !errors.Is(err, errs.Invalid) {
		t.Errorf("an unknown type: %v", err)
	}
	o.QueueDepth = 0
	if reason, err := open(t, o).Full(t.Context(), "nope", 0); reason != "" || err != nil {
		t.Errorf("without a limit: %q, %v", reason, err)
	}
}

func TestTheSearchForANodesJobIsNarrow(t *testing.T) {
	l := newFakeLab(t)
	r := open(t, options(t, l.URL))
	_, err := r.Submit(t.Context(), newJob(1))
	check(t, err)
	later := newJob(2)
	later.Node.Created = time.Now().Add(2 * time.Minute)
	_, err = r.Submit(t.Context(), later)
	check(t, err)
	_, err = r.Submit(t.Context(), later)
	check(t, err)
	for _, request := range l.requests {
		if strings.Contains(request, "definition__contains") && !strings.Contains(request, "submit_time__gt=") {
			t.Error(request)
		}
	}
	if n := len(l.jobs); n != 2 {
		t.Errorf("%d jobs", n)
	}
}

func TestOptionsThatCannotWorkAreInvalid(t *testing.T) {
	good := options(t, "https://lava.example.org/")
	for what, spoil := range map[string]func(*lava.Options){
		"no name": func(o *lava.Options) { o.Name = "" }, "no claims": func(o *lava.Options) { o.Claims = nil },
		"no URL": func(o *lava.Options) { o.URL = "" }, "a user": func(o *lava.Options) { o.URL = "https://u:p@x" },
		"a token of two lines": func(o *lava.Options) { o.Tokens.Runtime = "a\nb" },
	} {
		o := good
		spoil(&o)
		if _, err := lava.New(o); !errors.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	_ = open(t, good)
}
