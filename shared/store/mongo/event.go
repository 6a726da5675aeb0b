package mongo

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/store"
)

// entry is an event in an outbox or in the log, under KernelCI's names. What
// those do not have begins with "_".
type entry struct {
	Event      string    `bson:"_event,omitempty"` // its id; KernelCI's own have their _id alone
	Time       time.Time `bson:"timestamp"`
	Channel    string    `bson:"channel"`
	Owner      *string   `bson:"owner"`
	Data       any       `bson:"data"`
	Exact      *string   `bson:"_data,omitempty"`   // the data as it was, where BSON would give back another text
	Type       *string   `bson:"_type,omitempty"`   // other than the default
	Source     *string   `bson:"_source,omitempty"` // other than the default
	TreeID     string    `bson:"_treeid,omitempty"`
	Attributes string    `bson:"_attributes,omitempty"` // JSON
	Order      int64     `bson:"_order,omitempty"`      // in an outbox: when it was put there
}

// logged is an event's document in the log.
type logged struct {
	ID       bson.ObjectID `bson:"_id"`
	Sequence int64         `bson:"sequence_id,minsize"`
	Entry    entry         `bson:",inline"`
}

// sequenceID is the key of the event that has the sequence: one sequence, one
// event.
func sequenceID(sequence int64) bson.ObjectID {
	var id bson.ObjectID
	binary.BigEndian.PutUint64(id[4:], uint64(sequence))
	return id
}

func entryOf(e event.Event, order int64) (entry, error) {
	out := entry{
		Event: e.ID, Time: stored(e.Time), Channel: e.Channel, Owner: orNull(e.Owner), Type: orDefault(e.Type, event.DefaultType),
		Source: orDefault(e.Source, event.DefaultSource), TreeID: e.TreeID, Order: order,
	}
	if len(e.Attributes) > 0 {
		attributes, err := json.Marshal(e.Attributes)
		if err != nil {
			panic(err) // texts only
		}
		out.Attributes = string(attributes)
	}
	if len(e.Data) == 0 {
		return out, nil
	}
	var err error
	if out.Data, err = fromJSON(e.Data); err != nil {
		return out, errs.New(errs.Invalid, "event %.60s: data: %s", e.ID, err)
	}
	again, err := toJSON(out.Data)
	if exact := strings.ToValidUTF8(string(e.Data), "\uFFFD"); out.Data == nil || err != nil || string(again) != exact {
		out.Exact = &exact
	}
	return out, nil
}

// orDefault is null for what need not be kept.
func orDefault(s, otherwise string) *string {
	if s == otherwise {
		return nil
	}
	return &s
}

func textOr(s *string, otherwise string) string {
	if s == nil {
		return otherwise
	}
	return *s
}

func (l *logged) event() (event.Event, error) {
	e := event.Event{
		ID: l.Entry.Event, Channel: l.Entry.Channel, Type: textOr(l.Entry.Type, event.DefaultType), Source: textOr(l.Entry.Source, event.DefaultSource),
		Time: l.Entry.Time.UTC(), Owner: text(l.Entry.Owner), TreeID: l.Entry.TreeID, Sequence: l.Sequence,
	}
	if e.ID == "" {
		e.ID = l.ID.Hex()
	}
	var err error
	switch {
	case l.Entry.Exact != nil:
		e.Data = json.RawMessage(*l.Entry.Exact)
	case l.Entry.Data != nil:
		e.Data, err = toJSON(l.Entry.Data)
	}
	if err == nil && l.Entry.Attributes != "" {
		err = json.Unmarshal([]byte(l.Entry.Attributes), &e.Attributes)
	}
	if err != nil {
		return e, fmt.Errorf("the logged event %s: %w", e.ID, err)
	}
	return e, nil
}

// Append logs events that no node write caused, behind those of all writes
// before.
func (s *Store) Append(ctx context.Context, events ...event.Event) error {
	entries := make([]entry, len(events))
	var err error
	for i := range events {
		if entries[i], err = entryOf(events[i], 0); err != nil {
			return s.failure(ctx, "mongo.Append()", err)
		}
	}
	if _, err = s.collect(ctx); err == nil {
		_, err = s.append(ctx, entries)
	}
	return s.failure(ctx, "mongo.Append()", err)
}

// append gives the entries that the log does not have yet the next sequences,
// in order, and returns how many they were. Whoever finds a sequence taken was
// too slow and looks again.
func (s *Store) append(ctx context.Context, entries []entry) (int, error) {
	added := 0
	for attempts := 0; ; attempts++ {
		fresh, err := s.unknown(ctx, entries)
		if err != nil || len(fresh) == 0 {
			return added, err
		}
		last, err := s.lastOf(ctx, s.newest)
		if err != nil {
			return added, err
		}
		docs := make([]logged, len(fresh))
		for i, e := range fresh {
			e.Order = 0
			sequence := last + 1 + int64(i)
			docs[i] = logged{sequenceID(sequence), sequence, e}
		}
		_, err = s.events.InsertMany(ctx, docs)
		if err == nil {
			return added + len(docs), nil
		}
		if !isDuplicate(err) {
			return added, err
		}
		var failed mongo.BulkWriteException
		if errors.As(err, &failed) && len(failed.WriteErrors) > 0 {
			added += failed.WriteErrors[0].Index
		}
		if attempts == 10 {
			s.log.Info("the log is crowded: others are faster, trying on", "events", len(fresh))
		}
		if err := pause(ctx, attempts); err != nil {
			return added, err
		}
	}
}

// unknown returns the entries whose ids the log does not have, each once.
func (s *Store) unknown(ctx context.Context, entries []entry) ([]entry, error) {
	ids := bson.A{}
	for _, e := range entries {
		ids = append(ids, e.Event)
	}
	if len(ids) == 0 {
		return nil, nil
	}
	cursor, err := s.newest.Find(ctx, set("_event", set("$in", ids)), options.Find().SetProjection(set("_event", 1)))
	if err != nil {
		return nil, err
	}
	var there []struct {
		Event string `bson:"_event"`
	}
	if err := cursor.All(ctx, &there); err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, e := range there {
		seen[e.Event] = true
	}
	var fresh []entry
	for _, e := range entries {
		if !seen[e.Event] {
			seen[e.Event] = true
			fresh = append(fresh, e)
		}
	}
	return fresh, nil
}

// LastSequence returns the sequence of the newest event.
func (s *Store) LastSequence(ctx context.Context) (int64, error) {
	last, err := s.lastOf(ctx, s.events)
	return last, s.failure(ctx, "mongo.LastSequence()", err)
}

// pruned is the counter up to which events may have been removed.
const pruned = "eventhistory"

type counter struct {
	Value int64 `bson:"value"`
}

// lastOf looks for the newest event first and for what Prune has noted after:
// Prune notes before it removes, so that one of them has the truth.
func (s *Store) lastOf(ctx context.Context, events *mongo.Collection) (int64, error) {
	var newest logged
	newestFirst := options.FindOne().SetSort(set("sequence_id", -1)).SetProjection(set("sequence_id", 1))
	err := events.FindOne(ctx, bson.D{}, newestFirst).Decode(&newest)
	if err != nil && !noDocument(err) {
		return 0, err
	}
	var noted counter
	err = s.counters.FindOne(ctx, byID(pruned)).Decode(&noted)
	if err != nil && !noDocument(err) {
		return 0, err
	}
	return max(newest.Sequence, noted.Value), nil
}

// After returns up to limit events behind sequence that pass the filter.
func (s *Store) After(ctx context.Context, sequence int64, f event.Filter, limit int) ([]event.Event, int64, error) {
	call := fmt.Sprintf("mongo.After(%d)", sequence)
	// Asked before the events are: what comes in between is looked at twice,
	// never missed.
	last, err := s.lastOf(ctx, s.events)
	if err != nil {
		return nil, sequence, s.failure(ctx, call, err)
	}
	if last <= sequence {
		return []event.Event{}, sequence, nil
	}
	filter := bson.D{{Key: "sequence_id", Value: bson.D{{Key: "$gt", Value: sequence}, {Key: "$lte", Value: last}}}}
	filter = equal(filter, "channel", f.Channel)
	filter = equal(filter, "owner", f.Owner)
	filter = anyOf(filter, "data.op", f.Ops)
	filter = anyOf(filter, "data.kind", f.Kinds)
	filter = anyOf(filter, "data.state", f.States)
	var keep func(event.Event) bool
	if len(f.Ops)+len(f.Kinds)+len(f.States) > 0 {
		keep = f.Match // a list in the data passes the server's filter
	}
	events, all, err := s.find(ctx, filter, ascending("sequence_id", "_id"), limit, keep)
	switch {
	case err != nil:
		return nil, sequence, s.failure(ctx, call, err)
	case !all:
		return events, events[len(events)-1].Sequence, nil
	}
	return events, last, nil
}

func equal(filter bson.D, field, value string) bson.D {
	if value == "" {
		return filter
	}
	return append(filter, bson.E{Key: field, Value: value})
}

func anyOf[T ~string](filter bson.D, field string, values []T) bson.D {
	if len(values) == 0 {
		return filter
	}
	return append(filter, bson.E{Key: field, Value: set("$in", values)})
}

const historyLimit = 1000

// History returns events by their content, in the order of time.
func (s *Store) History(ctx context.Context, h store.History) ([]event.Event, error) {
	path, err := regexp.Compile(h.PathRe)
	if err != nil {
		return nil, s.failure(ctx, "mongo.History()", errs.New(errs.Invalid, "path: %s", err))
	}
	var keep func(event.Event) bool
	if h.PathRe != "" {
		keep = func(e event.Event) bool {
			p, err := e.Node()
			return err == nil && path.MatchString(strings.Join(p.Path, "."))
		}
	}
	limit := h.Limit
	if limit <= 0 {
		limit = historyLimit
	}
	events, _, err := s.find(ctx, historyFilter(h), ascending("timestamp", "sequence_id"), limit, keep)
	return events, s.failure(ctx, "mongo.History()", err)
}

func historyFilter(h store.History) bson.D {
	filter := bson.D{}
	if !h.From.IsZero() {
		from := stored(h.From)
		later := set("timestamp", set("$gt", from))
		if h.FromSequence > 0 {
			behind := bson.D{{Key: "timestamp", Value: from}, {Key: "sequence_id", Value: set("$gt", h.FromSequence)}}
			later = set("$or", bson.A{later, behind})
		}
		filter = append(filter, later...)
	}
	for _, f := range []struct{ field, value string }{
		{"channel", h.Channel}, {"owner", h.Owner}, {"data.kind", string(h.Kind)}, {"data.state", string(h.State)},
		{"data.result", string(h.Result)}, {"data.op", string(h.Op)}, {"data.name", h.Name}, {"data.group", h.Group}, {"data.id", string(h.NodeID)},
	} {
		filter = equal(filter, f.field, f.value)
	}
	if len(h.Keys) == 0 {
		return filter
	}
	keys := bson.A{}
	for _, id := range h.Keys {
		if key, err := bson.ObjectIDFromHex(string(id)); err == nil {
			keys = append(keys, key)
		}
	}
	return append(filter, byID(set("$in", keys))...)
}

// ceil is the first time of a BSON date that is not before t.
func ceil(t time.Time) time.Time { return stored(t.Add(time.Millisecond - time.Nanosecond)) }

// mostBytes is about how much data of events is read at a time.
const mostBytes = 8 << 20

// find returns up to limit events (0: all) that pass the filter and keep, in
// order, or fewer when they are large. all says that there are no more.
func (s *Store) find(ctx context.Context, filter, order bson.D, limit int, keep func(event.Event) bool) (events []event.Event, all bool, err error) {
	o := options.Find().SetSort(order)
	if limit > 0 && keep == nil {
		o.SetLimit(int64(limit))
	}
	cursor, err := s.events.Find(ctx, filter, o)
	if err != nil {
		return nil, false, err
	}
	defer closeQuietly(ctx, cursor)
	events = []event.Event{}
	for size := 0; cursor.Next(ctx); {
		var l logged
		if err := cursor.Decode(&l); err != nil {
			return nil, false, err
		}
		e, err := l.event()
		if err != nil {
			return nil, false, err
		}
		if keep != nil && !keep(e) {
			continue
		}
		events = append(events, e)
		if size += len(e.Data); size > mostBytes || len(events) == limit {
			return events, false, nil
		}
	}
	return events, true, cursor.Err()
}

// Prune removes up to limit events from before the time, oldest first. It notes
// the newest sequence each time, also for the events that a TTL index of
// KernelCI's removes.
func (s *Store) Prune(ctx context.Context, before time.Time, limit int) (int, error) {
	n, err := s.prune(ctx, ceil(before), limit)
	return n, s.failure(ctx, "mongo.Prune()", err)
}

func (s *Store) prune(ctx context.Context, before time.Time, limit int) (int, error) {
	if limit <= 0 {
		return 0, nil
	}
	last, err := s.lastOf(ctx, s.newest)
	if err != nil {
		return 0, err
	}
	if err := s.raise(ctx, s.counters, pruned, last); err != nil {
		return 0, err
	}
	o := options.Find().SetSort(ascending("timestamp", "_id")).SetProjection(set("_id", 1)).SetLimit(int64(min(limit, math.MaxInt32)))
	cursor, err := s.events.Find(ctx, set("timestamp", set("$lt", before)), o)
	if err != nil {
		return 0, err
	}
	var old []logged
	if err := cursor.All(ctx, &old); err != nil || len(old) == 0 {
		return 0, err
	}
	removed := 0
	for part := range slices.Chunk(old, pruneBatch) {
		ids := make([]bson.ObjectID, len(part))
		for i := range part {
			ids[i] = part[i].ID
		}
		result, err := s.events.DeleteMany(ctx, byID(set("$in", ids)))
		if err != nil {
			return removed, err
		}
		removed += int(result.DeletedCount)
	}
	return removed, nil
}

const pruneBatch = 10_000
