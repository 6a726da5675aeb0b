package runtimetest

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/ending"
	"github.com/kernelflow/kernelflow/shared/errs"

	"github.com/kernelflow/kernelflow/shared/node"
)

// API is a fake of the API and the storage as a job sees them: it answers
//
//	GET  /latest/node/{id}       the node, null for an unknown one
//	PUT  /latest/nodes/{id}      the report of a job, with the job's token
//	PATCH /latest/node/{id}      artifacts that the node lacks, with the job's token
//	POST /latest/node/{id}/results  the report of a machine without a supervisor, with the job's token
//	POST /storage/v1/file        the upload of an artifact, with the job's token
//	GET  /storage/{id}/{name}    an artifact
//
// A report repeated with the same bytes is answered like the first time; another
// one for a node that has ended gets 409. Its methods may be used by several at
// once.
type API struct {
	mux http.ServeMux

	mu       sync.Mutex
	server   *httptest.Server
	nodes    map[node.ID]*job
	files    map[string][]byte
	requests []string // everything that came in, as METHOD PATH
	bodies   [][]byte // of the reports that came in, accepted or not
	intruder func(http.ResponseWriter, *http.Request) bool
}

// job is what the API knows of one job.
type job struct {
	node    node.Node
	token   string
	reports []node.Hierarchy // that were accepted
	body    []byte           // of the last of them
	ended   []byte           // the hierarchy of the first ending
}

// NewAPI starts an API, until the test ends.
func NewAPI(t testing.TB) *API {
	a := &API{nodes: map[node.ID]*job{}, files: map[string][]byte{}}
	a.mux.HandleFunc("GET /latest/node/{id}", a.get)
	a.mux.HandleFunc("PUT /latest/nodes/{id}", a.put)
	a.mux.HandleFunc("PATCH /latest/node/{id}", a.patch)
	a.mux.HandleFunc("POST /latest/node/{id}/results", a.results)
	a.mux.HandleFunc("POST /storage/v1/file", a.upload)
	a.mux.HandleFunc("GET /storage/{id}/{name}", a.download)
	a.Move(t)
	return a
}

// Move gives the API another address, as a restart of its host may.
func (a *API) Move(t testing.TB) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		a.requests = append(a.requests, r.Method+" "+r.URL.Path)
		intruder := a.intruder
		a.mu.Unlock()
		if intruder == nil || !intruder(w, r) {
			a.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	a.mu.Lock()
	old := a.server
	a.server = server
	a.mu.Unlock()
	if old != nil {
		old.CloseClientConnections()
		old.Close()
	}
}

// ServeHTTP answers a request, without whom Intrude let in.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, r) }

// URL is the API's address, without /latest.
func (a *API) URL() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.server.URL
}

// StorageURL is where artifacts go and are read.
func (a *API) StorageURL() string { return a.URL() + "/storage" }

// Intrude has f see each request first: it answers in the API's place and
// returns true, or returns false. A nil f ends that.
func (a *API) Intrude(f func(http.ResponseWriter, *http.Request) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.intruder = f
}

// Add puts a job's node, and the token that may report it.
func (a *API) Add(n node.Node, token string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.nodes[n.ID] = &job{node: n.Clone(), token: token}
}

// End ends a node as somebody else may do, the timeout function for example.
func (a *API) End(id node.ID, result node.Result) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.nodes[id].node.State, a.nodes[id].node.Result = node.Done, result
}

// Name adds an artifact to a node as somebody else may do.
func (a *API) Name(id node.ID, name, link string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.nodes[id].node.Artifacts[name] = link
}

// Node returns a node as it is now.
func (a *API) Node(id node.ID) node.Node {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.nodes[id].node.Clone()
}

// Reports returns the reports of a job that were accepted, repetitions left out.
func (a *API) Reports(id node.ID) []node.Hierarchy {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.nodes[id].reports)
}

// Bodies returns every report that came in for any job, as it came.
func (a *API) Bodies() [][]byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.bodies)
}

// Requests returns every request that came in, as METHOD PATH.
func (a *API) Requests() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.requests)
}

// Files returns all artifacts by their path in the storage.
func (a *API) Files() map[string][]byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.files)
}

// Log returns the job's log: the artifact of that name, unpacked; "" when there
// is none.
func (a *API) Log(t testing.TB, id node.ID) string {
	t.Helper()
	link := a.Node(id).Artifacts["log"]
	content, ok := a.Files()[string(id)+"/"+path.Base(link)]
	if link == "" || !ok {
		return ""
	}
	z, err := gzip.NewReader(bytes.NewReader(content))
	if err != nil {
		t.Fatalf("log of %s: %v", id, err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatalf("log of %s: %v", id, err)
	}
	return string(text)
}

func (a *API) get(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	j := a.nodes[node.ID(r.PathValue("id"))]
	if j == nil {
		answer(w, nil, nil)
		return
	}
	answer(w, j.node, nil)
}

func (a *API) put(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the sender is gone
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.bodies = append(a.bodies, body)
	list, err := a.accept(node.ID(r.PathValue("id")), r.Header.Get("Authorization"), body)
	answer(w, list, err)
}

// results takes the form of an ending as the hierarchy that it says.
func (a *API) results(w http.ResponseWriter, r *http.Request) {
	form, err := r.MultipartReader()
	if err != nil {
		answer(w, nil, errs.Wrap(errs.Invalid, err))
		return
	}
	ended, err := ending.Read(form)
	if err != nil {
		answer(w, nil, err)
		return
	}
	id := node.ID(r.PathValue("id"))
	a.mu.Lock()
	defer a.mu.Unlock()
	j := a.nodes[id]
	if j == nil {
		answer(w, nil, errs.New(errs.NotFound, "Node not found with id: %s", id))
		return
	}
	if j.node.State != node.Running && ended.Artifacts["log"] != "" && j.node.Artifacts["log"] == "" {
		j.node.Artifacts["log"] = ended.Artifacts["log"]
	}
	h, _ := ended.Report(j.node, time.Now())
	if j.ended == nil {
		j.ended, _ = json.Marshal(h)
	}
	a.bodies = append(a.bodies, j.ended)
	list, err := a.accept(id, r.Header.Get("Authorization"), j.ended)
	answer(w, list, err)
}

func (a *API) accept(id node.ID, authorization string, body []byte) ([]node.Node, error) {
	j := a.nodes[id]
	if j == nil {
		return nil, errs.New(errs.NotFound, "Node not found with id: %s", id)
	}
	if authorization != "Bearer "+j.token {
		return nil, errs.New(errs.Unauthenticated, "Unauthorized")
	}
	var h node.Hierarchy
	if err := json.Unmarshal(body, &h); err != nil {
		return nil, errs.Wrap(errs.Invalid, err)
	}
	if h.Node.ID != id {
		return nil, errs.New(errs.Invalid, "the report is for node %s", h.Node.ID)
	}
	list, err := h.Descendants(h.Node, "request")
	if err == nil {
		err = h.Node.Validate()
	}
	if err != nil {
		return nil, err
	}
	list = append([]node.Node{h.Node}, list...)
	if j.node.State != node.Running {
		if bytes.Equal(body, j.body) {
			return list, nil
		}
		return nil, errs.New(errs.Conflict, "node %s has ended", id)
	}
	if err := node.CheckTransition(j.node.State, h.Node.State); err != nil {
		return nil, err
	}
	j.node, j.body, j.reports = h.Node.Clone(), body, append(j.reports, h)
	return list, nil
}

func (a *API) patch(w http.ResponseWriter, r *http.Request) {
	var body struct{ Artifacts map[string]string }
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		answer(w, nil, errs.Wrap(errs.Invalid, err))
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	j := a.nodes[node.ID(r.PathValue("id"))]
	if j == nil || r.Header.Get("Authorization") != "Bearer "+j.token {
		answer(w, nil, errs.New(errs.Unauthenticated, "Unauthorized"))
		return
	}
	for name, link := range j.node.Artifacts {
		if body.Artifacts[name] != link {
			answer(w, nil, errs.New(errs.Conflict, "node %s has ended", j.node.ID))
			return
		}
	}
	j.node.Artifacts = body.Artifacts
	answer(w, j.node, nil)
}

func (a *API) upload(w http.ResponseWriter, r *http.Request) {
	file, header, err := r.FormFile("file0")
	var name string
	var content []byte
	if err == nil {
		name = path.Join(r.FormValue("path"), header.Filename)
		content, err = io.ReadAll(file)
	}
	if err != nil {
		answer(w, nil, errs.Wrap(errs.Invalid, err))
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	id, _, _ := strings.Cut(name, "/")
	if j := a.nodes[node.ID(id)]; j == nil || r.Header.Get("Authorization") != "Bearer "+j.token {
		answer(w, nil, errs.New(errs.Unauthenticated, "Unauthorized"))
		return
	}
	a.files[name] = content
	_, _ = io.WriteString(w, a.server.URL+"/storage/"+name) // likewise
}

func (a *API) download(w http.ResponseWriter, r *http.Request) {
	content, ok := a.Files()[r.PathValue("id")+"/"+r.PathValue("name")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	_, _ = w.Write(content) // to a reader that is gone, for all we know
}

func answer(w http.ResponseWriter, v any, err error) {
	if err != nil {
		v = map[string]string{"detail": err.Error()}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(errs.Status(err))
	_ = json.NewEncoder(w).Encode(v) // likewise
}

// patience is how long a condition may take on a busy machine.
const patience = 30 * time.Second

// Eventually waits until the condition holds, and fails the test when it does
// not come to that.
func Eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	late := time.After(patience)
	for !condition() {
		select {
		case <-look.C:
		case <-late:
			t.Fatalf("waited %s in vain: %s", patience, what)
		}
	}
}

// NewNode makes the node of a job of that kind, running, as the API would have
// it. The nodes of different numbers are different.
func NewNode(kind node.Kind, number int) node.Node {
	now := node.Time(time.Now())
	n := node.Node{
		ID: node.ID(fmt.Sprintf("%024x", number)), Kind: kind, Name: "job", Path: []string{"checkout", "job"}, Group: "job",
		Parent: node.ID(fmt.Sprintf("%024x", 1)), Owner: "admin", Submitter: "service:pipeline", TreeID: "tree",
		Timeout: now.Add(time.Hour),
		Data: map[string]any{
			"kernel_revision": map[string]any{"tree": "mainline", "url": "https://git.example.org/linux.git", "branch": "master", "commit": strings.Repeat("1", 40)},
			"runtime":         "shell", "platform": "qemu", "arch": "x86_64",
		},
	}
	n.SetDefaults(now)
	return n
}
