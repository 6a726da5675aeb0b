package mongo

import (
	"context"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/kernelflow/kernelflow/shared/node"
)

// Raw is a test's database, past the store.
func Raw(t testing.TB, uri, database string) *mongo.Database {
	t.Helper()
	o, err := clientOptions(uri)
	if err != nil {
		t.Fatal(err)
	}
	client, err := mongo.Connect(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Disconnect(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return client.Database(database)
}

// Drop removes a test's database.
func Drop(t testing.TB, uri, database string) {
	t.Helper()
	if err := Raw(t, uri, database).Drop(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
}

// OpenWatched is Open with functions that are called before a command is sent
// and after it has been answered.
func OpenWatched(ctx context.Context, o Options, before, after func(command string)) (*Store, error) {
	co, err := clientOptions(o.URI)
	if err != nil {
		return nil, err
	}
	co.SetMonitor(&event.CommandMonitor{
		Started:   func(_ context.Context, e *event.CommandStartedEvent) { before(e.CommandName) },
		Succeeded: func(_ context.Context, e *event.CommandSucceededEvent) { after(e.CommandName) },
	})
	return open(ctx, o, co)
}

// Revision is how often a node was written.
func (s *Store) Revision(ctx context.Context, id node.ID) (int64, error) {
	r, err := s.read(ctx, id)
	return r.Rev, err
}

// Plan shows what the server is asked for a query, as JSON, and how much of
// it that decides.
func Plan(q node.Query) (filter string, exact, never bool) {
	p := plan(q.Where)
	if p.never {
		return "", true, true
	}
	b, err := bson.MarshalExtJSON(p.filter, false, false)
	if err != nil {
		panic(err)
	}
	return string(b), p.exact, false
}

// LeadingFields are those with which an index of the node collection begins.
func LeadingFields() []string {
	list := []string{"_id"}
	for _, fields := range nodeIndexes {
		list = append(list, fields[0])
	}
	return list
}
