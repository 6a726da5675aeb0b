// Package shared is the tour of Kernelflow's rooms, in reading order. It holds
// no code; its test holds the import rules.
//
// What is always true, without any I/O:
//
//   - errs: the kinds of error and what each means outside.
//   - node: the record of a checkout, build, job or test; states and queries.
//   - event: what the pipeline says when a node was written.
//   - user: who may do what.
//   - pipeline: the YAML configuration, loaded, checked and explained.
//   - schedule: which jobs an event asks for, and why not the others.
//   - ktap: what a test program printed.
//   - lavaresult: what a LAVA lab says of a job, as nodes.
//   - ending: what a job left when it ended, as nodes.
//   - patch: what a patch from a stranger may be, and where it may come from.
//   - jinja: templates, rendered as Python's Jinja2 renders them.
//   - yaml: YAML, read as Python reads it.
//   - telemetry: what happened to a service's work, and what stands out of it.
//
// What is kept and carried, an interface each, with its drivers below it and
// one conformance suite for all of them:
//
//   - store (sqlite, mongo): nodes, the log of events, subscriptions, users,
//     telemetry, and a value for a key.
//   - bus (redis): how instances wake each other.
//   - relay: from committed to published; wraps the store.
//   - storage (blob): artifacts.
//   - runtime (lava, shell): where jobs run; job is the part on the job's machine.
//   - git, mail, jobdef, auth: source trees, reports, job definitions, tokens.
//
// And what binds them: app opens the parts that the configuration names.
//
// The steps of the pipeline are in functions/<name>, one a package, listed
// once in functions/catalog. The hosts that run them are local (everything in
// one process) and infra/cloudrun.
//
// One life of a checkout: trigger creates a checkout node; its event wakes
// tarball, which makes the source archive and sets the node available; that
// event wakes scheduler, which creates job nodes and submits them; each job
// reports a hierarchy of results through api; retry asks for another attempt at
// what broke off; regression compares them with
// the previous checkout; timeout closes what is finished; report sends one
// mail. What people ask of the pipeline itself (a commit, patches, another
// attempt) comes in by callback, and so does what labs report; results makes nodes
// of that. No step calls another: the store is the truth, an event says that it
// changed.
package shared
