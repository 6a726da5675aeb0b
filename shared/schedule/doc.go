// Package schedule says which jobs of a [pipeline.Config] one event starts,
// and for each job that it does not start, why. It is pure: the same event,
// node and configuration always give the same decisions, so that an event may
// be handled twice, by two instances or after a crash, with one outcome.
//
// # Rules
//
// An entry of the configuration matches an event when every key of the entry's
// `event` is in the event with the same value; a mapping matches one that holds
// at least its keys. An update whose node, with its previous state and result,
// would have matched already does not match again.
//
// The job runs on the runtime that the entry names, or on one of the named type
// whose rules allow it; on each platform of the entry, or on the one that is
// named like the runtime's lab type. The rules of entry, job, runtime and
// platform must all allow it:
//
//   - min_version and max_version bound the kernel's version; a node without a
//     version passes neither.
//   - tree and branch take names, "!name", "tree:branch" and "!tree:branch". A
//     combination that is listed as allowed settles both keys.
//   - any other key names an attribute. It is looked for in the job's own node
//     as it will be (the rules of an entry leave that out), in the event's node
//     and then in its ancestors; in each in data.kernel_revision, in data and
//     among the node's fields. A list passes when it holds one of the allowed
//     values and none of the denied ones. A missing attribute passes unless
//     there are allowed values.
//
// Then the node's jobfilter and platform_filter (for kind job alone: a kernel
// is built where there is no board) and the checkout's architecture_filter (for
// kind kbuild) must let it pass.
//
// Another attempt is asked for by an event of channel retry: the node is judged
// as if it came into its state once more, and into those that it has gone through;
// the filters are the request's, and an entry that names another runtime than the
// one where the attempt before ran is not meant.
//
// # Decisions
//
// KernelCI chooses among the runtimes of a type at random. Here the choice
// follows from the node, the attempt and the job, or a repeated event would run
// a job again elsewhere. The runtime with the highest hash wins, so that adding
// one moves only the jobs that it wins.
//
// KernelCI lets a job pass whose rules allow some values of an attribute that
// the node has not. Here it does not pass: who lists what is allowed did not
// list "unknown".
//
// Compared with KernelCI's scheduler, line by line, these are on purpose
// otherwise, for there they are faults:
//
//   - It draws the runtime of a type first and then asks that runtime's rules: by
//     bad luck the job does not run at all. Here only runtimes are drawn from
//     whose rules allow it.
//   - An attribute is looked for in the event's node and no higher, and the
//     first mapping that has a key of its name is taken, whatever it belongs to.
//     Here all ancestors are asked, at the places named above alone.
//   - A node without a kernel version ends the scheduler's thread where a rule is
//     about versions; here the job does not run.
//   - A mapping in an entry's event must be equal to the event's, which holds more:
//     such an entry never fires. Here it matches one that has its keys.
//   - The least time between two runs stops retries too, and is measured by local
//     time against times in UTC. Here a retry is exempt, and all is UTC.
//
// A decision lists what each rule said, not only the first that was against: the
// filters and the rules of entry and job first; only when these allow the job
// those of the runtime, and then those of the platform.
//
// Decisions name only the entries whose event matches; the thousands of pairs
// of entry and event that have nothing to do with each other need no reason.
package schedule
