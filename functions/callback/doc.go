// Package callback is the function that takes what people ask of the pipeline
// itself: a checkout of any commit of a configured tree (POST /api/checkout),
// another attempt at a job (POST /api/jobretry), and patches on a checkout (POST
// /api/patchset). kci-dev and its MCP server are the clients; they take 200 for
// success and nothing else. GET /api/metrics counts the requests.
//
// The token stands in Authorization, bare or behind "Bearer". It is one with an
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
// # Decisions
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
