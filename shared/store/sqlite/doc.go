// Package sqlite is the embedded store: one SQLite file in WAL mode, pure Go
// (modernc.org/sqlite), nothing to install.
//
// A write is durable when its call returns (synchronous=FULL). The event that
// a node write causes is inserted into the log by the same transaction, so
// that there is nothing to collect later: either both are there after a crash
// or neither. Sequences are given out inside the transaction, of which SQLite
// allows one at a time whatever the number of processes: the log is dense and
// becomes visible in order.
//
// Decisions.
//
//   - Group commit. An fsync for each write bounds a disk to some hundred
//     writes a second; so one goroutine owns the writing connection and runs
//     all operations that have queued up meanwhile in one transaction, each in
//     a savepoint of its own, so that one's failure undoes nothing of the
//     others. All are answered after the one commit. The price: a lone write
//     crosses two goroutines.
//   - Nodes are JSON documents with expression indexes rather than columns:
//     any dotted field can be asked for, and a new field of KernelCI's needs no
//     migration. What is asked often has an index; a test holds every query in
//     use to its query plan.
//   - Times are text in node.TimeLayout, whose order is the order of time.
//
// Several processes may open one file: writers wait for each other by
// SQLite's own locks, for as long as the caller's context lets them.
package sqlite
