package explain_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/kernelflow/kernelflow/local/explain"
	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/pipeline"
)

const config = `
runtimes: {shell: {lab_type: shell}, lab: {lab_type: lava}}
platforms: {shell: {}, a: {rules: {tree: [next]}}, b: {}}
jobs:
  kver: {template: t, kind: job, params: {frequency: 1d}}
  build: {template: t, kind: kbuild}
  other: {template: t, kind: job, rules: {tree: [next]}}
  third: {template: t, kind: job, rules: {tree: [next]}}
  boot: {template: t, kind: job, rules: {arch: [arm64]}}
scheduler:
  - {job: kver, event: &e {channel: node, kind: checkout, state: available}, runtime: {name: shell}}
  - {job: build, event: *e, runtime: {type: lava}, platforms: [a, b]}
  - {job: other, event: *e, runtime: {name: shell}}
  - {job: third, event: *e, runtime: {type: lava}, platforms: [a, b]}
  - {job: boot, event: {channel: node, kind: kbuild, state: available, result: pass}, runtime: {name: shell}}
`

func explained(t *testing.T, event string) (string, error) {
	t.Helper()
	cfg, _, err := pipeline.Load(fstest.MapFS{"all.yaml": {Data: []byte(config)}}, pipeline.Options{})
	if err != nil {
		t.Fatal(err)
	}
	sub, err := explain.Read(strings.NewReader(event))
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	err = explain.Write(&out, cfg, sub)
	return out.String(), err
}

const revision = `"data":{"kernel_revision":{"tree":"mainline","branch":"master","commit":"abc","describe":"v6.12"}}`

// checkout is the data of an event; more keys may be added.
func checkout(state, more string) string {
	return fmt.Sprintf(`{"kind":"checkout","name":"checkout","path":["checkout"],"state":%q,"previous_state":"running",%s%s}`, state, revision, more)
}

func TestAnEventIsExplainedJobByJob(t *testing.T) {
	const want = `checkout checkout, state available, was running; mainline/master v6.12

Runs: 2

  job: 1
    kver  shell  shell  all.yaml:11  unless it ran in the last 24h

  kbuild: 1
    build  lab  b  all.yaml:12

Does not run: 3

  tree (job): 2
    tree "mainline" is not among "next"
      other on shell (all.yaml:13)
      third on any lava, 2 platforms (all.yaml:14)

  tree (platform): 1
    rules of platform a: tree "mainline" is not among "next"
      build on lab, a (all.yaml:12)
`
	data := checkout("available", "")
	for _, event := range []string{
		data, `{"event":` + data + `}`, `{"specversion":"1.0","id":"1","data":` + data + `}`,
		`{"id":"1","sequence_id":1,"channel":"node","data":` + data + `}`, `{"channel":"node","event":` + data + `,"ancestors":[]}`,
	} {
		if got, err := explained(t, event); err != nil || got != want {
			t.Errorf("%s: %v\n%s", event, err, got)
		}
	}
}

func TestAncestorsAndRequestsMayBeGiven(t *testing.T) {
	for _, tc := range []struct{ event, want string }{
		{`{"node":{"kind":"kbuild","name":"k","path":["checkout","k"],"state":"available","result":"pass"},
			"ancestors":[{"kind":"checkout","name":"checkout","path":["checkout"],"data":{"arch":"arm64"}}]}`, "Runs: 1\n"},
		{`{"node":{"kind":"kbuild","name":"k","path":["checkout","k"],"state":"available","result":"pass"}}`,
			`arch is not known, and must be one of "arm64"`},
		{`{"channel":"retry","event":` + checkout("done", `,"jobfilter":["kver"],"retry_counter":2`) + `}`,
			"state done, attempt 2 is asked for"},
		{`{"channel":"retry","event":` + checkout("done", `,"jobfilter":["kver"],"retry_counter":2`) + `}`, "Runs: 1\n"},
		{`{"channel":"retry","event":` + checkout("done", `,"jobfilter":["kver"],"debug":{"retry_runtime":"other"}`) + `}`, `the attempt before ran on "other"`},
		{checkout("available", `,"previous_state":"available"`), "the node matched before this update"},
	} {
		if got, err := explained(t, tc.event); err != nil || !strings.Contains(got, tc.want) {
			t.Errorf("%s: %v\n%s\nwant %s", tc.event, err, got, tc.want)
		}
	}
}

func TestWhenNothingMatchesTheNearestIsNamed(t *testing.T) {
	got, err := explained(t, `{"kind":"kbuild","name":"k","path":["k"],"state":"done","result":"pass"}`)
	if want := "Nothing waits for this event: none of 5 entries matches it.\n\nThe nearest:\n  job boot at all.yaml:15: state must be \"available\", not \"done\"\n"; err != nil ||
		!strings.HasSuffix(got, want) {
		t.Errorf("%v\n%s", err, got)
	}
}

func TestWhenNoJobRunsTheOneWithTheFewestRulesAgainstItComesFirst(t *testing.T) {
	got, err := explained(t, `{"node":{"kind":"checkout","name":"checkout","path":["checkout"],"state":"available","jobfilter":["third"]}}`)
	const want = `
The nearest:
  kver on shell (all.yaml:11): jobfilter "third" has no "kver"
  build on any lava, 2 platforms (all.yaml:12): jobfilter "third" has no "build"
  third on any lava, 2 platforms (all.yaml:14): rules of job third: tree is not known, and must be one of "next"
  other on shell (all.yaml:13): jobfilter "third" has no "other"; rules of job other: tree is not known, and must be one of "next"
`
	if err != nil || !strings.Contains(got, "Runs: 0\n") || !strings.HasSuffix(got, want) {
		t.Errorf("%v\n%s\nwant\n%s", err, got, want)
	}
}

func TestABadEventNamesItsKey(t *testing.T) {
	for event, want := range map[string]string{
		`[]`:                     "the event: ",
		`{"kind":1}`:             "kind",
		`{"kind":"checkouts"}`:   `kind: "checkouts" is not one of`,
		`{"kind":"checkout"}`:    "name: must be given",
		checkout("finished", ""): `state: "finished" is not one of`,
		`{"node":1}`:             "node: ",
		`{"channel":"x","node":{"kind":"job","name":"j","path":["j"]}}`: `channel: "x" is neither node nor retry`,
	} {
		if _, err := explained(t, event); !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", event, err, want)
		}
	}
}
