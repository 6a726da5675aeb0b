package jobdef

import (
	"testing"
	"testing/fstest"

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
	const template = "{{ platform_config.context }}\n{{ platform_config.params }}\n{{ deep }}\n{{ other }}\n{{ list }}\n{{ merged }}\n{{ notify }}"
	const want = `{'z': 1, 'a': {'y': 1, 'b': 2}}
{'deep': {'c': 1, 'a': 2}, 'other': {'b': 1, 'a': 1}}
{'c': 1, 'a': 2}
{'c': 1, 'a': 1, 'b': {'y': 1, 'x': 1}}
[{'d': 1, 'c': 'x86_64'}]
{'zeta': 1, 'mid': 3, 'own': 1}
{'url': 'x', 'callback': {'token': 't', 'dataset': 'all'}}`
	got, err := mustNew(t, folder(t, "t.jinja2", template)).Render(p)
	if err != nil || got != want {
		t.Errorf("%s, %v", got, err)
	}
}
