package jinja_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what Python gives anew; needs KERNELFLOW_JINJA_PYTHON")

// corpus are the jobs of testdata: each folder of corpus holds templates, the
// first of which is main; each line of expressions.txt is an expression, and
// each of errors.txt a template that fails.
func corpus(t *testing.T) map[string]job {
	t.Helper()
	given := json.RawMessage(params)
	jobs := map[string]job{}
	files, err := filepath.Glob("testdata/corpus/*/*")
	if err != nil || len(files) == 0 {
		t.Fatal("there is no corpus", err)
	}
	for _, file := range files {
		name, part := filepath.Base(filepath.Dir(file)), filepath.Base(file)
		if jobs[name].Templates == nil {
			jobs[name] = job{Templates: map[string]string{}, Name: "main", Params: given}
		}
		jobs[name].Templates[part] = read(t, file)
	}
	for kind, form := range map[string]string{"expressions": "{{ %s }}", "errors": "%s"} {
		for i, line := range lines(t, "testdata/"+kind+".txt") {
			jobs[fmt.Sprintf("%s %03d %s", kind, i+1, line)] = job{Templates: map[string]string{"main": fmt.Sprintf(form, line)}, Name: "main", Params: given}
		}
	}
	return jobs
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func lines(t *testing.T, file string) []string {
	t.Helper()
	return strings.Split(strings.TrimSuffix(read(t, file), "\n"), "\n")
}

// TestCorpusRendersAsPythonDid compares with what Python gave when the golden
// file was written, and with Python itself if there is one.
func TestCorpusRendersAsPythonDid(t *testing.T) {
	const golden = "testdata/golden.json"
	jobs := corpus(t)
	if *update {
		writeGolden(t, golden, jobs)
	}
	want := map[string]answer{}
	if err := json.Unmarshal([]byte(read(t, golden)), &want); err != nil {
		t.Fatal(err)
	}
	for name, j := range jobs {
		t.Run(name, func(t *testing.T) {
			python, known := want[name]
			if got := ours(t, j); !known || !agree(python, got) || got.Error == "Unsupported" {
				t.Errorf("Python: %s\n  ours: %s", python, got)
			}
			if strings.HasPrefix(name, "errors") && python.Text != nil {
				t.Error("Python gives a text")
			}
		})
	}
}

func writeGolden(t *testing.T, file string, jobs map[string]job) {
	t.Helper()
	p := startPeer(t)
	answers := map[string]answer{}
	for name, j := range jobs {
		answers[name] = p.ask(t, j)
	}
	text, err := json.MarshalIndent(answers, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestCorpusRendersAsInPython asks Python now.
func TestCorpusRendersAsInPython(t *testing.T) {
	p := startPeer(t)
	for name, j := range corpus(t) {
		if want, got := p.ask(t, j), ours(t, j); !agree(want, got) {
			t.Errorf("%s\nPython: %s\n  ours: %s", name, want, got)
		}
	}
}
