package lavaresult

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
)

var update = flag.Bool("update", false, "write the golden files")

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// shelf keeps files in memory.
type shelf struct {
	mu    sync.Mutex
	files map[string]string
	fail  error
}

func (s *shelf) keep(_ context.Context, name, _ string, r io.Reader) (string, error) {
	b, err := io.ReadAll(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err = errors.Join(err, s.fail); err != nil {
		return "", err
	}
	if s.files == nil {
		s.files = map[string]string{}
	}
	s.files[name] = string(b)
	return "https://storage.example.org/" + name, nil
}

func unpacked(t *testing.T, packed string) string {
	t.Helper()
	z, err := gzip.NewReader(strings.NewReader(packed))
	check(t, err)
	b, err := io.ReadAll(z)
	check(t, err)
	return string(b)
}

func jobNode(name string) node.Node {
	n := node.Node{ID: "65f000000000000000000002", Kind: node.KindJob, Name: name, Path: []string{"checkout", "kbuild", name}, Group: name, Parent: "65f000000000000000000001",
		Data: map[string]any{"runtime": "lava-lab", "platform": "qemu", "arch": "x86_64", "error_code": "node_timeout", "error_msg": "too late"}}
	n.SetDefaults(time.Date(2025, 1, 12, 8, 0, 0, 0, time.UTC))
	return n
}

// tree makes the whole way from a callback to the results.
func tree(t *testing.T, body string, n node.Node) (node.Hierarchy, *shelf) {
	t.Helper()
	var kept bytes.Buffer
	head, err := Copy(&kept, strings.NewReader(body), "cb-secret-token")
	check(t, err)
	if strings.Contains(kept.String(), "cb-secret-token") || !json.Valid(kept.Bytes()) {
		t.Errorf("kept with a secret, or no JSON: %.2000s", kept.String())
	}
	s := &shelf{}
	r, w := io.Pipe()
	var report Report
	go func() {
		var err error
		report, err = Parse(&kept, w)
		_ = w.CloseWithError(err)
	}()
	artifacts, err := KeepLog(t.Context(), r, s.keep)
	check(t, err)
	_, _ = io.Copy(io.Discard, r)
	if report.Head != head {
		t.Errorf("%+v and %+v", report.Head, head)
	}
	h := report.Tree(n, artifacts)
	_, err = h.Descendants(h.Node, "request")
	check(t, errors.Join(err, h.Node.Validate()))
	return h, s
}

// outline is a tree to read.
func outline(h node.Hierarchy, indent string) string {
	text := fmt.Sprintf("%s%s %s %s", indent, h.Node.Kind, h.Node.Name, h.Node.Result)
	for _, key := range []string{"device", "job_id", "error_code", "error_msg", "misc"} {
		if v := h.Node.Data[key]; v != nil {
			text += fmt.Sprintf(" %s=%v", key, v)
		}
	}
	text += "\n"
	for _, c := range h.Children {
		text += outline(c, indent+"  ")
	}
	return text
}

func TestARecordedCallbackGivesItsTree(t *testing.T) {
	bodies, err := filepath.Glob("testdata/*-body.json")
	check(t, err)
	for _, file := range bodies {
		body, err := os.ReadFile(file)
		check(t, err)
		h, s := tree(t, string(body), jobNode("smoke"))
		got := outline(h, "") + fmt.Sprintf("artifacts %v\n", h.Node.Artifacts)
		if log, ok := s.files["log.txt.gz"]; ok {
			lines := strings.Split(unpacked(t, log), "\n")
			got += fmt.Sprintf("log of %d lines: %s ... %s\n", len(lines), lines[0], lines[len(lines)-2])
		}
		golden := strings.TrimSuffix(file, "-body.json") + ".txt"
		if *update {
			check(t, os.WriteFile(golden, []byte(got), 0o644))
		}
		want, err := os.ReadFile(golden)
		check(t, err)
		if got != string(want) {
			t.Errorf("%s\ngot\n%swant\n%s", file, got, want)
		}
	}
	if len(bodies) != 3 {
		t.Errorf("%d recorded callbacks", len(bodies))
	}
}

// body makes a callback of suites, each a list of cases in YAML.
func body(status int, log string, suites ...string) string {
	var results []string
	for i := 0; i < len(suites); i += 2 {
		results = append(results, fmt.Sprintf("%q: %q", suites[i], suites[i+1]))
	}
	return fmt.Sprintf(`{"id": 7, "status": %d, "actual_device_id": "d", "definition": "x", "log": %q, "results": {%s}}`, status, log, strings.Join(results, ","))
}

const logLine = "- {\"dt\": \"1\", \"lvl\": \"target\", \"msg\": \"hello\"}\n"

func TestTheResultsOfAJobAreKernelCIs(t *testing.T) {
	const job, infra = "- {name: job, result: fail, metadata: {error_type: Job, error_msg: \"broken\\n\"}}\n", "- {name: job, result: fail, metadata: {error_type: Infrastructure, error_msg: power}}\n"
	for what, tc := range map[string]struct {
		name, body, want string
	}{
		"all pass":                      {"t", body(2, logLine, "0_a", "- {name: x, result: pass}"), "job t pass device=d job_id=7\n  job a pass\n    test x pass\n"},
		"one fails":                     {"t", body(2, logLine, "0_a", "- {name: x, result: pass}\n- {name: y, result: fail}"), "job t fail device=d job_id=7\n  job a fail\n    test x pass\n    test y fail\n"},
		"all skipped":                   {"t", body(2, logLine, "0_a", "- {name: x, result: skip}\n- {name: y, result: unknown}"), "job t pass device=d job_id=7\n  job a skip\n    test x skip\n    test y incomplete\n"},
		"a stage fails":                 {"t", body(2, logLine, "lava", "- {name: 0_a, result: fail}", "0_a", "- {name: x, result: pass}"), "job t fail device=d job_id=7\n  job a fail\n    test x pass\n"},
		"sets nest":                     {"t", body(2, logLine, "0_a", "- {name: x, result: fail, metadata: {set: s}}\n- {name: x, result: pass}"), "job t fail device=d job_id=7\n  job a fail\n    test x pass\n    job s fail\n      test x fail\n"},
		"the first of a name counts":    {"t", body(2, logLine, "0_a", "- {name: x, result: pass}\n- {name: x, result: fail}"), "job t pass device=d job_id=7\n  job a pass\n    test x pass\n"},
		"suites of one name are one":    {"t", body(2, logLine, "0_a", "- {name: x, result: pass}", "1_a", "- {name: y, result: fail}"), "job t fail device=d job_id=7\n  job a fail\n    test x pass\n    test y fail\n"},
		"any login is enough":           {"t", body(2, logLine, "lava", "- {name: login-action, result: fail}\n- {name: auto-login-action, result: pass}\n- {name: login-action, result: fail}"), "job t pass device=d job_id=7\n  job setup pass\n    test login pass\n"},
		"any panic is too many":         {"t", body(2, logLine, "lava", "- {name: kernel-messages, result: fail}\n- {name: kernel-messages, result: pass}"), "job t incomplete device=d job_id=7 error_msg=the device was not set up: see the results of setup\n  job setup fail\n    test kernelmsg fail\n"},
		"a baseline fails in its setup": {"baseline-x", body(3, logLine, "lava", job+"- {name: login-action, result: fail}"), "job baseline-x fail device=d job_id=7 error_code=Job error_msg=broken\n  job setup fail\n    test login fail\n"},
		"but not by its lab":            {"baseline-x", body(3, logLine, "lava", infra+"- {name: login-action, result: fail}"), "job baseline-x incomplete device=d job_id=7 error_code=Infrastructure error_msg=power\n  job setup fail\n    test login fail\n"},
		"another is incomplete":         {"t", body(3, logLine, "lava", job, "0_a", "- {name: x, result: fail}"), "job t incomplete device=d job_id=7 error_code=Job error_msg=broken\n  job a fail\n    test x fail\n"},
		"no log, no pass":               {"t", body(2, "", "0_a", "- {name: x, result: pass}"), "job t incomplete device=d job_id=7 error_code=Infrastructure error_msg=the lab sent no log\n  job a pass\n    test x pass\n"},
		"an incomplete one says why":    {"t", body(3, logLine), "job t incomplete device=d job_id=7 error_code=Infrastructure error_msg=the lab does not say why the job is incomplete\n"},
		"results that are no YAML": {"t", body(2, logLine, "0_a", "- {name: x", "1_b", "- {name: y, result: pass}"),
			"job t incomplete device=d job_id=7 error_code=Infrastructure error_msg=the lab's results cannot be read: results of suite \"0_a\": yaml: line 1: did not find expected ',' or '}'\n  job b pass\n    test y pass\n"},
		"measurements":    {"t", body(2, logLine, "0_a", "- {name: x, result: pass, measurement: '1.25', unit: seconds}\n- {name: y, result: pass, measurement: None}"), "job t pass device=d job_id=7\n  job a pass\n    test x pass misc=map[measurement:1.25 unit:seconds]\n    test y pass\n"},
		"names are texts": {"t", body(2, logLine, "0_a", "- {name: 1.0, result: pass}\n- {name: 'a\\0b', result: pass}"), "job t pass device=d job_id=7\n  job a pass\n    test 1.0 pass\n    test a\\0b pass\n"},
	} {
		t.Run(what, func(t *testing.T) {
			h, _ := tree(t, tc.body, jobNode(tc.name))
			if got := outline(h, ""); got != tc.want {
				t.Errorf("got\n%swant\n%s", got, tc.want)
			}
		})
	}
}

func TestAnUploadedFileIsAnArtifact(t *testing.T) {
	h, _ := tree(t, body(2, logLine, "0_upload", `- {name: "artifact-upload:dmesg:https://files.example.org/a:1/dmesg", result: pass}
- {name: "artifact-upload:no:https://files.example.org/no", result: fail}
- {name: "artifact-upload:bad:javascript:alert(1)", result: pass}
- {name: "artifact-upload:lava_logs:https://elsewhere.example.org/x", result: pass}
- {name: "artifact-upload:", result: pass}`), jobNode("t"))
	if h.Node.Artifacts["dmesg"] != "https://files.example.org/a:1/dmesg" || len(h.Node.Artifacts) != 3 || strings.Contains(h.Node.Artifacts[ArtifactLogs], "elsewhere") || len(h.Children) != 0 {
		t.Errorf("%v\n%s", h.Node.Artifacts, outline(h, ""))
	}
}

func TestALogIsReadable(t *testing.T) {
	s := &shelf{}
	log := "- {\"dt\": \"1\", \"lvl\": \"target\", \"msg\": \" \\u001b[0mboots\\u0000 \\u0007 \"}\n- {\"dt\": \"2\", \"lvl\": \"info\", \"msg\": \"not printed\"}\n" +
		"- {dt: 3, lvl: target, msg: older LAVA}\n- {dt: 4, lvl: target, msg: [a, list]}\n- broken {\n- {dt: 5, lvl: target,\n  msg: two lines}\n- {\"lvl\": \"target\", \"msg\": \"" + strings.Repeat("x", 2<<20) + "\"}\n- {\"lvl\": \"target\", \"msg\": \"end\"}"
	artifacts, err := KeepLog(t.Context(), strings.NewReader(log), s.keep)
	check(t, err)
	if got, want := unpacked(t, s.files["log.txt.gz"]), "^[[0mboots ?\nolder LAVA\ntwo lines\nend\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if s.files["lava-logs.yaml"] != log || len(artifacts) != 2 {
		t.Errorf("%v", artifacts)
	}
	if artifacts, err := KeepLog(t.Context(), strings.NewReader(""), s.keep); len(artifacts) != 0 || err != nil {
		t.Errorf("of nothing: %v, %v", artifacts, err)
	}
}

func TestALogThatCannotBeKeptIsAnError(t *testing.T) {
	s := &shelf{fail: errs.New(errs.Temporary, "full")}
	if _, err := KeepLog(t.Context(), strings.NewReader(strings.Repeat(logLine, 10_000)), s.keep); !errors.Is(err, errs.Temporary) {
		t.Errorf("%v", err)
	}
	s.fail = nil
	broken := io.MultiReader(strings.NewReader(logLine), iotestError{errs.New(errs.Temporary, "gone")})
	if _, err := KeepLog(t.Context(), broken, s.keep); !errors.Is(err, errs.Temporary) || len(s.files) != 0 {
		t.Errorf("%v, %d files", err, len(s.files))
	}
}

type iotestError struct{ error }

func (e iotestError) Read([]byte) (int, error) { return 0, e.error }

func TestWhatIsNoCallbackIsInvalid(t *testing.T) {
	for _, text := range []string{
		"", "null", "[]", "{", `{"id": 1}`, `{"id": 1, "status": 1}`, `{"id": 1, "status": "x"}`, `{"id": {}, "status": 2}`, `{"id": 1, "status": 2} x`,
		`{"id": 1, "status": 2, "id": 3}`, `{"id": 1, "status": 2, "log": "` + "\xff" + `"}`, `{"id": 1, "status": 2, "log": "` + "\n" + `"}`,
		`{"id": 1, "status": 2, "a": ` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `}`, `{"id": 1, "status": 2, "` + strings.Repeat("k", 5000) + `": 1}`,
		`{"id": 1, "status": 2, "definition": "` + strings.Repeat("x", 5<<20) + `"}`, `{"id": 1, "status": 2, "a": 1` + strings.Repeat("0", 5000) + `}`,
	} {
		if head, err := Copy(io.Discard, strings.NewReader(text)); !errors.Is(err, errs.Invalid) {
			t.Errorf("%.60q: %+v, %v", text, head, err)
		}
	}
}

func TestAYAMLBombIsRefused(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		bomb += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.Repeat("*"+string(c-1)+",", 10))
	}
	for _, text := range []string{bomb, "- {name: x, result: pass, metadata: *j}\n- " + strings.ReplaceAll(bomb, "\n", "\n  "), strings.Repeat("[", 100_000), "!!python/object/apply:os.system ['id']"} {
		if list, err := Cases("s", []byte(text)); !errors.Is(err, errs.Invalid) {
			t.Errorf("%.40q: %d cases, %v", text, len(list), err)
		}
	}
}

func FuzzScanAgreesWithTheStandardLibrary(f *testing.F) {
	for _, seed := range []string{`{"a": "b\u00e9\ud83d\ude00\n", "c": [1, -2.5e3, {"d": null}], "e": true}`, `{}`, `{"a"}`, `{"a":01}`, `{"\u0061":"\ud800x"}`, `{"a":"\ud800\u0041"}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 1000 {
			return
		}
		texts, raws := map[string]string{}, map[string]string{}
		var last func()
		flush := func() {
			if last != nil {
				last()
			}
		}
		err := Scan(strings.NewReader(text), func(key string) (Sink, error) {
			flush()
			raw, said := new(bytes.Buffer), new(bytes.Buffer)
			last = func() { raws[key], texts[key] = raw.String(), said.String() }
			return Sink{Raw: raw, Text: said}, nil
		})
		flush()
		var want map[string]any
		reference := json.Unmarshal([]byte(text), &want)
		isObject := strings.HasPrefix(strings.TrimLeft(text, " \t\r\n"), "{") && strings.ToValidUTF8(text, "") == text
		if (err == nil) != (reference == nil && isObject) {
			t.Fatalf("%q: %v, and the standard library: %v", text, err, reference)
		}
		if err != nil {
			return
		}
		for key, v := range want {
			if s, ok := v.(string); ok && texts[key] != s {
				t.Errorf("%q: %q says %q, want %q", text, key, texts[key], s)
			}
			if !json.Valid([]byte(raws[key])) {
				t.Errorf("%q: %q stands as %q", text, key, raws[key])
			}
		}
	})
}

func BenchmarkCopy(b *testing.B) {
	text := body(2, strings.Repeat(logLine, 200_000))
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := Copy(io.Discard, strings.NewReader(text)); err != nil {
			b.Fatal(err)
		}
	}
}
