package mongo_test

import (
	"crypto/rand"
	"os"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/store"
	"github.com/kernelflow/kernelflow/shared/store/mongo"
	"github.com/kernelflow/kernelflow/shared/store/mongo/mongotest"
	"github.com/kernelflow/kernelflow/shared/store/storetest"
)

func open(t testing.TB, o mongo.Options) *mongo.Store {
	t.Helper()
	s, err := mongo.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// fresh names a database that is dropped at the end of the test.
func fresh(t testing.TB, uri string) string {
	t.Helper()
	name := "kernelflow_test_" + rand.Text()
	t.Cleanup(func() { mongo.Drop(t, uri, name) })
	return name
}

func conformance(t *testing.T, uri string, slow bool) {
	storetest.Run(t, storetest.Harness{Slow: slow, Precision: time.Millisecond, Open: func(t *testing.T, now func() time.Time) func() store.Store {
		name := fresh(t, uri)
		return func() store.Store { return open(t, mongo.Options{URI: uri, Database: name, Now: now}) }
	}})
}

func TestConformance(t *testing.T) { conformance(t, mongotest.Start(t), true) }

func TestConformanceOfAServerWithTransactionsAndAnIndexForEachQuestion(t *testing.T) {
	q := &questions{asked: map[string]question{}, leading: map[string][]string{}}
	t.Run("the suite", func(t *testing.T) { conformance(t, startSet(t, q.watch), true) })
	t.Run("each question has an index", q.check)
}

func TestConformanceOfARealServer(t *testing.T) {
	uri := os.Getenv("MONGO_TEST_URL")
	if uri == "" {
		t.Skip("MONGO_TEST_URL is not set: no real MongoDB is tested")
	}
	conformance(t, uri, false)
}
