package mongo

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
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
	Created        *time.Time     `bson:"created"`
	Updated        *time.Time     `bson:"updated"`
	Timeout        *time.Time     `bson:"timeout"`
	Holdoff        *time.Time     `bson:"holdoff"`
	Owner          *string        `bson:"owner"`
	Submitter      *string        `bson:"submitter"`
	TreeID         *string        `bson:"treeid"`
	UserGroups     []string       `bson:"user_groups"`
	KCIDBProcessed bool           `bson:"processed_by_kcidb_bridge"`
	RetryCounter   int64          `bson:"retry_counter,minsize"`
}

// record is a node's document.
type record struct {
	ID       bson.ObjectID `bson:"_id"`
	Node     fields        `bson:",inline"`
	Rev      int64         `bson:"_rev"` // changes with each write; 0: KernelCI's own, or never written here
	Seq      int64         `bson:"_seq"` // its place in the order of creation; 0: KernelCI's own, before all others
	JobKey   string        `bson:"_jobkey,omitempty"`
	Made     string        `bson:"_made,omitempty"`  // root and request of the hierarchy that it came with
	Place    int           `bson:"_place,omitempty"` // its place there, from 1
	Requests []string      `bson:"_requests,omitempty"`
	Outbox   []entry       `bson:"_outbox,omitempty"`  // events on their way to the log
	Pending  int64         `bson:"_pending,omitempty"` // there while the outbox may not be empty
}

// settle brings n to the form that is stored: valid but for the fault that it
// is known to have, defaults filled, updated now, times as dates keep them, and
// reading the same before and after.
func (s *Store) settle(n node.Node, known error) (node.Node, error) {
	n = n.Clone()
	n.Updated = s.now()
	n.SetDefaults(n.Updated)
	n.Created, n.Updated, n.Timeout, n.Holdoff = stored(n.Created), stored(n.Updated), stored(n.Timeout), stored(n.Holdoff)
	if _, err := node.ParseID(string(n.ID)); err != nil {
		return node.Node{}, fmt.Errorf("id: %w", err)
	}
	if err := n.Validate(); err != nil && (known == nil || err.Error() != known.Error()) {
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
		Created: dateOrNull(n.Created), Updated: dateOrNull(n.Updated), Timeout: dateOrNull(n.Timeout), Holdoff: dateOrNull(n.Holdoff),
		Owner: orNull(n.Owner), Submitter: orNull(n.Submitter), TreeID: orNull(n.TreeID), UserGroups: n.UserGroups,
		KCIDBProcessed: n.KCIDBProcessed, RetryCounter: int64(n.RetryCounter),
	}
	for _, name := range slices.Sorted(maps.Keys(n.Artifacts)) {
		f.Artifacts = append(f.Artifacts, bson.E{Key: escape(name), Value: n.Artifacts[name]})
	}
	var err error
	if f.Parent, err = idOrNull(n.Parent); err != nil {
		return fields{}, errs.Wrap(errs.Invalid, fmt.Errorf("parent: %w", err))
	}
	return f, nil
}

// decode gives the node of a document. What KernelCI leaves out or null has its
// default.
func decode(r *record) node.Node {
	f := &r.Node
	n := node.Node{
		ID: node.ID(r.ID.Hex()), Kind: node.Kind(f.Kind), Name: f.Name, Path: orEmpty(f.Path), Group: text(f.Group),
		State: node.State(f.State), Result: node.Result(text(f.Result)), Artifacts: map[string]string{}, Data: decodeMap(f.Data), Debug: decodeMap(f.Debug),
		JobFilter: f.JobFilter, PlatformFilter: orEmpty(f.PlatformFilter), Owner: text(f.Owner), Submitter: text(f.Submitter),
		TreeID: text(f.TreeID), UserGroups: orEmpty(f.UserGroups), KCIDBProcessed: f.KCIDBProcessed, RetryCounter: int(f.RetryCounter),
	}
	for _, e := range f.Artifacts {
		if link, ok := e.Value.(string); ok {
			n.Artifacts[unescape(e.Key)] = link
		}
	}
	if f.Parent != nil {
		n.Parent = node.ID(f.Parent.Hex())
	}
	n.Created, n.Updated, n.Timeout, n.Holdoff = dateOf(f.Created), dateOf(f.Updated), dateOf(f.Timeout), dateOf(f.Holdoff)
	return n
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
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
