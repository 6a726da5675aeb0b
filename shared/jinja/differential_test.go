package jinja_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/jinja"
)

// job is one rendering: by Python, by us.
type job struct {
	Templates map[string]string `json:"templates"`
	Name      string            `json:"name"`
	Params    json.RawMessage   `json:"params"`
}

type answer struct {
	Text    *string `json:"text"`
	Error   string  `json:"error"`
	Message string  `json:"message"`
}

func (a answer) String() string {
	if a.Text != nil {
		return strconv.Quote(*a.Text)
	}
	return a.Error + ": " + a.Message
}

// dictLoader has its templates in memory.
type dictLoader map[string]string

func (l dictLoader) Source(name string) (string, error) {
	text, ok := l[name]
	if !ok {
		return "", errs.New(errs.NotFound, "there is no template %q", name)
	}
	return text, nil
}

func engine(templates map[string]string) *jinja.Engine {
	return &jinja.Engine{
		Loader: dictLoader(templates), MaxOutput: 1 << 20,
		Globals: map[string]jinja.Function{
			"kci_raise": {Signature: "msg", Call: func(a []jinja.Value) (jinja.Value, error) {
				return nil, fmt.Errorf("%v", a[0])
			}},
		},
	}
}

// ours is how this package answers.
func ours(t testing.TB, j job) answer {
	t.Helper()
	params, err := jinja.FromJSON(j.Params)
	if err != nil {
		t.Fatal(err)
	}
	vars := map[string]jinja.Value{}
	for k, v := range params.(*jinja.Dict).All {
		vars[k.(string)] = v
	}
	text, err := engine(j.Templates).Render(t.Context(), j.Name, vars)
	if err != nil {
		e := err.(*jinja.Error)
		return answer{Error: e.Class, Message: e.Error()}
	}
	return answer{Text: &text}
}

// agree says whether both gave the same text, or both an error. What we say
// that we do not support may be an error of ours alone.
func agree(want, got answer) bool {
	switch {
	case got.Error == "Unsupported":
		return true
	case want.Text == nil || got.Text == nil:
		return want.Text == nil && got.Text == nil
	}
	return *want.Text == *got.Text
}

// peer is a process with Python's Jinja2.
type peer struct {
	in  io.WriteCloser
	out *bufio.Reader
}

// startPeer starts the Python that KERNELFLOW_JINJA_PYTHON names.
func startPeer(t *testing.T) *peer {
	python := os.Getenv("KERNELFLOW_JINJA_PYTHON")
	if python == "" {
		t.Skip("SKIPPED: KERNELFLOW_JINJA_PYTHON names no Python with Jinja2 (scripts/test-jinja.sh installs one)")
	}
	cmd := exec.CommandContext(t.Context(), python, "-W", "ignore", "testdata/peer.py")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	return &peer{in, bufio.NewReaderSize(out, 1<<20)}
}

func (p *peer) ask(t *testing.T, question any) answer {
	t.Helper()
	line, err := json.Marshal(question)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		t.Fatal(err)
	}
	reply, err := p.out.ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var a answer
	if err := json.Unmarshal(reply, &a); err != nil {
		t.Fatal(err)
	}
	return a
}

func number(t *testing.T, name string, otherwise int) int {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s=%s: %v", name, text, err)
	}
	return n
}

// TestGeneratedTemplatesRenderAsInPython compares templates that chance makes;
// KERNELFLOW_JINJA_SEED and KERNELFLOW_JINJA_COUNT vary it.
func TestGeneratedTemplatesRenderAsInPython(t *testing.T) {
	p := startPeer(t)
	seed, count := number(t, "KERNELFLOW_JINJA_SEED", 1), number(t, "KERNELFLOW_JINJA_COUNT", 5000)
	random := rand.New(rand.NewPCG(uint64(seed), 0))
	var texts, failures, refused int
	began := time.Now()
	for i := range count {
		j := generate(random)
		want, got := p.ask(t, j), ours(t, j)
		switch {
		case got.Error == "Unsupported":
			refused++
		case want.Text != nil:
			texts++
		default:
			failures++
		}
		if agree(want, got) {
			continue
		}
		t.Errorf("template %d of seed %d:\n%v\n%s\nPython: %s\n  ours: %s", i, seed, j.Templates, j.Params, want, got)
		if t.Failed() && number(t, "KERNELFLOW_JINJA_MAX", 10) <= 1 {
			break
		}
	}
	t.Logf("%d templates in %s: %d texts, %d errors, %d that we refuse", count, time.Since(began).Round(time.Second), texts, failures, refused)
	if texts < count/4 || refused > count/20 {
		t.Errorf("too few of %d templates say anything", count)
	}
}

// TestYAMLIsDumpedAsInPython compares dumps of generated data.
func TestYAMLIsDumpedAsInPython(t *testing.T) {
	p := startPeer(t)
	random := rand.New(rand.NewPCG(uint64(number(t, "KERNELFLOW_JINJA_SEED", 1)), 1))
	for range number(t, "KERNELFLOW_JINJA_COUNT", 5000) {
		data, err := json.Marshal(map[string]any{"data": yamlData(random, 0)})
		if err != nil {
			t.Fatal(err)
		}
		text := "{% set shared = data %}{{ kci_yaml_dump(data) }}{{ kci_yaml_dump({'a': shared, 'b': [shared], 'c': (1, shared)}) }}"
		j := job{Templates: map[string]string{"main": text}, Name: "main", Params: data}
		if want, got := p.ask(t, j), ours(t, j); !agree(want, got) || got.Error != "" {
			t.Errorf("%s\nPython: %s\n  ours: %s", data, want, got)
		}
	}
}

// yamlData is data by chance, with texts that YAML would take for something
// else.
func yamlData(r *rand.Rand, depth int) any {
	switch n := r.IntN(10); {
	case n < 2 && depth < 4:
		list := []any{}
		for range r.IntN(4) {
			list = append(list, yamlData(r, depth+1))
		}
		return list
	case n < 5 && depth < 4:
		dict := map[string]any{}
		for range r.IntN(4) {
			dict[yamlText(r)] = yamlData(r, depth+1)
		}
		return dict
	case n == 5:
		return []any{nil, true, false, 0, -7, 1.5, 1e20, 1e-7, 123456789012}[r.IntN(9)]
	}
	return yamlText(r)
}

func yamlText(r *rand.Rand) string {
	parts := []string{"a", "word", " ", " ", "  ", "\n", "\n\n", ":", ": ", "#", " #", "- ", "-", "'", "\"", "\\", "\t", "é", "😀", "{", "}", "[", "*", "&", "!", "|", ">", "%", "@", "yes", "no", "null", "~", "1", "0x1f", "1.5", "1:30", "2024-01-01", ".", "=", "<<", "\u0085", "\u2028", "\x00", "\x7f", "true", "---", "...", "?", "? ", ",", "long words that go on and on and on until the line is full of them", "\r", "\ufeff", "\u00a0"}
	text := ""
	for range r.IntN(6) {
		text += parts[r.IntN(len(parts))]
	}
	return text
}
