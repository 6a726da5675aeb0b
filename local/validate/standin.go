package validate

import (
	"time"

	"github.com/kernelflow/kernelflow/shared/jobdef"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/pipeline"
)

// artifacts are what kernel builds and checkouts have made, by KernelCI's names.
var artifacts = []string{
	"tarball", "kernel", "modules", "metadata", "dtb", "ramdisk", "rootfs", "kselftest_tar_gz", "kselftest_tar_xz", "cpupower_tar_gz",
	"config", "_config", "vmlinux", "build_log", "coverage_source", "coverage_data", "system_map", "kernel_image", "fit_image", "nfsroot",
}

// standIn is what a job's definition would be made of if it ran now.
func standIn(cfg *pipeline.Config, w work) jobdef.Params {
	at := time.Date(2025, 1, 12, 8, 0, 0, 0, time.UTC)
	n := node.Node{
		ID: "65f0000000000000000000a1", Kind: node.Kind(w.job.Kind), Name: w.job.Name, Group: w.job.Name, Path: []string{"checkout", w.job.Name},
		Parent: "65f0000000000000000000a0", State: node.Running, TreeID: "0123456789abcdef", Owner: "admin", Submitter: "service:pipeline",
		Artifacts: map[string]string{}, Created: at, Updated: at, Timeout: at.Add(node.DefaultTimeout),
		Data: map[string]any{
			"runtime": w.runtime.Name, "platform": w.platform.Name, "arch": w.platform.Arch, "compiler": "gcc-14", "defconfig": "defconfig",
			"config_full": "defconfig+gcc-14", "kernel_type": "image",
			"kernel_revision": map[string]any{
				"tree": "mainline", "branch": "master", "url": "https://git.example.org/linux.git", "commit": "0123456789abcdef0123456789abcdef01234567",
				"describe": "v6.12-1-g0123456789ab", "version": map[string]any{"version": 6, "patchlevel": 12}, "commit_tags": []any{}, "tip_of_branch": true,
			},
		},
	}
	for _, name := range artifacts {
		n.Artifacts[name] = "https://storage.example.org/" + name
	}
	for _, key := range []string{"arch", "compiler", "defconfig", "fragments"} {
		if v := w.job.Params[key]; v != nil {
			n.Data[key] = v
		}
	}
	p := jobdef.Params{
		Config: cfg, Job: w.job, Platform: w.platform, Runtime: w.runtime, Node: n,
		APIURL: "https://api.example.org", StorageURL: "https://storage.example.org", InstanceID: "validate",
	}
	if len(w.platform.DTB) > 0 {
		p.DTB = &jobdef.DTB{Name: w.platform.DTB[0], URL: "https://storage.example.org/" + w.platform.DTB[0]}
	}
	return p
}
