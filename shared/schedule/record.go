package schedule

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
)

// Record is what was decided about one event, for people to read later, when
// the configuration may be another one.
type Record struct {
	Event   string    // id of the CloudEvent
	Channel string    // node or retry
	Time    time.Time // of the decision, UTC
	// What the event said of its node.
	Node     node.ID
	Kind     node.Kind
	Name     string
	State    node.State
	Result   node.Result
	Previous node.State // before the update; "" when there was none
	Retry    int        // number of the attempt that was asked for
	Outcomes []Outcome  // in the order of the entries
}

// Outcome is one decision as it is kept.
type Outcome struct {
	Job     string `json:"job"`
	Kind    string `json:"kind,omitempty"`
	Runtime string `json:"runtime,omitempty"` // "": none was found, see Type
	Type    string `json:"type,omitempty"`    // the lab type that the entry asks for
	// Platforms holds one name, or for a job that no platform was looked at
	// for, all of its entry.
	Platforms []string `json:"platforms,omitempty"`
	Entry     string   `json:"entry"`          // file:line
	Node      node.ID  `json:"node,omitempty"` // of the job that was created; "": none was
	Reason    string   `json:"reason,omitempty"`
	Checks    []Check  `json:"checks,omitempty"`
}

// OutcomeOf makes d something to keep. Its node is for who creates it to set.
func OutcomeOf(d Decision) Outcome {
	o := Outcome{
		Job: d.Entry.Job, Runtime: d.Entry.RuntimeName, Type: d.Entry.RuntimeType, Platforms: d.Entry.Platforms,
		Entry: d.Entry.Place.String(), Reason: d.Reason, Checks: d.Checks,
	}
	if d.Job != nil {
		o.Kind = d.Job.Kind
	}
	if d.Runtime != nil {
		o.Runtime, o.Type = d.Runtime.Name, d.Runtime.LabType
	}
	if d.Platform != nil {
		o.Platforms = []string{d.Platform.Name}
	}
	return o
}

// maxRecord bounds what a packed record unpacks to, bytes.
const maxRecord = 64 << 20

// Pack makes r small: some hundred decisions take a few kilobytes.
func (r Record) Pack() ([]byte, error) {
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	if err := json.NewEncoder(z).Encode(r); err != nil {
		return nil, fmt.Errorf("schedule.Record(%s): %w", r.Event, errs.Wrap(errs.Invalid, err))
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// Unpack reads what [Record.Pack] made.
func Unpack(packed []byte) (Record, error) {
	var r Record
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err == nil {
		err = json.NewDecoder(io.LimitReader(z, maxRecord)).Decode(&r)
	}
	if err != nil {
		return r, fmt.Errorf("schedule.Unpack: %w", err)
	}
	return r, nil
}
