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
// index goes on with `_seq`, so that a page of one value's nodes is read in
// order and no further than it reaches.
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
	sparse bool // it leaves out the documents that lack its first field
}

// name is MongoDB's own default.
func (i index) name() string { return strings.Join(i.fields, "_1_") + "_1" }

func (i index) model() mongo.IndexModel {
	return mongo.IndexModel{Keys: ascending(i.fields...), Options: options.Index().SetName(i.name()).SetUnique(i.unique).SetSparse(i.sparse)}
}

func on(fields ...string) index { return index{fields: fields} }

// createIndexes is safe to run again and from several instances: what is
// there is left alone.
func (s *Store) createIndexes(ctx context.Context) error {
	nodes := []index{
		on("_seq", "_id"), {[]string{"_jobkey"}, true, true}, {[]string{"_pending"}, false, true}, {[]string{"_made", "_place"}, false, true},
	}
	for _, fields := range nodeIndexes {
		nodes = append(nodes, on(append(slices.Clone(fields), "_seq")...))
	}
	for _, c := range []struct {
		collection *mongo.Collection
		indexes    []index
	}{
		{s.nodes, nodes},
		{s.events, []index{{[]string{"id"}, true, false}, on("time", "_id"), on("channel", "_id"), on("node", "_id"),
			on("kind", "state", "_id"), on("name", "_id"), on("owner", "_id")}},
		{s.subscriptions, []index{{[]string{"subscriber"}, true, true}}},
		{s.users, []index{{[]string{"_username"}, true, false}, {[]string{"_email"}, true, true}, on("_seq", "_id"),
			on("groups._id"), on("groups.name", "_seq"), on("is_superuser", "is_active", "_seq"), on("is_active", "_seq"), on("is_verified", "_seq")}},
		{s.groups, []index{{[]string{"name"}, true, false}}},
		{s.tokens, []index{on("user", "_id")}},
		{s.deadLetters, []index{on("time", "_id")}},
	} {
		if err := createMissing(ctx, c.collection.Indexes(), c.indexes); err != nil {
			return fmt.Errorf("collection %s: %w", c.collection.Name(), err)
		}
	}
	return nil
}

// createAttempts is how often indexes are looked at again after a failure:
// another instance may be making the same.
const createAttempts = 5

// createMissing makes the indexes whose names are not there. Those that are,
// are not even asked for: FerretDB does not take that.
func createMissing(ctx context.Context, view mongo.IndexView, indexes []index) error {
	for attempts := 1; ; attempts++ {
		there, err := view.ListSpecifications(ctx)
		if err != nil {
			return err
		}
		var missing []mongo.IndexModel
		for _, i := range indexes {
			if !slices.ContainsFunc(there, func(s mongo.IndexSpecification) bool { return s.Name == i.name() }) {
				missing = append(missing, i.model())
			}
		}
		if len(missing) == 0 {
			return nil
		}
		if _, err = view.CreateMany(ctx, missing); err == nil || attempts == createAttempts {
			return err
		}
		if err := pause(ctx, attempts); err != nil {
			return err
		}
	}
}
