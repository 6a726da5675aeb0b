package jobdef

import (
	"testing"
	"testing/fstest"

	"github.com/kernelflow/kernelflow/shared/jinja"
	"github.com/kernelflow/kernelflow/shared/pipeline"
)

func TestDictsHaveTheOrderOfTheConfiguration(t *testing.T) {
	cfg, problems, err := pipeline.Load(fstest.MapFS{"a.yaml": {Data: []byte(`
_anchors:
  base: &base {zeta: 1, mid: 2}
platforms:
  board:
    context: {z: 1, a: {y: 1, b: 2}}
    params:
      deep: {c: 1, a: 2}
      other: {b: 1, a: 1}
runtimes:
  lab:
    lab_type: lava
    url: https://lab.example.org
    notify: {url: x, callback: {token: t, dataset: all}}
jobs:
  job:
    template: t.jinja2
    kind: job
    params:
      list: [{d: 1, c: "{arch}"}]
      merged: {own: 1, <<: *base, mid: 3}
      other: {c: 1, a: 1, b: {y: 1, x: 1}}
`)}}, pipeline.Options{})
	if err != nil {
		t.Fatal(problems, err)
	}
	p := params("t.jinja2", nil)
	p.Job, p.Platform, p.Runtime = cfg.Jobs["job"], cfg.Platforms["board"], cfg.Runtimes["lab"]
	v, err := values(p)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"platform_config": `{'name': 'board', 'arch': 'x86_64', 'base_name': 'board', 'boot_method': 'grub', 'mach': 'x86', 'dtb': [], 'compatible': [], ` +
			`'flash_image': '', 'context': {'z': 1, 'a': {'y': 1, 'b': 2}}, 'params': {'deep': {'c': 1, 'a': 2}, 'other': {'b': 1, 'a': 1}}}`,
		"deep":   `{'c': 1, 'a': 2}`,
		"other":  `{'c': 1, 'a': 1, 'b': {'y': 1, 'x': 1}}`,
		"list":   `[{'d': 1, 'c': 'x86_64'}]`,
		"merged": `{'zeta': 1, 'mid': 3, 'own': 1}`,
		"notify": `{'url': 'x', 'callback': {'token': 't', 'dataset': 'all'}}`,
	} {
		if got, err := jinja.Text(v[name]); err != nil || got != want {
			t.Errorf("%s: %s, %v\nwant %s", name, got, err, want)
		}
	}
}
