// Package lava is the runtime that runs jobs in a LAVA lab, through its REST API
// v0.2. The lab reports a job by a callback, which it sends once and never again;
// what is lost is collected ([Runtime.Collect]).
//
// # Promises
//
// LAVA knows no key of the sender's: each POST is another job. So Submit takes a
// claim on the node, looks for a job in the lab whose definition names the node,
// and posts one only when there is none. Whoever dies in between leaves a claim
// that ends by itself, and the next one looks again.
//
// A definition names its node in metadata.node_id, as KernelCI's templates do;
// one that does not is refused, because its results would belong to nobody. It is
// readable by anyone in the lab, so it must not hold a token either: LAVA sends
// with a callback the secret of the submitter's token whose description the
// definition names (notify.callback.token of the runtime's configuration).
//
// # What the lab says
//
// The words of a refusal are found in each form in which LAVA has them: message,
// detail, a list for each field, or a page of HTML. A redirect is not followed: it
// would carry the token elsewhere, and says that the url of the runtime is not
// right. Answers are bounded, but for a job's log, which streams.
//
// # Decisions
//
// The search for a node's job uses definition__contains, which no index serves.
// It is narrowed by the time of submission, and to ids above the newest one that
// was there before the node; a field for it, as newer versions of LAVA may have,
// would be better. The search costs a request for each submission; a note in our
// own store of each submission begun would save it, and would be one more write
// for each job.
//
// That the queue of a device type is full is asked of the lab once in a few
// seconds, and what was let in since is added.
package lava
