package validate_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/local/sample"
	"github.com/kernelflow/kernelflow/local/validate"
	"github.com/kernelflow/kernelflow/shared/pipeline"
)

const small = `
runtimes:
  shell: {lab_type: shell}
  other: {lab_type: shell}
platforms: {shell: {}, board: {arch: arm64}}
jobs:
  kver: {template: kver.jinja2, kind: job}
  mine: {template: mine.jinja2, kind: job, params: {word: yes}}
  typo: {template: mien.jinja2, kind: job}
scheduler:
  - {job: kver, event: &e {channel: node, kind: checkout, state: available}, runtime: {name: shell}}
  - {job: mine, event: *e, runtime: {type: shell}, platforms: [shell, board, gone]}
  - {job: typo, event: *e, runtime: {name: shell}}
  - {job: typo, event: *e, runtime: {name: shell}}
`

// folder writes files into a new folder.
func folder(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// said runs a check and returns what is printed, without the time that it took.
func said(t *testing.T, o validate.Options) string {
	t.Helper()
	r, err := validate.Check(t.Context(), o, nil)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := validate.Write(&out, r, time.Second); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestEachScheduledJobIsRenderedWhereverItMayRun(t *testing.T) {
	dir := folder(t, map[string]string{"a.yaml": small})
	for _, tc := range []struct{ template, want string }{
		{`{{ name }} {{ platform_config.arch }}`, "a.yaml:9: jobs.typo: template \"mien.jinja2\" is in none of the folders; did you mean \"mine.jinja2\"?\n" +
			"a.yaml:12: warning: scheduler: no platform \"gone\"; job mine never runs there\n1 errors, 1 warnings, 5 jobs rendered in 1s\n"},
		{`{% if platform_config.arch == 'arm64' %}{{ kci_raise('no') }}{% endif %}`, "a.yaml:8: jobs.mine on other, board (a.yaml:12): "},
		{`{{ kci_raise('no') }}`, "and so in 3 more places"},
	} {
		got := said(t, validate.Options{Dir: dir, Templates: []string{folder(t, map[string]string{"mine.jinja2": tc.template})}})
		if !strings.Contains(got, tc.want) {
			t.Errorf("%s:\n%s\nwant\n%s", tc.template, got, tc.want)
		}
	}
}

func TestWithoutTemplatesTheFilesAloneAreChecked(t *testing.T) {
	good := folder(t, map[string]string{"a.yaml": small})
	if got := said(t, validate.Options{Dir: good}); !strings.HasSuffix(got, "0 errors, 1 warnings in 1s\n") {
		t.Error(got)
	}
	bad := folder(t, map[string]string{"a.yaml": strings.ReplaceAll(small, "job: mine", "job: min")})
	if got := said(t, validate.Options{Dir: bad, Templates: []string{bad}}); !strings.Contains(got, `a.yaml:12: scheduler: no job "min"; did you mean "mine"?`) {
		t.Error(got)
	}
	if _, err := validate.Check(t.Context(), validate.Options{Dir: filepath.Join(good, "none")}, nil); err == nil {
		t.Error("no error for a folder that is not there")
	}
}

func TestTheSampleHasAJobOfEachKindAndRendersThem(t *testing.T) {
	dir, err := sample.Write(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if got := said(t, validate.Options{Dir: dir, Templates: []string{t.TempDir()}}); got != "0 errors, 0 warnings, 5 jobs rendered in 1s\n" {
		t.Error(got)
	}
	cfg, _, err := pipeline.LoadDir(dir, pipeline.Options{})
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]bool{}
	for _, e := range cfg.Scheduler {
		kinds[cfg.Jobs[e.Job].Kind] = true
	}
	for _, kind := range []string{"job", "kbuild", "process"} {
		if !kinds[kind] {
			t.Errorf("no job is of kind %s", kind)
		}
	}
}

// production is KernelCI's own configuration, which lies beside the repository.
func production(t testing.TB) string {
	t.Helper()
	dir := filepath.Join("..", "..", "..", "shared", "kernelci-config")
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("SKIPPED: KernelCI's production configuration is not here: %v", err)
	}
	return dir
}

func TestAllOfKernelCIsConfigurationIsRendered(t *testing.T) {
	got := said(t, validate.Options{Dir: production(t), Templates: []string{"testdata/templates"}})
	if !regexp.MustCompile(`(?s)^([^\n]*: warning: [^\n]*\n)*0 errors, [0-9]+ warnings, [0-9]{3,} jobs rendered in 1s\n$`).MatchString(got) {
		t.Error(got)
	}
}

// The limit is 1 s for the whole production configuration.
func BenchmarkValidate(b *testing.B) { benchmark(b, validate.Options{Dir: production(b)}, 1e9) }

// The limit is 5 s with a rendering of every scheduled job on every platform.
func BenchmarkValidateWithTemplates(b *testing.B) {
	benchmark(b, validate.Options{Dir: production(b), Templates: []string{"testdata/templates"}}, 5e9)
}

func benchmark(b *testing.B, o validate.Options, limit float64) {
	b.ReportAllocs()
	rendered := 0
	for b.Loop() {
		r, err := validate.Check(b.Context(), o, nil)
		if wrong, _ := r.Count(); err != nil || wrong > 0 {
			b.Fatal(r.Problems, err)
		}
		rendered = r.Rendered
	}
	b.ReportMetric(float64(rendered), "jobs/op")
	b.ReportMetric(limit, "limit-ns/op")
}
