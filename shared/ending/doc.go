// Package ending makes the nodes of a job that is over: what its script left
// (an exit status, test results, an error text, data) decides the result of the
// job's node, and the results of its tests are nodes below it. What the exit
// statuses mean, and what a script may leave, is said in the doc of package job.
//
// A supervisor sends the hierarchy that comes of an [Ending] itself. A machine
// without one, which has a shell and curl, sends the ending as a form to
//
//	POST /latest/node/ID/results
//
// and the API makes the hierarchy: see [Read] for the fields. So there is one
// judge of a job's end, wherever it ran.
//
// Decisions. A form, rather than the API's hierarchy: a shell cannot write JSON
// from what it finds in files, nor change a node that it has read. The price is
// a route that KernelCI has not. It may be sent again: the same form is answered
// as the first time, another one for the same job is refused (409), and then
// leaves its log with the node if that has none.
package ending
