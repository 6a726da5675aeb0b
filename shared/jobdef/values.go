package jobdef

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/jinja"
	"github.com/kernelflow/kernelflow/shared/pipeline"
)

// values are the names that a template sees.
func values(p Params) (map[string]jinja.Value, error) {
	if p.DTB != nil {
		p.Node = p.Node.Clone()
		p.Node.Artifacts["dtb"] = p.DTB.URL
	}
	text, err := json.Marshal(p.Node)
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", p.Node.ID, err)
	}
	n, err := jinja.FromJSON(text)
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", p.Node.ID, err)
	}
	image, err := p.image()
	if err != nil {
		return nil, err
	}
	v := map[string]jinja.Value{
		"api_config":        apiConfig(p),
		"storage_config":    storageConfig(p),
		"platform_config":   platformConfig(p.Platform),
		"name":              p.Job.Name,
		"node":              n,
		"runtime":           p.Runtime.LabType,
		"runtime_image":     image,
		"device_type":       deviceType(p.Platform),
		"instanceid":        p.InstanceID,
		"instance_callback": orNone(p.InstanceCallback),
	}
	given, err := p.resolved()
	if err != nil {
		return nil, err
	}
	for key, value := range given {
		v[key] = ordered(value, p.order(key))
	}
	if err := p.addFragments(given["fragments"], v); err != nil {
		return nil, err
	}
	return v, nil
}

func orNone(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// apiConfig is the address of this API, with what the configuration says of it.
func apiConfig(p Params) jinja.Value {
	c := map[string]any{"name": nil, "url": p.APIURL, "version": "latest", "timeout": 60.0}
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
	return jinja.From(c)
}

// storageConfig is the address of the storage, with what the configuration says
// of it. The addresses end with a slash, since KernelCI's library resolves the
// names of its routes and files against them.
func storageConfig(p Params) jinja.Value {
	base := strings.TrimRight(p.StorageURL, "/") + "/"
	c := map[string]any{"name": nil, "storage_type": "backend", "base_url": base, "api_url": base}
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
	return jinja.From(c)
}

func sameURL(a, b string) bool {
	return strings.TrimRight(a, "/") == strings.TrimRight(b, "/")
}

func platformConfig(p *pipeline.Platform) jinja.Value {
	return jinja.DictOf(
		"name", p.Name, "arch", p.Arch, "base_name", deviceType(p), "boot_method", p.BootMethod, "mach", p.Mach,
		"dtb", jinja.From(p.DTB), "compatible", jinja.From(p.Compatible), "flash_image", p.FlashImage,
		"context", ordered(p.Context, p.ContextOrder), "params", ordered(p.Params, p.ParamsOrder),
	)
}

// addFragments says what each fragment is that the parameters name:
// fragment_configs as KernelCI does, by name, and fragment_list in order, each
// with its lines or a target of the kernel's make. A CONFIG_X=y is a line itself;
// a name with a "." is a target (a file of the kernel's tree).
func (p Params) addFragments(names any, v map[string]jinja.Value) error {
	if name, ok := names.(string); ok {
		names = []any{name}
	}
	wanted, ok := names.([]any)
	if !ok && names != nil {
		return errs.New(errs.Invalid, "fragments: must be a list of names")
	}
	configs, steps := jinja.NewDict(), &jinja.List{}
	step := func(name string, lines []string, target string) {
		steps.Items = append(steps.Items, jinja.DictOf("name", name, "configs", jinja.From(lines), "target", target))
	}
	for _, item := range wanted {
		name, ok := item.(string)
		if !ok {
			return errs.New(errs.Invalid, "fragments: %v: must be a name", item)
		}
		fragment := p.Config.Fragments[name]
		switch {
		case fragment != nil:
			configs.Set(name, fragmentDict(fragment))
			step(name, fragment.Configs, fragment.Defconfig)
		case strings.HasPrefix(name, "CONFIG_"):
			configs.Set(name, jinja.DictOf("configs", jinja.From([]string{name})))
			step(name, []string{name}, "")
		case strings.Contains(name, "."):
			step(name, nil, name)
		default:
			return errs.New(errs.Invalid, "fragments: there is no fragment %q", name)
		}
	}
	v["fragment_list"] = steps
	if len(wanted) > 0 {
		v["fragment_configs"] = configs
	}
	return nil
}

// fragmentDict is a fragment as it is written in the configuration.
func fragmentDict(f *pipeline.Fragment) *jinja.Dict {
	d := jinja.NewDict()
	if f.Path != "" {
		d.Set("path", f.Path)
	}
	if f.Configs != nil {
		d.Set("configs", jinja.From(f.Configs))
	}
	if f.Defconfig != "" {
		d.Set("defconfig", f.Defconfig)
	}
	return d
}
