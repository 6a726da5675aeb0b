// Package store says what Kernelflow keeps and what holds while it keeps it:
// nodes, the log of events, subscriptions, accounts, claims and dead letters. The
// drivers are sqlite (embedded) and mongo; storetest is the one suite that
// both must pass.
//
// What every driver promises:
//
//   - A write is durable when the call returns, and it is all or nothing at
//     any instant of a crash.
//   - A node write and the event that it causes commit together. The event
//     reaches the log either with the commit or, where the database cannot
//     write two places at once, by the next [Events.Collect].
//   - The log's sequence is dense, starts at 1 and becomes visible in order: a
//     reader who has seen N will find nothing new below N, ever.
//   - Any number of instances may use one database at once.
//   - A returned node is the caller's own copy, and as it is stored: times are
//     kept to the millisecond at least, and what is finer is cut off.
//
// Errors are errs kinds: NotFound, Conflict and Invalid as each method says,
// Temporary when the database cannot be reached or is busy. A cancelled
// context ends any call with the context's error.
//
// Decisions. [Nodes.Update] takes a function rather than a new node: it reads,
// lets the caller decide on what is really there, and writes only if nobody
// was faster, so that a guard cannot be forgotten. The price: the function may
// run more than once and must have no effect of its own.
package store

import (
	"context"
	"iter"
	"time"

	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/node"
)

// Store is everything that a driver gives. Functions ask for the small
// interfaces that they need, never for this.
type Store interface {
	Reader
	Pages
	Tallies
	Writer
	Events
	Subscriptions
	Cursors
	Claims
	Users
	Groups
	Tokens
	DeadLetters
	Telemetry
	Decisions
	KV
	Removal
	Batch
	// Ping says whether the database answers.
	Ping(ctx context.Context) error
	// Close waits for the writes under way and frees everything.
	Close() error
}

// Reader finds nodes.
type Reader interface {
	// Get returns the node; NotFound when there is none.
	Get(ctx context.Context, id node.ID) (node.Node, error)
	// Find returns what q selects, never nil. A query without a limit returns
	// everything: use Each for what may be large.
	Find(ctx context.Context, q node.Query) ([]node.Node, error)
	// Each streams what q selects without holding it in memory. It ends at the
	// first error, which it yields.
	Each(ctx context.Context, q node.Query) iter.Seq2[node.Node, error]
	// Count returns how many nodes q selects; limit, offset and After do not
	// count.
	Count(ctx context.Context, q node.Query) (int64, error)
}

// Option changes how a write is done.
type Option func(*Options)

// Options are the sum of the options of one write. They are for drivers.
type Options struct {
	Silent bool // no event
}

// Silent makes a write that causes no event.
func Silent(o *Options) { o.Silent = true }

// Apply sums up opts, for drivers.
func Apply(opts []Option) Options {
	var o Options
	for _, opt := range opts {
		opt(&o)
	}
	return o
}

// Writer changes nodes. Every write sets `updated` to the store's clock.
type Writer interface {
	// Create stores a new node, whose id the caller has chosen, with its
	// event. Conflict when the id exists, or when the node is a job (kind
	// kbuild, job or process, with a data.runtime) and a node with the same
	// parent, name, data.runtime, data.platform and retry_counter exists:
	// nothing is written then. It returns the node as stored, defaults filled.
	Create(ctx context.Context, n node.Node, opts ...Option) (node.Node, error)
	// Update reads the node, lets change work on a copy, and writes it with
	// its event (with the states before and after) if nobody has written in
	// between; else it starts again. An error from change ends it, nothing
	// written, and is returned as it is. NotFound when there is no such node.
	// The transition of state is checked (Invalid), and that the node is
	// valid; id and created never change.
	Update(ctx context.Context, id node.ID, change func(*node.Node) error, opts ...Option) (node.Node, error)
	// PutHierarchy updates the root as Update does and adds the descendants
	// that change returns (ids, parents and all set: see
	// node.Hierarchy.Descendants), with one event for the whole, in which
	// is_hierarchy is true. A reader who has seen that event finds every
	// descendant; if the call does not end well nobody is told of any. The
	// request names the call: when it was committed before, nothing is
	// written and what is there is returned. The result is the root and then
	// the descendants, in order.
	PutHierarchy(ctx context.Context, root node.ID, request string, change func(root *node.Node) ([]node.Node, error), opts ...Option) ([]node.Node, error)
}

// History narrows a look into the log. Empty fields select all.
type History struct {
	From         time.Time // after, UTC
	FromSequence int64     // and, of the events at From, those behind this sequence; 0: none of them
	Channel      string
	Owner        string
	Kind         node.Kind
	State        node.State
	Result       node.Result
	Op           event.Op
	Name         string
	Group        string
	PathRe       string // RE2, found in the path joined with "."
	NodeID       node.ID
	Keys         []node.ID // see event.Event.Key
	Limit        int       // 0: 1000
}

// Events is the log.
type Events interface {
	// Append logs events that no node write caused. An event whose id is
	// already logged is left out.
	Append(ctx context.Context, events ...event.Event) error
	// Collect brings to the log what committed writes have left beside it,
	// and returns how many events that were. Safe at any time, from any
	// instance. A driver whose commits reach the log at once returns 0.
	Collect(ctx context.Context) (int, error)
	// After returns up to limit events behind sequence that pass the filter,
	// in order, and how far it has looked: the next call starts there. They
	// may be fewer than there are, when they are large.
	After(ctx context.Context, sequence int64, f event.Filter, limit int) (events []event.Event, looked int64, err error)
	// LastSequence returns the sequence of the newest event; 0 for an empty log.
	LastSequence(ctx context.Context) (int64, error)
	// History returns events by their content, in the order of time and then
	// sequence: what comes behind the last one is found from its time and
	// sequence. There may be fewer than the limit although more would pass,
	// when they are large; none means that there are no more.
	History(ctx context.Context, h History) ([]event.Event, error)
	// Prune removes up to limit events from before the time, oldest first,
	// and returns how many. Sequences are never used again.
	Prune(ctx context.Context, before time.Time, limit int) (int, error)
}

// Cursors keeps how far each function has worked through the log.
type Cursors interface {
	// Cursor returns the sequence up to which all is done; 0 for a new name.
	Cursor(ctx context.Context, name string) (int64, error)
	// Advance moves the cursor forward; a smaller sequence changes nothing.
	Advance(ctx context.Context, name string, sequence int64) error
}

// Claims lets one of many do something.
type Claims interface {
	// Claim takes key for holder until the time (UTC; zero: for good).
	// Conflict when another holder has it and its time has not come. The same
	// holder may claim again, which moves the time.
	Claim(ctx context.Context, key, holder string, until time.Time) error
	// Release gives the key back; nothing happens when holder has it not.
	Release(ctx context.Context, key, holder string) error
}

// DeadLetter is an event that a function could not handle.
type DeadLetter struct {
	Function string      `json:"function"`
	Event    event.Event `json:"event"`
	Error    string      `json:"error"`
	Attempts int         `json:"attempts"`
	Time     time.Time   `json:"time"` // UTC
}

// DeadLetters keeps what was given up, for an operator to see and replay.
type DeadLetters interface {
	// Bury keeps a dead letter; the same function and event replace it.
	Bury(ctx context.Context, d DeadLetter) error
	// ListDeadLetters returns the oldest ones first.
	ListDeadLetters(ctx context.Context, limit int) ([]DeadLetter, error)
	// Exhume removes one and returns it, to be delivered again; NotFound.
	Exhume(ctx context.Context, function, eventID string) (DeadLetter, error)
}
