package schedule

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/pipeline"
)

func load(t testing.TB, text string) *pipeline.Config {
	t.Helper()
	cfg, _, err := pipeline.Load(fstest.MapFS{"all.yaml": {Data: []byte(text)}}, pipeline.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// checkout is an available checkout of mainline:master 6.12 and its event.
func checkout() Subject {
	n := node.Node{
		ID: "65a0c0ffee65a0c0ffee65a0", Kind: node.KindCheckout, Name: "checkout", Path: []string{"checkout"},
		State: node.Available, Result: node.Pass, Owner: "pipeline", TreeID: "t1",
		Data: map[string]any{"kernel_revision": map[string]any{
			"tree": "mainline", "branch": "master", "url": "https://example.org/linux.git", "commit": "abc",
			"version": map[string]any{"version": float64(6), "patchlevel": float64(12)},
		}},
	}
	return of(n)
}

// of is the update that made n what it is, from running.
func of(n node.Node, ancestors ...node.Node) Subject {
	ev := event.Node{Op: event.Updated, ID: n.ID, Kind: n.Kind, Name: n.Name, Path: n.Path, State: n.State, Owner: n.Owner, Data: n.Data}
	if n.Result != node.None {
		ev.Result = &n.Result
	}
	running := node.Running
	ev.PreviousState = &running
	return Subject{Event: ev, Node: n, Ancestors: ancestors}
}

// kbuild is an available kernel build below the checkout.
func kbuild() Subject {
	c := checkout().Node
	return of(node.Node{
		ID: "65a0c0ffee65a0c0ffee65a1", Kind: node.KindKbuild, Name: "kbuild-a", Path: []string{"checkout", "kbuild-a"}, Parent: c.ID,
		State: node.Available, Result: node.Pass, TreeID: "t1",
		Data: map[string]any{
			"kernel_revision": c.Data["kernel_revision"], "arch": "arm64", "defconfig": "defconfig",
			"fragments": []any{"kselftest", "debug"},
		},
	}, c)
}

// summary writes decisions as "job runtime platform" or "job: reason".
func summary(decisions []Decision) []string {
	out := []string{}
	for _, d := range decisions {
		if d.Run {
			out = append(out, d.Job.Name+" "+d.Runtime.Name+" "+d.Platform.Name)
		} else {
			out = append(out, d.Entry.Job+": "+d.Reason)
		}
	}
	return out
}

func check(t *testing.T, s *Schedule, sub Subject, want ...string) {
	t.Helper()
	if got := summary(s.Decide(sub)); !slices.Equal(got, want) {
		t.Errorf("decided\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

const base = `
runtimes:
  shell: {lab_type: shell}
  docker-a: {lab_type: docker, rules: {tree: ["!next"]}}
  docker-b: {lab_type: docker}
platforms:
  shell: {}
  docker: {}
  board: {arch: arm64, rules: {tree: ["!next"]}}
`

// one is a configuration of one job that a checkout starts on the shell.
func one(rules string) string {
	return base + "jobs:\n  it: {template: t, kind: job, rules: " + rules + "}\n" +
		"scheduler:\n  - {job: it, event: {channel: node, kind: checkout, state: available}, runtime: {name: shell}}\n"
}

func TestRulesOfTreeBranchAndVersion(t *testing.T) {
	const ran = "it shell shell"
	for _, tc := range []struct{ rules, want string }{
		{`{}`, ran},
		{`{tree: [mainline]}`, ran},
		{`{tree: [next, mainline]}`, ran},
		{`{tree: [next]}`, `it: rules of job it: tree "mainline" is not among "next"`},
		{`{tree: ["!mainline"]}`, `it: rules of job it: tree "mainline" is denied`},
		{`{tree: ["!next"]}`, ran},
		{`{tree: [mainline, "!mainline"]}`, `it: rules of job it: tree "mainline" is denied`},
		{`{branch: [master]}`, ran},
		{`{branch: ["!master"]}`, `it: rules of job it: branch "master" is denied`},
		{`{tree: ["mainline:master"]}`, ran},
		{`{tree: ["mainline:other"]}`, `it: rules of job it: tree and branch "mainline:master" are not among "mainline:other"`},
		{`{tree: ["mainline:other", mainline]}`, ran},
		{`{tree: ["mainline:other", next]}`, `it: rules of job it: tree "mainline" is not among "next"`},
		{`{tree: ["!mainline:master", mainline]}`, `it: rules of job it: tree and branch "mainline:master" are denied`},
		{`{tree: ["!mainline:other"]}`, ran},
		{`{tree: ["mainline:master"], branch: ["!master"]}`, ran},
		{`{branch: ["!master"], tree: ["mainline:master"]}`, ran},
		{`{tree: [mainline], branch: ["!mainline:master"]}`, `it: rules of job it: tree and branch "mainline:master" are denied`},
		{`{min_version: {version: 6, patchlevel: 12}}`, ran},
		{`{min_version: {version: 6, patchlevel: 13}}`, `it: rules of job it: kernel 6.12 is older than 6.13`},
		{`{min_version: {version: 5, patchlevel: 19}}`, ran},
		{`{max_version: {version: 6, patchlevel: 12}}`, ran},
		{`{max_version: {version: 6, patchlevel: 11}}`, `it: rules of job it: kernel 6.12 is newer than 6.11`},
		{`{max_version: {version: 5, patchlevel: 15}}`, `it: rules of job it: kernel 6.12 is newer than 5.15`},
	} {
		t.Run(tc.rules, func(t *testing.T) {
			check(t, New(load(t, one(tc.rules)), nil), checkout(), tc.want)
		})
	}
}

func TestWithoutAVersionNoBoundIsKept(t *testing.T) {
	sub := checkout()
	delete(sub.Node.Data["kernel_revision"].(map[string]any), "version")
	check(t, New(load(t, one(`{min_version: {version: 1, patchlevel: 0}}`)), nil), sub,
		"it: rules of job it: the kernel's version is not known")
}

func TestRulesOfAnyAttributeOfNodeAndAncestors(t *testing.T) {
	onKbuild := func(rules string) string {
		return strings.Replace(one(rules), "kind: checkout", "kind: kbuild", 1)
	}
	const ran = "it shell shell"
	for _, tc := range []struct{ rules, want string }{
		{`{arch: [arm64]}`, ran},
		{`{arch: [x86_64]}`, `it: rules of job it: arch "arm64" is not among "x86_64"`},
		{`{arch: ["!arm64"]}`, `it: rules of job it: arch "arm64" is denied`},
		{`{defconfig: ["!allnoconfig"]}`, ran},
		{`{fragments: [kselftest]}`, ran},
		{`{fragments: [kselftest, "!debug"]}`, `it: rules of job it: fragments "debug" is denied`},
		{`{fragments: [other]}`, `it: rules of job it: fragments "kselftest", "debug" is not among "other"`},
		{`{fragments: ["!other"]}`, ran},
		{`{compiler: [gcc]}`, `it: rules of job it: compiler is not known, and must be one of "gcc"`},
		{`{compiler: ["!gcc"]}`, ran},
		{`{owner: [pipeline]}`, ran},
		{`{commit: [abc]}`, ran},
		{`{kind: [job]}`, ran},
		{`{runtime: [shell]}`, `it: rules of job it: runtime is not known, and must be one of "shell"`},
	} {
		t.Run(tc.rules, func(t *testing.T) {
			check(t, New(load(t, onKbuild(tc.rules)), nil), kbuild(), tc.want)
		})
	}
}

func TestAKernelToBeBuiltIsJudgedByItsParameters(t *testing.T) {
	const cfg = base + `
jobs:
  kbuild-a: {template: t, kind: kbuild, params: {arch: arm64, fragments: [debug]}, rules: {fragments: ["!debug"]}}
  kbuild-b: {template: t, kind: kbuild, params: {arch: x86_64}, rules: {arch: [x86_64]}}
scheduler:
  - {job: kbuild-a, event: {channel: node, kind: checkout, state: available}, runtime: {name: shell}}
  - {job: kbuild-b, event: {channel: node, kind: checkout, state: available}, runtime: {name: shell}}
`
	check(t, New(load(t, cfg), nil), checkout(), `kbuild-a: rules of job kbuild-a: fragments "debug" is denied`, "kbuild-b shell shell")
	sub := checkout()
	sub.Node.Data["architecture_filter"] = []any{"arm64", "riscv"}
	check(t, New(load(t, cfg), nil), sub,
		`kbuild-a: rules of job kbuild-a: fragments "debug" is denied`, `kbuild-b: architecture_filter "arm64", "riscv" has no "x86_64"`)
}

func TestRulesOfEntryRuntimeAndPlatformApply(t *testing.T) {
	const cfg = base + `
jobs:
  it: {template: t, kind: job}
scheduler:
  - {job: it, event: {channel: node, kind: checkout, state: available}, runtime: {name: shell}, rules: {tree: ["!next"]}}
  - {job: it, event: {channel: node, kind: checkout, state: available}, runtime: {name: docker-a}}
  - {job: it, event: {channel: node, kind: checkout, state: available}, runtime: {name: docker-b}, platforms: [board, docker]}
  - {job: it, event: {channel: node, kind: checkout, state: available}, runtime: {type: docker}}
`
	sub := checkout()
	sub.Node.Data["kernel_revision"].(map[string]any)["tree"] = "next"
	check(t, New(load(t, cfg), nil), sub,
		`it: rules of the entry at all.yaml:14: tree "next" is denied`,
		`it: rules of runtime docker-a: tree "next" is denied`,
		`it: rules of platform board: tree "next" is denied`,
		`it docker-b docker`,
		`it: the entry at all.yaml:16 runs it already`)
}

func TestAnEntryWithoutItsRuntimePlatformOrDriverNeverFires(t *testing.T) {
	const cfg = base + `
jobs:
  it: {template: t, kind: job}
scheduler:
  - {job: it, event: {channel: node, kind: checkout, state: available}, runtime: {name: gone}}
  - {job: it, event: {channel: node, kind: checkout, state: available}, runtime: {type: lava}}
  - {job: it, event: {channel: node, kind: checkout, state: available}, runtime: {name: shell}, platforms: [nowhere, shell]}
  - {job: it, event: {channel: node, kind: checkout, state: available}, runtime: {name: docker-a}}
  - {job: it, event: {channel: node, kind: checkout, state: available}, runtime: {type: docker}}
  - {job: it, event: {channel: retry, kind: checkout, state: available}, runtime: {name: shell}}
`
	s := New(load(t, cfg), func(r *pipeline.Runtime) bool { return r.LabType == "shell" })
	check(t, s, checkout(),
		`it: runtime "gone" is not configured`,
		`it: no runtime of type "lava" is configured`,
		`it: platform "nowhere" is not configured`,
		`it shell shell`,
		`it: this program has no driver for lab type docker of runtime docker-a`,
		`it: this program has no driver for lab type docker of runtime docker-a`)
	if all := s.Decide(checkout())[5].Checks; len(all) != 2 || !strings.HasSuffix(all[1].Reason, "docker-b") {
		t.Errorf("of a type no runtime can be taken, and the reasons are %v", all)
	}
}

func TestEventsMatchByEveryKey(t *testing.T) {
	for _, tc := range []struct {
		event string
		want  bool
	}{
		{`{channel: node, kind: checkout, state: available}`, true},
		{`{channel: node}`, true},
		{`{channel: node, result: pass}`, true},
		{`{channel: node, result: fail}`, false},
		{`{channel: node, op: updated}`, true},
		{`{channel: node, op: created}`, false},
		{`{channel: node, state: done}`, false},
		{`{channel: node, name: checkout}`, true},
		{`{channel: node, name: other}`, false},
		{`{channel: node, group: ~}`, true},
		{`{channel: node, owner: pipeline}`, true},
		{`{channel: node, is_hierarchy: false}`, true},
		{`{channel: node, is_hierarchy: "false"}`, false},
		{`{channel: node, path: [checkout]}`, true},
		{`{channel: node, path: [checkout, x]}`, false},
		{`{channel: node, data: {kernel_revision: {tree: mainline}}}`, true},
		{`{channel: node, data: {kernel_revision: {version: {version: 6}}}}`, true},
		{`{channel: node, data: {kernel_revision: {version: {version: "6"}}}}`, false},
		{`{channel: node, data: {kernel_revision: {tree: next}}}`, false},
		{`{channel: node, data: {nothing: ~}}`, false},
		{`{channel: node, unheard: of}`, false},
		{`{channel: node, kind: [checkout, kbuild]}`, false},
		{`{channel: elsewhere}`, false},
	} {
		t.Run(tc.event, func(t *testing.T) {
			s := New(load(t, base+"jobs: {it: {template: t, kind: job}}\nscheduler:\n  - {job: it, event: "+tc.event+", runtime: {name: shell}}\n"), nil)
			sub := checkout()
			sub.Event.PreviousState = nil
			if got := s.Decide(sub); len(got) > 0 != tc.want || s.Fires(sub.Event) != tc.want {
				t.Errorf("decided %v, fires %t, want match %t", summary(got), s.Fires(sub.Event), tc.want)
			}
		})
	}
}

func TestAnUpdateThatMatchedBeforeStartsNothing(t *testing.T) {
	const cfg = base + `
jobs: {any: {template: t, kind: job}, passed: {template: t, kind: job}}
scheduler:
  - {job: any, event: {channel: node, kind: job, state: done}, runtime: {name: shell}}
  - {job: passed, event: {channel: node, kind: job, state: done, result: pass}, runtime: {name: shell}}
`
	const before = "the node matched before this update"
	pass, fail := node.Pass, node.Fail
	done, running := node.Done, node.Running
	for _, tc := range []struct {
		name           string
		previousState  *node.State
		previousResult *node.Result
		want           []string
	}{
		{"created", nil, nil, []string{"any shell shell", "passed shell shell"}},
		{"from running", &running, nil, []string{"any shell shell", "passed shell shell"}},
		{"from running with its result", &running, &pass, []string{"any shell shell", "passed shell shell"}},
		{"done before", &done, &pass, []string{"any: " + before, "passed: " + before}},
		{"result corrected", &done, &fail, []string{"any: " + before, "passed shell shell"}},
		{"result added", &done, nil, []string{"any: " + before, "passed shell shell"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sub := of(node.Node{ID: "65a0c0ffee65a0c0ffee65a2", Kind: node.KindJob, Name: "j", Path: []string{"j"}, State: node.Done, Result: node.Pass})
			sub.Event.PreviousState, sub.Event.PreviousResult = tc.previousState, tc.previousResult
			s := New(load(t, cfg), nil)
			check(t, s, sub, tc.want...)
			runs := slices.ContainsFunc(s.Decide(sub), func(d Decision) bool { return d.Run })
			if got := s.Fires(sub.Event); got != runs {
				t.Errorf("fires %t, want %t", got, runs)
			}
		})
	}
}

func TestJobFilter(t *testing.T) {
	const cfg = base + `
jobs: {test-a: {template: t, kind: job}}
scheduler:
  - {job: test-a, event: {channel: node, kind: kbuild, state: available}, runtime: {name: shell}}
`
	s := New(load(t, cfg), nil)
	for _, tc := range []struct {
		filter []string
		runs   bool
	}{
		{nil, true},
		{[]string{}, true},
		{[]string{"test-a"}, true},
		{[]string{"test-b", "test-a"}, true},
		{[]string{"test-a+"}, true},
		{[]string{"kbuild-a+"}, true},
		{[]string{"checkout+"}, true},
		{[]string{"kbuild-a"}, false},
		{[]string{"test-"}, false},
		{[]string{"+"}, false},
	} {
		sub := kbuild()
		sub.Node.JobFilter = tc.filter
		if got := s.Decide(sub)[0]; got.Run != tc.runs {
			t.Errorf("jobfilter %q: run %t, want %t (%s)", tc.filter, got.Run, tc.runs, got.Reason)
		}
		sub.Node.JobFilter, sub.JobFilter = []string{"nothing"}, tc.filter
		if got := s.Decide(sub)[0]; got.Run != (tc.runs && len(tc.filter) > 0) {
			t.Errorf("jobfilter %q of a request: run %t (%s)", tc.filter, got.Run, got.Reason)
		}
	}
}

func TestPlatformFilterIsForJobsAlone(t *testing.T) {
	const cfg = base + `
jobs: {test-a: {template: t, kind: job}, kbuild-b: {template: t, kind: kbuild}}
scheduler:
  - {job: test-a, event: {channel: node, kind: kbuild, state: available}, runtime: {name: docker-b}, platforms: [board, docker]}
  - {job: kbuild-b, event: {channel: node, kind: kbuild, state: available}, runtime: {name: shell}}
`
	sub := kbuild()
	sub.Node.PlatformFilter = []string{"docker"}
	check(t, New(load(t, cfg), nil), sub, `test-a: platform_filter "docker" has no "board"`, "test-a docker-b docker", "kbuild-b shell shell")
	sub.PlatformFilter = []string{"board"}
	check(t, New(load(t, cfg), nil), sub, "test-a docker-b board", `test-a: platform_filter "board" has no "docker"`, "kbuild-b shell shell")
}

func TestTheLongestFrequencyHolds(t *testing.T) {
	cfg := load(t, base+`
jobs: {it: {template: t, kind: job, params: {frequency: 1h}, rules: {frequency: 2h}}, free: {template: t, kind: job}}
scheduler:
  - {job: it, event: {channel: node, kind: checkout, state: available}, runtime: {name: shell}, rules: {frequency: 1d}}
  - {job: free, event: {channel: node, kind: checkout, state: available}, runtime: {name: shell}}
`)
	got := New(cfg, nil).Decide(checkout())
	if got[0].Every != 24*time.Hour || got[1].Every != 0 {
		t.Errorf("every %s and %s, want 24h and 0", got[0].Every, got[1].Every)
	}
}

func TestARuntimeOfATypeIsChosenByNodeAndAttempt(t *testing.T) {
	cfg := load(t, base+`
jobs: {it: {template: t, kind: job}}
scheduler:
  - {job: it, event: {channel: node, kind: checkout, state: available}, runtime: {type: docker}}
`)
	s := New(cfg, nil)
	chosen := map[string]int{}
	for i := range 200 {
		sub := checkout()
		sub.Node.ID = node.DeriveID(sub.Node.ID, strconv.Itoa(i))
		first, again := s.Decide(sub)[0].Runtime.Name, New(cfg, nil).Decide(sub)[0].Runtime.Name
		if first != again {
			t.Fatalf("%s: %s, then %s", sub.Node.ID, first, again)
		}
		chosen[first]++
	}
	if chosen["docker-a"] < 50 || chosen["docker-b"] < 50 {
		t.Errorf("not spread: %v", chosen)
	}
	attempts := map[string]bool{}
	for i := range 20 {
		sub := checkout()
		sub.Retry = i
		attempts[s.Decide(sub)[0].Runtime.Name] = true
	}
	if len(attempts) != 2 {
		t.Errorf("every attempt goes to %v", attempts)
	}
}

func TestDecideLeavesTheNodeAlone(t *testing.T) {
	sub := kbuild()
	before := sub.Node.Clone()
	New(load(t, one(`{tree: [mainline], fragments: [kselftest]}`)), nil).Decide(sub)
	a, _ := before.MarshalJSON()
	b, _ := sub.Node.MarshalJSON()
	if string(a) != string(b) {
		t.Errorf("changed from\n%s\nto\n%s", a, b)
	}
}

func TestAnotherAttemptMatchesTheStatesThatAreOver(t *testing.T) {
	s := New(load(t, base+`
jobs:
  early: {template: t, kind: job}
  late: {template: t, kind: job}
  both: {template: t, kind: job}
scheduler:
  - {job: early, event: {channel: node, kind: kbuild, state: available}, runtime: {name: shell}}
  - {job: late, event: {channel: node, kind: kbuild, state: done}, runtime: {name: shell}}
  - {job: both, event: {channel: node, kind: kbuild}, runtime: {name: shell}}
`), nil)
	sub := kbuild()
	sub.Node.State, sub.Event.State, sub.Event.PreviousState = node.Done, node.Done, nil
	check(t, s, sub, "late shell shell", "both shell shell")
	sub.Again, sub.Retry = true, 1
	check(t, s, sub, "early shell shell", "late shell shell", "both shell shell")
	sub.Event.State = node.Available
	check(t, s, sub, "early shell shell", "both shell shell")
}
