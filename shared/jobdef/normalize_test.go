package jobdef

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/kernelflow/kernelflow/shared/errs"
)

// definitions are YAML, with what PyYAML makes of it: "" is an error.
var definitions = []struct{ name, text, want string }{
	{"a key twice", "a: 1\nb: 2\na: 3\n", "a: 3\nb: 2\n"},
	{"a key twice, deep", "x:\n  - {k: 1, k: 2}\n", "x:\n- k: 2\n"},
	{"merge", "base: &b {x: 1, y: 2}\nc:\n  <<: *b\n  y: 3\n", "base:\n  x: 1\n  y: 2\nc:\n  x: 1\n  y: 3\n"},
	{"anchors", "a: &x [1, 2]\nb: *x\n", "a: &id001\n- 1\n- 2\nb: *id001\n"},
	{"an alias of a text", "a: &x text\nb: *x\n", "a: text\nb: text\n"},
	{"types of YAML 1.1", "a: yes\nb: 1:30\nc: 0x1f\nd: 010\ne: 1_000\nf: .inf\ng: ~\nh: 1e3\ni: 1.5e+3\n",
		"a: true\nb: 90\nc: 31\nd: 8\ne: 1000\nf: .inf\ng: null\nh: 1e3\ni: 1500.0\n"},
	{"quoted", "a: 'yes'\nb: \"1\"\nc: !!str 1\nd: !!int '1'\n", "a: 'yes'\nb: '1'\nc: '1'\nd: 1\n"},
	{"dates", "a: 2024-01-02\nb: 2024-01-02T03:04:05Z\nc: '2024-01-02'\n", "a: 2024-01-02\nb: 2024-01-02 03:04:05+00:00\nc: '2024-01-02'\n"},
	{"lines", "a: |\n  one\n  two\nb: >-\n  folded\n  text\n", "a: 'one\n\n  two\n\n  '\nb: folded text\n"},
	{"a long command", "run: " + strings.Repeat("word ", 30) + "end\n",
		"run: " + strings.Repeat("word ", 15) + "word\n  " + strings.Repeat("word ", 14) + "end\n"},
	{"nothing", "", "null\n...\n"},
	{"two documents", "a: 1\n---\nb: 2\n", ""},
	{"a tag of Python", "a: !!python/object/apply:os.getcwd []\n", ""},
	{"a tab", "a:\n\t- b\n", ""},
	{"an unknown alias", "a: *x\n", ""},
	{"a list as a key", "? [1]\n: x\n", ""},
	{"a list that is merged", "<<: [1]\n", ""},
	{"no YAML", "a: b: c\n", ""},
	{"a day that is none", "a: 2024-02-31\n", ""},
}

func TestDefinitionsAreNormalizedAsPyYAMLDid(t *testing.T) {
	for _, tc := range definitions {
		got, err := Normalize(tc.text)
		if got != tc.want || (err != nil) != (tc.want == "") || err != nil && !errors.Is(err, errs.Invalid) {
			t.Errorf("%s: %q, %v; want %q", tc.name, got, err, tc.want)
		}
	}
}

func TestDefinitionsForLAVAAloneAreNormalized(t *testing.T) {
	r := mustNew(t, folder(t, "t.jinja2", "b: {{ name }}\na: 1\na: 2\n", "bad.jinja2", "a: b: {{ name }}"))
	for lab, want := range map[string]string{"lava": "a: 2\nb: job\n", "shell": "b: job\na: 1\na: 2"} {
		p := params("t.jinja2", nil)
		p.Runtime.LabType = lab
		if got, err := r.Render(p); err != nil || got != want {
			t.Errorf("%s: %q, %v", lab, got, err)
		}
	}
	p := params("bad.jinja2", nil)
	p.Runtime.LabType = "lava"
	if _, err := r.Render(p); !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "yaml.Load") {
		t.Error(err)
	}
}

func TestAliasesAreNotMultiplied(t *testing.T) {
	bomb := "a0: &a0 [x, x]\n"
	for i := range 100 {
		bomb += fmt.Sprintf("a%d: &a%d [*a%d, *a%d]\n", i+1, i+1, i, i)
	}
	if text, err := Normalize(bomb); err != nil || len(text) > 10*len(bomb) {
		t.Errorf("%d bytes of %d, %v", len(text), len(bomb), err)
	}
	merges := "a0: &a0 {x1: 1, y2: 2}\n"
	for i := range 100 {
		merges += fmt.Sprintf("a%d: &a%d {<<: [*a%d, *a%d]}\n", i+1, i+1, i, i)
	}
	if _, err := Normalize(merges); !errors.Is(err, errs.Invalid) {
		t.Error(err)
	}
	for _, text := range []string{strings.Repeat("[", 100_000), strings.Repeat("- ", 10_000), strings.Repeat("{a: ", 1000)} {
		if _, err := Normalize(text); !errors.Is(err, errs.Invalid) {
			t.Errorf("%.10s: %v", text, err)
		}
	}
}

// TestDefinitionsAreNormalizedAsInPython asks PyYAML about definitions that
// chance makes, in the process that KERNELFLOW_JINJA_PYTHON names.
func TestDefinitionsAreNormalizedAsInPython(t *testing.T) {
	python := os.Getenv("KERNELFLOW_JINJA_PYTHON")
	if python == "" {
		t.Skip("SKIPPED: KERNELFLOW_JINJA_PYTHON names no Python with PyYAML (scripts/test-jinja.sh installs one)")
	}
	count, err := strconv.Atoi(os.Getenv("KERNELFLOW_JINJA_COUNT"))
	if err != nil {
		count = 5000
	}
	seed, _ := strconv.Atoi(os.Getenv("KERNELFLOW_JINJA_SEED"))
	random := rand.New(rand.NewPCG(uint64(seed), 2))
	var texts []string
	for _, tc := range definitions {
		texts = append(texts, tc.text)
	}
	for range count {
		texts = append(texts, (&yamlMaker{r: random}).document())
	}
	good := 0
	for i, want := range askPyYAML(t, python, texts) {
		got, err := Normalize(texts[i])
		if (err != nil) != (want == nil) || want != nil && got != *want {
			t.Errorf("%q\nPython: %s\n  ours: %q, %v", texts[i], show(want), got, err)
		}
		if want != nil {
			good++
		}
	}
	if good < count/3 {
		t.Errorf("only %d of %d definitions say anything", good, count)
	}
}

func show(text *string) string {
	if text == nil {
		return "error"
	}
	return strconv.Quote(*text)
}

func askPyYAML(t *testing.T, python string, texts []string) []*string {
	t.Helper()
	var questions bytes.Buffer
	for _, text := range texts {
		line, err := json.Marshal(map[string]string{"yaml": text})
		if err != nil {
			t.Fatal(err)
		}
		questions.Write(append(line, '\n'))
	}
	cmd := exec.CommandContext(t.Context(), python, "-W", "ignore", "../jinja/testdata/peer.py")
	cmd.Stdin, cmd.Stderr = &questions, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var answers []*string
	scanner := bufio.NewScanner(bytes.NewReader(out))
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		var a struct{ Text *string }
		if err := json.Unmarshal(scanner.Bytes(), &a); err != nil {
			t.Fatal(err)
		}
		answers = append(answers, a.Text)
	}
	if len(answers) != len(texts) {
		t.Fatalf("%d answers to %d questions", len(answers), len(texts))
	}
	return answers
}

// yamlMaker makes YAML in the forms that definitions have.
type yamlMaker struct {
	r       *rand.Rand
	anchors []string // of mappings
	named   int
}

func (y *yamlMaker) pick(options ...string) string { return options[y.r.IntN(len(options))] }

func (y *yamlMaker) document() string {
	var out strings.Builder
	for range 1 + y.r.IntN(5) {
		out.WriteString(y.key() + ":" + y.value(0))
	}
	return out.String()
}

func (y *yamlMaker) key() string {
	return y.pick("a", "b", "c", "a", "timeouts", "job name", "'q'", "\"d\"", "1", "yes", "~", "2024-01-01", "<<x", "1.5", "é")
}

// value is what stands behind "key:" on a level, with its end of line.
func (y *yamlMaker) value(level int) string {
	pad := strings.Repeat("  ", level+1)
	n := y.r.IntN(12)
	if level > 3 {
		n = 11
	}
	switch n {
	case 0, 1:
		anchor := ""
		if y.r.IntN(3) == 0 {
			anchor = fmt.Sprintf(" &m%d", y.named)
			if y.r.IntN(10) > 0 { // else it is there twice
				y.named++
			}
		}
		out := anchor + "\n"
		if len(y.anchors) > 0 && y.r.IntN(3) == 0 {
			out += pad + "<<: " + y.pick("*"+y.pick(y.anchors...), "[*"+y.pick(y.anchors...)+", *"+y.pick(y.anchors...)+"]", "{a: 9, z: 1}") + "\n"
		}
		for range 1 + y.r.IntN(3) {
			out += pad + y.key() + ":" + y.value(level+1)
		}
		if anchor != "" {
			y.anchors = append(y.anchors, anchor[2:])
		}
		return out
	case 2, 3:
		out := "\n"
		for range 1 + y.r.IntN(3) {
			out += pad + "- " + y.pick(y.scalar(), "{a: "+y.flow()+", b: [1, "+y.flow()+"]}", "k: "+y.scalar()) + "\n"
		}
		return out
	case 4:
		return " " + y.pick("|", "|-", "|+", ">", ">-", "|2-") + "\n" + pad + "one " + y.flow() + "\n" + y.pick("", "\n", pad+"  more\n") + pad + "two # no comment\n"
	case 5:
		if len(y.anchors) > 0 {
			return " *" + y.pick(y.anchors...) + "\n"
		}
	case 6:
		return " " + y.pick("{}", "[]", "{a: 1, a: 2}", "[a, 'b', \"c\\n\\t\\x41\\u00e9\"]", "!!str 5", "!!int '7'", "!!float 1", "!custom x", "! 5") + "\n"
	}
	return " " + y.scalar() + y.pick("", "", " # a comment") + "\n"
}

func (y *yamlMaker) flow() string {
	return y.pick("x", "1", "two", "'it''s'", "yes", "1.5", "http://x/y", "null", "0x10")
}

func (y *yamlMaker) scalar() string {
	return y.pick("text", "two words", "yes", "no", "on", "off", "true", "False", "null", "~", "", "1", "-7", "+5", "0", "007", "08", "0x1F", "0b11", "1_000", "1:30", "1:30:45", "1:75", "190:20:30.15", "1.5", ".5", "5.", "1e3", "1.5e+3", "1.5e3", ".inf", "-.INF", ".NaN",
		"2024-01-02", "2024-1-2", "2024-01-02 03:04:05", "2024-01-02T03:04:05.678Z", "2024-01-02 03:04:05 -5:30", "'quoted: text'", "\"double \\\"q\\\" \\\\ \\n\"", "'it''s'", "a:b", "a#b", "http://example.org/x?y=z", "é😀", "x: y",
		"a long text that goes on and on, with words enough to be folded when it is written, and then some more of them", "'  spaces  '", "123456789012345678901234567890", "{{ x }}", "[1, 2", "@x", "%x", "`x`", "!!null ''", "&a x", "*none", "'multi\n      line'", "0o17", "1__0", "_1", "=", "+.inf", "-0", "0.0", "12e03", "!!bool yes", "!!timestamp 2024-01-02")
}
