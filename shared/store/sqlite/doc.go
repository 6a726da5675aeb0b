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
// Several processes may open one file. They wait for each other's
// transactions for as long as the caller's context lets them, and a busy one
// leaves the others their turn.
//
// Decisions.
//
//   - Group commit. An fsync for each write bounds a disk to some hundred
//     writes a second; so one goroutine owns the writing connection and runs
//     all operations that have queued up meanwhile in one transaction, each in
//     a savepoint of its own, so that one's failure undoes nothing of the
//     others. All are answered after the one commit. What callers decide
//     (the function given to Update) runs on their own goroutines while the
//     writer waits, so that a panic or an ended test cannot stop it. The
//     price: a lone write crosses two goroutines.
//   - A node is its JSON document; each field that is asked for often is also
//     a column with an index. Expression indexes over the document were the
//     alternative: a write would then renew every index of the node whatever
//     it changed, where now it touches those of the columns that differ. The
//     price: a field that becomes popular needs a migration; until then it is
//     found by reading the documents.
//   - A column has no type, and its values keep JSON's types apart (see
//     expression), because node.Query.Match does and a query must mean the
//     same here.
//   - The planner gets fixed numbers instead of statistics: plans then depend
//     on the query alone, and a test can hold every query in use to its index.
//   - Times are text in node.TimeLayout, whose order is the order of time.
package sqlite
