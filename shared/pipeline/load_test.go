package pipeline

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
)

// files makes a file system of name, content, name, content, ...
func files(pairs ...string) fs.FS {
	m := fstest.MapFS{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = &fstest.MapFile{Data: []byte(pairs[i+1])}
	}
	return m
}

func mustLoad(t *testing.T, pairs ...string) *Config {
	t.Helper()
	c, warnings, err := Load(files(pairs...), Options{})
	if err != nil || len(warnings) > 0 {
		t.Fatalf("Load: %v, warnings:\n%v", err, warnings)
	}
	return c
}

const small = `
_anchors:
  job: &job
    template: kunit.jinja2
    kind: job
    params: &params {arch: x86_64, count: 3, deep: {list: [1, 2.5, no, ~, "no"]}}
trees:
  linux: {url: "https://example.org/linux.git"}
build_configs:
  linux_master: {tree: linux, branch: master, frequency: 1d6h30m, architectures: [arm64]}
jobs:
  kunit: *job
  kunit-arm64:
    params:
      <<: *params
      arch: arm64
      frequency: 12h
    <<: *job
    rules:
      min_version: {version: 6, patchlevel: 1}
      tree: ['!android', 'linux:master']
platforms:
  shell:
  board: {arch: arm64, dtb: a.dtb, compatible: [b, c], rules: {arch: arm64}}
runtimes:
  shell: {lab_type: shell}
  lab: {lab_type: lava, url: "https://lab.example.org/", priority_min: 10, context: one}
scheduler:
  - job: kunit
    event: {channel: node, kind: checkout, state: available}
    runtime: {name: shell}
  - job: kunit-arm64
    event: {channel: node, kind: kbuild}
    runtime: {type: lava}
    platforms: [board]
fragments:
  debug: {path: kernel/debug.config, configs: [CONFIG_DEBUG=y]}
rootfs:
  trixie: {nfsroot: "http://example.org/{debarch}"}
`

func TestLoadReadsEverySection(t *testing.T) {
	c := mustLoad(t, "all.yaml", small)
	deep := map[string]any{"list": []any{1, 2.5, false, nil, "no"}}
	job := c.Jobs["kunit-arm64"]
	for name, got := range map[string][2]any{
		"tree":              {c.Trees["linux"].URL, "https://example.org/linux.git"},
		"frequency":         {c.BuildConfigs["linux_master"].Frequency, 30*time.Hour + 30*time.Minute},
		"architectures":     {c.BuildConfigs["linux_master"].Architectures, []string{"arm64"}},
		"job of an alias":   {c.Jobs["kunit"].Params, map[string]any{"arch": "x86_64", "count": 3, "deep": deep}},
		"merged params":     {job.Params, map[string]any{"arch": "arm64", "count": 3, "frequency": "12h", "deep": deep}},
		"merged template":   {job.Template, "kunit.jinja2"},
		"job frequency":     {job.Frequency, 12 * time.Hour},
		"min_version":       {*job.Rules.MinVersion, KernelVersion{6, 1}},
		"tree rule":         {job.Rules.Lists[0].Values, []string{"!android", "linux:master"}},
		"rule of one value": {c.Platforms["board"].Rules.Lists[0].Values, []string{"arm64"}},
		"null platform":     {*c.Platforms["shell"], Platform{Name: "shell", Place: Place{"all.yaml", 23}, Arch: "x86_64", BaseName: "shell", BootMethod: "grub", Mach: "x86", Params: map[string]any{}}},
		"one dtb":           {c.Platforms["board"].DTB, []string{"a.dtb"}},
		"priority_min":      {*c.Runtimes["lab"].PriorityMin, 10},
		"queue depth":       {c.Runtimes["lab"].MaxQueueDepth, 50},
		"one context":       {c.Runtimes["lab"].Context, []string{"one"}},
		"event":             {c.Scheduler[0].Event, map[string]any{"kind": "checkout", "state": "available"}},
		"channel":           {c.Scheduler[0].Channel, "node"},
		"runtime type":      {c.Scheduler[1].RuntimeType, "lava"},
		"entry place":       {c.Scheduler[1].Place, Place{"all.yaml", 32}},
		"fragment":          {c.Fragments["debug"].Configs, []string{"CONFIG_DEBUG=y"}},
		"rootfs":            {c.Rootfs["trixie"].Params["nfsroot"], "http://example.org/{debarch}"},
	} {
		if !reflect.DeepEqual(got[0], got[1]) {
			t.Errorf("%s: %#v, want %#v", name, got[0], got[1])
		}
	}
}

func TestLoadMergesFilesInOrderOfTheirPaths(t *testing.T) {
	c := mustLoad(t,
		"b.yml", "scheduler: [{job: j, event: {channel: node, owner: b}, runtime: {name: r}}]",
		"a/x.yaml", "scheduler: [{job: j, event: {channel: node, owner: a}, runtime: {name: r}}]",
		"base.yaml", "jobs: {j: {template: t}}\nruntimes: {r: {lab_type: shell}}\nplatforms: {shell: }",
		".hidden/c.yaml", "nonsense: [", "..data/d.yaml", "nonsense: [", "notes.txt", "nonsense: [")
	if len(c.Scheduler) != 2 || c.Scheduler[0].Event["owner"] != "a" || c.Scheduler[1].Index != 1 {
		t.Errorf("entries: %+v", c.Scheduler)
	}
}

func TestLoadIgnoresLegacySections(t *testing.T) {
	mustLoad(t, "trees.yaml", "build_environments: {gcc: {cc: gcc}}\nbuild_variants: {v: 1}\ntrees: {a: {url: u}}\n_anchors: {x: {y: z}}")
}

// needed is what the cases of TestProblems may refer to.
const needed = "jobs: {kunit: {template: t}}\nruntimes: {shell: {lab_type: shell}}\nplatforms: {shell: , qemu: }\ntrees: {mainline: {url: u}}\n"

func TestProblemsNameThePlaceAndTheNearestName(t *testing.T) {
	entry := "scheduler:\n- job: %s\n  event: {channel: node}\n  runtime: {%s}\n  platforms: [%s]\n"
	for name, c := range map[string]struct{ yaml, want string }{
		"syntax":                {"trees:\n  a: [", `x.yaml:2: syntax error: sequence end token ']' not found`},
		"unknown section":       {"job:\n  a: {}", `x.yaml:1: unknown key "job"; did you mean "jobs"?`},
		"unknown key":           {"trees:\n  a:\n    url: u\n    uri: v", `x.yaml:4: trees.a: unknown key "uri"; did you mean "url"?`},
		"not a mapping":         {"- a", `x.yaml:1: the file must be a mapping of sections such as "jobs"`},
		"section of a list":     {"trees: [a]", `x.yaml:1: trees must be a mapping of names`},
		"scheduler of a map":    {"scheduler: {a: b}", `x.yaml:1: scheduler must be a list of entries`},
		"item of text":          {"trees: {a: b}", `x.yaml:1: trees.a must be a mapping of keys to values`},
		"no template":           {"jobs:\n  a:\n    kind: job", `x.yaml:2: jobs.a has no template`},
		"empty template":        {"jobs:\n  a:\n    template: ''", `x.yaml:3: jobs.a: template must be non-empty text`},
		"wrong kind":            {"jobs:\n  a: {template: t, kind: jobb}", `x.yaml:2: jobs.a: kind "jobb" is not one of job, kbuild, node, process, test; did you mean "job"?`},
		"tree without url":      {"trees: {a: }", `x.yaml:1: trees.a has no url`},
		"bool for text":         {"trees:\n  a: {url: yes}", `x.yaml:2: trees.a: url must be text`},
		"missing tree":          {"build_configs:\n  a: {tree: mainlin, branch: b}", `x.yaml:2: build_configs.a: no tree "mainlin"; did you mean "mainline"?`},
		"missing job":           {fmt.Sprintf(entry, "kunitt", "name: shell", "shell"), `x.yaml:2: scheduler: no job "kunitt"; did you mean "kunit"?`},
		"far from any name":     {fmt.Sprintf(entry, "baseline", "name: shell", "shell"), `x.yaml:2: scheduler: no job "baseline"`},
		"missing runtime":       {fmt.Sprintf(entry, "kunit", "name: shel", "shell"), `x.yaml:2: warning: scheduler: no runtime "shel"; did you mean "shell"?; job kunit never runs there`},
		"missing type":          {fmt.Sprintf(entry, "kunit", "type: lava", "shell"), `x.yaml:2: warning: scheduler: no runtime of type "lava"; job kunit never runs there`},
		"missing platform":      {fmt.Sprintf(entry, "kunit", "name: shell", "qem"), `x.yaml:2: warning: scheduler: no platform "qem"; did you mean "qemu"?; job kunit never runs there`},
		"no runtime":            {"scheduler:\n- {job: kunit, event: {channel: node}}", `x.yaml:2: scheduler entry of kunit has no runtime.name or runtime.type`},
		"no channel":            {"scheduler:\n- {job: kunit, event: {kind: job}, runtime: {name: shell}}", `x.yaml:2: scheduler entry of kunit has no event.channel, such as node`},
		"another channel":       {"scheduler:\n- {job: kunit, event: {channel: nod}, runtime: {name: shell}}", `x.yaml:2: warning: scheduler entry of kunit: nothing is started by channel "nod"; did you mean "node"?`},
		"event of no kind":      {"scheduler:\n- {job: kunit, event: {channel: node, kind: chekout}, runtime: {name: shell}}", `x.yaml:2: warning: scheduler entry of kunit: no event has kind "chekout"; did you mean "checkout"?`},
		"event of no state":     {"scheduler:\n- {job: kunit, event: {channel: node, state: avail}, runtime: {name: shell}}", `x.yaml:2: warning: scheduler entry of kunit: no event has state "avail"; did you mean "available"?`},
		"event of no job":       {"scheduler:\n- {job: kunit, event: {channel: node, kind: job, name: kunitt}, runtime: {name: shell}}", `x.yaml:2: warning: scheduler entry of kunit: no event has name "kunitt"; did you mean "kunit"?`},
		"event without the key": {"scheduler:\n- {job: kunit, event: {channel: node, status: done}, runtime: {name: shell}}", `x.yaml:2: warning: scheduler entry of kunit: no event has a "status"; did you mean "state"?`},
		"twice in a file":       {"trees:\n  a: {url: u}\n  a: {url: v}", `x.yaml:3: "a" is given twice; the first is at x.yaml:2`},
		"twice in two files":    {"trees:\n  mainline: {url: v}", `x.yaml:2: trees.mainline is defined twice; the first is at a.yaml:4`},
		"no anchor":             {"jobs:\n  a: {template: t, params: {x: *tre}}", `x.yaml:2: alias *tre has no anchor above it in this file`},
		"anchor of itself":      {"jobs:\n  a: {template: t, params: &t {x: *t}}", `x.yaml:2: alias *t has no anchor above it in this file`},
		"merge of text":         {"trees:\n  a:\n    url: u\n    <<: b", `x.yaml:3: << merges mappings only`},
		"two documents":         {"trees: {a: {url: u}}\n---\ntrees: {b: {url: u}}", `x.yaml:3: a second YAML document; a file holds one`},
		"frequency":             {"build_configs:\n  a: {tree: mainline, branch: b, frequency: 1w}", `x.yaml:2: build_configs.a: frequency must be a frequency such as 1d, 12h or 1d6h30m`},
		"job frequency":         {"jobs:\n  a: {template: t, params: {frequency: often}}", `x.yaml:2: jobs.a.params: frequency must be a frequency such as 1d, 12h or 1d6h30m`},
		"version":               {"jobs:\n  a:\n    template: t\n    rules: {min_version: 6.1}", `x.yaml:4: jobs.a.rules.min_version must be a mapping of keys to values`},
		"version key":           {"jobs:\n  a:\n    template: t\n    rules: {min_version: {version: 6, patch: 1}}", `x.yaml:4: jobs.a.rules.min_version: unknown key "patch"; did you mean "patchlevel"?`},
		"rule of nothing":       {"jobs:\n  a:\n    template: t\n    rules: {tree: ['!']}", `x.yaml:4: jobs.a.rules: tree must be a list of values, each "x" (allowed) or "!x" (denied)`},
		"lab type":              {"runtimes:\n  r: {lab_type: lavaa}", `x.yaml:2: runtimes.r: lab_type "lavaa" is not one of docker, kubernetes, lava, pull_labs, shell, ssh; did you mean "lava"?`},
		"priority out of range": {"runtimes:\n  r: {lab_type: lava, priority_min: 101}", `x.yaml:2: runtimes.r: priority_min must be a whole number from 0 to 100`},
		"missing fragment":      {"jobs:\n  a: {template: t, params: {fragments: [debug, CONFIG_X=y]}}", `x.yaml:2: warning: jobs.a: params.fragments: no fragment "debug"`},
		"missing rootfs":        {"jobs:\n  a: {template: t, params: {rootfs_ref: trixie}}", `x.yaml:2: jobs.a: params.rootfs_ref: no rootfs "trixie"`},
		"tag":                   {"jobs:\n  a: {template: t, params: {x: !!python/object u}}", `x.yaml:2: tag !!python/object is not supported; only !!str is`},
	} {
		t.Run(name, func(t *testing.T) {
			_, warnings, err := Load(files("a.yaml", needed, "x.yaml", c.yaml), Options{})
			var problems Problems
			errors.As(err, &problems)
			if err != nil && !errors.Is(err, errs.Invalid) {
				t.Errorf("%v is not Invalid", err)
			}
			if got := append(problems, warnings...); len(got) != 1 || got[0].String() != c.want {
				t.Errorf("got\n%v\nwant\n%s", got, c.want)
			}
		})
	}
}

func TestAllProblemsAreReportedAtOnceSortedByPlace(t *testing.T) {
	_, _, err := Load(files("b.yaml", "trees:\n  a: {}\n  b: {}", "a.yaml", "jobs:\n  x: {}\nsomething: 1"), Options{})
	want := "pipeline.Load: 4 problems:\na.yaml:2: jobs.x has no template\na.yaml:3: unknown key \"something\"\nb.yaml:2: trees.a has no url\nb.yaml:3: trees.b has no url"
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestStrictMakesWarningsErrors(t *testing.T) {
	fsys := files("a.yaml", needed+"scheduler: [{job: kunit, event: {channel: node}, runtime: {name: lab}}]")
	if c, warnings, err := Load(fsys, Options{}); c == nil || len(warnings) != 1 || err != nil {
		t.Errorf("Load: %v, %v", warnings, err)
	}
	if c, warnings, err := Load(fsys, Options{Strict: true}); c != nil || len(warnings) != 0 || !errors.Is(err, errs.Invalid) {
		t.Errorf("strict Load: %v, %v", warnings, err)
	}
}

func TestNamesAreNotMissedWhenTheirFileCannotBeRead(t *testing.T) {
	_, _, err := Load(files("jobs.yaml", "jobs: [", "s.yaml", "scheduler: [{job: kunit, event: {channel: node}, runtime: {name: r}}]"), Options{})
	if err == nil || strings.Contains(err.Error(), "no job") {
		t.Errorf("got %v; only the syntax error is to be fixed", err)
	}
}

func TestAMergeKeepsWhatIsWrittenHere(t *testing.T) {
	c := mustLoad(t, "a.yaml", `
_anchors: {a: &a {x: 1, y: 1}, b: &b {y: 2, z: 2}}
jobs:
  j: {template: t, params: {z: 3, <<: [*a, *b]}}
`)
	if want := map[string]any{"x": 1, "y": 1, "z": 3}; !reflect.DeepEqual(c.Jobs["j"].Params, want) {
		t.Errorf("params %v, want %v", c.Jobs["j"].Params, want)
	}
}

func TestItemsOfOneAnchorShareNothing(t *testing.T) {
	c := mustLoad(t, "a.yaml", "jobs: {a: &j {template: t, params: {l: [1]}}, b: *j}")
	c.Jobs["a"].Params["l"].([]any)[0] = 2
	if c.Jobs["b"].Params["l"].([]any)[0] != 1 {
		t.Error("changing a's params changed b's")
	}
}

func laughs(item string, levels int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "_anchors:\n  a0: &a0 %s\n", item)
	for i := 1; i <= levels; i++ {
		refs := strings.Repeat(fmt.Sprintf("*a%d,", i-1), 10)
		fmt.Fprintf(&b, "  a%d: &a%d [%s]\n", i, i, refs[:len(refs)-1])
	}
	fmt.Fprintf(&b, "jobs:\n  j:\n    template: t\n    params: {x: *a%d}\n", levels)
	return b.String()
}

func chain(levels int) string {
	var b strings.Builder
	b.WriteString("_anchors:\n  a0: &a0 x\n")
	for i := 1; i <= levels; i++ {
		fmt.Fprintf(&b, "  a%d: &a%d [*a%d]\n", i, i, i-1)
	}
	fmt.Fprintf(&b, "jobs: {j: {template: t, params: {x: *a%d}}}\n", levels)
	return b.String()
}

func merges(keys, mappings int) string {
	var b strings.Builder
	b.WriteString("_anchors:\n  a: &a\n")
	for i := range keys {
		fmt.Fprintf(&b, "    k%d: 1\n", i)
	}
	for i := range mappings {
		fmt.Fprintf(&b, "  m%d: {<<: *a}\n", i)
	}
	return b.String()
}

func indented(levels int) string {
	var b strings.Builder
	for i := range levels {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func TestHostileFilesEndInAClearError(t *testing.T) {
	for name, c := range map[string]struct{ yaml, want string }{
		"billion laughs":   {laughs("[lol,lol,lol]", 9), "expands to more than 1048576 values here"},
		"quadratic merge":  {merges(2000, 1000), "expands to more than 1048576 values here"},
		"chain of aliases": {chain(2000), "aliases nest this value more than 100 levels deep"},
		"open brackets":    {strings.Repeat("[", 100000), "nested more than 100 levels deep"},
		"open braces":      {strings.Repeat("{a: ", 50000), "nested more than 100 levels deep"},
		"dashes":           {strings.Repeat("- ", 100000) + "x", "nested more than 100 levels deep"},
		"question marks":   {strings.Repeat("? ", 100000) + "x", "nested more than 100 levels deep"},
		"tags":             {"a: " + strings.Repeat("!!str ", 100000) + "x", "nested more than 100 levels deep"},
		"anchors":          {"a: " + strings.Repeat("&a ", 100000) + "x", "nested more than 100 levels deep"},
		"indentation":      {indented(1000), "indented by more than 400 columns"},
		"a huge file":      {strings.Repeat("# comment\n", 200000), "larger than 1048576 bytes"},
		"not text":         {"jobs: \x00\x01\xff", "unknown key"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := Load(files("x.yaml", c.yaml), Options{})
			if !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), c.want) && name != "not text" {
				t.Errorf("got %.300v, want %s", err, c.want)
			}
		})
	}
}

func TestTooManyBytesAreRefused(t *testing.T) {
	m := fstest.MapFS{}
	for i := range 9 {
		m[fmt.Sprintf("%d.yaml", i)] = &fstest.MapFile{Data: []byte("# " + strings.Repeat("x", 1000000))}
	}
	if _, _, err := Load(m, Options{}); !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("got %v", err)
	}
}

func TestLoadDirNamesTheFolder(t *testing.T) {
	empty := t.TempDir()
	file := filepath.Join(empty, "file.txt")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{empty, file, filepath.Join(empty, "absent")} {
		if _, _, err := LoadDir(dir, Options{}); !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), dir) {
			t.Errorf("LoadDir(%s): %v", dir, err)
		}
	}
}

func TestParseFrequency(t *testing.T) {
	for s, want := range map[string]time.Duration{"1d": 24 * time.Hour, "12h": 12 * time.Hour, "5m": 5 * time.Minute, "1d1h1m": 25*time.Hour + time.Minute, "0m": 0} {
		if got, err := ParseFrequency(s); got != want || err != nil {
			t.Errorf("ParseFrequency(%q) = %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "1", "1w", "1h1d", "-1d", "1d ", "99999999999999999999d"} {
		if _, err := ParseFrequency(s); !errors.Is(err, errs.Invalid) {
			t.Errorf("ParseFrequency(%q): %v", s, err)
		}
	}
}

// production is KernelCI's own configuration, where there is a copy of it.
func production(tb testing.TB) string {
	tb.Helper()
	dir := filepath.Join("..", "..", "..", "shared", "kernelci-config")
	if _, err := os.Stat(dir); err != nil {
		tb.Skipf("SKIPPED: KernelCI's production configuration is not here: %v", err)
	}
	return dir
}

func TestTheProductionConfigurationLoads(t *testing.T) {
	c, warnings, err := LoadDir(production(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	got := []int{len(c.API), len(c.Storage), len(c.Runtimes), len(c.Trees), len(c.BuildConfigs), len(c.Jobs), len(c.Platforms), len(c.Scheduler), len(c.Fragments), len(c.Rootfs)}
	if want := []int{4, 5, 14, 50, 126, 311, 108, 387, 23, 16}; !reflect.DeepEqual(got, want) {
		t.Errorf("items %v, want %v", got, want)
	}
	kinds := map[string]int{}
	for _, w := range warnings {
		text, _, _ := strings.Cut(strings.TrimPrefix(w.Text, "scheduler: "), " \"")
		kinds[text]++
	}
	if want := map[string]int{"no platform": 16, "no runtime": 1}; !reflect.DeepEqual(kinds, want) {
		t.Errorf("warnings %v, want %v:\n%v", kinds, want, warnings)
	}
	if want := (Place{"scheduler.yaml", 302}); warnings[5].Place != want {
		t.Errorf("the runtime that is missing is at %s, want %s", warnings[5].Place, want)
	}
	if _, _, err := LoadDir(production(t), Options{Strict: true}); !errors.Is(err, errs.Invalid) {
		t.Errorf("strict: %v", err)
	}
}

func BenchmarkLoadProduction(b *testing.B) {
	dir := production(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := LoadDir(dir, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(small)
	f.Add(laughs("x", 3))
	f.Add("jobs: {<<: *a, a: &a {template: !!str 1}}")
	f.Fuzz(func(t *testing.T, yaml string) {
		c, _, err := Load(files("x.yaml", yaml), Options{})
		if (c == nil) == (err == nil) {
			t.Errorf("config %v with error %v", c, err)
		}
		if err != nil && !errors.Is(err, errs.Invalid) {
			t.Errorf("%v is not Invalid", err)
		}
	})
}
