// Package callback is the function that takes what people ask of the pipeline
// itself: a checkout of any commit of a configured tree (POST /api/checkout),
// another attempt at a job (POST /api/jobretry), and patches on a checkout (POST
// /api/patchset). kci-dev and its MCP server are the clients; they take 200 for
// success and nothing else. GET /api/metrics counts the requests.
//
// Labs, too, report here: POST /node/{id} takes the callback of a LAVA lab for the
// job of a node (below).
//
// The token of a person stands in Authorization, bare or behind "Bearer". It is one with an
// e-mail address (but for a retry) and permissions (checkout, testretry,
// patchset), KernelCI's or a personal one; a superuser's ordinary token has them
// all. It is looked at before the body is read.
//
// Errors are {"message": "text"}, with KernelCI's texts; what is wrong with the
// form of a body is {"detail": [...]} with status 422.
//
// # What comes of a request
//
// A checkout and a patchset become a node, which the tarball function takes up.
// A retry (what breaks off is tried again without anybody asking: see package
// retry) writes no node: the request travels as an event on channel "retry",
// of the pipeline's owner, with the number of the attempt; the scheduler acts on
// what the event says. So the same event twice is one job, and while the attempt
// that a request led to is under way the same request leads to no other one.
//
// A patchset may be put on a patchset: its patches come after that one's.
//
// # Callbacks of labs
//
// LAVA sends a callback once and gives up after five seconds, so it is answered as
// soon as it is kept: its body streams into the storage, without its token, as the
// artifact callback_data; an event on channel "callback" is committed; then the
// answer is 202 {"message": "OK"}. Package results takes the event up. A crash
// before the answer loses what polling finds again, a crash after it nothing. A
// body that is no callback (400), of another job (409) or longer than 256 MiB (413)
// leaves nothing behind.
//
// The token of a lab stands in Authorization, bare: the callback_token or
// runtime_token of the node's runtime. Another lab's is 403, nobody's 401. A
// callback for a node that has ended is answered as the first one was and changes
// nothing, unless it was the node's timeout that ended it.
//
// # Decisions
//
// KernelCI takes a callback of any lab for any node, and of any job; here they
// must be the node's: a job that is submitted again by hand in the lab has the same
// node in its definition.
//
// KernelCI answers 500 when a checkout names a node instead of a URL; here it gets
// the tree and branch of that node, and the jobs that led to it. KernelCI asks a
// URL for its headers before it looks whether its host is allowed; here no
// request leaves before that, and none reaches a private address.
//
// Jobs and platforms of a patchset are checked as those of a checkout: a name that
// does not exist would start nothing and say so nowhere.
//
// A retry is for the platform and the runtime of its job. KernelCI runs it on all
// of them, which whoever asks for one node did not mean.
//
// Patches are held in memory while they are checked, 64 MiB for a request and
// two requests above one MiB at a time; the others wait. KernelCI has no bound on
// the sum.
package callback
