package jobdef

import (
	"fmt"
	"maps"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/pipeline"
)

// DTB is the device tree that a platform boots with: the first of those that the
// platform names which its kernel was built with.
type DTB struct {
	Name string // in the platform's list
	URL  string
}

// Check says whether the parameters make sense: Invalid, naming what does not.
func (p Params) Check() error {
	_, err := p.resolved()
	return err
}

// resolved are the parameters of the platform and, over them, of the job, with
// what they refer to; over these the names of the architecture and what the lab
// asks for.
func (p Params) resolved() (map[string]any, error) {
	merged := maps.Clone(p.Platform.Params)
	if merged == nil {
		merged = map[string]any{}
	}
	if p.DTB != nil {
		merged["device_dtb"] = p.DTB.Name
	} else if len(p.Platform.DTB) > 0 {
		return nil, errs.New(errs.Invalid, "no device tree of %q was looked up", p.Platform.DTB)
	}
	maps.Copy(merged, p.Job.Params)
	if err := p.addRootfs(merged); err != nil {
		return nil, err
	}
	words := Words(p.Node, p.Job, p.Platform)
	for key, value := range merged {
		filled, err := Fill(value, words)
		if err != nil {
			return nil, fmt.Errorf("params.%s: %w", key, err)
		}
		merged[key] = filled
	}
	arch, _ := merged["arch"].(string)
	if arch == "" {
		arch = p.Platform.Arch
	}
	maps.Copy(merged, archNames(arch))
	p.addLab(merged)
	return merged, nil
}

// addRootfs puts in the addresses of the root file system that the parameters
// refer to; one that is given by itself stays.
func (p Params) addRootfs(merged map[string]any) error {
	switch ref := merged["rootfs_ref"].(type) {
	case nil:
		return nil
	case string:
		rootfs := p.Config.Rootfs[ref]
		if rootfs == nil {
			return errs.New(errs.Invalid, "params.rootfs_ref: there is no rootfs %.80q", ref)
		}
		for key, address := range rootfs.Params {
			if _, given := merged[key]; !given {
				merged[key] = address
			}
		}
		return nil
	default:
		return errs.New(errs.Invalid, "params.rootfs_ref: must be the name of a rootfs")
	}
}

// addLab puts in what jobs of one kind of lab know besides.
func (p Params) addLab(merged map[string]any) {
	switch p.Runtime.LabType {
	case "lava":
		notify := p.Runtime.Notify
		if notify == nil {
			notify = map[string]any{}
		}
		merged["notify"], merged["priority"] = notify, Priority(p.Node, p.Job, p.Runtime)
	case "pull_labs":
		timeout := p.Runtime.Timeout
		if timeout == 0 {
			timeout = pullTimeout
		}
		merged["timeout"], merged["poll_interval"] = whole(timeout), whole(p.Runtime.PollInterval)
	}
}

// pullTimeout is how long a pull lab's job may take when the lab does not say,
// seconds.
const pullTimeout = 3600

// whole gives a number that has no fraction as an integer, as it was written.
func whole(f float64) any {
	if f == float64(int(f)) {
		return int(f)
	}
	return f
}

// systemArch says what each system calls an architecture, where that is not
// the kernel's own name: Buildroot, ChromiumOS, Debian and the kernel's build.
var systemArch = map[string]map[string]string{
	"brarch":   {"arm": "armel", "i386": "x86", "x86_64": "x86", "riscv64": "riscv"},
	"crosarch": {"x86_64": "amd64"},
	"debarch":  {"arm": "armhf", "x86_64": "amd64", "riscv": "riscv64"},
	"karch":    {"riscv64": "riscv"},
}

// archNames are the names of an architecture by the keys of systemArch.
func archNames(arch string) map[string]any {
	names := map[string]any{}
	for system, other := range systemArch {
		names[system] = arch
		if name := other[arch]; name != "" {
			names[system] = name
		}
	}
	return names
}

// image is the job's container image, with the prefix of this instance's images;
// nil when it has none.
func (p Params) image() (any, error) {
	if p.Job.Image == "" {
		return nil, nil
	}
	image, err := Fill(p.Job.Image, map[string]any{"image_prefix": p.ImagePrefix})
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	return image, nil
}

// deviceType is what the lab calls the platform.
func deviceType(p *pipeline.Platform) string {
	if p.BaseName != "" {
		return p.BaseName
	}
	return p.Name
}
