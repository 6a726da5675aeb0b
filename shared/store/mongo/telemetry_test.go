package mongo_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/kernelflow/kernelflow/shared/store"
	"github.com/kernelflow/kernelflow/shared/store/mongo"
	"github.com/kernelflow/kernelflow/shared/store/mongo/mongotest"
	"github.com/kernelflow/kernelflow/shared/telemetry"
)

func TestTelemetryOfKernelCIIsReadAndCounted(t *testing.T) {
	uri := mongotest.Start(t)
	database := fresh(t, uri)
	db := mongo.Raw(t, uri, database)
	documents := []any{
		bson.D{{Key: "_id", Value: oid(1)}, {Key: "kind", Value: "job_result"}, {Key: "ts", Value: date(early)}, {Key: "runtime", Value: "lava-a"},
			{Key: "result", Value: "pass"}, {Key: "is_infra_error", Value: false}, {Key: "node_id", Value: oid(9)}, {Key: "arch", Value: nil},
			{Key: "extra", Value: bson.D{{Key: "retry", Value: int32(2)}}}},
		bson.D{{Key: "_id", Value: oid(2)}, {Key: "kind", Value: "job_result"}, {Key: "ts", Value: date(early.Add(time.Second))}}, // fields are missing
	}
	if _, err := db.Collection("telemetry").InsertMany(t.Context(), documents); err != nil {
		t.Fatal(err)
	}
	st := open(t, mongo.Options{URI: uri, Database: database, Now: time.Now})
	events, err := st.FindTelemetry(t.Context(), telemetry.Filter{Since: early}, store.TelemetryPage{})
	if err != nil || len(events) != 2 {
		t.Fatalf("%d events: %v", len(events), err)
	}
	first, second := events[0], events[1]
	extra, err := json.Marshal(first.Rest)
	if err != nil {
		t.Fatal(err)
	}
	if !first.Time.Equal(early) || first.Texts[telemetry.Runtime] != "lava-a" || first.Texts[telemetry.NodeID] != oid(9).Hex() ||
		string(extra) != `{"extra":{"retry":2}}` {
		t.Errorf("%+v %s", first, extra)
	}
	if len(second.Texts) != 1 || second.InfraError {
		t.Errorf("%+v", second)
	}
	tallies, err := st.TallyTelemetry(t.Context(), telemetry.Filter{}, []telemetry.Field{telemetry.Runtime, telemetry.Arch})
	if got := fmt.Sprint(tallies); err != nil || got != "[{map[arch: runtime:] {1 0 0 0 0 0}} {map[arch: runtime:lava-a] {1 1 0 0 0 0}}]" {
		t.Errorf("%s: %v", got, err)
	}
	missing := telemetry.Filter{Is: map[telemetry.Field][]string{telemetry.Runtime: {""}}}
	if n, err := st.CountTelemetry(t.Context(), missing); err != nil || n != 1 {
		t.Errorf("%d without a runtime: %v", n, err)
	}
}

func TestOurTelemetryIsWhatKernelCIReads(t *testing.T) {
	uri := mongotest.Start(t)
	database := fresh(t, uri)
	st := open(t, mongo.Options{URI: uri, Database: database, Now: time.Now})
	e := telemetry.Event{ID: "65f000000000000000000001", Time: early, Texts: map[telemetry.Field]string{telemetry.Kind: "job_skip"}, Rest: map[string]any{"retry": 1.0}}
	if err := st.AddTelemetry(t.Context(), []telemetry.Event{e}); err != nil {
		t.Fatal(err)
	}
	var doc bson.D
	if err := mongo.Raw(t, uri, database).Collection("telemetry").FindOne(t.Context(), bson.D{}).Decode(&doc); err != nil {
		t.Fatal(err)
	}
	for _, want := range []bson.E{
		{Key: "_id", Value: oid(1)}, {Key: "ts", Value: date(early)}, {Key: "kind", Value: "job_skip"}, {Key: "runtime", Value: nil},
		{Key: "is_infra_error", Value: false}, {Key: "retry", Value: int32(1)},
	} {
		if !slices.Contains(doc, want) {
			t.Errorf("no %v in %v", want, doc)
		}
	}
}
