package mongo

import (
	"context"
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
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
)

// entry is an event in an outbox or in the log: itself, and what filters ask
// of its data.
type entry struct {
	ID         string `bson:"id"`
	Channel    string `bson:"channel"`
	Type       string `bson:"type"`
	Source     string `bson:"source"`
	Time       string `bson:"time"`
	Owner      string `bson:"owner"`
	TreeID     string `bson:"treeid"`
	Attributes string `bson:"attributes,omitempty"` // JSON
	Data       string `bson:"data"`                 // JSON

	Op     string `bson:"op,omitempty"`
	Kind   string `bson:"kind,omitempty"`
	State  string `bson:"state,omitempty"`
	Result string `bson:"result,omitempty"`
	Name   string `bson:"name,omitempty"`
	Group  string `bson:"group,omitempty"`
	Path   string `bson:"path,omitempty"` // joined with "."
	Node   string `bson:"node,omitempty"`

	Order int64 `bson:"order,omitempty"` // in an outbox: when it was put there
}

// logged is an event's document in the log.
type logged struct {
	Sequence int64 `bson:"_id"`
	Entry    entry `bson:",inline"`
}

func entryOf(e event.Event, order int64) entry {
	out := entry{
		ID: e.ID, Channel: e.Channel, Type: e.Type, Source: e.Source, Time: node.FormatTime(e.Time), Owner: e.Owner, TreeID: e.TreeID,
		Data: strings.ToValidUTF8(string(e.Data), "\uFFFD"), Order: order,
	}
	if len(e.Attributes) > 0 {
		attributes, err := json.Marshal(e.Attributes)
		if err != nil {
			panic(err) // texts only
		}
		out.Attributes = string(attributes)
	}
	var p event.Node
	if json.Unmarshal(e.Data, &p) != nil {
		return out
	}
	out.Op, out.Kind, out.State, out.Name = string(p.Op), string(p.Kind), string(p.State), p.Name
	out.Path, out.Node, out.Group = strings.Join(p.Path, "."), string(p.ID), text(p.Group)
	if p.Result != nil {
		out.Result = string(*p.Result)
	}
	return out
}

func (l *logged) event() (event.Event, error) {
	e := event.Event{
		ID: l.Entry.ID, Channel: l.Entry.Channel, Type: l.Entry.Type, Source: l.Entry.Source, Owner: l.Entry.Owner, TreeID: l.Entry.TreeID,
		Sequence: l.Sequence,
	}
	if l.Entry.Data != "" {
		e.Data = json.RawMessage(l.Entry.Data)
	}
	if l.Entry.Attributes != "" {
		if err := json.Unmarshal([]byte(l.Entry.Attributes), &e.Attributes); err != nil {
			return e, fmt.Errorf("the logged event %s: %w", e.ID, err)
		}
	}
	var err error
	if e.Time, err = parseTime(l.Entry.Time); err != nil {
		return e, fmt.Errorf("the logged event %s: %w", e.ID, err)
	}
	return e, nil
}

// Append logs events that no node write caused, behind those of all writes
// before.
func (s *Store) Append(ctx context.Context, events ...event.Event) error {
	_, err := s.collect(ctx)
	entries := make([]entry, len(events))
	for i, e := range events {
		entries[i] = entryOf(e, 0)
	}
	if err == nil {
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
			docs[i] = logged{last + 1 + int64(i), e}
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
		ids = append(ids, e.ID)
	}
	if len(ids) == 0 {
		return nil, nil
	}
	cursor, err := s.newest.Find(ctx, set("id", set("$in", ids)), options.Find().SetProjection(set("id", 1)))
	if err != nil {
		return nil, err
	}
	var there []struct {
		ID string `bson:"id"`
	}
	if err := cursor.All(ctx, &there); err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, e := range there {
		seen[e.ID] = true
	}
	var fresh []entry
	for _, e := range entries {
		if !seen[e.ID] {
			seen[e.ID] = true
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

// pruned is the counter below which Prune may have removed events.
const pruned = "eventhistory"

type counter struct {
	Value int64 `bson:"value"`
}

// lastOf looks for the newest event first and for what Prune has noted after:
// Prune notes before it removes, so that one of them has the truth.
func (s *Store) lastOf(ctx context.Context, events *mongo.Collection) (int64, error) {
	var newest logged
	newestFirst := options.FindOne().SetSort(set("_id", -1)).SetProjection(set("_id", 1))
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
	filter := bson.D{{Key: "_id", Value: bson.D{{Key: "$gt", Value: sequence}, {Key: "$lte", Value: last}}}}
	filter = equal(filter, "channel", f.Channel)
	filter = anyOf(filter, "op", f.Ops)
	filter = anyOf(filter, "kind", f.Kinds)
	filter = anyOf(filter, "state", f.States)
	events, err := s.find(ctx, filter, limit, nil)
	switch {
	case err != nil:
		return nil, sequence, s.failure(ctx, call, err)
	case limit > 0 && len(events) == limit:
		return events, events[limit-1].Sequence, nil
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

// History returns events by their content, oldest first.
func (s *Store) History(ctx context.Context, h store.History) ([]event.Event, error) {
	path, err := regexp.Compile(h.PathRe)
	if err != nil {
		return nil, s.failure(ctx, "mongo.History()", errs.New(errs.Invalid, "path: %s", err))
	}
	filter := bson.D{}
	if !h.From.IsZero() {
		filter = append(filter, bson.E{Key: "time", Value: set("$gte", node.FormatTime(h.From))})
	}
	for _, f := range []struct{ field, value string }{
		{"channel", h.Channel}, {"owner", h.Owner}, {"kind", string(h.Kind)}, {"state", string(h.State)}, {"result", string(h.Result)},
		{"op", string(h.Op)}, {"name", h.Name}, {"group", h.Group}, {"node", string(h.NodeID)},
	} {
		filter = equal(filter, f.field, f.value)
	}
	filter = anyOf(filter, "id", h.IDs)
	var keep func(*logged) bool
	if h.PathRe != "" {
		keep = func(l *logged) bool { return l.Entry.Node != "" && path.MatchString(l.Entry.Path) }
	}
	limit := h.Limit
	if limit <= 0 {
		limit = historyLimit
	}
	events, err := s.find(ctx, filter, limit, keep)
	return events, s.failure(ctx, "mongo.History()", err)
}

// find returns up to limit events (0: all) that pass the filter and keep, in
// order.
func (s *Store) find(ctx context.Context, filter bson.D, limit int, keep func(*logged) bool) ([]event.Event, error) {
	o := options.Find().SetSort(ascending("_id"))
	if limit > 0 && keep == nil {
		o.SetLimit(int64(limit))
	}
	cursor, err := s.events.Find(ctx, filter, o)
	if err != nil {
		return nil, err
	}
	defer closeQuietly(ctx, cursor)
	events := []event.Event{}
	for (limit <= 0 || len(events) < limit) && cursor.Next(ctx) {
		var l logged
		if err := cursor.Decode(&l); err != nil {
			return nil, err
		}
		if keep != nil && !keep(&l) {
			continue
		}
		e, err := l.event()
		if err != nil {
			return nil, err
		}
		events = append(events, e)
	}
	return events, cursor.Err()
}

// Prune removes up to limit events from before the time, oldest first.
func (s *Store) Prune(ctx context.Context, before time.Time, limit int) (int, error) {
	n, err := s.prune(ctx, node.FormatTime(before), limit)
	return n, s.failure(ctx, "mongo.Prune()", err)
}

func (s *Store) prune(ctx context.Context, before string, limit int) (int, error) {
	if limit <= 0 {
		return 0, nil
	}
	o := options.Find().SetSort(ascending("time", "_id")).SetProjection(set("_id", 1)).SetLimit(int64(min(limit, math.MaxInt32)))
	cursor, err := s.events.Find(ctx, set("time", set("$lt", before)), o)
	if err != nil {
		return 0, err
	}
	var old []logged
	if err := cursor.All(ctx, &old); err != nil || len(old) == 0 {
		return 0, err
	}
	last, err := s.lastOf(ctx, s.newest)
	if err != nil {
		return 0, err
	}
	if err := s.raise(ctx, s.counters, pruned, last); err != nil {
		return 0, err
	}
	removed := 0
	for part := range slices.Chunk(old, pruneBatch) {
		ids := make([]int64, len(part))
		for i := range part {
			ids[i] = part[i].Sequence
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
