package mongo_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	driver "go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/kernelflow/kernelflow/shared/auth"
	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
	"github.com/kernelflow/kernelflow/shared/store/mongo"
	"github.com/kernelflow/kernelflow/shared/store/mongo/mongotest"
	"github.com/kernelflow/kernelflow/shared/store/storetest"
	"github.com/kernelflow/kernelflow/shared/telemetry"
	"github.com/kernelflow/kernelflow/shared/user"
)

// oid is the n-th id as KernelCI's driver writes it.
func oid(n int) bson.ObjectID {
	id, err := bson.ObjectIDFromHex(string(storetest.ID(n)))
	if err != nil {
		panic(err)
	}
	return id
}

// date is what datetime.utcnow() becomes: milliseconds.
func date(at time.Time) bson.DateTime { return bson.NewDateTimeFromTime(at) }

// early is before everything that this package's tests write.
var early = start.Add(-24 * time.Hour).Truncate(time.Millisecond)

func revision() bson.D {
	return bson.D{
		{Key: "tree", Value: "mainline"}, {Key: "url", Value: "https://example.org/linux.git"}, {Key: "branch", Value: "master"},
		{Key: "commit", Value: strings.Repeat("c0ffee00", 5)}, {Key: "describe", Value: "v6.1-rc1"},
		{Key: "version", Value: bson.D{
			{Key: "version", Value: int32(6)}, {Key: "patchlevel", Value: int32(1)}, {Key: "sublevel", Value: nil}, {Key: "extra", Value: "-rc1"}, {Key: "name", Value: nil},
		}},
		{Key: "patchset", Value: nil}, {Key: "commit_tags", Value: bson.A{}}, {Key: "commit_message", Value: nil}, {Key: "tip_of_branch", Value: true},
	}
}

// kernelciNodes are documents as KernelCI's models make them: a checkout, a
// build that was replaced (which leaves its id there twice), a job, a
// regression, a node from before some of the fields were, and one that ours does
// not count as valid.
func kernelciNodes() []any {
	common := func(n int, kind, name string, path bson.A, parent any) bson.D {
		return bson.D{
			{Key: "_id", Value: oid(n)}, {Key: "kind", Value: kind}, {Key: "name", Value: name}, {Key: "path", Value: path}, {Key: "group", Value: nil},
			{Key: "parent", Value: parent}, {Key: "state", Value: "running"}, {Key: "result", Value: nil}, {Key: "artifacts", Value: nil},
			{Key: "debug", Value: nil}, {Key: "jobfilter", Value: nil}, {Key: "platform_filter", Value: bson.A{}},
			{Key: "created", Value: date(early.Add(time.Duration(n) * time.Second))}, {Key: "updated", Value: date(early.Add(time.Hour))},
			{Key: "timeout", Value: date(early.Add(6 * time.Hour))}, {Key: "holdoff", Value: nil}, {Key: "owner", Value: "production"},
			{Key: "submitter", Value: "service:pipeline"}, {Key: "treeid", Value: "tree-1"}, {Key: "user_groups", Value: bson.A{}},
			{Key: "processed_by_kcidb_bridge", Value: false}, {Key: "retry_counter", Value: int32(0)},
		}
	}
	build := func(more ...bson.E) bson.D {
		return append(bson.D{{Key: "kernel_revision", Value: revision()}, {Key: "arch", Value: "x86_64"}, {Key: "compiler", Value: "gcc-12"},
			{Key: "defconfig", Value: "defconfig"}, {Key: "error_code", Value: nil}, {Key: "runtime", Value: "k8s"}, {Key: "platform", Value: "kubernetes"}}, more...)
	}
	checkout := append(common(1, "checkout", "checkout", bson.A{"checkout"}, nil), bson.E{Key: "data", Value: bson.D{{Key: "kernel_revision", Value: revision()}}})
	kbuild := append(common(2, "kbuild", "kbuild-gcc-12", bson.A{"checkout", "kbuild-gcc-12"}, oid(1)),
		bson.E{Key: "data", Value: build(bson.E{Key: "regression", Value: oid(4)})}, bson.E{Key: "id", Value: oid(2)})
	job := append(common(3, "job", "baseline", bson.A{"checkout", "kbuild-gcc-12", "baseline"}, oid(2)), bson.E{Key: "data", Value: build()})
	regression := append(common(4, "regression", "kbuild-gcc-12", bson.A{"checkout", "kbuild-gcc-12"}, nil), bson.E{Key: "data", Value: bson.D{
		{Key: "fail_node", Value: oid(2)}, {Key: "pass_node", Value: string(storetest.ID(90))}, {Key: "node_sequence", Value: bson.A{oid(91)}},
		{Key: "failed_kernel_revision", Value: revision()},
	}})
	old := bson.D{
		{Key: "_id", Value: oid(5)}, {Key: "kind", Value: "test"}, {Key: "name", Value: "old"}, {Key: "path", Value: bson.A{"old"}}, {Key: "state", Value: "done"},
		{Key: "data", Value: bson.D{{Key: "misc", Value: bson.D{{Key: "%2F", Value: int64(1)}, {Key: "100%", Value: 0.5}}}}},
		{Key: "created", Value: date(early)}, {Key: "updated", Value: date(early)}, {Key: "timeout", Value: date(early)}, {Key: "owner", Value: "production"},
		{Key: "user_groups", Value: nil}, {Key: "retry_counter", Value: nil}, {Key: "processed_by_kcidb_bridge", Value: nil},
	}
	nowhere := revision()
	nowhere[0].Value = "" // a tree without a name
	lax := append(common(6, "checkout", "checkout", bson.A{"checkout"}, nil), bson.E{Key: "data", Value: bson.D{{Key: "kernel_revision", Value: nowhere}}})
	return []any{checkout, kbuild, job, regression, old, lax}
}

func kernelciEvent(key, sequence int, at time.Time, data any) bson.D {
	return bson.D{
		{Key: "_id", Value: oid(key)}, {Key: "timestamp", Value: date(at)}, {Key: "sequence_id", Value: int32(sequence)}, {Key: "channel", Value: "node"},
		{Key: "owner", Value: "production"}, {Key: "data", Value: data},
	}
}

func nodeData(n int, op, kind, state string) bson.D {
	return bson.D{
		{Key: "op", Value: op}, {Key: "id", Value: string(storetest.ID(n))}, {Key: "kind", Value: kind}, {Key: "name", Value: kind}, {Key: "path", Value: bson.A{"checkout", kind}},
		{Key: "group", Value: nil}, {Key: "state", Value: state}, {Key: "result", Value: nil}, {Key: "owner", Value: "production"},
		{Key: "data", Value: bson.D{{Key: "regression", Value: oid(4)}}}, {Key: "is_hierarchy", Value: false},
	}
}

// password is that of KernelCI's users here; their hashes are Python's.
const password = "correct horse"

func kernelciUser(n int, name, idField string) bson.D {
	return bson.D{
		{Key: "_id", Value: oid(n)}, {Key: "email", Value: strings.ToLower(name) + fmt.Sprint(n) + "@example.org"},
		{Key: "hashed_password", Value: "$2b$04$tXDCbOF4TNR33ycN5CCRrukrks79lWZJxQqqqixIUH4QXo0z1ypf."}, {Key: "is_active", Value: true},
		{Key: "is_superuser", Value: false}, {Key: "is_verified", Value: true}, {Key: "username", Value: name}, {Key: "revision_id", Value: nil},
		{Key: "groups", Value: bson.A{bson.D{{Key: idField, Value: oid(80)}, {Key: "name", Value: "node:edit:any"}}}},
	}
}

// kernelci gives the name of a database as KernelCI's API leaves it, with its
// indexes, and a door to it. TTL indexes, which FerretDB does not know, are
// plain ones here.
func kernelci(t *testing.T, uri string) (string, *driver.Database) {
	t.Helper()
	name := fresh(t, uri)
	db := mongo.Raw(t, uri, name)
	subscriber := func(id string, last int) bson.D {
		return bson.D{
			{Key: "_id", Value: oid(70 + last)}, {Key: "subscriber_id", Value: id}, {Key: "channel", Value: "node"}, {Key: "user", Value: "production"},
			{Key: "promiscuous", Value: true}, {Key: "last_event_id", Value: int32(last)}, {Key: "created_at", Value: date(early)}, {Key: "last_poll", Value: nil},
		}
	}
	lacking := kernelciEvent(30, 0, early, nodeData(1, "created", "checkout", "running"))
	lacking[2].Value = nil
	for collection, docs := range map[string][]any{
		"node": kernelciNodes(),
		"eventhistory": {
			lacking,
			kernelciEvent(31, 41, early, nodeData(1, "created", "checkout", "running")),
			kernelciEvent(32, 42, early.Add(time.Minute), nodeData(2, "created", "kbuild", "running")),
			kernelciEvent(33, 43, early.Add(2*time.Minute), "a word"),
		},
		"subscriber_state": {subscriber("scheduler-prod-1", 41), subscriber("dashboard", 0)},
		"usergroup":        {bson.D{{Key: "_id", Value: oid(80)}, {Key: "name", Value: "node:edit:any"}}},
		"user":             {kernelciUser(81, "Production", "_id"), kernelciUser(82, "bob", "id"), kernelciUser(83, "BOB", "_id")},
	} {
		if _, err := db.Collection(collection).InsertMany(t.Context(), docs); err != nil {
			t.Fatal(err)
		}
	}
	for _, index := range kernelciIndexes {
		model := driver.IndexModel{Keys: index.keys, Options: options.Index().SetName(index.name).SetUnique(index.unique)}
		if _, err := db.Collection(index.collection).Indexes().CreateOne(t.Context(), model); err != nil {
			t.Fatal(err)
		}
	}
	return name, db
}

func keys(fields ...string) bson.D {
	d := bson.D{}
	for _, f := range fields {
		d = append(d, bson.E{Key: f, Value: int32(1)})
	}
	return d
}

var kernelciIndexes = []struct {
	collection, name string
	keys             bson.D
	unique           bool
}{
	{"eventhistory", "ttl_timestamp", keys("timestamp"), false},
	{"eventhistory", "channel_sequence_id", keys("channel", "sequence_id"), false},
	{"eventhistory", "kind_timestamp", keys("data.kind", "timestamp"), false},
	{"eventhistory", "by_hand", keys("sequence_id", "_id"), false}, // the same keys as ours
	{"subscriber_state", "unique_subscriber_id", keys("subscriber_id"), true},
	{"subscriber_state", "last_poll", keys("last_poll"), false},
	{"user", "username_unique", keys("username"), true}, // ours has another name
	{"user", "email_1", keys("email"), true},
	{"usergroup", "name_1", keys("name"), true},
}

func indexNames(t *testing.T, db *driver.Database, collection string) []string {
	t.Helper()
	list, err := db.Collection(collection).Indexes().ListSpecifications(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	names := make([]string, len(list))
	for i := range list {
		names[i] = list[i].Name
	}
	slices.Sort(names)
	return names
}

func TestIndexesOfKernelCIStayAndAreNotDoubled(t *testing.T) {
	uri := mongotest.Start(t)
	name, db := kernelci(t, uri)
	open(t, mongo.Options{URI: uri, Database: name, Now: clockAt(start)})
	for _, index := range kernelciIndexes {
		if names := indexNames(t, db, index.collection); !slices.Contains(names, index.name) {
			t.Errorf("%s of %s is gone: %s", index.name, index.collection, names)
		}
	}
	for collection, doubled := range map[string]string{"user": "username_1", "eventhistory": "sequence_id_1__id_1"} {
		if names := indexNames(t, db, collection); slices.Contains(names, doubled) {
			t.Errorf("%s has %s beside KernelCI's own on the same keys", collection, doubled)
		}
	}
	before := indexNames(t, db, "node")
	open(t, mongo.Options{URI: uri, Database: name, Now: clockAt(start)})
	if after := indexNames(t, db, "node"); !slices.Equal(after, before) {
		t.Errorf("opened again: indexes %s, before %s", after, before)
	}
}

func TestNodesOfKernelCIAreReadAsTheyAre(t *testing.T) {
	uri := mongotest.Start(t)
	name, _ := kernelci(t, uri)
	st := open(t, mongo.Options{URI: uri, Database: name, Now: clockAt(start)})
	kbuild, err := st.Get(t.Context(), storetest.ID(2))
	if err != nil {
		t.Fatal(err)
	}
	if kbuild.Parent != storetest.ID(1) || kbuild.Kind != node.KindKbuild || kbuild.Owner != "production" || !kbuild.Created.Equal(early.Add(2*time.Second)) ||
		kbuild.Text("regression") != string(storetest.ID(4)) || kbuild.Get("kernel_revision.version.version") != 6.0 || kbuild.Artifacts == nil || kbuild.JobFilter != nil {
		t.Errorf("%+v", kbuild)
	}
	old, err := st.Get(t.Context(), storetest.ID(5))
	if err != nil || old.PlatformFilter == nil || old.UserGroups == nil || old.KCIDBProcessed || old.RetryCounter != 0 || old.Debug == nil || !old.Holdoff.IsZero() {
		t.Errorf("%+v: %v", old, err)
	}
	if misc, _ := old.Get("misc").(map[string]any); misc["%2F"] != 1.0 || misc["100%"] != 0.5 {
		t.Errorf("keys in data: %v", misc)
	}
}

// kernelciQuestions are asked of KernelCI's documents; the answer is what Match
// says, and must not be empty.
var kernelciQuestions = []string{
	"parent=65f000000000000000000001", "parent=null&kind=checkout", "id=65f000000000000000000002", "kind=kbuild&data.kernel_revision.tree=mainline",
	"created__lt=2025-01-12T00:00:00", "created__gt=2025-01-11T08:00:02", "created=2025-01-11T08:00:02.123", "updated__lte=2025-01-11T09:00:00.123456",
	"state=running&timeout__lt=2025-01-12T08:00:00", "holdoff=null", "data.regression=65f000000000000000000004", "data.fail_node=65f000000000000000000002",
	"data.pass_node=65f00000000000000000005a", "data.node_sequence=65f00000000000000000005b", "data.fail_node__ne=65f000000000000000000003",
	"processed_by_kcidb_bridge=false", "processed_by_kcidb_bridge__ne=true", "retry_counter=0", "retry_counter__lt=1", "retry_counter__gte=0",
	"artifacts__ne=null", "debug__ne=null", "user_groups__ne=null", "platform_filter__ne=null", "jobfilter=null", "treeid=null", "group=null",
	"data.kernel_revision.version.version=6", "path=baseline", "name__re=^kbuild", "data.runtime=k8s&data.error_code=null",
}

func TestQuestionsToKernelCIsDocumentsMeanWhatMatchSays(t *testing.T) {
	uri := mongotest.Start(t)
	name, _ := kernelci(t, uri)
	st := open(t, mongo.Options{URI: uri, Database: name, Now: clockAt(start)})
	all, err := st.Find(t.Context(), node.Query{})
	if err != nil || len(all) != 6 {
		t.Fatalf("%d nodes: %v", len(all), err)
	}
	for _, question := range kernelciQuestions {
		q := parse(t, question)
		var want, got []node.ID
		for _, n := range all {
			if q.Match(n) {
				want = append(want, n.ID)
			}
		}
		found, err := st.Find(t.Context(), q)
		for _, n := range found {
			got = append(got, n.ID)
		}
		if err != nil || !slices.Equal(got, want) || len(want) == 0 {
			t.Errorf("%s: %v\n got %s\nwant %s", question, err, got, want)
		}
	}
	for _, question := range []string{"artifacts=null", "debug=null", "processed_by_kcidb_bridge=true", "retry_counter__gt=0", "retry_counter__nin=0"} {
		if n, err := st.Count(t.Context(), parse(t, question)); n != 0 || err != nil {
			t.Errorf("%s: %d nodes: %v", question, n, err)
		}
	}
}

func TestNodesOfKernelCIComeBeforeOurs(t *testing.T) {
	uri := mongotest.Start(t)
	name, _ := kernelci(t, uri)
	st := open(t, mongo.Options{URI: uri, Database: name, Now: clockAt(start)})
	for _, n := range []int{20, 19} {
		if _, err := st.Create(t.Context(), storetest.Checkout(n)); err != nil {
			t.Fatal(err)
		}
	}
	found, err := st.Find(t.Context(), node.Query{})
	var got []node.ID
	for _, n := range found {
		got = append(got, n.ID)
	}
	var want []node.ID
	for _, n := range []int{1, 2, 3, 4, 5, 6, 20, 19} {
		want = append(want, storetest.ID(n))
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v\n got %s\nwant %s", err, got, want)
	}
}

func TestPagesLeadFromNodesOfKernelCIToOurs(t *testing.T) {
	uri := mongotest.Start(t)
	name, _ := kernelci(t, uri)
	st := open(t, mongo.Options{URI: uri, Database: name, Now: clockAt(start)})
	for _, n := range []int{20, 19, 18} {
		if _, err := st.Create(t.Context(), storetest.Checkout(n)); err != nil {
			t.Fatal(err)
		}
	}
	for _, q := range []node.Query{{Limit: 2}, {Limit: 3, Newest: true}} {
		whole, err := st.Find(t.Context(), node.Query{Newest: q.Newest})
		if err != nil {
			t.Fatal(err)
		}
		var want, got []node.ID
		for _, n := range whole {
			want = append(want, n.ID)
		}
		for more := true; more; more = q.After != "" {
			var page []node.Node
			if page, q.After, err = st.Page(t.Context(), q); err != nil {
				t.Fatal(err)
			}
			for _, n := range page {
				got = append(got, n.ID)
			}
		}
		if !slices.Equal(got, want) || len(want) != 9 {
			t.Errorf("newest first %t:\n got %s\nwant %s", q.Newest, got, want)
		}
	}
}

func TestNodesOfKernelCIAreChangedWithTheirEvents(t *testing.T) {
	uri := mongotest.Start(t)
	name, db := kernelci(t, uri)
	first := open(t, mongo.Options{URI: uri, Database: name, Now: clockAt(start)})
	second := open(t, mongo.Options{URI: uri, Database: name, Now: clockAt(start)})
	var group sync.WaitGroup
	for i := range 6 {
		st := []store.Store{first, second}[i%2]
		group.Go(func() {
			if _, err := st.Update(t.Context(), storetest.ID(2), func(n *node.Node) error { n.RetryCounter++; return nil }); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	kbuild, err := first.Update(t.Context(), storetest.ID(2), func(n *node.Node) error { n.State, n.Result = node.Done, node.Pass; return nil })
	if err != nil || kbuild.RetryCounter != 6 || !kbuild.Updated.Equal(start.Truncate(time.Millisecond)) {
		t.Errorf("%+v: %v", kbuild, err)
	}
	if _, err := first.Update(t.Context(), storetest.ID(2), func(n *node.Node) error { n.State = node.Running; return nil }); !errors.Is(err, errs.Invalid) {
		t.Errorf("from done to running: %v", err)
	}
	n, err := first.Collect(t.Context())
	events, looked, after := first.After(t.Context(), 43, event.Filter{}, 0)
	if n != 7 || len(events) != 7 || looked != 50 || err != nil || after != nil {
		t.Fatalf("collected %d, read %d to %d: %v, %v", n, len(events), looked, err, after)
	}
	last, err := events[6].Node()
	if err != nil || events[0].Sequence != 44 || last.State != node.Done || *last.PreviousState != node.Running {
		t.Errorf("%+v: %v", last, err)
	}
	var raw bson.M
	if err := db.Collection("node").FindOne(t.Context(), bson.D{{Key: "_id", Value: oid(2)}}).Decode(&raw); err != nil || raw["id"] != oid(2) {
		t.Errorf("a field that we do not know: %v: %v", raw["id"], err)
	}
}

func TestALaxNodeOfKernelCIIsChangedButNotForTheWorse(t *testing.T) {
	uri := mongotest.Start(t)
	name, _ := kernelci(t, uri)
	st := open(t, mongo.Options{URI: uri, Database: name, Now: clockAt(start)})
	n, err := st.Update(t.Context(), storetest.ID(6), func(n *node.Node) error {
		n.SetError(node.Incomplete, node.ErrCodeTimeout, "it took too long")
		return nil
	})
	if err != nil || n.State != node.Done {
		t.Errorf("%+v: %v", n, err)
	}
	if _, err := st.Update(t.Context(), storetest.ID(6), func(n *node.Node) error { n.Name = ""; return nil }); !errors.Is(err, errs.Invalid) {
		t.Errorf("without a name: %v", err)
	}
	like := storetest.Checkout(20)
	like.Data["kernel_revision"].(map[string]any)["tree"] = ""
	if _, err := st.Create(t.Context(), like); !errors.Is(err, errs.Invalid) {
		t.Errorf("a new one like it: %v", err)
	}
}

func TestANodeThatKernelCIReplacedLosesNoEvent(t *testing.T) {
	uri := mongotest.Start(t)
	name, db := kernelci(t, uri)
	st := open(t, mongo.Options{URI: uri, Database: name, Now: clockAt(start)})
	touch := func() {
		t.Helper()
		if _, err := st.Update(t.Context(), storetest.ID(20), func(n *node.Node) error { n.RetryCounter++; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := st.Create(t.Context(), storetest.Checkout(20)); err != nil {
		t.Fatal(err)
	}
	touch()
	if _, err := st.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	// What replace_one makes of a model that knows nothing of our fields.
	gone := bson.D{{Key: "$unset", Value: keys("_rev", "_seq", "_outbox", "_pending")}}
	if _, err := db.Collection("node").UpdateByID(t.Context(), oid(20), gone); err != nil {
		t.Fatal(err)
	}
	touch()
	touch()
	if n, err := st.Collect(t.Context()); n != 2 || err != nil {
		t.Errorf("%d events of 2 writes: %v", n, err)
	}
}

func TestAJobOfKernelCIExistsOnce(t *testing.T) {
	uri := mongotest.Start(t)
	name, _ := kernelci(t, uri)
	st := open(t, mongo.Options{URI: uri, Database: name, Now: clockAt(start)})
	job := storetest.Job(20, storetest.ID(2))
	job.Name = "baseline"
	job.Set("runtime", "k8s")
	job.Set("platform", "kubernetes")
	if _, err := st.Create(t.Context(), job); !errors.Is(err, errs.Conflict) {
		t.Errorf("the same job again: %v", err)
	}
	job.RetryCounter = 1
	if _, err := st.Create(t.Context(), job); err != nil {
		t.Errorf("another attempt: %v", err)
	}
	if _, err := st.Create(t.Context(), job); !errors.Is(err, errs.Conflict) {
		t.Errorf("another attempt again: %v", err)
	}
}

func TestJobsThatKernelCIMadeTwiceAreChanged(t *testing.T) {
	uri := mongotest.Start(t)
	name, db := kernelci(t, uri)
	twin := slices.Clone(kernelciNodes()[2].(bson.D))
	twin[0].Value = oid(7)
	if _, err := db.Collection("node").InsertOne(t.Context(), twin); err != nil {
		t.Fatal(err)
	}
	st := open(t, mongo.Options{URI: uri, Database: name, Now: clockAt(start)})
	for _, n := range []int{3, 7} {
		if _, err := st.Update(t.Context(), storetest.ID(n), func(n *node.Node) error { n.State = node.Done; return nil }); err != nil {
			t.Errorf("node %d: %v", n, err)
		}
	}
}

func TestAHierarchyGrowsBelowANodeOfKernelCI(t *testing.T) {
	uri := mongotest.Start(t)
	name, _ := kernelci(t, uri)
	st := open(t, mongo.Options{URI: uri, Database: name, Now: clockAt(start)})
	for range 2 {
		all, err := st.PutHierarchy(t.Context(), storetest.ID(3), "r", results)
		if err != nil || len(all) != 3 || all[1].Parent != storetest.ID(3) {
			t.Fatalf("%d nodes: %v", len(all), err)
		}
	}
	if n, err := st.Collect(t.Context()); n != 1 || err != nil {
		t.Errorf("%d events: %v", n, err)
	}
	if n, err := st.Count(t.Context(), node.Where("parent", storetest.ID(3))); n != 2 || err != nil {
		t.Errorf("%d children: %v", n, err)
	}
}

func TestTheLogOfKernelCIIsReadAndGoesOn(t *testing.T) {
	uri := mongotest.Start(t)
	name, _ := kernelci(t, uri)
	st := open(t, mongo.Options{URI: uri, Database: name, Now: clockAt(start)})
	events, looked, err := st.After(t.Context(), 0, event.Filter{}, 0)
	if err != nil || looked != 43 || len(events) != 3 {
		t.Fatalf("%d events, looked to %d: %v", len(events), looked, err)
	}
	p, err := events[1].Node()
	if err != nil || events[1].ID != oid(32).Hex() || events[1].Sequence != 42 || events[1].Owner != "production" || events[1].Channel != "node" ||
		events[1].Type != event.DefaultType || !events[1].Time.Equal(early.Add(time.Minute)) || p.ID != storetest.ID(2) || p.Data["regression"] != string(storetest.ID(4)) {
		t.Errorf("%+v %+v: %v", events[1], p, err)
	}
	if string(events[2].Data) != `"a word"` {
		t.Errorf("data that is no object: %s", events[2].Data)
	}
	for question, h := range map[string]store.History{
		"kind": {Kind: node.KindKbuild}, "node": {NodeID: storetest.ID(2)}, "name": {Name: "kbuild"}, "id": {Keys: []node.ID{node.ID(oid(32).Hex())}}, "path": {PathRe: `^checkout\.kbuild$`},
		"from": {From: early.Add(time.Minute - time.Millisecond), Op: event.Created},
	} {
		if found, err := st.History(t.Context(), h); err != nil || len(found) != 1 || found[0].Sequence != 42 {
			t.Errorf("%s: %+v: %v", question, found, err)
		}
	}
	own := event.Event{ID: "0b9c2d7e-0000-4000-8000-000000000001", Channel: "custom", Time: start, Data: []byte(`{"n":1}`)}
	if err := st.Append(t.Context(), own, own); err != nil {
		t.Fatal(err)
	}
	if last, err := st.LastSequence(t.Context()); last != 44 || err != nil {
		t.Errorf("the log has come to %d: %v", last, err)
	}
	if n, err := st.Prune(t.Context(), early.Add(time.Hour), 100); n != 4 || err != nil {
		t.Errorf("pruned %d of KernelCI's 4 events: %v", n, err)
	}
}

func TestADurableSubscriberOfKernelCIGoesOnWhereItWas(t *testing.T) {
	uri := mongotest.Start(t)
	name, _ := kernelci(t, uri)
	st := open(t, mongo.Options{URI: uri, Database: name, Now: clockAt(start)})
	if list, err := st.Subscriptions(t.Context(), 0, 10); err != nil || len(list) != 0 {
		t.Errorf("before anyone is back: %+v: %v", list, err)
	}
	want := store.Subscription{Channel: "node", User: "production", SubscriberID: "scheduler-prod-1", Promiscuous: true}
	sub, err := st.Subscribe(t.Context(), want)
	if err != nil || sub.ID == 0 || sub.Acknowledged != 41 || sub.Delivered != 41 || !sub.Created.Equal(early) || !sub.LastPoll.IsZero() {
		t.Fatalf("%+v: %v", sub, err)
	}
	if _, err := st.Subscribe(t.Context(), store.Subscription{Channel: "node", User: "eve", SubscriberID: "scheduler-prod-1"}); !errors.Is(err, errs.Denied) {
		t.Errorf("another user: %v", err)
	}
	events, looked, err := st.After(t.Context(), sub.Acknowledged, event.Filter{Channel: sub.Channel}, 1)
	if err != nil || len(events) != 1 || events[0].Sequence != 42 {
		t.Fatalf("%+v: %v", events, err)
	}
	for _, acknowledged := range []int64{41, 42} {
		if err := st.Polled(t.Context(), sub.ID, acknowledged, looked, start); err != nil {
			t.Fatal(err)
		}
	}
	again, err := st.Subscribe(t.Context(), want)
	if err != nil || again.ID != sub.ID || again.Acknowledged != 42 {
		t.Errorf("%+v: %v", again, err)
	}
	other, err := st.Subscribe(t.Context(), store.Subscription{Channel: "node", User: "production", SubscriberID: "dashboard"})
	if err != nil || other.ID == sub.ID || other.Acknowledged != 0 {
		t.Errorf("%+v: %v", other, err)
	}
}

func TestTheLogGoesOnBehindWhatWasSeenOfIt(t *testing.T) {
	uri := mongotest.Start(t)
	name, db := kernelci(t, uri)
	seen := bson.D{{Key: "$set", Value: bson.D{{Key: "last_event_id", Value: int64(50)}}}}
	if _, err := db.Collection("subscriber_state").UpdateOne(t.Context(), bson.D{{Key: "subscriber_id", Value: "dashboard"}}, seen); err != nil {
		t.Fatal(err)
	}
	st := open(t, mongo.Options{URI: uri, Database: name, Now: clockAt(start)})
	check := func(when string, want int64) {
		t.Helper()
		if err := st.Append(t.Context(), event.Event{ID: when, Channel: "custom", Time: start, Data: []byte(`1`)}); err != nil {
			t.Fatal(err)
		}
		if last, err := st.LastSequence(t.Context()); last != want || err != nil {
			t.Errorf("%s: the log has come to %d, want %d: %v", when, last, want, err)
		}
	}
	check("a subscriber has seen 50", 51)
	if _, err := st.Prune(t.Context(), early, 1); err != nil {
		t.Fatal(err)
	}
	// As a TTL index would.
	if _, err := db.Collection("eventhistory").DeleteMany(t.Context(), bson.D{}); err != nil {
		t.Fatal(err)
	}
	check("all events are gone", 52)
}

func TestAFunctionIsNotGivenWhatKernelCIHasDone(t *testing.T) {
	uri := mongotest.Start(t)
	name, _ := kernelci(t, uri)
	o := mongo.Options{URI: uri, Database: name, Now: clockAt(start)}
	st := open(t, o)
	own := event.Event{ID: "own", Channel: "custom", Time: start, Data: []byte(`{"n":1}`)}
	if err := st.Append(t.Context(), own); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if at, err := st.Cursor(t.Context(), "report"); at != 43 || err != nil {
			t.Errorf("a new cursor is at %d, want 43: %v", at, err)
		}
		st = open(t, o)
	}
	if err := st.Advance(t.Context(), "report", 44); err != nil {
		t.Fatal(err)
	}
	if at, err := st.Cursor(t.Context(), "report"); at != 44 || err != nil {
		t.Errorf("advanced to %d, want 44: %v", at, err)
	}
}

func TestUsersOfKernelCILogIn(t *testing.T) {
	uri := mongotest.Start(t)
	name, db := kernelci(t, uri)
	st := open(t, mongo.Options{URI: uri, Database: name, Now: clockAt(start)})
	a, err := auth.New(auth.Options{Secret: []byte("0123456789abcdef"), Now: clockAt(start)})
	if err != nil {
		t.Fatal(err)
	}
	for login, want := range map[string]node.ID{
		"Production": storetest.ID(81), "production": storetest.ID(81), "PRODUCTION81@example.org": storetest.ID(81), "bob": storetest.ID(82), "BOB": storetest.ID(83),
	} {
		u, err := st.UserByName(t.Context(), login)
		ok, outdated := a.CheckPassword(u.PasswordHash, password)
		if err != nil || u.ID != want || !ok || !outdated || !u.Active || !u.Verified || u.Superuser || u.Created.IsZero() {
			t.Errorf("%s: %+v, password %t: %v", login, u, ok, err)
		}
		if !slices.Equal(u.Groups, []user.Group{{ID: storetest.ID(80), Name: "node:edit:any"}}) {
			t.Errorf("%s is in %+v", login, u.Groups)
		}
	}
	for _, n := range []int{81, 82, 83} {
		for _, hash := range []string{"new", "newer"} {
			if _, err := st.UpdateUser(t.Context(), storetest.ID(n), func(u *user.User) error { u.PasswordHash = hash; return nil }); err != nil {
				t.Errorf("user %d: %v", n, err)
			}
		}
	}
	var raw bson.M
	if err := db.Collection("user").FindOne(t.Context(), bson.D{{Key: "_id", Value: oid(81)}}).Decode(&raw); err != nil || raw["hashed_password"] != "newer" {
		t.Errorf("%v: %v", raw, err)
	}
	if _, has := raw["revision_id"]; !has {
		t.Error("a field that we do not know is gone")
	}
	taken := user.User{ID: storetest.ID(99), Username: "PRODUCTION", Email: "x@example.org"}
	if err := st.CreateUser(t.Context(), taken); !errors.Is(err, errs.Conflict) {
		t.Errorf("a name that KernelCI has given: %v", err)
	}
	if page, total, err := st.ListUsers(t.Context(), store.UserFilter{Group: "node:edit:any"}, 2, 0); err != nil || total != 3 || len(page) != 2 || page[0].ID != storetest.ID(81) {
		t.Errorf("%+v of %d: %v", page, total, err)
	}
	if err := st.DeleteGroup(t.Context(), storetest.ID(80)); !errors.Is(err, errs.Conflict) {
		t.Errorf("a group in use: %v", err)
	}
}

// known are the fields that KernelCI's models have, with the types that their
// documents hold. It reads past those that begin with "_".
var known = map[string]map[string][]bson.Type{
	"node": {
		"_id": {bson.TypeObjectID}, "kind": {bson.TypeString}, "name": {bson.TypeString}, "path": {bson.TypeArray}, "group": {bson.TypeString, bson.TypeNull},
		"parent": {bson.TypeObjectID, bson.TypeNull}, "state": {bson.TypeString}, "result": {bson.TypeString, bson.TypeNull}, "artifacts": {bson.TypeEmbeddedDocument},
		"data": {bson.TypeEmbeddedDocument}, "debug": {bson.TypeEmbeddedDocument}, "jobfilter": {bson.TypeArray, bson.TypeNull}, "platform_filter": {bson.TypeArray},
		"created": {bson.TypeDateTime}, "updated": {bson.TypeDateTime}, "timeout": {bson.TypeDateTime}, "holdoff": {bson.TypeDateTime, bson.TypeNull},
		"owner": {bson.TypeString, bson.TypeNull}, "submitter": {bson.TypeString, bson.TypeNull}, "treeid": {bson.TypeString, bson.TypeNull}, "user_groups": {bson.TypeArray},
		"processed_by_kcidb_bridge": {bson.TypeBoolean}, "retry_counter": {bson.TypeInt32},
	},
	"eventhistory": {
		"_id": {bson.TypeObjectID}, "timestamp": {bson.TypeDateTime}, "sequence_id": {bson.TypeInt32}, "channel": {bson.TypeString}, "owner": {bson.TypeString, bson.TypeNull},
		"data": {bson.TypeEmbeddedDocument},
	},
	"subscriber_state": {
		"_id": {bson.TypeObjectID}, "subscriber_id": {bson.TypeString}, "channel": {bson.TypeString}, "user": {bson.TypeString}, "promiscuous": {bson.TypeBoolean},
		"last_event_id": {bson.TypeInt32}, "created_at": {bson.TypeDateTime}, "last_poll": {bson.TypeDateTime, bson.TypeNull},
	},
	"user": {
		"_id": {bson.TypeObjectID}, "email": {bson.TypeString}, "hashed_password": {bson.TypeString}, "is_active": {bson.TypeBoolean}, "is_superuser": {bson.TypeBoolean},
		"is_verified": {bson.TypeBoolean}, "username": {bson.TypeString}, "groups": {bson.TypeArray},
	},
	"telemetry": {
		"_id": {bson.TypeObjectID}, "ts": {bson.TypeDateTime}, "kind": {bson.TypeString}, "runtime": {bson.TypeString, bson.TypeNull}, "device_id": {bson.TypeString, bson.TypeNull},
		"device_type": {bson.TypeString, bson.TypeNull}, "result": {bson.TypeString, bson.TypeNull}, "is_infra_error": {bson.TypeBoolean},
	},
	"usergroup": {"_id": {bson.TypeObjectID}, "name": {bson.TypeString}},
}

func TestOurDocumentsAreWhatKernelCIReads(t *testing.T) {
	uri := mongotest.Start(t)
	name := fresh(t, uri)
	db := mongo.Raw(t, uri, name)
	st := open(t, mongo.Options{URI: uri, Database: name, Now: clockAt(start)})
	write(t, st)
	for collection, fields := range known {
		cursor, err := db.Collection(collection).Find(t.Context(), bson.D{})
		if err != nil {
			t.Fatal(err)
		}
		var docs []bson.Raw
		if err := cursor.All(t.Context(), &docs); err != nil || len(docs) == 0 {
			t.Fatalf("%s: %d documents: %v", collection, len(docs), err)
		}
		for _, doc := range docs {
			checkKnown(t, collection, doc, fields)
		}
	}
	// KernelCI's models take integers alone for these, and ids for that.
	for field, want := range map[string]bson.Type{"data.kernel_revision.version.version": bson.TypeInt32, "data.half": bson.TypeDouble} {
		if got := lookup(t, db, "node", oid(1), field).Type; got != want {
			t.Errorf("%s is %s, want %s", field, got, want)
		}
	}
	if got := lookup(t, db, "user", oid(81), "groups.0._id"); got.Type != bson.TypeObjectID {
		t.Errorf("a group's id is %s", got.Type)
	}
	cursor, err := db.Collection("eventhistory").Find(t.Context(), bson.D{{Key: "channel", Value: "node"}, {Key: "sequence_id", Value: bson.D{{Key: "$gt", Value: int32(0)}}},
		{Key: "data.kind", Value: "checkout"}, {Key: "timestamp", Value: bson.D{{Key: "$gt", Value: date(early)}}}})
	var found []bson.M
	if err == nil {
		err = cursor.All(t.Context(), &found)
	}
	if err != nil || len(found) != 1 {
		t.Errorf("asked as KernelCI asks, %d events: %v", len(found), err)
	}
}

// write makes one document at least of everything that KernelCI has too.
func write(t *testing.T, st *mongo.Store) {
	t.Helper()
	ctx := t.Context()
	checkout := storetest.Checkout(1)
	checkout.Data["kernel_revision"].(map[string]any)["version"] = map[string]any{"version": 6.0, "patchlevel": 1.0}
	checkout.Set("half", 0.5)
	_, created := st.Create(ctx, checkout)
	job := storetest.Job(2, storetest.ID(1))
	job.Holdoff, job.JobFilter, job.Group = start, []string{"kver"}, "ktest"
	_, below := st.Create(ctx, job)
	_, changed := st.PutHierarchy(ctx, storetest.ID(2), "r", results)
	_, collected := st.Collect(ctx)
	sub, subscribed := st.Subscribe(ctx, store.Subscription{Channel: "node", User: "bob", SubscriberID: "dash"})
	lab := user.Group{ID: storetest.ID(80), Name: "lab"}
	for what, err := range map[string]error{
		"Create": created, "Create below": below, "PutHierarchy": changed, "Collect": collected, "Subscribe": subscribed, "Polled": st.Polled(ctx, sub.ID, 1, 2, start),
		"AddTelemetry":            st.AddTelemetry(ctx, []telemetry.Event{{ID: storetest.ID(60), Time: start, Texts: map[telemetry.Field]string{telemetry.Kind: "job_result"}}}),
		"CreateGroup":             st.CreateGroup(ctx, lab),
		"CreateUser":              st.CreateUser(ctx, user.User{ID: storetest.ID(81), Username: "bob", Email: "bob@example.org", PasswordHash: "x", Groups: []user.Group{lab}}),
		"UpdateUser":              updateUser(ctx, st),
		"CreateUser, of no group": st.CreateUser(ctx, user.User{ID: storetest.ID(82), Username: "eve", Email: "eve@example.org", PasswordHash: "x"}),
	} {
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

func updateUser(ctx context.Context, st *mongo.Store) error {
	_, err := st.UpdateUser(ctx, storetest.ID(81), func(u *user.User) error { u.Verified = true; return nil })
	return err
}

func checkKnown(t *testing.T, collection string, doc bson.Raw, fields map[string][]bson.Type) {
	t.Helper()
	elements, err := doc.Elements()
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, e := range elements {
		types, isKnown := fields[e.Key()]
		there[e.Key()] = true
		if isKnown && !slices.Contains(types, e.Value().Type) {
			t.Errorf("%s.%s is %s, want one of %v", collection, e.Key(), e.Value().Type, types)
		}
		if !isKnown && !strings.HasPrefix(e.Key(), "_") && collection != "telemetry" {
			t.Errorf("%s.%s is no field of KernelCI's", collection, e.Key())
		}
	}
	for field := range fields {
		if !there[field] {
			t.Errorf("%s: a document lacks %s", collection, field)
		}
	}
}

func lookup(t *testing.T, db *driver.Database, collection string, id bson.ObjectID, field string) bson.RawValue {
	t.Helper()
	var doc bson.Raw
	if err := db.Collection(collection).FindOne(t.Context(), bson.D{{Key: "_id", Value: id}}).Decode(&doc); err != nil {
		t.Fatal(err)
	}
	return doc.Lookup(strings.Split(field, ".")...)
}
