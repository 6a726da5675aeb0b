package mongo

import (
	"context"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
)

// Create stores a new node with its event, as one document.
func (s *Store) Create(ctx context.Context, n node.Node, opts ...store.Option) (node.Node, error) {
	n, err := s.create(ctx, n, store.Apply(opts).Silent)
	if err != nil {
		return node.Node{}, s.failure(ctx, fmt.Sprintf("mongo.Create(%s)", n.ID), err)
	}
	return n, nil
}

func (s *Store) create(ctx context.Context, given node.Node, silent bool) (node.Node, error) {
	n, err := s.settle(given, nil)
	if err != nil {
		return given, err
	}
	order := s.stamp(1)
	r, err := encode(n, order)
	if err != nil {
		return n, err
	}
	if !silent {
		e, err := event.OfCreated(n)
		if err != nil {
			return n, err
		}
		out, err := entryOf(e, order)
		if err != nil {
			return n, err
		}
		r.Outbox, r.Pending = []entry{out}, order
	}
	if err := s.checkJob(ctx, &r); err != nil {
		return n, err
	}
	_, err = s.nodes.InsertOne(ctx, r)
	return n, orTaken(err)
}

// checkJob looks for a job of KernelCI's own that is the same: those have no
// unique key. No more of them are made, so that none can come in between.
func (s *Store) checkJob(ctx context.Context, r *record) error {
	if r.JobKey == "" {
		return nil
	}
	same := bson.D{
		{Key: "parent", Value: r.Node.Parent}, {Key: "_seq", Value: nil}, {Key: "name", Value: r.Node.Name},
		{Key: "kind", Value: set("$in", jobKinds)}, {Key: "retry_counter", Value: orZero(r.Node.RetryCounter)},
	}
	n := decode(r)
	for _, key := range []string{"runtime", "platform"} {
		same = append(same, bson.E{Key: "data." + key, Value: set("$in", textOrNone(n.Text(key)))})
	}
	count, err := s.nodes.CountDocuments(ctx, same, options.Count().SetLimit(1))
	if err == nil && count > 0 {
		err = errs.New(errs.Conflict, "a job with this parent, name, runtime, platform and retry_counter exists")
	}
	return err
}

// textOrNone is the list of values that mean this text; "" is also the absence
// of one.
func textOrNone(s string) bson.A {
	if s == "" {
		return bson.A{"", nil}
	}
	return bson.A{s}
}

// orTaken says what a broken unique key of the node collection means.
func orTaken(err error) error {
	if !isDuplicate(err) {
		return err
	}
	return errs.Wrap(errs.Conflict, fmt.Errorf("a node with this id, or a job with this parent, name, runtime, platform and retry_counter, exists: %w", err))
}

// Update reads the node, lets change work on a copy and writes it with its
// event if its write counter is still the same; else it starts again.
func (s *Store) Update(ctx context.Context, id node.ID, change func(*node.Node) error, opts ...store.Option) (node.Node, error) {
	u := update{id: id, silent: store.Apply(opts).Silent}
	err := s.update(ctx, &u, func() error { return s.change(&u, change) })
	switch {
	case u.refused != nil:
		return node.Node{}, u.refused
	case err != nil:
		return node.Node{}, s.failure(ctx, fmt.Sprintf("mongo.Update(%s)", id), err)
	}
	return u.after, nil
}

// update is one node's way from before to after.
type update struct {
	id      node.ID
	silent  bool
	request string // of a hierarchy; "" otherwise

	record  record
	before  node.Node
	after   node.Node
	rev     int64 // of the document after
	event   event.Event
	refused error // what the caller's change returned
}

// crowded is how many events may wait in one node's outbox before a writer
// brings them to the log himself: a document has a limit.
const crowded = 32

// errDone ends an update that finds nothing left to do.
var errDone = errors.New("done before")

// update repeats reading, deciding and writing until nobody was in between.
func (s *Store) update(ctx context.Context, u *update, decide func() error) error {
	for attempts := 0; ; attempts++ {
		var err error
		if u.record, err = s.read(ctx, u.id); err != nil {
			return err
		}
		u.before = decode(&u.record)
		// Emptied inside of a transaction, the outbox would be in its way.
		if len(u.record.Outbox) > crowded && !inTransaction(ctx) {
			if _, err := s.collect(ctx); err != nil {
				return err
			}
		}
		if err := decide(); err != nil {
			return err
		}
		written, err := s.write(ctx, u)
		if err != nil || written {
			return err
		}
		if err := pause(ctx, attempts); err != nil {
			return err
		}
	}
}

func (s *Store) read(ctx context.Context, id node.ID) (record, error) {
	var r record
	key, err := bson.ObjectIDFromHex(string(id))
	if err != nil {
		return r, errs.New(errs.NotFound, "node %.40q not found", id)
	}
	err = s.nodes.FindOne(ctx, byID(key)).Decode(&r)
	return r, orNotFound(err, "node %s", id)
}

// change lets the caller's function decide and checks what it made.
func (s *Store) change(u *update, change func(*node.Node) error) error {
	n := u.before.Clone()
	if err := guarded(func() error { u.refused = change(&n); return u.refused }); err != nil {
		return err
	}
	n.ID, n.Created = u.before.ID, u.before.Created
	if err := node.CheckTransition(u.before.State, n.State); err != nil {
		return err
	}
	var err error
	if u.after, err = s.settle(n, u.fault()); err != nil {
		return err
	}
	u.rev = s.next(u.record.Rev)
	u.event, err = event.OfUpdated(u.before, u.after, u.rev, u.request != "")
	return err
}

// fault is what is wrong with a node of KernelCI's, whose models ask for less
// than ours: it may be changed all the same.
func (u *update) fault() error {
	if u.record.Seq != 0 {
		return nil
	}
	n := u.before.Clone()
	return n.Validate()
}

// next is the write counter after rev. A document without one may have had one
// before KernelCI replaced it; a counter that begins at the clock gives no id of
// an event twice.
func (s *Store) next(rev int64) int64 {
	if rev == 0 {
		return s.stamp(1)
	}
	return rev + 1
}

// guarded makes an error of a panic of the caller's function.
func guarded(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the change panicked: %v", v)
		}
	}()
	return f()
}

// changed is what an update sets.
type changed struct {
	Node   fields `bson:",inline"`
	Rev    int64  `bson:"_rev"`
	JobKey string `bson:"_jobkey,omitempty"`
}

// write stores an update with its event in one document write; false when the
// node is not what was read.
func (s *Store) write(ctx context.Context, u *update) (bool, error) {
	f, err := encodeFields(u.after)
	if err != nil {
		return false, err
	}
	key := ""
	if u.record.Seq != 0 { // KernelCI may have made its own jobs twice
		key = jobKey(u.after)
	}
	change := bson.D{{Key: "$set", Value: changed{f, u.rev, key}}}
	if key == "" && u.record.JobKey != "" {
		change = append(change, bson.E{Key: "$unset", Value: set("_jobkey", "")})
	}
	push := bson.D{}
	if u.request != "" {
		push = append(push, bson.E{Key: "_requests", Value: u.request})
	}
	if !u.silent {
		order := s.stamp(1)
		out, err := entryOf(u.event, order)
		if err != nil {
			return false, err
		}
		push = append(push, bson.E{Key: "_outbox", Value: out})
		change = append(change, bson.E{Key: "$min", Value: set("_pending", order)})
	}
	if len(push) > 0 {
		change = append(change, bson.E{Key: "$push", Value: push})
	}
	result, err := s.nodes.UpdateOne(ctx, bson.D{{Key: "_id", Value: u.record.ID}, {Key: "_rev", Value: orZero(u.record.Rev)}}, change)
	if err != nil {
		return false, orTaken(err)
	}
	return result.MatchedCount > 0, nil
}
