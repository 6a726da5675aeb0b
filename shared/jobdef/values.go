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
	if p.DTB != nil {
		p.Node = p.Node.Clone()
		p.Node.Artifacts["dtb"] = p.DTB.URL
	}
	n, err := plainJSON(p.Node)
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", p.Node.ID, err)
	}
	image, err := p.image()
	if err != nil {
		return nil, err
	}
	v := map[string]any{
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
		v[key] = plain(value)
	}
	if err := p.addFragments(v); err != nil {
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

// addFragments says what each fragment is that the parameters name:
// fragment_configs as KernelCI does, by name, and fragment_list in order, each
// with its lines or a target of the kernel's make. A CONFIG_X=y is a line itself;
// a name with a "." is a target (a file of the kernel's tree).
func (p Params) addFragments(v map[string]any) error {
	names := v["fragments"]
	if name, ok := names.(string); ok {
		names = list{name}
	}
	wanted, ok := names.(list)
	if !ok && names != nil {
		return errs.New(errs.Invalid, "fragments: must be a list of names")
	}
	configs, steps := dict{}, list{}
	for _, item := range wanted {
		name, ok := item.(string)
		if !ok {
			return errs.New(errs.Invalid, "fragments: %v: must be a name", item)
		}
		fragment := p.Config.Fragments[name]
		switch {
		case fragment != nil:
			configs[name] = fragmentDict(fragment)
			steps = append(steps, dict{"name": name, "configs": plain(fragment.Configs), "target": fragment.Defconfig})
		case strings.HasPrefix(name, "CONFIG_"):
			configs[name] = dict{"configs": list{name}}
			steps = append(steps, dict{"name": name, "configs": list{name}, "target": ""})
		case strings.Contains(name, "."):
			steps = append(steps, dict{"name": name, "configs": list{}, "target": name})
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
func fragmentDict(f *pipeline.Fragment) dict {
	d := dict{}
	if f.Path != "" {
		d["path"] = f.Path
	}
	if f.Configs != nil {
		d["configs"] = plain(f.Configs)
	}
	if f.Defconfig != "" {
		d["defconfig"] = f.Defconfig
	}
	return d
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
