package jobdef

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/job"
	"github.com/kernelflow/kernelflow/shared/node"
)

// pipelineServer is as much of the API and the storage as one job needs.
type pipelineServer struct {
	*httptest.Server
	mu     sync.Mutex
	node   node.Node
	report *node.Hierarchy
	files  map[string][]byte
}

func newPipelineServer(t *testing.T) *pipelineServer {
	s := &pipelineServer{files: map[string][]byte{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /latest/node/{id}", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		_ = json.NewEncoder(w).Encode(s.node)
	})
	mux.HandleFunc("GET /latest/nodes/fast", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, `[{"treeid":"`+r.FormValue("treeid")+`"}]`)
	})
	mux.HandleFunc("PUT /latest/nodes/{id}", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.report = &node.Hierarchy{}
		if err := json.NewDecoder(r.Body).Decode(s.report); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_, _ = io.WriteString(w, "[]")
	})
	mux.HandleFunc("POST /storage/v1/file", s.upload)
	mux.HandleFunc("GET /storage/{name...}", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		content, ok := s.files[r.PathValue("name")]
		s.mu.Unlock()
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(content)
	})
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func (s *pipelineServer) upload(w http.ResponseWriter, r *http.Request) {
	file, header, err := r.FormFile("file0")
	if err == nil {
		var content []byte
		if content, err = io.ReadAll(file); err == nil {
			s.put(path.Join(r.FormValue("path"), header.Filename), content)
		}
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
}

func (s *pipelineServer) put(name string, content []byte) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[name] = content
	return s.URL + "/storage/" + name
}

// artifact is the content of an artifact that was reported.
func (s *pipelineServer) artifact(name string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.files[strings.TrimPrefix(s.report.Node.Artifacts[name], s.URL+"/storage/")]
}

func (s *pipelineServer) log(t *testing.T) string {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(s.artifact("log")))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// run renders a job, runs it with the supervisor, and returns what is reported.
func (s *pipelineServer) run(t *testing.T, p Params) node.Hierarchy {
	t.Helper()
	script, err := mustNew(t).Render(p)
	if err != nil {
		t.Fatal(err)
	}
	s.node, s.report = p.Node, nil
	dir := filepath.Join(t.TempDir(), "job")
	spec := job.Spec{Node: p.Node, Token: "token-of-the-job", APIURL: s.URL, StorageURL: s.URL + "/storage", Limit: time.Hour, Holdoff: time.Minute}
	if err := job.Prepare(dir, spec, script); err != nil {
		t.Fatal(err)
	}
	if err := job.Run(t.Context(), dir, t.Output()); err != nil {
		t.Fatal(err)
	}
	if s.report == nil {
		t.Fatal("nothing is reported")
	}
	return *s.report
}

// live gives a job's parameters the addresses of the server and a node that
// waits for results.
func (s *pipelineServer) live(kind node.Kind, template string, artifacts map[string]string, more map[string]any) Params {
	p := params(template, more)
	p.APIURL, p.StorageURL = s.URL, s.URL+"/storage"
	p.Node.Kind, p.Node.Artifacts = kind, artifacts
	p.Node.Timeout = node.Time(time.Now().Add(time.Hour))
	return p
}

// paths lists every node of a report with its result.
func paths(h node.Hierarchy) []string {
	list := []string{path.Join(h.Node.Path...) + " " + string(h.Node.Result)}
	for _, child := range h.Children {
		list = append(list, paths(child)...)
	}
	return list
}

func sampleTarball(t *testing.T, edit func(name string, content []byte) []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	w := tar.NewWriter(z)
	tree := os.DirFS("../../local/sample/tree")
	err := fs.WalkDir(tree, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		content, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		content = edit(name, content)
		header := &tar.Header{Name: "linux-sample/" + name, Mode: 0o644, Size: int64(len(content)), ModTime: time.Unix(1736668800, 0)}
		if err := w.WriteHeader(header); err != nil {
			return err
		}
		_, err = w.Write(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func needTools(t *testing.T) {
	t.Helper()
	for _, tool := range []string{"sh", "curl", "make", "cc", "ar", "tar", "gzip"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("SKIPPED: running jobs takes %s: %v", tool, err)
		}
	}
}

func asIs(_ string, content []byte) []byte { return content }

func expect(t *testing.T, h node.Hierarchy, want ...string) {
	t.Helper()
	got := strings.Join(paths(h), "\n")
	for _, line := range want {
		if !strings.Contains("\n"+got+"\n", "\n"+line+"\n") {
			t.Errorf("no %q in what is reported (%s):\n%s", line, h.Node.Text("error_msg"), got)
		}
	}
}

func TestSampleTreeGoesThroughItsJobs(t *testing.T) {
	needTools(t)
	s := newPipelineServer(t)
	source := map[string]string{"tarball": s.put("sample.tar.gz", sampleTarball(t, asIs))}

	kver := s.live(node.KindJob, "kver.jinja2", source, nil)
	sublevel := 0
	if err := kver.Node.SetRevision(node.Revision{Version: &node.Version{Version: 1, Sublevel: &sublevel, Extra: "-1-gabc"}}); err != nil {
		t.Fatal(err)
	}
	expect(t, s.run(t, kver), "checkout/job pass", "checkout/job/kernelversion pass")

	built := s.run(t, s.live(node.KindKbuild, "kbuild.jinja2", source, map[string]any{
		"arch": "native", "compiler": "gcc", "defconfig": "sample", "command": "make libsample.a selftest",
		"artifacts": []any{"libsample.a"}, "keep_tree": true,
	}))
	expect(t, built, "checkout/job pass")
	if built.Node.State != node.Available || built.Node.Text("config_full") != "sample" || !bytes.HasPrefix(s.artifact("libsample.a"), []byte("!<arch>")) {
		t.Errorf("the kbuild is %s with %v, libsample.a has %d bytes", built.Node.State, built.Node.Data, len(s.artifact("libsample.a")))
	}

	static := s.run(t, s.live(node.KindJob, "sparse.jinja2", source, map[string]any{
		"checker": "cc -fsyntax-only -Wall -Wextra -Werror", "files": []any{"*.c"}, "suite": "static"}))
	expect(t, static, "checkout/job pass", "checkout/job/static pass", "checkout/job/static/ring.c pass", "checkout/job/static/selftest.c pass")

	after := s.live(node.KindProcess, "process.jinja2", built.Node.Artifacts, map[string]any{
		"command": `grep -q "\"treeid\":\"t\"" tests.json && cp libsample.a "$KCI_RESULTS/artifacts/copy.a"`, "fetch": []any{"libsample.a"}})
	after.Node.TreeID = "t"
	if processed := s.run(t, after); processed.Node.State != node.Done || processed.Node.Result != node.Pass || len(s.artifact("copy.a")) == 0 {
		t.Errorf("%s %s: %s\n%s", processed.Node.State, processed.Node.Result, processed.Node.Text("error_msg"), s.log(t))
	}

	command := map[string]any{"command": "make --silent test", "suite": "selftest"}
	tested := s.run(t, s.live(node.KindJob, "ktest.jinja2", built.Node.Artifacts, command))
	expect(t, tested, "checkout/job pass", "checkout/job/selftest pass", "checkout/job/selftest/text/trims_tabs pass")
	if log := s.log(t); strings.Contains(log, "cc ") || strings.Contains(log, "token-of-the-job") {
		t.Errorf("the kept tree is built again, or the log holds the token:\n%s", log)
	}
}

func TestBrokenTestIsReportedAlthoughTheCommandFails(t *testing.T) {
	needTools(t)
	s := newPipelineServer(t)
	source := map[string]string{"tarball": s.put("sample.tar.gz", sampleTarball(t, func(name string, content []byte) []byte {
		return bytes.ReplaceAll(content, []byte(`c == ' ' || c == '\t'`), []byte(`c == ' '`))
	}))}
	tested := s.run(t, s.live(node.KindJob, "ktest.jinja2", source, map[string]any{"command": "make --silent test"}))
	expect(t, tested, "checkout/job fail", "checkout/job/job fail", "checkout/job/job/text/trims_tabs fail")
}

func TestJobsSayWhyTheyDoNotPass(t *testing.T) {
	needTools(t)
	s := newPipelineServer(t)
	source := map[string]string{"tarball": s.put("sample.tar.gz", sampleTarball(t, asIs))}
	broken := map[string]string{"tarball": s.put("broken.tar.gz", sampleTarball(t, func(name string, content []byte) []byte {
		return bytes.ReplaceAll(content, []byte("#include \"ring.h\""), []byte("#error no ring"))
	}))}
	build := map[string]any{"command": "make libsample.a", "artifacts": []any{"vmlinux"}}
	for _, tc := range []struct {
		name      string
		template  string
		artifacts map[string]string
		params    map[string]any
		result    node.Result
		message   string
	}{
		{"another version", "kver.jinja2", source, nil, node.Fail, "the Makefile says 1.0.0: it is not 6.1"},
		{"compiler error", "kbuild.jinja2", broken, build, node.Fail, "error: #error no ring"},
		{"artifact not made", "kbuild.jinja2", source, build, node.Fail, "the build made no ./vmlinux"},
		{"tests do not build", "ktest.jinja2", broken, map[string]any{"command": "make --silent test"}, node.Fail, "printed no results"},
		{"test program fails after its tests", "ktest.jinja2", source, map[string]any{"command": "make --silent test; exit 3"}, node.Fail, "ended with exit status 3"},
		{"plan not kept", "ktest.jinja2", source, map[string]any{"command": "echo 1..2; echo ok 1 a"}, node.Incomplete, "broke off"},
		{"no tarball", "ktest.jinja2", map[string]string{"tarball": s.URL + "/storage/gone"}, map[string]any{"command": "true"}, node.Incomplete, "downloading"},
		{"tarball cut short", "kver.jinja2", map[string]string{"tarball": s.put("cut.tar.gz", sampleTarball(t, asIs)[:500])}, nil, node.Incomplete, "unpacking"},
		{"a file that does not compile", "sparse.jinja2", broken, map[string]any{"checker": "cc -fsyntax-only", "suite": "static"}, node.Fail, ""},
		{"no checker", "sparse.jinja2", source, map[string]any{"checker": "no-such-checker -x"}, node.Incomplete, "this machine has no no-such-checker"},
		{"no such files", "sparse.jinja2", source, map[string]any{"checker": "cc", "files": "*.rs"}, node.Fail, "the tree has none of the files *.rs"},
		{"no artifact to work on", "process.jinja2", source, map[string]any{"command": "true", "fetch": []any{"vmlinux"}}, node.Incomplete, "there is no artifact vmlinux"},
		{"post-processing fails", "process.jinja2", source, map[string]any{"command": "exit 3"}, node.Fail, "ended with exit status 3"},
		{"no kunit in the source", "kunit.jinja2", source, nil, node.Fail, "tools/testing/kunit"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := s.run(t, s.live(node.KindJob, tc.template, tc.artifacts, tc.params))
			if h.Node.Result != tc.result || !strings.Contains(h.Node.Text("error_msg"), tc.message) {
				t.Errorf("%s: %s\n%s", h.Node.Result, h.Node.Text("error_msg"), s.log(t))
			}
		})
	}
}
