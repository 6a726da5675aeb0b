// Package results is the function that takes up what labs say of jobs which do
// not report by themselves, and makes the results of the job's node of it.
//
// It comes by two ways. A LAVA lab calls back once: the callback function keeps
// what it says, and its event wakes [Function.Handle]. What is lost, because the
// pipeline was away for five seconds or a job died without a word, is found by
// [Function.Tick], which asks the runtimes that can be asked (runtime.Collector)
// for each job whose node is still running some minutes after it was made. Both
// make the same tree, for the same job under the same request of the store: what
// comes twice, or by both ways at once, is stored once.
//
// # What is asked, and when
//
// A job is first asked for when its node is some minutes old (POLL_AFTER), then
// with each pass, and from an hour on with every fifth, from six hours on with
// every fifteenth: jobs wait in a lab's queue for hours, and each question is a
// request to the lab. All runtimes are asked at once, each some jobs at a time and
// for so long, and one that does not answer is left for the next pass: a dead lab
// delays no other.
//
// # Late
//
// A node that its timeout ended takes its results all the same when they come by a
// callback, as KernelCI's does; error_code and error_msg are those of the job
// then. One that something else ended stays as it is.
//
// A job that the lab does not know any more ends its node: incomplete, with error
// code Infrastructure. So does a callback that cannot be read after all.
//
// # Decisions
//
// Each result of a job is told to the telemetry too, after it is stored, under ids
// that follow from the node: what a crash leaves out is missing there.
package results
