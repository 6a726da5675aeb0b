// Package jobdef makes job definitions: it renders the Jinja2 template that a
// job names with what is known of the job, its node, platform and runtime. The
// templates are KernelCI's, unchanged: package jinja renders them as Python does.
//
// Templates are looked up by name in the given folders, in order, and then
// among the embedded ones, which are POSIX shell scripts for the shell runtime
// (their protocol is in the doc of package job). A name means the same wherever
// it is used; it never leads out of the folders, not by "..", not by a link.
//
// Rendering is a pure function of the parameters and the templates: the same
// job rendered again, by any instance, after any crash, gives the same text.
// What is rendered becomes a public artifact, so nothing secret may go in; a
// script reads its token from its environment.
//
// # What a template sees
//
// The names of KernelCI: api_config (url, version, name, timeout),
// storage_config, platform_config, name, node (a dict, as the API shows it),
// runtime (the lab type), runtime_image ({image_prefix} filled in), device_type,
// instanceid, instance_callback; over them the platform's params, device_dtb where
// the platform names device trees, and the job's params; over these brarch,
// crosarch, debarch and karch for the architecture, and for a LAVA lab notify and
// priority, for a pull lab timeout and poll_interval.
//
// A param rootfs_ref adds the addresses of that root file system, where they are
// not given by themselves. In every text of the params, {word} stands for a param
// or an attribute of the platform, a name of the architecture, or krev, the
// kernel's version; {{ and }} are braces. fragment_configs is what each fragment
// that the param fragments names is, by name; fragment_list is the same in order,
// for the shipped templates: name, configs (its lines) and target (of the kernel's
// make).
//
// The globals kci_raise(msg) and kci_yaml_dump(data) are KernelCI's. The dicts of
// the configuration have their keys in the order of the file. The filter random takes its chance
// from the node's id: the same job has the same text.
//
// The filter quote makes one word of a POSIX shell out of a value. Every value
// in a shell template goes through it; one that is missing, that is no scalar
// or that holds a NUL byte ends the rendering.
//
// # Bounds
//
// A definition has at most 1 MiB, a template too, and rendering takes at most
// ten seconds; package jinja bounds steps, memory and nesting. What goes beyond
// is an Invalid error.
//
// # Decisions
//
// Each Render parses its templates anew. A cache would save less than a
// millisecond a job; the price of it is state.
//
// A word in braces that stands for nothing ends the job with a message: KernelCI's
// scheduler dies of it. A fragment that is not configured does too: KernelCI builds
// a kernel without it.
//
// Templates come from whoever may run code on the jobs' machines, and are bounded
// all the same; parameters and nodes come from anybody and are values only, never
// template text.
package jobdef
