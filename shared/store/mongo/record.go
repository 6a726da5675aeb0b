package mongo

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
)

// fields are a node's own, under KernelCI's names. What is null in JSON is
// null here, so that a query finds the same in both.
type fields struct {
	Kind           string         `bson:"kind"`
	Name           string         `bson:"name"`
	Path           []string       `bson:"path"`
	Group          *string        `bson:"group"`
	Parent         *bson.ObjectID `bson:"parent"`
	State          string         `bson:"state"`
	Result         *string        `bson:"result"`
	Artifacts      bson.D         `bson:"artifacts"`
	Data           bson.D         `bson:"data"`
	Debug          bson.D         `bson:"debug"`
	JobFilter      []string       `bson:"jobfilter"`
	PlatformFilter []string       `bson:"platform_filter"`
	Created        *string        `bson:"created"`
	Updated        *string        `bson:"updated"`
	Timeout        *string        `bson:"timeout"`
	Holdoff        *string        `bson:"holdoff"`
	Owner          *string        `bson:"owner"`
	Submitter      *string        `bson:"submitter"`
	TreeID         *string        `bson:"treeid"`
	UserGroups     []string       `bson:"user_groups"`
	KCIDBProcessed bool           `bson:"processed_by_kcidb_bridge"`
	RetryCounter   int64          `bson:"retry_counter"`
}

// record is a node's document.
type record struct {
	ID       bson.ObjectID `bson:"_id"`
	Node     fields        `bson:",inline"`
	Rev      int64         `bson:"_rev"` // how often it was written
	Seq      int64         `bson:"_seq"` // its place in the order of creation
	JobKey   string        `bson:"_jobkey,omitempty"`
	Made     string        `bson:"_made,omitempty"`  // root and request of the hierarchy that it came with
	Place    int           `bson:"_place,omitempty"` // its place there, from 1
	Requests []string      `bson:"_requests,omitempty"`
	Outbox   []entry       `bson:"_outbox,omitempty"`  // events on their way to the log
	Pending  int64         `bson:"_pending,omitempty"` // there while the outbox may not be empty
}

// settle brings n to the form that is stored: valid, defaults filled, updated
// now, and reading the same before and after.
func (s *Store) settle(n node.Node) (node.Node, error) {
	n = n.Clone()
	n.Updated = s.now()
	n.SetDefaults(n.Updated)
	if _, err := node.ParseID(string(n.ID)); err != nil {
		return node.Node{}, fmt.Errorf("id: %w", err)
	}
	if err := n.Validate(); err != nil {
		return node.Node{}, err
	}
	doc, err := json.Marshal(n)
	if err != nil {
		return node.Node{}, errs.Wrap(errs.Invalid, err)
	}
	var settled node.Node
	if err := json.Unmarshal(doc, &settled); err != nil {
		return node.Node{}, errs.Wrap(errs.Invalid, err)
	}
	return settled, nil
}

// encode gives a settled node its document, as that of a new node.
func encode(n node.Node, seq int64) (record, error) {
	id, err := bson.ObjectIDFromHex(string(n.ID))
	if err != nil {
		return record{}, errs.Wrap(errs.Invalid, err)
	}
	f, err := encodeFields(n)
	return record{ID: id, Node: f, Rev: 1, Seq: seq, JobKey: jobKey(n)}, err
}

func encodeFields(n node.Node) (fields, error) {
	f := fields{
		Kind: string(n.Kind), Name: n.Name, Path: n.Path, Group: orNull(n.Group), State: string(n.State), Result: orNull(string(n.Result)),
		Artifacts: bson.D{}, Data: encodeMap(n.Data), Debug: encodeMap(n.Debug), JobFilter: n.JobFilter, PlatformFilter: n.PlatformFilter,
		Created: timeOrNull(n.Created), Updated: timeOrNull(n.Updated), Timeout: timeOrNull(n.Timeout), Holdoff: timeOrNull(n.Holdoff),
		Owner: orNull(n.Owner), Submitter: orNull(n.Submitter), TreeID: orNull(n.TreeID), UserGroups: n.UserGroups,
		KCIDBProcessed: n.KCIDBProcessed, RetryCounter: int64(n.RetryCounter),
	}
	for _, name := range slices.Sorted(maps.Keys(n.Artifacts)) {
		f.Artifacts = append(f.Artifacts, bson.E{Key: escape(name), Value: n.Artifacts[name]})
	}
	if n.Parent != "" {
		parent, err := bson.ObjectIDFromHex(string(n.Parent))
		if err != nil {
			return fields{}, errs.Wrap(errs.Invalid, fmt.Errorf("parent: %w", err))
		}
		f.Parent = &parent
	}
	return f, nil
}

// decode gives the node of a document.
func decode(r *record) (node.Node, error) {
	f := &r.Node
	n := node.Node{
		ID: node.ID(r.ID.Hex()), Kind: node.Kind(f.Kind), Name: f.Name, Path: f.Path, Group: text(f.Group), State: node.State(f.State),
		Result: node.Result(text(f.Result)), Artifacts: map[string]string{}, Data: decodeMap(f.Data), Debug: decodeMap(f.Debug),
		JobFilter: f.JobFilter, PlatformFilter: f.PlatformFilter, Owner: text(f.Owner), Submitter: text(f.Submitter), TreeID: text(f.TreeID),
		UserGroups: f.UserGroups, KCIDBProcessed: f.KCIDBProcessed, RetryCounter: int(f.RetryCounter),
	}
	for _, e := range f.Artifacts {
		n.Artifacts[unescape(e.Key)], _ = e.Value.(string)
	}
	if f.Parent != nil {
		n.Parent = node.ID(f.Parent.Hex())
	}
	for _, t := range []struct {
		to   *time.Time
		from *string
	}{{&n.Created, f.Created}, {&n.Updated, f.Updated}, {&n.Timeout, f.Timeout}, {&n.Holdoff, f.Holdoff}} {
		var err error
		if *t.to, err = parseTime(text(t.from)); err != nil {
			return node.Node{}, fmt.Errorf("the stored node %s: %w", n.ID, err)
		}
	}
	return n, nil
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func timeOrNull(t time.Time) *string { return orNull(node.FormatTime(t)) }

// parseTime reads what timeOrNull or node.FormatTime wrote.
func parseTime(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	return time.Parse(node.TimeLayout, s)
}

// escape gives a key the form in which MongoDB takes it for a name and nothing
// else.
func escape(key string) string { return escaper.Replace(key) }

func unescape(key string) string { return unescaper.Replace(key) }

var (
	escaper   = strings.NewReplacer("%", "%25", ".", "%2E", "$", "%24", "\x00", "%00")
	unescaper = strings.NewReplacer("%25", "%", "%2E", ".", "%24", "$", "%00", "\x00")
)

func encodeMap(m map[string]any) bson.D {
	doc := make(bson.D, 0, len(m))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		doc = append(doc, bson.E{Key: escape(key), Value: encodeValue(m[key])})
	}
	return doc
}

func encodeValue(v any) any {
	switch v := v.(type) {
	case map[string]any:
		return encodeMap(v)
	case []any:
		list := make(bson.A, len(v))
		for i := range v {
			list[i] = encodeValue(v[i])
		}
		return list
	}
	return v
}

func decodeMap(doc bson.D) map[string]any {
	m := make(map[string]any, len(doc))
	for _, e := range doc {
		m[unescape(e.Key)] = decodeValue(e.Value)
	}
	return m
}

// decodeValue gives back what JSON has: numbers are all float64.
func decodeValue(v any) any {
	switch v := v.(type) {
	case bson.D:
		return decodeMap(v)
	case bson.A:
		list := make([]any, len(v))
		for i := range v {
			list[i] = decodeValue(v[i])
		}
		return list
	case int32:
		return float64(v)
	case int64:
		return float64(v)
	}
	return v
}

// jobKinds are the kinds of node of which one with the same key must not be
// twice.
var jobKinds = []node.Kind{node.KindKbuild, node.KindJob, node.KindProcess}

// jobKey gives what makes a job unique; "" for other nodes.
func jobKey(n node.Node) string {
	runtime := n.Text("runtime")
	if runtime == "" || !slices.Contains(jobKinds, n.Kind) {
		return ""
	}
	key, err := json.Marshal([]any{n.Parent, n.Name, runtime, n.Text("platform"), n.RetryCounter})
	if err != nil {
		panic(err) // texts and a number
	}
	return string(key)
}
