package job

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/kernelflow/kernelflow/shared/ktap"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/runtime/runtimetest"
)

func TestTheSecretIsFoundHoweverTheStreamIsCut(t *testing.T) {
	mask := strings.Repeat("*", len(secret))
	for _, text := range []string{
		"", secret, secret[:5], secret + secret, "a" + secret[:9] + secret + "b", secret[:len(secret)-1],
		strings.Repeat("x", 4090) + secret + strings.Repeat("y", 9000) + secret, "kkkci-kci-token" + secret,
	} {
		want := strings.ReplaceAll(text, secret, mask)
		for name, r := range map[string]io.Reader{
			"whole":  strings.NewReader(text),
			"bytes":  iotest.OneByteReader(strings.NewReader(text)),
			"halves": iotest.HalfReader(strings.NewReader(text)),
		} {
			got, err := io.ReadAll(redact(r, secret))
			if err != nil || string(got) != want {
				t.Errorf("%s of %.40q: %.60q, %v", name, text, got, err)
			}
		}
	}
}

func TestALogNeverTakesMoreDiskThanItMay(t *testing.T) {
	for _, limit := range []int64{1, 10, 100, 4096} {
		dir := t.TempDir()
		log, err := newLog(dir, limit)
		check(t, err)
		var all bytes.Buffer
		for i := range 500 {
			line := fmt.Sprintf("line %d\n", i)
			all.WriteString(line)
			_, err := io.WriteString(log, line)
			check(t, err)
			if size := sizeOf(t, dir); size > max(limit, 3) {
				t.Fatalf("limit %d: %d bytes after line %d", limit, size, i)
			}
		}
		log.close()
		r, err := readLog(dir)
		check(t, err)
		got, err := io.ReadAll(r)
		check(t, err)
		check(t, r.Close())
		begin, end := all.Bytes()[:max(1, limit/2)], all.Bytes()[all.Len()-max(1, int(limit/4)):]
		if !bytes.HasPrefix(got, begin) || !bytes.HasSuffix(got, end) {
			t.Errorf("limit %d: beginning or end is missing: %.100q", limit, got)
		}
	}
}

func TestAReportIsBounded(t *testing.T) {
	root := runtimetest.NewNode(node.KindJob, 7)
	cases := make([]ktap.Case, 2*maxCases)
	for i := range cases {
		cases[i] = ktap.Case{Name: fmt.Sprintf("case %d", i), Result: node.Pass}
	}
	for message, want := range map[string]int{"": maxCases, strings.Repeat("long ", 10_000): maxReportNodes / 50_000} {
		root.Data["kernel_revision"].(map[string]any)["commit_message"] = message
		r := &results{suites: []suite{{name: "unit", report: ktap.Report{Cases: cases}}}}
		h := report(root, verdict{result: node.Pass}, r, nil, time.Time{})
		got := len(h.Children[0].Children)
		if got > want || got < want*9/10 {
			t.Errorf("%d cases with a message of %d bytes, want about %d", got, len(message), want)
		}
		if len(r.notes) != 1 {
			t.Errorf("notes %q", r.notes)
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
		if got := printable(in, 3); got != want && got != want[:min(3, len(want))] {
			t.Errorf("printable(%q): %q, want %q", in, got, want)
		}
	}
}
