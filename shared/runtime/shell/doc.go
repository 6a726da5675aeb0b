// Package shell is the runtime that runs jobs on the machine of its host, as
// shell scripts. What a script gets and gives, and how it is kept within bounds,
// is said in package job; here is who starts the supervisors of jobs, and when.
//
// # Promises
//
// A job's id is its node's, its folder Dir/ID. The folder is the job: it appears
// whole or not at all, and Submit has taken the job when it is there. So a job
// that is submitted again, by this instance or another, runs once, and none is
// forgotten: [Runtime.Resume] finds the folders of those that are not over.
//
// A supervisor is a process of its own in a session of its own and has nothing
// of its host but an open lock: it goes on when the host is killed. One that dies
// before its job is over gets a successor, as soon as the host sees it. That two
// are never at work on one job is the folder's lock; that a script never starts
// twice is the folder's state.
//
// Not more than Parallel scripts run at once, in all instances that share Dir
// with the same number: each needs the lock of a slot, a file in Dir that the
// kernel unlocks when the supervisor gives it back or dies. Jobs wait in the
// order of their submission. One whose script will not run (it is cancelled, or
// only its report is missing) needs no slot.
//
// # Decisions
//
// The queue is the folders, with a list in memory of those to look at, rather
// than a daemon: nothing to install, and nothing to keep in step. The price is a
// look each second, while there is work, at whether a slot is free that a
// supervisor of somebody else had.
//
// The folders of jobs that are over stay, with log and script, for whoever runs
// the machine to read and to remove.
package shell
