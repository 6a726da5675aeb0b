package jobdef

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/pipeline"
)

// values are the names that a template sees.
func values(p Params) (map[string]any, error) {
	n, err := plainJSON(p.Node)
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", p.Node.ID, err)
	}
	v := map[string]any{
		"api_config":        apiConfig(p),
		"storage_config":    storageConfig(p),
		"platform_config":   platformConfig(p.Platform),
		"name":              p.Job.Name,
		"node":              n,
		"runtime":           p.Runtime.LabType,
		"runtime_image":     p.Job.Image,
		"device_type":       deviceType(p.Platform),
		"instanceid":        p.InstanceID,
		"instance_callback": nil,
	}
	for _, params := range []map[string]any{p.Platform.Params, p.Job.Params} {
		for key, value := range params {
			v[key] = plain(value)
		}
	}
	configs, err := fragmentConfigs(p.Config, v["fragments"])
	if err != nil {
		return nil, err
	}
	v["fragment_configs"] = configs
	arch, _ := v["arch"].(string)
	if arch == "" {
		arch = p.Platform.Arch
	}
	for system, names := range systemArch {
		v[system] = arch
		if name, other := names[arch]; other {
			v[system] = name
		}
	}
	return v, nil
}

// systemArch says what each system calls an architecture, where that is not
// the kernel's own name: Buildroot, ChromiumOS, Debian and the kernel's build.
var systemArch = map[string]map[string]string{
	"brarch":   {"arm": "armel", "i386": "x86", "x86_64": "x86", "riscv64": "riscv"},
	"crosarch": {"x86_64": "amd64"},
	"debarch":  {"arm": "armhf", "x86_64": "amd64", "riscv": "riscv64"},
	"karch":    {"riscv64": "riscv"},
}

func deviceType(p *pipeline.Platform) string {
	if p.BaseName != "" {
		return p.BaseName
	}
	return p.Name
}

// apiConfig is the address of this API, with what the configuration says of it.
func apiConfig(p Params) dict {
	c := dict{"name": nil, "url": p.APIURL, "version": "latest", "timeout": 60.0}
	for _, name := range slices.Sorted(maps.Keys(p.Config.API)) {
		api := p.Config.API[name]
		if !sameURL(api.URL, p.APIURL) {
			continue
		}
		c["name"] = name
		if api.Version != "" {
			c["version"] = api.Version
		}
		if api.Timeout > 0 {
			c["timeout"] = api.Timeout
		}
		break
	}
	return c
}

// storageConfig is the address of the storage, with what the configuration says
// of it. The addresses end with a slash, since KernelCI's library resolves the
// names of its routes and files against them.
func storageConfig(p Params) dict {
	base := strings.TrimRight(p.StorageURL, "/") + "/"
	c := dict{"name": nil, "storage_type": "backend", "base_url": base, "api_url": base}
	for _, name := range slices.Sorted(maps.Keys(p.Config.Storage)) {
		s := p.Config.Storage[name]
		if sameURL(s.APIURL, p.StorageURL) || sameURL(s.BaseURL, p.StorageURL) {
			c["name"], c["storage_type"] = name, s.StorageType
			if s.BaseURL != "" {
				c["base_url"] = s.BaseURL
			}
			break
		}
	}
	return c
}

func sameURL(a, b string) bool {
	return strings.TrimRight(a, "/") == strings.TrimRight(b, "/")
}

func platformConfig(p *pipeline.Platform) dict {
	return dict{
		"name": p.Name, "arch": p.Arch, "base_name": deviceType(p), "boot_method": p.BootMethod, "mach": p.Mach,
		"dtb": plain(p.DTB), "compatible": plain(p.Compatible), "flash_image": p.FlashImage,
		"context": plain(p.Context), "params": plain(p.Params),
	}
}

// fragmentConfigs says what each named fragment is: its lines, or a target of
// the kernel's make. A CONFIG_X=y is a line itself; a name with a "." is a
// target (a file of the kernel's tree).
func fragmentConfigs(c *pipeline.Config, names any) (list, error) {
	if name, ok := names.(string); ok {
		names = list{name}
	}
	wanted, ok := names.(list)
	if !ok && names != nil {
		return nil, errs.New(errs.Invalid, "fragments: must be a list of names")
	}
	found := list{}
	for _, item := range wanted {
		name, ok := item.(string)
		if !ok {
			return nil, errs.New(errs.Invalid, "fragments: %v: must be a name", item)
		}
		fragment := c.Fragments[name]
		switch {
		case fragment != nil:
			found = append(found, dict{"name": name, "configs": plain(fragment.Configs), "target": fragment.Defconfig})
		case strings.HasPrefix(name, "CONFIG_") && strings.Contains(name, "="):
			found = append(found, dict{"name": name, "configs": list{name}, "target": ""})
		case strings.Contains(name, "."):
			found = append(found, dict{"name": name, "configs": list{}, "target": name})
		default:
			return nil, errs.New(errs.Invalid, "fragments: there is no fragment %q", name)
		}
	}
	return found, nil
}

// plainJSON is v as JSON, made of what gonja knows.
func plainJSON(v any) (any, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var out any
	if err := decoder.Decode(&out); err != nil {
		return nil, err
	}
	return plain(out), nil
}

// plain makes dicts and lists of maps and slices, and numbers of JSON numbers.
// It copies: a template may change what it gets, and the configuration is
// shared.
func plain(v any) any {
	switch v := v.(type) {
	case map[string]any:
		if v == nil {
			return nil
		}
		d := make(dict, len(v))
		for key, value := range v {
			d[key] = plain(value)
		}
		return d
	case []any:
		l := make(list, len(v))
		for i := range v {
			l[i] = plain(v[i])
		}
		return l
	case []string:
		l := make(list, len(v))
		for i := range v {
			l[i] = v[i]
		}
		return l
	case json.Number:
		return number(v)
	}
	return v
}

func number(n json.Number) any {
	if i, err := n.Int64(); err == nil {
		return int(i)
	}
	if f, err := n.Float64(); err == nil {
		return f
	}
	return n.String()
}
