package ending

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"strings"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/ktap"
	"github.com/kernelflow/kernelflow/shared/node"
)

func root() node.Node {
	n := node.Node{
		ID: node.ID(strings.Repeat("7", 24)), Kind: node.KindJob, Name: "job", Path: []string{"checkout", "job"}, Group: "job",
		Parent: node.ID(strings.Repeat("1", 24)), Artifacts: map[string]string{"kernel": "https://example.org/bzImage"},
		Data: map[string]any{
			"kernel_revision": map[string]any{"tree": "mainline", "url": "https://git.example.org/linux.git", "branch": "master", "commit": strings.Repeat("1", 40)},
			"runtime":         "lab",
		},
	}
	n.SetDefaults(time.Now())
	return n
}

func TestAReportIsBounded(t *testing.T) {
	root := root()
	cases := make([]ktap.Case, 2*maxCases)
	for i := range cases {
		cases[i] = ktap.Case{Name: fmt.Sprintf("case %d", i), Result: node.Pass}
	}
	for message, want := range map[string]int{"": maxCases, strings.Repeat("long ", 10_000): maxReportNodes / 50_000} {
		root.Data["kernel_revision"].(map[string]any)["commit_message"] = message
		h, notes := Ending{Suites: []Suite{{Name: "unit", Report: ktap.Report{Cases: cases}}}}.Report(root, time.Time{})
		got := len(h.Children[0].Children)
		if got > want || got < want*9/10 {
			t.Errorf("%d cases with a message of %d bytes, want about %d", got, len(message), want)
		}
		if len(notes) != 1 {
			t.Errorf("notes %q", notes)
		}
	}
}

func TestPrintableIsValidTextOfBoundedLength(t *testing.T) {
	for in, want := range map[string]string{
		"":                     "",
		" a\x00b\x7f\tc\nd \r": "ab\tc\nd",
		"\xff":                 "\uFFFD",
		"äöü":                  "ä",
	} {
		if got := Printable(in, 3); got != want && got != want[:min(3, len(want))] {
			t.Errorf("Printable(%q): %q, want %q", in, got, want)
		}
	}
}

// field is one part of a form: a file when it has a name for one.
type field struct{ name, file, content string }

func read(t *testing.T, boundary string, fields ...field) (Form, error) {
	t.Helper()
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	if err := w.SetBoundary(boundary); err != nil {
		t.Fatal(err)
	}
	for _, f := range fields {
		create := w.CreateFormField
		if f.file != "" {
			create = func(name string) (io.Writer, error) { return w.CreateFormFile(name, f.file) }
		}
		part, err := create(f.name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := part.Write([]byte(f.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return Read(multipart.NewReader(&body, boundary))
}

func TestAFormSaysHowAJobEnded(t *testing.T) {
	f, err := read(t, "b", field{"exit", "", "1\n"}, field{"error", "", "no\x00 luck\n"}, field{"data", "", `{"misc":{"a":1},"runtime":"mine"}`},
		field{"artifact:log", "", "https://example.org/log"}, field{"results", "unit.ktap", "1..2\nok 1 a\nnot ok 2 b\n"}, field{"later", "", "?"})
	if err != nil {
		t.Fatal(err)
	}
	h, notes := f.Report(root(), time.Now())
	if h.Node.Result != node.Fail || h.Node.State != node.Done || h.Node.Text("error_msg") != "no luck" {
		t.Errorf("%+v", h.Node)
	}
	if h.Node.Artifacts["log"] == "" || h.Node.Artifacts["kernel"] == "" || h.Node.Text("runtime") != "lab" || len(notes) != 1 {
		t.Errorf("%v, %v, %q", h.Node.Artifacts, h.Node.Data, notes)
	}
	if len(h.Children) != 1 || h.Children[0].Node.Name != "unit" || len(h.Children[0].Children) != 2 {
		t.Errorf("%+v", h.Children)
	}
}

func TestTheSameFormIsTheSameRequest(t *testing.T) {
	one, err := read(t, "one", field{"exit", "", "0"}, field{"error", "", ""})
	two, problem := read(t, "two", field{"exit", "", "0"}, field{"error", "", ""})
	other, third := read(t, "one", field{"exit", "", ""}, field{"error", "", "0"})
	if err != nil || problem != nil || third == nil {
		t.Fatal(err, problem, third)
	}
	if one.Request() != two.Request() || one.Request() == other.Request() || one.Request() == "" {
		t.Error(one.Request(), two.Request(), other.Request())
	}
}

func TestAFormThatMakesNoSenseNamesItsField(t *testing.T) {
	many := make([]field, maxArtifacts+1)
	for i := range many {
		many[i] = field{name: fmt.Sprintf("artifact:%d", i), content: "https://example.org/"}
	}
	for name, fields := range map[string][]field{
		"exit":       {{"exit", "", "one"}},
		"exit:":      {{"exit", "", "256"}},
		"cause":      {{"cause", "", "orphaned"}},
		"limit":      {{"limit", "", "-1"}},
		"holdoff":    {{"holdoff", "", "99999999999"}},
		"data":       {{"data", "", "[1]"}},
		"data: long": {{"data", "", strings.Repeat(" ", maxData+1)}},
		"artifact:":  {{"artifact:", "", "https://example.org/"}},
		"artifact":   many,
	} {
		what, _, _ := strings.Cut(name, ":")
		if _, err := read(t, "b", fields...); !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Read(multipart.NewReader(strings.NewReader("--b\r\nContent-Disposition: form-data; name=exit\r\n\r\n0"), "b")); !errors.Is(err, errs.Invalid) {
		t.Errorf("a form that breaks off: %v", err)
	}
}
