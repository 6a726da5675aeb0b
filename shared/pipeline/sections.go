package pipeline

import (
	"maps"
	"slices"
	"strings"
)

// sections holds how each top-level key is read. Those without a reader are
// known and ignored.
var sections = map[string]func(l *loader, section string, v *value){
	"api":           items((*loader).api, func(c *Config) map[string]*API { return c.API }),
	"storage":       items((*loader).storage, func(c *Config) map[string]*Storage { return c.Storage }),
	"runtimes":      items((*loader).runtime, func(c *Config) map[string]*Runtime { return c.Runtimes }),
	"trees":         items((*loader).tree, func(c *Config) map[string]*Tree { return c.Trees }),
	"build_configs": items((*loader).buildConfig, func(c *Config) map[string]*BuildConfig { return c.BuildConfigs }),
	"jobs":          items((*loader).job, func(c *Config) map[string]*Job { return c.Jobs }),
	"platforms":     items((*loader).platform, func(c *Config) map[string]*Platform { return c.Platforms }),
	"fragments":     items((*loader).fragment, func(c *Config) map[string]*Fragment { return c.Fragments }),
	"rootfs":        items((*loader).rootfs, func(c *Config) map[string]*Rootfs { return c.Rootfs }),
	"scheduler":     (*loader).scheduler,

	"_anchors":               nil,
	"build_environments":     nil,
	"build_variants":         nil,
	"build_configs_defaults": nil,
}

var sectionNames = slices.Sorted(maps.Keys(sections))

// merge adds one file's content to the configuration.
func (l *loader) merge(file string, root *value) {
	if root == nil || root.isNull() {
		return
	}
	if root.kind != mapping {
		l.problems.add(Place{file, root.place.Line}, "the file must be a mapping of sections such as %q", "jobs")
		return
	}
	for _, f := range root.fields {
		read, known := sections[f.key]
		switch {
		case !known:
			l.problems.add(f.place, "unknown key %q%s", f.key, nearest(f.key, sectionNames))
		case read != nil && !f.value.isNull():
			read(l, f.key, f.value)
		}
	}
}

// items reads a section that maps names to items of one type.
func items[T any](read func(*loader, string, *object) *T, into func(*Config) map[string]*T) func(*loader, string, *value) {
	return func(l *loader, section string, v *value) {
		if v.kind != mapping {
			l.problems.add(v.place, "%s must be a mapping of names", section)
			return
		}
		for _, f := range v.fields {
			what := section + "." + f.key
			if first, twice := l.first[what]; twice {
				l.problems.add(f.place, "%s is defined twice; the first is at %s", what, first)
				continue
			}
			l.first[what] = f.place
			if o, ok := l.object(what, f.place, f.value); ok {
				into(l.config)[f.key] = read(l, f.key, o)
				o.finish()
			}
		}
	}
}

func (l *loader) api(name string, o *object) *API {
	timeout, _ := o.number("timeout")
	return &API{Name: name, Place: o.place, URL: o.required("url"), Version: o.text("version"), Timeout: timeout}
}

func (l *loader) storage(name string, o *object) *Storage {
	return &Storage{
		Name: name, Place: o.place, StorageType: o.required("storage_type"), BaseURL: o.required("base_url"),
		APIURL: o.text("api_url"), Host: o.text("host"), Port: value0(o.integer("port", 0, 65535)),
		User: o.text("user"), Path: o.text("path"),
	}
}

func (l *loader) tree(name string, o *object) *Tree {
	return &Tree{Name: name, Place: o.place, URL: o.required("url")}
}

func (l *loader) buildConfig(name string, o *object) *BuildConfig {
	o.ignore("variants", "reference") // of the legacy system
	return &BuildConfig{
		Name: name, Place: o.place, Tree: o.required("tree"), Branch: o.required("branch"),
		Architectures: o.texts("architectures"), Frequency: o.frequency("frequency"), Priority: o.text("priority"),
	}
}

func (l *loader) job(name string, o *object) *Job {
	j := &Job{
		Name: name, Place: o.place, Template: o.required("template"), Kind: o.orElse("kind", "node"),
		Image: o.text("image"), BaseName: o.text("base_name"), Priority: o.text("priority"),
		KCIDBTestSuite: o.text("kcidb_test_suite"), Params: o.params(), ParamsOrder: o.order("params"), Rules: o.rules(),
	}
	if f, ok := o.get("params"); ok {
		// Only what a parameter means is looked at; a template may take any.
		p := &object{l: l, what: o.what + ".params", place: f.place, value: f.value}
		j.Frequency = p.frequency("frequency")
	}
	return j
}

func (o *object) params() map[string]any {
	if m := o.free("params"); m != nil {
		return m
	}
	return map[string]any{}
}

func (l *loader) platform(name string, o *object) *Platform {
	return &Platform{
		Name: name, Place: o.place, Arch: o.orElse("arch", "x86_64"), BaseName: o.orElse("base_name", name),
		BootMethod: o.orElse("boot_method", "grub"), Mach: o.orElse("mach", "x86"), DTB: o.texts("dtb"),
		Compatible: o.texts("compatible"), FlashImage: o.text("flash_image"), Context: o.free("context"),
		Params: o.params(), Rules: o.rules(), ContextOrder: o.order("context"), ParamsOrder: o.order("params"),
	}
}

func (l *loader) runtime(name string, o *object) *Runtime {
	o.ignore("filters") // of the legacy system
	r := &Runtime{
		Name: name, Place: o.place, LabType: o.required("lab_type"), URL: o.text("url"), Rules: o.rules(),
		Priority: o.text("priority"), PriorityMin: o.integer("priority_min", 0, 100), PriorityMax: o.integer("priority_max", 0, 100),
		QueueTimeout: o.free("queue_timeout"), Notify: o.free("notify"), NotifyOrder: o.order("notify"), DisableQueueLimit: o.flag("disable_queue_limit"),
		EnvFile: o.text("env_file"), Volumes: o.texts("volumes"), User: o.text("user"), Context: o.texts("context"),
		StorageName: o.text("storage_name"), MaxQueueDepth: 50, MaxQueueDepthPriorityFactor: 2, PollInterval: 30,
	}
	if depth := o.integer("max_queue_depth", 0, 1<<20); depth != nil {
		r.MaxQueueDepth = *depth
	}
	if factor, ok := o.number("max_queue_depth_priority_factor"); ok {
		r.MaxQueueDepthPriorityFactor = max(1, factor)
	}
	if seconds, ok := o.number("poll_interval"); ok {
		r.PollInterval = seconds
	}
	r.Timeout, _ = o.number("timeout")
	if r.LabType != "" && !slices.Contains(LabTypes, r.LabType) {
		l.problems.add(o.place, "%s: lab_type %q is not one of %s%s", o.what, r.LabType, strings.Join(LabTypes, ", "), nearest(r.LabType, LabTypes))
	}
	return r
}

func (l *loader) fragment(name string, o *object) *Fragment {
	return &Fragment{Name: name, Place: o.place, Path: o.text("path"), Configs: o.texts("configs"), Defconfig: o.text("defconfig")}
}

func (l *loader) rootfs(name string, o *object) *Rootfs {
	r := &Rootfs{Name: name, Place: o.place, Params: map[string]string{}}
	for _, f := range o.value.fields {
		r.Params[f.key] = o.text(f.key)
	}
	return r
}

func (l *loader) scheduler(_ string, v *value) {
	if v.kind != list {
		l.problems.add(v.place, "scheduler must be a list of entries")
		return
	}
	for _, item := range v.items {
		at := item.place
		if len(item.fields) > 0 {
			at = item.fields[0].place
		}
		if o, ok := l.object("scheduler entry", at, item); ok {
			l.config.Scheduler = append(l.config.Scheduler, l.entry(o))
			o.finish()
		}
	}
}

func (l *loader) entry(o *object) *Entry {
	e := &Entry{Place: o.place, Index: len(l.config.Scheduler), Job: o.required("job")}
	if e.Job != "" {
		o.what += " of " + e.Job
	}
	e.Platforms, e.Rules = o.texts("platforms"), o.rules()
	e.Event = o.free("event")
	e.Channel, _ = e.Event["channel"].(string)
	delete(e.Event, "channel")
	if e.Channel == "" {
		l.problems.add(o.place, "%s has no event.channel, such as node", o.what)
	}
	if f, ok := o.get("runtime"); ok {
		if r, ok := l.object(o.what+".runtime", f.place, f.value); ok {
			e.RuntimeName, e.RuntimeType = r.text("name"), r.text("type")
			r.finish()
		}
	}
	if e.RuntimeName == "" && e.RuntimeType == "" {
		l.problems.add(o.place, "%s has no runtime.name or runtime.type", o.what)
	}
	return e
}

// value0 is what p points at, or 0.
func value0(p *int) int {
	if p == nil {
		return 0
	}
	return *p
}
