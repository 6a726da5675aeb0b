package jobdef

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/pipeline"
)

var update = flag.Bool("update", false, "write the golden files anew")

const tarball = "http://127.0.0.1:8001/storage/linux-sample's-main-v1.0.tar.gz"

// params makes what a job of the template is rendered from.
func params(template string, more map[string]any) Params {
	sublevel := 0
	n := node.Node{
		ID: "6783a00a0000000000000001", Kind: node.KindJob, Name: "job", Path: []string{"checkout", "job"}, Parent: "6783a00a0000000000000000", TreeID: "tree",
		Artifacts: map[string]string{"tarball": tarball, "kernel": "http://127.0.0.1:8001/storage/kernel"},
		Data:      map[string]any{"platform": "qemu", "runtime": "shell", "arch": "x86_64"},
	}
	n.SetDefaults(time.Date(2025, 1, 12, 8, 0, 0, 0, time.UTC))
	err := n.SetRevision(node.Revision{
		Tree: "sample", URL: "https://git.example.org/sample.git", Branch: "main", Commit: strings.Repeat("1", 40),
		Describe: "v6.1-rc2-5-g111111111111", CommitMessage: "text: don't forget \"tabs\"; $(reboot) `reboot`\n",
		Version: &node.Version{Version: 6, PatchLevel: 1, Sublevel: &sublevel, Extra: "-rc2-5-g111111111111"},
	})
	if err != nil {
		panic(err)
	}
	if more == nil {
		more = map[string]any{}
	}
	return Params{
		Config: &pipeline.Config{
			API: map[string]*pipeline.API{"local": {Name: "local", URL: "http://127.0.0.1:8001/", Version: "v0"}},
			Fragments: map[string]*pipeline.Fragment{
				"serial": {Name: "serial", Configs: []string{"CONFIG_TTY=y", `CONFIG_CMDLINE="it's"`}},
				"tiny":   {Name: "tiny", Defconfig: "tinyconfig"},
			},
		},
		Job:      &pipeline.Job{Name: "job", Template: template, Kind: "job", Params: more},
		Platform: &pipeline.Platform{Name: "qemu", Arch: "x86_64", Params: map[string]any{}},
		Runtime:  &pipeline.Runtime{Name: "shell", LabType: "shell"},
		Node:     n, APIURL: "http://127.0.0.1:8001", StorageURL: "http://127.0.0.1:8001/storage", InstanceID: "test",
	}
}

func mustNew(t testing.TB, dirs ...string) *Renderer {
	t.Helper()
	r, err := New(dirs...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// shipped are jobs that use every branch of the embedded templates.
var shipped = []struct {
	name     string
	template string
	params   map[string]any
}{
	{"kver", "kver.jinja2", nil},
	{"kbuild-command", "kbuild.jinja2", map[string]any{
		"arch": "native", "compiler": "gcc", "defconfig": "sample", "command": "make libsample.a && echo 'done'",
		"artifacts": []any{"libsample.a", "it's; reboot"}, "keep_tree": true}},
	{"kbuild-linux", "kbuild.jinja2", map[string]any{
		"arch": "x86_64", "compiler": "gcc-12", "defconfig": "tinyconfig", "fragments": []any{"serial", "CONFIG_64BIT=y"}}},
	{"kbuild-clang", "kbuild.jinja2", map[string]any{
		"arch": "arm64", "compiler": "clang-17", "cross_compile": "aarch64-linux-gnu-", "defconfig": []any{"defconfig", "hardening.config"},
		"fragments": []any{"tiny", "virt.config"}, "modules": true, "make_args": []any{"V=1", "W=$(reboot)"}}},
	{"ktest", "ktest.jinja2", map[string]any{"command": "make --silent test; echo \"it's\"", "suite": "a b"}},
	{"sparse", "sparse.jinja2", nil},
	{"sparse-files", "sparse.jinja2", map[string]any{"checker": "cc -fsyntax-only -Wall", "files": []any{"*.c", "it's/*.h"}, "suite": "static"}},
	{"process", "process.jinja2", map[string]any{"command": "wc -c tests.json >\"$KCI_RESULTS/artifacts/size\"", "fetch": []any{"kernel", "gone"}}},
	{"kunit", "kunit.jinja2", nil},
	{"kunit-all", "kunit.jinja2", map[string]any{
		"arch": "x86_64", "args": "--alltests --qemu_args=-smp", "kunitconfig": "lib/kunit", "kconfig_add": []any{"CONFIG_KASAN=y"}, "filter_glob": "list*"}},
	{"baseline", "baseline.jinja2", map[string]any{"boot_timeout": 60, "cmdline": "quiet"}},
}

func TestTheShippedTemplateForLAVARendersAsTheGoldenFile(t *testing.T) {
	p := params("lava/boot.jinja2", map[string]any{"tests": map[string]any{"uname": "uname -a", "always-fails": "false"}})
	p.Runtime = &pipeline.Runtime{Name: "lava-lab", LabType: "lava", Notify: map[string]any{"callback": map[string]any{"token": "a description"}}}
	p.Node.Artifacts["ramdisk"] = "http://127.0.0.1:8001/storage/ramdisk"
	p.InstanceCallback = "https://callback.example.org"
	got, err := mustNew(t).Render(p)
	if err != nil {
		t.Fatal(err)
	}
	isGolden(t, "testdata/lava-boot.yaml", got)
	for what, spoil := range map[string]func(*Params){
		"ramdisk": func(p *Params) { p.Node.Artifacts = map[string]string{"kernel": "x"} }, "token": func(p *Params) { p.Runtime.Notify = nil },
	} {
		bad := p
		bad.Node, bad.Runtime = p.Node.Clone(), &pipeline.Runtime{Name: "lava-lab", LabType: "lava", Notify: p.Runtime.Notify}
		spoil(&bad)
		if _, err := mustNew(t).Render(bad); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("without a %s: %v", what, err)
		}
	}
}

// isGolden wants the text of a golden file, which -update writes anew.
func isGolden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("differs from %s: run with -update and look at the difference", file)
	}
}

func TestShippedTemplatesRenderAsTheGoldenFiles(t *testing.T) {
	r := mustNew(t)
	for _, tc := range shipped {
		t.Run(tc.name, func(t *testing.T) {
			got, err := r.Render(params(tc.template, tc.params))
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", tc.name+".sh")
			isGolden(t, golden, got)
			check := exec.CommandContext(t.Context(), "sh", "-n", golden)
			if out, err := check.CombinedOutput(); err != nil {
				t.Errorf("sh -n %s: %v\n%s", golden, err, out)
			}
		})
	}
}
