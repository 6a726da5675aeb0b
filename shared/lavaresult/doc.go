// Package lavaresult turns what a LAVA lab says of a job into the results of the
// job's node. A lab says it in two ways, by a callback and through its REST API,
// and both give the same tree.
//
// Pure: it reads what it is given and hands files to a runtime.Keep.
//
//   - [Scan] reads a callback as a stream, [Copy] keeps it without its secrets.
//   - [Parse] reads the callback that was kept.
//   - [KeepLog] makes the artifacts of a log.
//   - [Report.Tree] makes the nodes.
//
// # Hostile input
//
// A callback can be of any length, and so can each value in it, so it is never
// held in memory: the log passes through line by line, and what has to be held
// (the definition, the results of a suite) is bounded. YAML is read by a parser
// that refuses aliases that multiply. Nothing in it is executed or followed.
//
// # The tree
//
// It is KernelCI's: the suite "lava", LAVA's own steps, becomes "setup" with
// login and kernelmsg; a suite "0_name" becomes "name", and its test sets nest.
// Suites and sets are nodes of kind job, cases of kind test. Of a case that is
// there twice the first counts.
//
// # Decisions
//
// KernelCI gives a job that was canceled before it started the error code
// Infrastructure, because its callback has no results; here it is Canceled, as
// LAVA itself says of the others. Suites of one name (LAVA numbers them) are one
// node with the cases of both; KernelCI keeps the last. A result that LAVA calls
// unknown is incomplete. Cases keep their order.
//
// The structured log (lava_logs) is LAVA's own text rather than another YAML of
// the same: it is kept as it streams by.
package lavaresult
