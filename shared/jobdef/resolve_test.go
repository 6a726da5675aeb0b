package jobdef

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/jinja"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/pipeline"
)

// given is what a template sees of a name.
func given(t *testing.T, name string, change func(*Params)) string {
	t.Helper()
	p := params("t", map[string]any{})
	p.Config.Rootfs = map[string]*pipeline.Rootfs{"trixie": {Name: "trixie", Params: map[string]string{"nfsroot": "http://x/{debarch}", "ramdisk": "http://x/{brarch}"}}}
	change(&p)
	v, err := values(p)
	if err != nil {
		return "error: " + err.Error()
	}
	text, err := json.Marshal(v[name])
	if err != nil {
		t.Fatal(err)
	}
	return strings.Trim(string(text), `"`)
}

func TestEachParameterIsWhatTheRuntimesGive(t *testing.T) {
	job := func(key string, v any) func(*Params) { return func(p *Params) { p.Job.Params[key] = v } }
	platform := func(key string, v any) func(*Params) { return func(p *Params) { p.Platform.Params[key] = v } }
	both := func(all ...func(*Params)) func(*Params) {
		return func(p *Params) {
			for _, change := range all {
				change(p)
			}
		}
	}
	none := func(*Params) {}
	lab := func(kind string) func(*Params) { return func(p *Params) { p.Runtime.LabType = kind } }
	arch := func(name string) func(*Params) { return func(p *Params) { p.Platform.Arch = name } }
	for _, tc := range []struct {
		rule, name string
		change     func(*Params)
		want       string
	}{
		{"the platform's params", "x", platform("x", 1), "1"},
		{"the job's go over them", "x", both(platform("x", 1), job("x", 2)), "2"},
		{"params go over what all templates see", "name", job("name", "other"), "other"},
		{"the architecture's names go over params", "brarch", job("brarch", "mine"), "x86"},
		{"device type: the platform", "device_type", none, "qemu"},
		{"device type: its base name", "device_type", func(p *Params) { p.Platform.BaseName = "qemu-base" }, "qemu-base"},
		{"device type: the job's", "device_type", job("device_type", "mine"), "mine"},
		{"no image", "runtime_image", none, "null"},
		{"an image", "runtime_image", func(p *Params) { p.Job.Image = "x/{image_prefix}gcc" }, "x/gcc"},
		{"an image with a prefix", "runtime_image", func(p *Params) { p.Job.Image, p.ImagePrefix = "x/{image_prefix}gcc", "staging-" }, "x/staging-gcc"},
		{"an image of another word", "runtime_image", func(p *Params) { p.Job.Image = "x/{krev}" }, `error: image: "x/{krev}": nothing is called {krev}`},
		{"no callback", "instance_callback", none, "null"},
		{"a callback", "instance_callback", func(p *Params) { p.InstanceCallback = "https://x" }, "https://x"},
		{"words of the platform", "x", job("x", "{platform_name} {boot_method} {arch} {mach}"), "qemu  x86_64 "},
		{"words of the job", "x", both(job("y", "z"), platform("x", "{y}")), "z"},
		{"the kernel's version", "x", job("x", "v{krev}"), "v6.1"},
		{"words deep inside", "x", job("x", map[string]any{"a": []any{"{krev}"}}), `{"a":["6.1"]}`},
		{"braces", "x", job("x", "{{krev}} ${{X}}"), "{krev} ${X}"},
		{"what a word stands for is left alone", "x", both(job("x", "{y}"), job("y", "{{z}}")), "{{z}}"},
		{"a word that is none", "x", job("x", "{nothing}"), `error: params.x: "{nothing}": nothing is called {nothing}`},
		{"a word that is a list", "x", both(job("x", "{y}"), job("y", []any{"z"})), `error: params.x: "{y}": {y} is no text`},
		{"words that are numbers and truths", "x", both(job("x", "{y} {z} {u} {v}"), job("y", 3), job("z", true), job("u", 1.0), job("v", 0.5)), "3 True 1.0 0.5"},
		{"a word for an architecture", "x", both(arch("arm"), job("x", "{brarch} {debarch}")), "armel armhf"},
		{"rootfs", "nfsroot", job("rootfs_ref", "trixie"), "http://x/amd64"},
		{"rootfs for another architecture", "ramdisk", both(arch("arm"), job("rootfs_ref", "trixie")), "http://x/armel"},
		{"rootfs that is given by itself", "nfsroot", both(job("rootfs_ref", "trixie"), platform("nfsroot", "mine")), "mine"},
		{"rootfs of the platform", "nfsroot", platform("rootfs_ref", "trixie"), "http://x/amd64"},
		{"rootfs that is none", "nfsroot", job("rootfs_ref", "trxie"), `error: params.rootfs_ref: there is no rootfs "trxie"`},
		{"rootfs that is no name", "nfsroot", job("rootfs_ref", 3), `error: params.rootfs_ref: must be the name`},
		{"fragments", "fragment_configs", job("fragments", []any{"tiny", "CONFIG_X=y", "x.config"}),
			`{"CONFIG_X=y":{"configs":["CONFIG_X=y"]},"tiny":{"defconfig":"tinyconfig"}}`},
		{"fragments in order", "fragment_list", job("fragments", []any{"x.config", "tiny"}),
			`[{"configs":[],"name":"x.config","target":"x.config"},{"configs":[],"name":"tiny","target":"tinyconfig"}]`},
		{"no fragments", "fragment_configs", none, "null"},
		{"notify, of LAVA alone", "notify", func(p *Params) { p.Runtime.Notify = map[string]any{"a": 1} }, "null"},
		{"notify", "notify", both(lab("lava"), func(p *Params) { p.Runtime.Notify = map[string]any{"a": 1} }), `{"a":1}`},
		{"no notify", "notify", lab("lava"), "{}"},
		{"priority goes over params", "priority", both(lab("lava"), job("priority", 99)), "20"},
		{"a pull lab's bounds", "timeout", lab("pull_labs"), "3600"},
		{"a pull lab's own bounds", "poll_interval", both(lab("pull_labs"), func(p *Params) { p.Runtime.PollInterval = 45 }), "45"},
		{"no device tree", "device_dtb", none, "null"},
		{"a device tree", "device_dtb", func(p *Params) { p.Platform.DTB, p.DTB = []string{"a.dtb"}, &DTB{"a.dtb", "https://x"} }, "a.dtb"},
		{"a device tree that nobody looked up", "device_dtb", func(p *Params) { p.Platform.DTB = []string{"a.dtb"} }, "error: no device tree"},
	} {
		if got := given(t, tc.name, tc.change); got != tc.want && !(strings.HasPrefix(tc.want, "error") && strings.HasPrefix(got, tc.want)) {
			t.Errorf("%s: %s is %s, want %s", tc.rule, tc.name, got, tc.want)
		}
	}
}

func TestADeviceTreeIsAnArtifactOfTheTemplatesNodeAlone(t *testing.T) {
	p := params("t", nil)
	p.Platform.DTB, p.DTB = []string{"a.dtb"}, &DTB{"a.dtb", "https://x/a.dtb"}
	v, err := values(p)
	if err != nil {
		t.Fatal(err)
	}
	got, err := jinja.Text(v["node"])
	if err != nil || !strings.Contains(got, "https://x/a.dtb") || p.Node.Artifacts["dtb"] != "" {
		t.Errorf("the node is %s; its artifacts are %v", got, p.Node.Artifacts)
	}
}

func TestTheFirstDeviceTreeThatWasBuiltIsTaken(t *testing.T) {
	const metadata = `{"build": {}, "artifacts": {"dtbs/b.dtb": "https://x/b", "dtbs/c.dtb": "https://x/c", "empty": "", "odd": 1}}`
	for names, want := range map[string]string{
		"dtbs/a.dtb dtbs/c.dtb dtbs/b.dtb": "dtbs/c.dtb https://x/c",
		"dtbs/b.dtb":                       "dtbs/b.dtb https://x/b",
		"empty odd dtbs/b.dtb":             "dtbs/b.dtb https://x/b",
		"dtbs/a.dtb":                       "",
	} {
		got, err := FindDTB([]byte(metadata), strings.Fields(names))
		if (err != nil) != (want == "") || err != nil && !errors.Is(err, errs.Invalid) || err == nil && got.Name+" "+got.URL != want {
			t.Errorf("%s: %v, %v", names, got, err)
		}
	}
	for _, text := range []string{"", "<html>", "[]", `{"artifacts": 3}`} {
		if _, err := FindDTB([]byte(text), []string{"a"}); !errors.Is(err, errs.Invalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestPriorityIsWhatPersonTreeOrJobAskFor(t *testing.T) {
	n := func(submitter string, data map[string]any) node.Node {
		return node.Node{Submitter: submitter, Data: data}
	}
	at := func(i int) *int { return &i }
	type m = map[string]any
	for _, tc := range []struct {
		rule string
		node node.Node
		job  string
		lab  pipeline.Runtime
		want int
	}{
		{"nothing is said", n("", nil), "", pipeline.Runtime{}, 20},
		{"the job", n("service:pipeline", nil), "high", pipeline.Runtime{}, 60},
		{"the job, in capitals", n("", nil), "Medium", pipeline.Runtime{}, 40},
		{"the job, a number", n("", nil), "73", pipeline.Runtime{}, 73},
		{"the job, too large a number", n("", nil), "173", pipeline.Runtime{}, 100},
		{"the job, nonsense", n("", nil), "soon", pipeline.Runtime{}, 20},
		{"the tree goes before the job", n("", m{"tree_priority": "medium"}), "high", pipeline.Runtime{}, 40},
		{"the tree, a number", n("", m{"tree_priority": 5.0}), "high", pipeline.Runtime{}, 5},
		{"a person goes before the tree", n("user:a@example.org", m{"tree_priority": "low"}), "low", pipeline.Runtime{}, 80},
		{"a person who says how urgent it is", n("user:a@example.org", m{"priority": "medium"}), "low", pipeline.Runtime{}, 40},
		{"a lab's range", n("", nil), "high", pipeline.Runtime{PriorityMin: at(40), PriorityMax: at(60)}, 52},
		{"a lab's range, rounded down", n("", nil), "low", pipeline.Runtime{PriorityMin: at(0), PriorityMax: at(49)}, 9},
		{"half a range is none", n("", nil), "high", pipeline.Runtime{PriorityMin: at(40)}, 60},
		{"a lab's share", n("", nil), "high", pipeline.Runtime{Priority: "medium"}, 30},
		{"a lab's share goes before its range", n("", nil), "high", pipeline.Runtime{Priority: "50", PriorityMin: at(1), PriorityMax: at(2)}, 30},
		{"a lab that gives nothing", n("", nil), "high", pipeline.Runtime{Priority: "low"}, 0},
		{"a lab that gives nothing beyond its range", n("", nil), "high", pipeline.Runtime{Priority: "low", PriorityMax: at(50)}, 30},
	} {
		if got := Priority(tc.node, &pipeline.Job{Priority: tc.job}, &tc.lab); got != tc.want {
			t.Errorf("%s: %d, want %d", tc.rule, got, tc.want)
		}
	}
}
