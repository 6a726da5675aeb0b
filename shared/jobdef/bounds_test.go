package jobdef

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/pipeline"
)

// folder makes a folder of templates: name, text, name, text, ...
func folder(t testing.TB, pairs ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(pairs); i += 2 {
		file := filepath.Join(dir, pairs[i])
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(pairs[i+1]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func render(t *testing.T, limit time.Duration, text string, more map[string]any) (string, error) {
	t.Helper()
	r := mustNew(t, folder(t, "t.jinja2", text))
	r.limit = limit
	return r.Render(params("t.jinja2", more))
}

func TestTemplateSeesKernelCIsNames(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{`{{ name }} {{ runtime }} {{ device_type }} {{ instanceid }}`, "job shell qemu test"},
		{`{{ api_config.url }} {{ api_config.version }} {{ storage_config.api_url }}`, "http://127.0.0.1:8001 v0 http://127.0.0.1:8001/storage/"},
		{`{{ brarch }} {{ crosarch }} {{ debarch }} {{ karch }}`, "x86 amd64 amd64 x86_64"},
		{`{{ node.id }} {{ node.retry_counter + 1 }} {{ node.data.kernel_revision.version }}`,
			"6783a00a0000000000000001 1 {'extra': '-rc2-5-g111111111111', 'patchlevel': 1, 'sublevel': 0, 'version': 6}"},
		{`{{ deep }} {{ both }}`, `{'a': [1, 2.0, None, True, "it's"], 'b': {}} job`},
		{`{{ fragment_configs }}`, `{'CONFIG_A=y': {'configs': ['CONFIG_A=y']}}`},
		{`{{ kci_yaml_dump(deep) }}`, "a:\n- 1\n- 2.0\n- null\n- true\n- it's\nb: {}\n"},
		{`{% for key, value in deep.items() %}{{ key }};{% endfor %}{{ 'a' in deep }} {{ deep.get('c', 'none') }}`, "a;b;True none"},
		{`{% set l = [] %}{% do l.append(name) %}{{ l | join(',') }}`, "job"},
	} {
		p := params("t.jinja2", map[string]any{
			"both": "job", "fragments": []any{"CONFIG_A=y"},
			"deep": map[string]any{"a": []any{1, 2.0, nil, true, "it's"}, "b": map[string]any{}},
		})
		p.Platform.Params = map[string]any{"both": "platform"}
		got, err := mustNew(t, folder(t, "t.jinja2", tc.text)).Render(p)
		if err != nil || got != tc.want {
			t.Errorf("%s\n got %q, %v\nwant %q", tc.text, got, err, tc.want)
		}
	}
}

func TestHostileTemplateEndsInAnErrorThatSaysWhy(t *testing.T) {
	for _, tc := range []struct{ text, cause string }{
		{`{{ kci_raise("no dtb for " ~ name) }}`, `template "t.jinja2" of job "job": t.jinja2, line 1: no dtb for job`},
		{`{% if kci_raise("in a condition") %}{% endif %}`, "in a condition"},
		{`{% for i in range(1000000000) %}{% endfor %}`, "more than 20000000 steps"},
		{`{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}`, "took longer than it may"},
		{`{% for i in range(99999) %}{{ "aaaaaaaaaaaaaaaa" }}{% endfor %}`, "longer than 1048576 bytes"},
		{`{{ "a" * 5000000 }}`, "longer than 1048576 bytes"},
		{`{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}`, "nested too deeply"},
		{`{% block a %}{{ self.a() }}{% endblock %}`, "nested too deeply"},
		{`{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}`, "nested too deeply"},
		{`{% include "t.jinja2" %}`, "nested too deeply"},
		{`{% extends "t.jinja2" %}`, "nested too deeply"},
		{`{% include "../t.jinja2" %}`, "no such template"},
		{`{% include "/etc/hostname" %}`, "no such template"},
		{`{% extends "../../etc/hostname" %}`, "no such template"},
		{`{% include "missing" %}`, "no such template"},
		{`{{ 1 % 0 }}`, "ZeroDivisionError"},
		{`{{ name `, "expected"},
		{`{{ missing | quote }}`, "the value is missing"},
		{`{{ node.data | quote }}`, "must be a string"},
		{`{{ nul | quote }}`, "NUL"},
		{`{{ undefined + "x" }}`, "UndefinedError"},
		{`{{ "a" * 1000000000 }}`, "more than 268435456 bytes"},
		{`{{ 10 ** 1000000000 }}`, "more than 268435456 bytes"},
		{`{{ "%1000000000d" % 1 }}`, "too big"},
		{`{% set ns = namespace(s="ab") %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor %}`, "more than 268435456 bytes"},
		{`{{ range(1000000000) | list }}`, "more than 268435456 bytes"},
		{`{% set l = [] %}{% for i in range(2000) %}{% set l = [l] %}{% do l.append(l) %}{% endfor %}{{ "(" * 500 }}` + strings.Repeat("{{ [", 300), "nested too deeply"},
		{`{{ lipsum() }}`, "not available"},
	} {
		limit := 5 * time.Minute // the other bounds come first, on a slow machine too
		if strings.Contains(tc.cause, "longer than it may") {
			limit = 50 * time.Millisecond
		}
		out, err := render(t, limit, tc.text, map[string]any{"nul": "a\x00b"})
		if !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), tc.cause) || len(err.Error()) > 1000 {
			t.Errorf("%s: %.100q, %v; want %q", tc.text, out, err, tc.cause)
		}
	}
}

func TestChanceIsTheSameForTheSameJob(t *testing.T) {
	r := mustNew(t, folder(t, "t.jinja2", `{{ range(1000000) | random }}`))
	p := params("t.jinja2", nil)
	first, err := r.Render(p)
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := r.Render(p); again != first {
		t.Errorf("%s, then %s", first, again)
	}
	p.Node.ID = "6783a00a0000000000000002"
	if other, _ := r.Render(p); other == first {
		t.Errorf("another job has %s, too", other)
	}
}

func TestLinkLeadsOutOfNoFolder(t *testing.T) {
	outside := folder(t, "secret", "hidden")
	inside := folder(t, "t.jinja2", `{% include "link" %}`)
	if err := os.Symlink(filepath.Join(outside, "secret"), filepath.Join(inside, "link")); err != nil {
		t.Fatal(err)
	}
	out, err := mustNew(t, inside).Render(params("t.jinja2", nil))
	if !errors.Is(err, errs.Invalid) || strings.Contains(out, "hidden") {
		t.Errorf("%q, %v", out, err)
	}
}

func TestValuesAreNeverTemplateText(t *testing.T) {
	const hostile = `{{ kci_raise("run") }}{% include "x" %}{# #}`
	written := strings.NewReplacer("{{", "{{{{", "}}", "}}}}").Replace(hostile) // as braces are in parameters
	if got, err := render(t, time.Minute, `{{ value }}`, map[string]any{"value": written}); err != nil || got != hostile {
		t.Errorf("%q, %v", got, err)
	}
}

func TestQuotedValueIsOneWordOfTheShell(t *testing.T) {
	for _, value := range []any{"", "a b", "it's", `"`, "$(reboot)`reboot`\\", "a\nb", "-n", "*", "é\x80", 42, true} {
		script, err := render(t, time.Minute, `printf '%s.' {{ value | quote }}`, map[string]any{"value": value})
		if err != nil {
			t.Fatal(err)
		}
		got, err := exec.CommandContext(t.Context(), "sh", "-c", script).Output()
		want, _ := render(t, time.Minute, `{{ value }}.`, map[string]any{"value": value})
		if err != nil || string(got) != want {
			t.Errorf("%q: the shell has %q, %v", value, got, err)
		}
	}
}

func TestFoldersComeBeforeTheEmbeddedTemplates(t *testing.T) {
	first := folder(t, "a.jinja2", "first", "base/b.jinja2", `[{% block x %}base{% endblock %}]`)
	second := folder(t, "a.jinja2", "second", "kver.jinja2", `{% extends "base/b.jinja2" %}{% block x %}{{ super() }} over{% endblock %}`)
	r := mustNew(t, first, second)
	for template, want := range map[string]string{"a.jinja2": "first", "kver.jinja2": "[base over]"} {
		if got, err := r.Render(params(template, nil)); err != nil || got != want {
			t.Errorf("%s: %q, %v", template, got, err)
		}
	}
	for name, want := range map[string]bool{"a.jinja2": true, "kbuild.jinja2": true, "base/shell.sh.jinja2": true,
		"none.jinja2": false, "": false, ".": false, "base": false, "../a": false, "/etc/hostname": false} {
		if r.Has(name) != want {
			t.Errorf("Has(%q) = %t", name, !want)
		}
	}
}

func TestMissingFolderIsNamed(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	if _, err := New(missing); !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), missing) {
		t.Error(err)
	}
}

func TestBadParametersAreInvalid(t *testing.T) {
	for name, tc := range map[string]struct {
		template string
		params   map[string]any
		cause    string
	}{
		"no such fragment":   {"kbuild.jinja2", map[string]any{"fragments": []any{"serail"}}, `there is no fragment "serail"`},
		"fragments no list":  {"kbuild.jinja2", map[string]any{"fragments": 3}, "must be a list"},
		"no command":         {"ktest.jinja2", nil, "param command must be given"},
		"suite leads out":    {"ktest.jinja2", map[string]any{"command": "true", "suite": "../x"}, "param suite"},
		"no such template":   {"none.jinja2", nil, "no such template"},
		"value is no scalar": {"baseline.jinja2", map[string]any{"boot_timeout": []any{}, "memory": map[string]any{"a": 1}}, "quote"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := mustNew(t).Render(params(tc.template, tc.params))
			if !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), tc.cause) || !strings.Contains(err.Error(), `job "job"`) {
				t.Error(err)
			}
		})
	}
	if _, err := mustNew(t).Render(Params{Job: &pipeline.Job{}}); !errors.Is(err, errs.Invalid) {
		t.Error(err)
	}
}

func TestConfigurationIsNotChangedByATemplate(t *testing.T) {
	p := params("t.jinja2", map[string]any{"deep": map[string]any{"list": []any{1}}})
	r := mustNew(t, folder(t, "t.jinja2", `{% do deep.update({'x': 1}) %}{% do deep.list.append(2) %}`))
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if _, err := r.Render(p); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if deep := p.Job.Params["deep"].(map[string]any); len(deep) != 1 || len(deep["list"].([]any)) != 1 {
		t.Errorf("the job's params are %v", p.Job.Params)
	}
}

func BenchmarkRender(b *testing.B) {
	r := mustNew(b)
	p := params("kbuild.jinja2", shipped[2].params)
	for b.Loop() {
		if _, err := r.Render(p); err != nil {
			b.Fatal(err)
		}
	}
}
