// Package mongo keeps everything in MongoDB, through mongo-driver v2. A
// standalone server will do as well as a replica set or Atlas; only the last
// two have transactions, and nothing but the whole of a hierarchy is left to them.
//
// A database of a running KernelCI instance (kernelci-api) works as it is: its
// collections `node`, `user`, `usergroup`, `eventhistory`, `subscriber_state`
// and `telemetry` are ours, with its names and types: `_id` is an ObjectId, a time is a date,
// what is not set is null. What KernelCI does not have begins with "_" and is
// not missed in its documents; it reads past ours. [Open] takes such a database
// over: it notes how far the log has come, and gives accounts the names by which
// they are found in any case. The log goes on behind KernelCI's events, durable
// subscribers go on where they were, and a function that has no cursor yet
// begins behind what KernelCI's own services have dealt with. What KernelCI does
// not keep is in collections of our own, such as `subscription` (listeners that
// are not durable), `cursor`, `claim`, `counter` and `deadletter`.
//
// A write is durable when its call returns (write concern majority, journaled)
// and is one document's: the node, its write counter `_rev` and, in `_outbox`,
// the event that the write causes. [Store.Collect] takes events from there to
// the log and only then out of the outbox. Killed between, it finds the event
// again, sees that the log has its id, and takes it out: nothing is lost and
// nothing doubled, however many instances collect at once.
//
// The log is the collection `eventhistory`, in the order of `sequence_id`. The
// key of an event is made of its sequence. Who appends reads the newest sequence
// and inserts the next; when the key is taken, somebody was faster, and he reads
// again. So N+1 is never there before N. A reader asks with read concern
// majority and never sees what a failover may take back.
//
// A hierarchy is written below its root first. The one write to the root that
// carries the event also notes the request in `_requests`. Where the server has
// transactions these steps are one (read concern snapshot), so that a query
// finds all of it or none. Elsewhere, a call that ends before leaves nodes that
// nobody was told of; the same request finds them under the same ids and takes
// them over.
//
// Decisions.
//
//   - A transaction takes the steps that are taken without one, instead of
//     writing an order of its own: what it cannot do is left to the steps alone.
//     That is so when the server has none after all (Open asks what it says of
//     itself; some that speak its protocol say too much), cannot hold so large a
//     one, when others cross it ten times, and when nodes are there already,
//     left by an instance that had no transactions. The price: two ways to test,
//     and without transactions a hierarchy that was broken off leaves
//     descendants that a query finds, until the same request is repeated.
//   - Nothing else is in a transaction: all other writes are one document's.
//     Node and log in one would do without the outbox, but on some servers only,
//     and all writers would wait for the log's end.
//   - A commit is waited for even if the caller no longer waits, as the driver
//     has it: the caller would not know what became of it.
//   - KernelCI's API and this package do not write one database at once, but one
//     after the other. It replaces whole documents, outboxes with them, and
//     takes its sequences from Redis. A node that it has replaced counts as its
//     own again; the write counter then begins at the clock, so that no event
//     gets the id of one that was.
//   - A node of KernelCI's that node.Validate refuses may still be changed, with
//     the same fault and no other: its models ask for less. The price: a fault
//     that it hides may come in behind it.
//   - Times are BSON dates, as KernelCI's are. The price: a node's times are cut
//     to milliseconds, before they are returned. What happened within one is in
//     order all the same: nodes by `_seq`, events by their sequence.
//   - The sequence makes the key of an event, instead of a unique index on
//     `sequence_id`: that one could not be built over KernelCI's events, which
//     begin again at 1 when its Redis was emptied, and lack a sequence when
//     they are old. The price: the time in such an ObjectId means nothing, and
//     of KernelCI's events that share a sequence a reader may be given one.
//   - The data of an event is a document, as KernelCI's is, so that both can ask
//     for what is in it. Where JSON has what BSON would give back as another
//     text (a number written 1.0, a key twice), `_data` keeps it as it was.
//   - No TTL index is made; Prune removes events, as many as one asks it to. The
//     one that KernelCI has made goes on to work: Prune and Open note the newest
//     sequence, so that none is used again when all events are gone.
//   - No index of KernelCI's is touched or made a second time: one on the same
//     keys is taken for ours, whatever its name and options. The price of the
//     others: Open waits until they are built, on a large database for minutes.
//   - The order of creation is `_seq`, microseconds of the instance's clock
//     and never less than what it gave before; KernelCI's nodes, which have
//     none, come before all others, by `_id`. A counter in the database would
//     be exact between instances too, for one more write at each node and one
//     document that all writers wait for. The price: nodes that two instances
//     create at the same time are in the order of their clocks.
//   - Whole numbers in data are integers, as short as Python's driver would
//     make them: KernelCI's models take no 6.0 for a version.
//   - Keys inside data, debug and artifacts are stored with ".", "$" and NUL as
//     %2E, %24 and %00, since MongoDB gives them a meaning of its own; "%" is
//     %25 where it would be read as one of these.
//   - A job is unique by `_jobkey`, one text of all that makes it so, which
//     other nodes do not have, under a sparse index: partial indexes are not
//     known to every server that speaks MongoDB's protocol. KernelCI's jobs do
//     not get one, because it may have made them twice; Create looks for them.
//   - Accounts are unique by `_username` and `_email`, in lower case: collations
//     are not known to every server either. The price: two accounts of
//     KernelCI's that differ by case alone are told apart by their exact name,
//     and one that it makes after Open is found by that alone until the next.
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
