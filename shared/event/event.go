// Package event is what the pipeline says when something happened: a
// CloudEvents 1.0 event on a channel. It is pure: events are built and matched
// here, committed by shared/store and carried by shared/bus.
//
// A node write causes one event on channel "node"; its data says what changed
// and how the node was before, so that a rule can fire on the edge. The
// attributes that a subscription filters on (channel, op, kind, state, result)
// and the ordering key (treeid) are CloudEvents extensions, because cloud
// buses filter on attributes, not on data.
//
// An event is a hint: whoever acts on it reads the node again.
package event

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/google/uuid"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
)

// Defaults of KernelCI's events.
const (
	DefaultType   = "api.kernelci.org"
	DefaultSource = "https://api.kernelci.org/"
)

// ChannelNode carries every node write; ChannelRetry carries requests for
// another attempt at a job; ChannelCallback says that a lab's report is kept and
// to be taken up.
const (
	ChannelNode     = "node"
	ChannelRetry    = "retry"
	ChannelCallback = "callback"
)

// Op is what was done to a node.
type Op string

// The operations.
const (
	Created Op = "created"
	Updated Op = "updated"
)

// Event is one event. Sequence is its place in the log: dense, from 1, in the
// order in which events became visible; 0 before it is logged.
type Event struct {
	ID         string            `json:"id"` // a UUID
	Channel    string            `json:"channel"`
	Type       string            `json:"type"`
	Source     string            `json:"source"`
	Time       time.Time         `json:"time"` // UTC
	Owner      string            `json:"owner"`
	TreeID     string            `json:"treeid"` // ordering key: events of one tree stay in order
	Attributes map[string]string `json:"attributes,omitempty"`
	Data       json.RawMessage   `json:"data"`
	Sequence   int64             `json:"sequence"`
}

// Node is the data of an event on channel "node".
type Node struct {
	Op             Op             `json:"op"`
	ID             node.ID        `json:"id"`
	Kind           node.Kind      `json:"kind"`
	Name           string         `json:"name"`
	Path           []string       `json:"path"`
	Group          *string        `json:"group"`
	State          node.State     `json:"state"`
	Result         *node.Result   `json:"result"`
	Owner          string         `json:"owner"`
	Data           map[string]any `json:"data"`
	IsHierarchy    bool           `json:"is_hierarchy"`
	PreviousState  *node.State    `json:"previous_state,omitempty"`
	PreviousResult *node.Result   `json:"previous_result,omitempty"` // nil beside a PreviousState: none
	// What a retry request says, which writes no node.
	JobFilter    []string `json:"jobfilter,omitempty"`
	RetryCounter int      `json:"retry_counter,omitempty"`
}

// MarshalJSON writes the keys that KernelCI writes: previous_state and
// previous_result on updates alone, and then both.
func (p Node) MarshalJSON() ([]byte, error) {
	type plain Node
	if p.PreviousState == nil {
		return json.Marshal(plain(p))
	}
	return json.Marshal(struct {
		plain
		PreviousResult *node.Result `json:"previous_result"`
	}{plain(p), p.PreviousResult})
}

// space is the namespace of the ids of node events: a UUID of this project's
// own, made once.
var space = uuid.NewSHA1(uuid.NameSpaceURL, []byte("https://github.com/kernelflow/kernelflow/node-event"))

// OfCreated is the event of n's creation. Its id follows from the node's, so
// that the same creation is never two events.
func OfCreated(n node.Node) (Event, error) {
	return ofNode(payload(Created, n), n, 1)
}

// OfUpdated is the event of an update from previous to n. revision is the
// node's write counter after the update, which makes the event's id.
func OfUpdated(previous, n node.Node, revision int64, hierarchy bool) (Event, error) {
	p := payload(Updated, n)
	p.PreviousState = &previous.State
	if previous.Result != node.None {
		p.PreviousResult = &previous.Result
	}
	p.IsHierarchy = hierarchy
	return ofNode(p, n, revision)
}

func payload(op Op, n node.Node) Node {
	p := Node{Op: op, ID: n.ID, Kind: n.Kind, Name: n.Name, Path: n.Path, State: n.State, Owner: n.Owner, Data: n.Data}
	if n.Group != "" {
		p.Group = &n.Group
	}
	if n.Result != node.None {
		p.Result = &n.Result
	}
	return p
}

func ofNode(p Node, n node.Node, revision int64) (Event, error) {
	data, err := json.Marshal(p)
	if err != nil {
		return Event{}, fmt.Errorf("event.ofNode(%s): %w", n.ID, errs.Wrap(errs.Invalid, err))
	}
	return Event{
		ID:      uuid.NewSHA1(space, []byte(string(n.ID)+"/"+strconv.FormatInt(revision, 10))).String(),
		Channel: ChannelNode, Type: DefaultType, Source: DefaultSource,
		Time: n.Updated, Owner: n.Owner, TreeID: n.TreeID, Data: data,
	}, nil
}

// Node decodes the data of an event about a node. An event of another shape is
// errs.Invalid.
func (e Event) Node() (Node, error) {
	var p Node
	if err := json.Unmarshal(e.Data, &p); err != nil {
		return Node{}, fmt.Errorf("event %s: %w", e.ID, errs.Wrap(errs.Invalid, err))
	}
	if p.ID == "" {
		return Node{}, errs.New(errs.Invalid, "event %s: its data names no node", e.ID)
	}
	return p, nil
}

// Filter selects events by what their attributes say; an empty field selects
// all.
type Filter struct {
	Channel string       `json:"channel"`
	Owner   string       `json:"owner,omitempty"`
	Ops     []Op         `json:"ops,omitempty"`
	Kinds   []node.Kind  `json:"kinds,omitempty"`
	States  []node.State `json:"states,omitempty"`
}

// Match says whether e passes the filter.
func (f Filter) Match(e Event) bool {
	if f.Channel != "" && f.Channel != e.Channel || f.Owner != "" && f.Owner != e.Owner {
		return false
	}
	if len(f.Ops)+len(f.Kinds)+len(f.States) == 0 {
		return true
	}
	var p Node
	if json.Unmarshal(e.Data, &p) != nil {
		return false
	}
	return oneOf(p.Op, f.Ops) && oneOf(p.Kind, f.Kinds) && oneOf(p.State, f.States)
}

func oneOf[T comparable](v T, allowed []T) bool {
	return len(allowed) == 0 || slices.Contains(allowed, v)
}

// CloudEvent gives the event as buses and functions see it, with the
// extensions owner, channel, treeid and sequence, and op, kind, state and
// result of a node event.
func (e Event) CloudEvent() (cloudevents.Event, error) {
	ce := cloudevents.NewEvent()
	ce.SetID(e.ID)
	ce.SetType(e.Type)
	ce.SetSource(e.Source)
	ce.SetTime(e.Time)
	set := func(name, value string) {
		if value != "" {
			ce.SetExtension(name, value)
		}
	}
	for k, v := range e.Attributes {
		set(k, v)
	}
	set("owner", e.Owner)
	set("channel", e.Channel)
	set("treeid", e.TreeID)
	ce.SetExtension("sequence", strconv.FormatInt(e.Sequence, 10))
	if p, err := e.Node(); err == nil {
		set("op", string(p.Op))
		set("kind", string(p.Kind))
		set("state", string(p.State))
		if p.Result != nil {
			set("result", string(*p.Result))
		}
	}
	if err := ce.SetData(cloudevents.ApplicationJSON, e.Data); err != nil {
		return ce, fmt.Errorf("event %s: %w", e.ID, errs.Wrap(errs.Invalid, err))
	}
	if err := ce.Validate(); err != nil {
		return ce, fmt.Errorf("event %s: %w", e.ID, errs.Wrap(errs.Invalid, err))
	}
	return ce, nil
}

// wireTime is how KernelCI writes a CloudEvent's time.
const wireTime = "2006-01-02T15:04:05.000000-07:00"

// Message is the event as KernelCI sends it to a listener: a structured
// CloudEvent with owner, its sequence once it is logged, and the attributes
// that its publisher gave it. Unlike [Event.CloudEvent] it has nothing for
// buses to filter on.
func (e Event) Message() ([]byte, error) {
	m := map[string]any{}
	for k, v := range e.Attributes {
		m[k] = v
	}
	m["specversion"], m["id"], m["source"], m["type"] = cloudevents.VersionV1, e.ID, e.Source, e.Type
	m["time"], m["data"] = e.Time.UTC().Format(wireTime), e.Data
	if e.Owner != "" {
		m["owner"] = e.Owner
	}
	if e.Sequence > 0 {
		m["_sequence_id"] = e.Sequence
	}
	text, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("event %s: %w", e.ID, errs.Wrap(errs.Invalid, err))
	}
	return text, nil
}

// Key is the name of a logged event in the history: 24 hex digits, the form of
// KernelCI's ids. It follows from the sequence, except for an event whose own
// id has that form: one that KernelCI logged.
func (e Event) Key() node.ID {
	if id, err := node.ParseID(e.ID); err == nil {
		return id
	}
	return node.ID(fmt.Sprintf("%024x", e.Sequence))
}

// SequenceOf returns the sequence of the event that Key has named; 0 for a name
// that Key does not make of a sequence.
func SequenceOf(key node.ID) int64 {
	sequence, err := strconv.ParseInt(string(key), 16, 64)
	if err != nil || sequence < 0 {
		return 0
	}
	return sequence
}

var own = []string{"owner", "channel", "treeid", "sequence", "op", "kind", "state", "result"}

// FromCloudEvent is the way back, for the functions that a bus wakes.
func FromCloudEvent(ce cloudevents.Event) (Event, error) {
	text := func(name string) string {
		s, _ := ce.Extensions()[name].(string)
		return s
	}
	sequence, err := strconv.ParseInt(text("sequence"), 10, 64)
	if err != nil {
		return Event{}, errs.New(errs.Invalid, "event %s: extension sequence %q is not a number", ce.ID(), text("sequence"))
	}
	e := Event{
		ID: ce.ID(), Channel: text("channel"), Type: ce.Type(), Source: ce.Source(), Time: ce.Time().UTC(),
		Owner: text("owner"), TreeID: text("treeid"), Data: ce.Data(), Sequence: sequence,
	}
	for k, v := range ce.Extensions() {
		if s, ok := v.(string); ok && !slices.Contains(own, k) {
			if e.Attributes == nil {
				e.Attributes = map[string]string{}
			}
			e.Attributes[k] = s
		}
	}
	return e, nil
}
