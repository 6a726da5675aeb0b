package event

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
)

// Retry asks the scheduler for another attempt at one job.
type Retry struct {
	Input   node.Node // whose event started the job
	Of      node.Node // the attempt before
	Attempt int       // number of the attempt, from 1
	Jobs    []string  // names that may run: the job's, and with it what leads to it
}

// unasked are the keys of a node that a request does not carry.
var unasked = []string{"created", "updated", "timeout", "owner", "submitter", "user_groups"}

// Event makes the request an event of channel retry: the node that started the
// job, as if it were updated once more.
func (r Retry) Event(id, owner string, at time.Time) (Event, error) {
	input := r.Input.Clone()
	delete(input.Data, "artifacts")
	text, err := json.Marshal(input)
	if err != nil {
		return Event{}, err
	}
	var data map[string]any
	if err := json.Unmarshal(text, &data); err != nil {
		return Event{}, err
	}
	for _, key := range unasked {
		delete(data, key)
	}
	data["op"], data["jobfilter"], data["retry_counter"] = Updated, r.Jobs, r.Attempt
	data["platform_filter"] = []string{}
	if platform := r.Of.Text("platform"); platform != "" {
		data["platform_filter"] = []string{platform}
	}
	data["debug"] = link{By: r.Of.ID, First: r.Of.FirstAttempt(), Runtime: r.Of.Text("runtime")}
	if text, err = json.Marshal(data); err != nil {
		return Event{}, err
	}
	return Event{
		ID: id, Channel: ChannelRetry, Type: DefaultType, Source: DefaultSource, Time: node.Time(at), Owner: owner,
		TreeID: input.TreeID, Data: text,
	}, nil
}

// link says which attempts came before.
type link struct {
	By      node.ID `json:"retry_by,omitempty"`
	First   node.ID `json:"retry_first,omitempty"`
	Runtime string  `json:"retry_runtime,omitempty"` // where the one before ran
}

// Request is what the event of a retry says beside its node.
type Request struct {
	Platforms []string // "platform_filter"
	By, First node.ID  // the attempts before; "" when the request does not say
	Runtime   string   // of the attempt before; "" when the request does not say
}

// Request reads what an event of channel retry asks for; Invalid when it cannot
// be read.
func (e Event) Request() (Request, error) {
	var said struct {
		Platforms []string `json:"platform_filter"`
		Debug     link     `json:"debug"`
	}
	if err := json.Unmarshal(e.Data, &said); err != nil {
		return Request{}, fmt.Errorf("event %s: %w", e.ID, errs.Wrap(errs.Invalid, err))
	}
	return Request{said.Platforms, said.Debug.By, said.Debug.First, said.Debug.Runtime}, nil
}
