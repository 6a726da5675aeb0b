package mongo

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// nodeIndexes lists the fields that the node collection is asked by. Each
// index goes on with `_seq` and `_id`, so that a page of one value's nodes is
// read in order and no further than it reaches.
var nodeIndexes = [][]string{
	{"kind"},
	{"name"},
	{"group"},
	{"parent"},
	{"parent", "state"},
	{"state"},
	{"state", "timeout"},
	{"state", "holdoff"},
	{"result"},
	{"owner"},
	{"submitter"},
	{"treeid"},
	{"treeid", "kind"},
	{"created"},
	{"updated"},
	{"timeout"},
	{"holdoff"},
	{"processed_by_kcidb_bridge"},
	{"retry_counter"},
	{"data.kernel_revision.tree"},
	{"data.kernel_revision.url"},
	{"data.kernel_revision.branch"},
	{"data.kernel_revision.commit"},
	{"data.kernel_revision.commit", "kind"},
	{"data.arch"},
	{"data.defconfig"},
	{"data.compiler"},
	{"data.platform"},
	{"data.runtime"},
	{"data.job_id"},
	{"data.error_code"},
	{"data.fail_node"},
	{"data.pass_node"},
	{"data.regression"},
	{"kind", "name", "data.kernel_revision.tree", "data.kernel_revision.branch"},
}

func ascending(fields ...string) bson.D {
	keys := bson.D{}
	for _, f := range fields {
		keys = append(keys, bson.E{Key: f, Value: 1})
	}
	return keys
}

// index is one to be made.
type index struct {
	fields []string
	unique bool
	sparse bool   // it leaves out the documents that lack its first field
	called string // "": by MongoDB's own default
}

func (i index) name() string {
	if i.called != "" {
		return i.called
	}
	return strings.Join(i.fields, "_1_") + "_1"
}

func (i index) model() mongo.IndexModel {
	return mongo.IndexModel{Keys: ascending(i.fields...), Options: options.Index().SetName(i.name()).SetUnique(i.unique).SetSparse(i.sparse)}
}

func on(fields ...string) index { return index{fields: fields} }

// own is a unique index on a field that KernelCI's documents do not have.
func own(field string) index { return index{fields: []string{field}, unique: true, sparse: true} }

// createIndexes is safe to run again and from several instances: what is
// there is left alone. The names and options of what KernelCI makes too are
// its own, so that either may come first.
func (s *Store) createIndexes(ctx context.Context) error {
	nodes := []index{
		on("_seq", "_id"), own("_jobkey"), {fields: []string{"_pending"}, sparse: true}, {fields: []string{"_made", "_place"}, sparse: true},
	}
	for _, fields := range nodeIndexes {
		nodes = append(nodes, on(append(slices.Clone(fields), "_seq", "_id")...))
	}
	events := []index{on("sequence_id", "_id"), on("timestamp", "_id"), on("timestamp", "sequence_id"), own("_event"),
		on("channel", "sequence_id"), on("channel", "owner", "sequence_id")}
	// One field of the data in each: it may hold lists, and no index takes two.
	for _, field := range []string{"channel", "owner", "data.id", "data.name", "data.group", "data.kind", "data.state", "data.result", "data.op"} {
		events = append(events, on(field, "timestamp", "sequence_id"))
	}
	for _, c := range []struct {
		collection *mongo.Collection
		indexes    []index
	}{
		{s.nodes, nodes},
		{s.events, events},
		{s.subscribers, []index{{fields: []string{"subscriber_id"}, unique: true, called: "unique_subscriber_id"}, own("_subscription"), on("last_event_id"), on("_seen")}},
		{s.listeners, []index{own("_subscription"), on("_seen")}},
		{s.users, []index{{fields: []string{"username"}, unique: true}, own("_username"), own("_email"), on("_seq", "_id"), on("groups.name", "_seq", "_id"),
			on("is_superuser", "is_active", "_seq", "_id"), on("is_active", "_seq", "_id"), on("is_verified", "_seq", "_id")}},
		{s.groups, []index{{fields: []string{"name"}, unique: true}}},
		{s.tokens, []index{on("user", "_id")}},
		{s.deadLetters, []index{on("time", "_id")}},
		{s.telemetry, telemetryIndexes()},
		{s.decisions, []index{on("node", "time", "_id"), on("time", "_id")}},
	} {
		if err := s.createMissing(ctx, c.collection, c.indexes); err != nil {
			return fmt.Errorf("collection %s: %w", c.collection.Name(), err)
		}
	}
	return nil
}

// createAttempts is how often indexes are looked at again after a failure:
// another instance may be making the same.
const createAttempts = 5

// createMissing makes the indexes whose keys have none. Where there is one,
// under whatever name and with whatever options, none is even asked for: a
// server would refuse it.
func (s *Store) createMissing(ctx context.Context, c *mongo.Collection, indexes []index) error {
	for attempts := 1; ; attempts++ {
		there, err := c.Indexes().ListSpecifications(ctx)
		if err != nil {
			return err
		}
		var missing []mongo.IndexModel
		for _, i := range indexes {
			place := slices.IndexFunc(there, i.sameKeys)
			if place < 0 {
				missing = append(missing, i.model())
			} else if unique := there[place].Unique; i.unique && (unique == nil || !*unique) {
				s.log.Warn("an index is not unique; what it should keep apart may be there twice", "collection", c.Name(), "index", there[place].Name)
			}
		}
		if len(missing) == 0 {
			return nil
		}
		if _, err = c.Indexes().CreateMany(ctx, missing); err == nil || attempts == createAttempts {
			return err
		}
		if err := pause(ctx, attempts); err != nil {
			return err
		}
	}
}

// sameKeys says whether there is an index on the same fields, in the same order.
func (i index) sameKeys(there mongo.IndexSpecification) bool {
	keys, err := there.KeysDocument.Elements()
	if err != nil || len(keys) != len(i.fields) {
		return false
	}
	for n, key := range keys {
		direction, ok := key.Value().AsInt64OK()
		if key.Key() != i.fields[n] || !ok || direction != 1 {
			return false
		}
	}
	return true
}
