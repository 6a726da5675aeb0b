// Package pipeline is KernelCI's YAML configuration: what trees there are,
// which branches are watched, which jobs run on which events, where, and on
// what platforms. It loads a folder of files into a [Config], checks all of it,
// and is the only door to the YAML library.
//
// The files are those of KernelCI, unchanged. Every *.yaml and *.yml file below
// the folder is read, in the order of its path, and merged by top-level key.
// Anchors, aliases and merge keys (<<) work within a file; the top-level key
// `_anchors` holds nothing but anchors and is not looked at.
// `build_environments`, `build_variants` and `build_configs_defaults` belong to
// KernelCI's legacy system; production files still carry them, so they are
// known and ignored.
//
// [Load] is strict and reports everything it finds at once, sorted by place: a
// syntax error, an unknown key, a name given twice, a job without a template,
// an entry naming a missing job, a build config naming a missing tree: errors,
// each with file, line and the nearest right name. An entry that names a
// runtime or a platform which this configuration lacks is a warning (labs come
// and go) and never fires; so is one that waits for what no event says.
//
// # Decisions
//
// The library (goccy/go-yaml) parses; the tree it gives is walked here, into
// values that know their line, rather than by the library's own decoder. The
// decoder stops at the first problem, and expands aliases without a bound: ten
// lines of YAML can ask it for gigabytes. The price is some two hundred lines.
//
// Hostile input is bounded before it is parsed: the size of a file and of all
// of them, the depth of nesting (a parser that recurses too deep cannot be
// stopped), and after parsing the number of values that aliases expand to.
//
// A [Config] is shared by all who use it: nobody changes it after loading.
package pipeline
