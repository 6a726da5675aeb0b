// Package scheduler creates and submits the jobs that the configuration asks
// for when a node changes. shared/schedule decides which; this package reads
// the node, writes the jobs' nodes and hands the jobs to their runtimes.
//
// # Why an event may come twice, at once, or after a crash
//
// A job's node has an id derived from its parent, name, runtime, platform and
// attempt, and the store refuses a second one. Whoever is refused takes the
// node that is there and finishes what is missing: a node that is running and
// has no data.job_id is rendered, stored and submitted again, which the runtime
// promises to do once for each node. So the node is the record of the intent,
// written before the submission that cannot be undone, and the job id is the
// record that it was done.
//
// All nodes of an event are created before any job is submitted: whoever counts
// what is still running below a checkout sees all of it.
//
// What was decided about the event is kept with its reasons, one document an
// event (see schedule.Record), for people to ask GET /node/{id}/schedule. It is
// written while the jobs are submitted, whose writes it shares its commit with,
// and again when the event is repeated; events that no entry waits for leave
// nothing.
//
// A job that cannot be started ends alone, done and incomplete, with an error
// code: invalid_job_params when its parameters make no sense, job_generation_error
// when its template cannot be rendered, submit_error when the runtime refuses it.
// What may pass by another try is returned, so that the event comes again; how
// often that was is kept in the node's debug data, and the last time that the
// event is delivered ends the job too.
//
// # A runtime that is slow or away
//
// The jobs of an event are handed to all runtimes at once, to each so many at a
// time and for so long (the allowance). One that fails a few times in a row is
// left alone for a while, longer each time, until one job finds it well again. Its
// jobs wait without an id, and [Function.Tick] hands them over later, as it does
// with those whose creator died; it knows them by their owner and their derived id,
// for a job may write nodes below its own. The event is not returned for them: it would
// come again in the way of what other runtimes wait for. A job ends with
// submit_error when it was tried often enough, or when it has waited half an hour
// for a runtime that does not answer. Each runtime's state shows in metrics.
//
// A runtime that can be too full (runtime.Throttle) is asked before a job's node is
// made; when it is full there is none, and the kept decision says so. It has three
// seconds to answer; without an answer the job is made.
//
// # The job's node
//
// It has the artifacts of its parent but the log and the job definition. A
// kbuild has arch, compiler, defconfig and fragments from the job's parameters;
// anything else has what its parent knows of its kernel. Words in braces in these
// parameters are filled in (see jobdef.Words). It has the submitter of its parent,
// and in data.tree_priority the priority that the configuration gives its branch.
// params.timeout (seconds, or text such as 1h30m) bounds the job, else six hours do;
// it does not go beyond the timeout of a parent that is still at work.
//
// Where a platform names device trees, the first that the kernel was built with is
// looked up in the kernel's artifact metadata before the definition is made.
//
// # Decisions
//
// A request for another attempt names the one before, to which the new node is
// linked; that one is marked once the request is dealt with (node.SetRetried), also
// when the configuration refuses it, so that nobody waits for it.
//
// The filters of a retry request choose what is tried again and are not passed
// on: the new node has its parent's, or no test would run on a kernel that was
// built again.
//
// A retry request counts only from the pipeline's own user. Anybody with a
// token may publish on a channel, and each attempt number is another job.
//
// The least time between two runs is looked up, not locked: two checkouts of
// one branch at one instant may both run a job. A lock would be one more write
// for each job to guard against what the trigger does not do. Another attempt is
// exempt, and so are jobs below the same parent: a repeated event must not find
// its own job in the way.
package scheduler
