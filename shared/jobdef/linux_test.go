package jobdef

import (
	"bytes"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/pipeline"
)

// TestLinuxIsBuiltBootedAndUnitTested takes minutes: it runs on the git tree
// that LINUX_TREE names.
func TestLinuxIsBuiltBootedAndUnitTested(t *testing.T) {
	tree := os.Getenv("LINUX_TREE")
	if tree == "" {
		t.Skip("SKIPPED: LINUX_TREE names no git tree of Linux")
	}
	needTools(t)
	s := newPipelineServer(t)
	archive, err := exec.CommandContext(t.Context(), "git", "-C", tree, "archive", "--format=tar.gz", "--prefix=linux/", "HEAD").Output()
	if err != nil {
		t.Fatal(err)
	}
	source := map[string]string{"tarball": s.put("linux.tar.gz", archive)}
	timed := func(what string, p Params) node.Hierarchy {
		began := time.Now()
		h := s.run(t, p)
		t.Logf("%s took %s", what, time.Since(began).Round(time.Second))
		return h
	}

	kver := s.live(node.KindJob, "kver.jinja2", source, nil)
	delete(kver.Node.Data["kernel_revision"].(map[string]any), "version")
	expect(t, timed("kver", kver), "checkout/job pass", "checkout/job/kernelversion skip")

	build := s.live(node.KindKbuild, "kbuild.jinja2", source, map[string]any{
		"arch": "x86_64", "compiler": "gcc", "defconfig": "tinyconfig", "fragments": []any{"qemu-console", "CONFIG_64BIT=y"},
	})
	build.Config.Fragments["qemu-console"] = &pipeline.Fragment{Name: "qemu-console", Configs: []string{
		"CONFIG_BINFMT_ELF=y", "CONFIG_BINFMT_SCRIPT=y", "CONFIG_BLK_DEV_INITRD=y", "CONFIG_PRINTK=y",
		"CONFIG_PROC_FS=y", "CONFIG_SERIAL_8250=y", "CONFIG_SERIAL_8250_CONSOLE=y", "CONFIG_TTY=y",
	}}
	built := timed("kbuild", build)
	expect(t, built, "checkout/job pass")
	if !bytes.Contains(s.artifact("_config"), []byte("CONFIG_SERIAL_8250_CONSOLE=y\n")) || built.Node.Text("kernel_type") != "bzImage" {
		t.Fatalf("the fragment is not in the configuration, or the data is %v:\n%s", built.Node.Data, s.log(t))
	}

	kernel := built.Node.Artifacts
	boot := s.live(node.KindJob, "baseline.jinja2", kernel, nil)
	expect(t, timed("baseline", boot), "checkout/job pass", "checkout/job/baseline/login pass", "checkout/job/baseline/kernelmsg pass")

	panics := s.live(node.KindJob, "baseline.jinja2", kernel, map[string]any{"cmdline": "rdinit=/missing init=/missing"})
	expect(t, timed("a panic", panics), "checkout/job fail", "checkout/job/baseline/login fail", "checkout/job/baseline/kernelmsg fail")

	silent := s.live(node.KindJob, "baseline.jinja2", map[string]string{"kernel": s.put("zeros", make([]byte, 1<<20))}, map[string]any{"boot_timeout": 5})
	expect(t, timed("no kernel", silent), "checkout/job fail", "checkout/job/baseline/login fail")

	kunit := s.live(node.KindJob, "kunit.jinja2", source, map[string]any{"kunitconfig": "lib/kunit", "kconfig_add": []any{"CONFIG_LIST_KUNIT_TEST=y"}})
	expect(t, timed("kunit", kunit), "checkout/job pass", "checkout/job/kunit/list-kunit-test/list_test_list_init pass")
}
