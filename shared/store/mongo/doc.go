// Package mongo keeps everything in MongoDB, through mongo-driver v2. It needs
// no transaction, so that a standalone server will do as well as a replica set
// or Atlas.
//
// A write is durable when its call returns (write concern majority, journaled)
// and is one document's: the node, its write counter `_rev` and, in `_outbox`,
// the event that the write causes. [Store.Collect] takes events from there to
// the log and only then out of the outbox. Killed between, it finds the event
// again, sees that the log has its id, and takes it out: nothing is lost and
// nothing doubled, however many instances collect at once.
//
// The log is the collection `eventhistory`, with the sequence as the key. Who
// appends reads the newest sequence and inserts the next; when the key is
// taken, somebody was faster, and he reads again. So N+1 is never there before
// N. A reader asks with read concern majority and never sees what a failover
// may take back.
//
// A hierarchy is written below its root first. The one write to the root that
// carries the event also notes the request in `_requests`. A call that ends
// before leaves nodes that nobody was told of; the same request finds them
// under the same ids and takes them over.
//
// Decisions.
//
//   - No transactions, also where the server has them: one way for all servers,
//     and the only one that tests can go through. The price: a hierarchy that
//     was broken off leaves descendants that a query finds, until the same
//     request is repeated.
//   - Times are text in node.TimeLayout, not BSON dates: those have
//     milliseconds, and a node's times would come back changed. Text of fixed
//     width is ordered as time is, and a comparison means here what it means
//     in node.Query.Match. The price: other programs see text, and no TTL
//     index can be used (Prune does that work).
//   - The order of creation is `_seq`, microseconds of the instance's clock
//     and never less than what it gave before. A counter in the database would
//     be exact between instances too, for one more write at each node and one
//     document that all writers wait for. The price: nodes that two instances
//     create at the same time are in the order of their clocks.
//   - Keys inside data, debug and artifacts are stored with ".", "$", NUL and
//     "%" as %2E, %24, %00 and %25, since MongoDB gives the first three a
//     meaning of its own.
//   - A job is unique by `_jobkey`, one text of all that makes it so, which
//     other nodes do not have, under a sparse index: partial indexes are not
//     known to every server that speaks MongoDB's protocol.
//   - The server answers a query alone where its comparisons mean exactly what
//     Match means. Where they do not (regular expressions, and paths on which
//     free-form data may hold a list), it is asked for what can match, and
//     Match decides here. The price: such a filter alone, without one that an
//     index answers, reads all nodes.
//   - The driver gives an event of each write its place by the instance's
//     clock. Events of one node stay in order whatever the clocks say; those
//     of different nodes are in order as far as the clocks are.
//   - Prune trusts that nobody stops between reading the newest sequence and
//     using it for as long as events are kept (days).
package mongo
