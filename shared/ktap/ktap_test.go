package ktap

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/kernelflow/kernelflow/shared/node"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestOutputsAreUnderstood(t *testing.T) {
	inputs, err := filepath.Glob("testdata/*.ktap")
	if err != nil || len(inputs) == 0 {
		t.Fatalf("no inputs: %v", err)
	}
	for _, input := range inputs {
		t.Run(strings.TrimSuffix(filepath.Base(input), ".ktap"), func(t *testing.T) {
			raw, err := os.ReadFile(input)
			if err != nil {
				t.Fatal(err)
			}
			compare(t, strings.TrimSuffix(input, ".ktap")+".golden", show(parse(t, raw)))
		})
	}
}

// A reader may give as little as it likes at a time.
func TestReadingByteByByteChangesNothing(t *testing.T) {
	raw, err := os.ReadFile("testdata/kunit-6.1.ktap")
	if err != nil {
		t.Fatal(err)
	}
	slow, err := Parse(iotest.OneByteReader(bytes.NewReader(raw)))
	if err != nil {
		t.Fatal(err)
	}
	if a, b := show(slow), show(parse(t, raw)); a != b {
		t.Errorf("byte by byte:\n%s\nat once:\n%s", a, b)
	}
}

func TestWhatWasReadBeforeAnErrorIsKept(t *testing.T) {
	broken := errors.New("cable cut")
	report, err := Parse(io.MultiReader(strings.NewReader("1..2\nok 1 a\n"), iotest.ErrReader(broken)))
	if !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
	if len(report.Cases) != 1 || report.Incomplete() == nil {
		t.Errorf("kept:\n%s", show(report))
	}
}

func TestResultSumsUp(t *testing.T) {
	for _, c := range []struct {
		in   string
		want node.Result
	}{
		{"1..2\nok 1\nok 2\n", node.Pass},
		{"1..2\nok 1\nnot ok 2\n", node.Fail},
		{"1..2\nok 1\nok 2 # SKIP\n", node.Pass},
		{"1..1\nok 1 # skip no device\n", node.Skip},
		{"1..0 # SKIP no device\n", node.Skip},
		{"1..3\nok 1\nok 2\n", node.Incomplete},
		{"1..3\nnot ok 1\n", node.Fail},
		{"1..2\nok 1\nnot ok 2 # TODO\n", node.Pass},
		{"1..1\nnot ok 1 # XFAIL\n", node.Skip},
		{"1..1\nok 1 # TIMEOUT 30 s\n", node.Fail},
		{"nothing of interest\n", node.Incomplete},
		{"", node.Incomplete},
		{"1..2\nok 1\nBail out! no disk\n", node.Incomplete},
	} {
		if got := parse(t, []byte(c.in)).Result(); got != c.want {
			t.Errorf("%q: %s, want %s", c.in, got, c.want)
		}
	}
}

func TestHugeOutputsStayBounded(t *testing.T) {
	const many = maxCases + 5
	for _, c := range []struct {
		name    string
		in      io.Reader
		problem string // "": none
		check   func(Report) bool
	}{
		{"a line of megabytes", io.MultiReader(strings.NewReader("1..1\n"), bytes.NewReader(bytes.Repeat([]byte{'x'}, 8<<20)), strings.NewReader("\nok 1 a\n")), "",
			func(r Report) bool { return len(r.Cases) == 1 && len(r.Cases[0].Diagnostics) <= maxLine }},
		{"a long name", strings.NewReader("1..1\nok 1 " + strings.Repeat("é", 9000) + "\n"), "name of 18000 bytes",
			func(r Report) bool {
				return len(r.Cases[0].Name) <= maxName && utf8.ValidString(r.Cases[0].Name)
			}},
		{"a flood of results", strings.NewReader(fmt.Sprintf("1..%d\n", many) + strings.Repeat("ok - x\n", many)), "more than 100000 results",
			func(r Report) bool { return len(r.Cases) == maxCases && len(r.Problems) == 1 }},
		{"a flood of diagnostics", strings.NewReader("1..1\n" + strings.Repeat("# oh dear\n", 100_000) + "ok 1\n"), "",
			func(r Report) bool {
				return len(r.Cases[0].Diagnostics) < maxText+100 && strings.Contains(r.Cases[0].Diagnostics, "bytes left out")
			}},
		{"deep nesting", strings.NewReader(deep(500)), "nested deeper than 32",
			func(r Report) bool { return depth(r.Cases) <= maxDepth }},
		{"a flood of problems", strings.NewReader(strings.Repeat("ok 7\n", 10_000) + "1..20000\n"), "number 7 given twice",
			func(r Report) bool { return len(r.Problems) == maxProblems && r.Incomplete() != nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := Parse(c.in)
			if err != nil {
				t.Fatal(err)
			}
			if !c.check(r) {
				t.Errorf("not kept within bounds: %d cases, problems %v", len(r.Cases), r.Problems[:min(3, len(r.Problems))])
			}
			if c.problem != "" && !strings.Contains(fmt.Sprint(r.Problems), c.problem) {
				t.Errorf("no problem says %q: %v", c.problem, r.Problems)
			}
		})
	}
}

func TestAllDiagnosticsTogetherAreBounded(t *testing.T) {
	one := strings.Repeat("# "+strings.Repeat("y", 98)+"\n", 90) + "not ok - x\n"
	r := parse(t, []byte(strings.Repeat(one, 3000)))
	total := 0
	for _, c := range r.Cases {
		total += len(c.Diagnostics)
	}
	if len(r.Cases) != 3000 || total > maxAllText {
		t.Errorf("%d cases with %d bytes of diagnostics, limit %d", len(r.Cases), total, maxAllText)
	}
}

func deep(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat("  ", i) + "KTAP version 1\n" + strings.Repeat("  ", i) + "1..1\n")
	}
	for i := n - 1; i >= 0; i-- {
		b.WriteString(strings.Repeat("  ", i) + "ok 1 level\n")
	}
	return b.String()
}

func depth(cases []Case) int {
	deepest := 0
	for _, c := range cases {
		deepest = max(deepest, 1+depth(c.Cases))
	}
	return deepest
}

func FuzzParse(f *testing.F) {
	inputs, _ := filepath.Glob("testdata/*.ktap")
	for _, input := range inputs {
		raw, err := os.ReadFile(input)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Add([]byte("  ok 1\n# # # TAP version 13\n# ok\n    ---\nnot ok"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r := parse(t, raw)
		checkSane(t, r.Cases)
		if len(r.Problems) > maxProblems || depth(r.Cases) > maxDepth {
			t.Errorf("%d problems, depth %d", len(r.Problems), depth(r.Cases))
		}
		if len(r.Cases) == 0 && !r.Skipped && r.Incomplete() == nil {
			t.Error("no case and nothing says why")
		}
	})
}

func checkSane(t *testing.T, cases []Case) {
	for _, c := range cases {
		if c.Name == "" || len(c.Name) > maxName || !utf8.ValidString(c.Name+c.Diagnostics) || strings.ContainsRune(c.Name, 0) {
			t.Errorf("case %q with diagnostics %q", c.Name, c.Diagnostics)
		}
		if c.Result == node.Pass && Sum(c.Cases) == node.Fail {
			t.Errorf("case %q passed over a failure", c.Name)
		}
		checkSane(t, c.Cases)
	}
}

func parse(t *testing.T, raw []byte) Report {
	t.Helper()
	r, err := Parse(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// show writes a report for people to compare.
func show(r Report) string {
	var b strings.Builder
	fmt.Fprintf(&b, "result: %s\n", r.Result())
	showCases(&b, r.Cases, "")
	for line := range strings.Lines(r.Diagnostics) {
		fmt.Fprintf(&b, "at the end: %s\n", strings.TrimSpace(line))
	}
	for _, p := range r.Problems {
		mark := "note"
		if p.Incomplete {
			mark = "INCOMPLETE"
		}
		fmt.Fprintf(&b, "%s: %s\n", mark, p)
	}
	return b.String()
}

func showCases(b *strings.Builder, cases []Case, indent string) {
	for _, c := range cases {
		fmt.Fprintf(b, "%s%s %s\n", indent, c.Result, c.Name)
		for line := range strings.Lines(c.Diagnostics) {
			fmt.Fprintf(b, "%s  | %s\n", indent, strings.TrimRight(line, "\n"))
		}
		showCases(b, c.Cases, indent+"  ")
	}
}

func compare(t *testing.T, golden, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s (rewrite with -update):\n%s\nwant:\n%s", golden, got, want)
	}
}
