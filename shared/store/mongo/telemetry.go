package mongo

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
	"github.com/kernelflow/kernelflow/shared/telemetry"
)

// telemetryIndexes are the fields that are asked for and tell events apart.
// Each index goes on with the time and the id, which are the order of a page;
// so none has the keys of one that KernelCI itself has made in this
// collection, which a server would not take a second time.
func telemetryIndexes() []index {
	indexes := []index{on("ts", "_id"), on(telemetry.InfraErrorName, "ts", "_id")}
	for _, f := range []telemetry.Field{
		telemetry.Kind, telemetry.Runtime, telemetry.DeviceType, telemetry.DeviceID, telemetry.JobName, telemetry.JobID,
		telemetry.NodeID, telemetry.Tree, telemetry.ErrorType,
	} {
		indexes = append(indexes, on(string(f), "ts", "_id"))
	}
	return indexes
}

// encodeTelemetry gives an event its document, under KernelCI's names.
func encodeTelemetry(e telemetry.Event) (bson.D, error) {
	id, err := bson.ObjectIDFromHex(string(e.ID))
	if err != nil {
		return nil, errs.New(errs.Invalid, "id: %.40q is not a valid ObjectId", e.ID)
	}
	doc := bson.D{{Key: "_id", Value: id}, {Key: telemetry.TimeName, Value: e.Time}, {Key: telemetry.InfraErrorName, Value: e.InfraError}}
	for _, f := range telemetry.Fields {
		doc = append(doc, bson.E{Key: string(f), Value: orNull(e.Texts[f])})
	}
	return append(doc, encodeMap(e.Rest)...), nil
}

func decodeTelemetry(doc bson.D) telemetry.Event {
	e := telemetry.Event{Texts: map[telemetry.Field]string{}}
	rest := bson.D{}
	for _, field := range doc {
		switch field.Key {
		case "_id":
			e.ID = node.ID(telemetryText(field.Value))
		case telemetry.TimeName:
			if at, ok := field.Value.(bson.DateTime); ok {
				e.Time = at.Time().UTC()
			}
		case telemetry.InfraErrorName:
			e.InfraError, _ = field.Value.(bool)
		default:
			name := telemetry.Field(field.Key)
			if !slices.Contains(telemetry.Fields, name) {
				rest = append(rest, field)
			} else if text := telemetryText(field.Value); text != "" {
				e.Texts[name] = text
			}
		}
	}
	e.Rest = decodeMap(rest)
	return e
}

// telemetryText gives a field of a document, which others may have written, as
// text.
func telemetryText(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case bson.ObjectID:
		return v.Hex()
	}
	return fmt.Sprint(v)
}

// AddTelemetry stores events. Those that are there already, by a call that
// ended without an answer, are left alone.
func (s *Store) AddTelemetry(ctx context.Context, events []telemetry.Event) error {
	return s.failure(ctx, "mongo.AddTelemetry()", s.addTelemetry(ctx, events))
}

func (s *Store) addTelemetry(ctx context.Context, events []telemetry.Event) error {
	docs := make([]bson.D, len(events))
	for i, e := range events {
		var err error
		if docs[i], err = encodeTelemetry(e); err != nil {
			return err
		}
	}
	if len(docs) == 0 {
		return nil
	}
	_, err := s.telemetry.InsertMany(ctx, docs, options.InsertMany().SetOrdered(false))
	var failed mongo.BulkWriteException
	if err == nil || !errors.As(err, &failed) || failed.WriteConcernError != nil {
		return err
	}
	if slices.ContainsFunc(failed.WriteErrors, func(one mongo.BulkWriteError) bool { return !isDuplicate(one) }) {
		return err
	}
	return nil
}

// telemetryFilter turns a filter into the server's words.
func telemetryFilter(f telemetry.Filter) bson.D {
	filter := bson.D{}
	span := bson.D{}
	if !f.Since.IsZero() {
		span = append(span, bson.E{Key: "$gte", Value: f.Since})
	}
	if !f.Until.IsZero() {
		span = append(span, bson.E{Key: "$lte", Value: f.Until})
	}
	if len(span) > 0 {
		filter = append(filter, bson.E{Key: telemetry.TimeName, Value: span})
	}
	if f.InfraError != nil {
		filter = append(filter, bson.E{Key: telemetry.InfraErrorName, Value: *f.InfraError})
	}
	for _, field := range slices.Sorted(maps.Keys(f.Is)) {
		values := bson.A{}
		for _, v := range f.Is[field] {
			if v == "" {
				values = append(values, nil)
			}
			values = append(values, v)
		}
		filter = append(filter, bson.E{Key: string(field), Value: set("$in", values)})
	}
	present := bson.A{}
	for _, field := range f.Set {
		present = append(present, set(string(field), set("$nin", bson.A{nil, ""})))
	}
	if len(present) > 0 {
		filter = append(filter, bson.E{Key: "$and", Value: present})
	}
	return filter
}

// FindTelemetry returns a page of the events that f selects.
func (s *Store) FindTelemetry(ctx context.Context, f telemetry.Filter, p store.TelemetryPage) ([]telemetry.Event, error) {
	events, err := s.findTelemetry(ctx, f, p)
	return events, s.failure(ctx, "mongo.FindTelemetry()", err)
}

func (s *Store) findTelemetry(ctx context.Context, f telemetry.Filter, p store.TelemetryPage) ([]telemetry.Event, error) {
	order := ascending("ts", "_id")
	if p.NewestFirst {
		order = bson.D{{Key: "ts", Value: -1}, {Key: "_id", Value: -1}}
	}
	o := options.Find().SetSort(order).SetLimit(int64(max(p.Limit, 0))).SetSkip(int64(max(p.Offset, 0)))
	cursor, err := s.telemetry.Find(ctx, telemetryFilter(f), o)
	if err != nil {
		return nil, err
	}
	defer closeQuietly(ctx, cursor)
	events := []telemetry.Event{}
	for cursor.Next(ctx) {
		var doc bson.D
		if err := cursor.Decode(&doc); err != nil {
			return nil, fmt.Errorf("stored telemetry: %w", err)
		}
		events = append(events, decodeTelemetry(doc))
	}
	return events, cursor.Err()
}

// CountTelemetry returns how many events f selects.
func (s *Store) CountTelemetry(ctx context.Context, f telemetry.Filter) (int64, error) {
	n, err := s.telemetry.CountDocuments(ctx, telemetryFilter(f))
	return n, s.failure(ctx, "mongo.CountTelemetry()", err)
}

// TallyTelemetry counts the events that f selects by fields. The server groups
// by the result and the blame too, of which there are few: conditional sums
// are not known to every server that speaks MongoDB's protocol.
func (s *Store) TallyTelemetry(ctx context.Context, f telemetry.Filter, by []telemetry.Field) ([]telemetry.Tally, error) {
	tallies, err := s.tallyTelemetry(ctx, f, by)
	return tallies, s.failure(ctx, "mongo.TallyTelemetry()", err)
}

func (s *Store) tallyTelemetry(ctx context.Context, f telemetry.Filter, by []telemetry.Field) ([]telemetry.Tally, error) {
	key := bson.D{{Key: "_result", Value: "$" + string(telemetry.Result)}, {Key: "_infra", Value: "$" + telemetry.InfraErrorName}}
	for _, field := range by {
		key = append(key, bson.E{Key: string(field), Value: "$" + string(field)})
	}
	cursor, err := s.telemetry.Aggregate(ctx, mongo.Pipeline{
		set("$match", telemetryFilter(f)),
		set("$group", bson.D{{Key: "_id", Value: key}, {Key: "count", Value: set("$sum", 1)}}),
	})
	if err != nil {
		return nil, err
	}
	defer closeQuietly(ctx, cursor)
	all := map[string]*telemetry.Tally{}
	for cursor.Next(ctx) {
		var part tallyPart
		if err := cursor.Decode(&part); err != nil {
			return nil, fmt.Errorf("counted telemetry: %w", err)
		}
		part.addTo(all, by)
		if len(all) > telemetry.MostTallies {
			return nil, telemetry.ErrTooMany
		}
	}
	tallies := make([]telemetry.Tally, 0, len(all))
	for _, t := range all {
		tallies = append(tallies, *t)
	}
	slices.SortFunc(tallies, telemetry.ByTotal)
	return tallies, cursor.Err()
}

// tallyPart is what the server counts together.
type tallyPart struct {
	Key   bson.M `bson:"_id"`
	Count int64  `bson:"count"`
}

func (p *tallyPart) addTo(all map[string]*telemetry.Tally, by []telemetry.Field) {
	key := map[telemetry.Field]string{}
	name := ""
	for _, field := range by {
		key[field] = telemetryText(p.Key[string(field)])
		name += fmt.Sprintf("%q", key[field])
	}
	if all[name] == nil {
		all[name] = &telemetry.Tally{Key: key}
	}
	infra, _ := p.Key["_infra"].(bool)
	all[name].Add(telemetryText(p.Key["_result"]), infra, p.Count)
}

// PruneTelemetry removes up to limit events from before the time, oldest first.
func (s *Store) PruneTelemetry(ctx context.Context, before time.Time, limit int) (int, error) {
	n, err := s.pruneTelemetry(ctx, before, limit)
	return n, s.failure(ctx, "mongo.PruneTelemetry()", err)
}

func (s *Store) pruneTelemetry(ctx context.Context, before time.Time, limit int) (int, error) {
	if limit <= 0 {
		return 0, nil
	}
	o := options.Find().SetSort(ascending("ts", "_id")).SetProjection(set("_id", 1)).SetLimit(int64(limit))
	cursor, err := s.telemetry.Find(ctx, set("ts", set("$lt", before)), o)
	if err != nil {
		return 0, err
	}
	var old []struct {
		ID any `bson:"_id"`
	}
	if err := cursor.All(ctx, &old); err != nil {
		return 0, err
	}
	removed := 0
	for part := range slices.Chunk(old, pruneBatch) {
		ids := make(bson.A, len(part))
		for i := range part {
			ids[i] = part[i].ID
		}
		result, err := s.telemetry.DeleteMany(ctx, byID(set("$in", ids)))
		if err != nil {
			return removed, err
		}
		removed += int(result.DeletedCount)
	}
	return removed, nil
}
