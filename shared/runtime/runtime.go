// Package runtime says how jobs reach the machines that run them. A driver per
// kind of lab (lab_type in the configuration) is in the sub-packages;
// runtimetest is the suite that each must pass.
//
// A runtime starts a job, stops it and tells whether it is still there. Most
// jobs report their own results through the API; a runtime whose jobs cannot, or
// may die before they do, is also a [Collector].
//
// # What a lab that misbehaves means
//
// A lab that cannot be reached, does not answer before the context ends, or
// answers nonsense, is Temporary: the same call may succeed later. What the lab
// refuses for good is Invalid, and the error has the lab's own words, cut to a
// readable length. No error has a token in it.
//
// A call that ended badly may have been heard all the same. So Submit is asked
// again with the same node until it gives an id, and the lab runs one job: a
// driver for a lab that knows no key of the sender's marks each job with its
// node's id and looks for the mark first.
package runtime

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
)

// Job is what a runtime needs to run one job.
type Job struct {
	Node       node.Node     // the job's node, as stored
	Definition string        // rendered from the template; holds no secret
	Token      string        // lets the job edit its own node and nothing else; never logged
	Limit      time.Duration // how long it may run
	Holdoff    time.Duration // how long its node stays available when it ends in that state
}

// Check says what is wrong with a job wherever it is to run; Invalid.
func (j Job) Check() error {
	bad := func(field, fix string) error {
		return errs.New(errs.Invalid, "job of node %.40q: %s: %s", j.Node.ID, field, fix)
	}
	id, err := node.ParseID(string(j.Node.ID))
	switch {
	case err != nil || id != j.Node.ID:
		return bad("node", "must have an id")
	case j.Definition == "":
		return bad("definition", "must not be empty")
	case j.Token == "":
		return bad("token", "must not be empty")
	case strings.Contains(j.Definition, j.Token):
		return bad("definition", "must not hold the job's token")
	case j.Limit <= 0:
		return bad("limit", "must be more than nothing")
	}
	return nil
}

// State is what a runtime knows of a job.
type State string

// The states of a job in its runtime.
const (
	Queued   State = "queued"
	Running  State = "running"
	Finished State = "finished" // ended and reported, or about to; or ready to be collected
	Lost     State = "lost"     // it will not report
)

// Runtime runs jobs. It is safe for concurrent use. Each call ends soon after
// its context.
type Runtime interface {
	// Submit hands the job over and returns the lab's id for it. Submitting
	// the job of one node again, from any instance, after any crash, returns
	// the same id and runs nothing twice. Invalid: the lab will never take
	// it; Temporary: it may later.
	Submit(ctx context.Context, job Job) (id string, err error)
	// Cancel stops the job; one that has ended already is no error. NotFound
	// for an unknown id.
	Cancel(ctx context.Context, id string) error
	// State tells how the job is; NotFound for an unknown id.
	State(ctx context.Context, id string) (State, error)
}

// Keep stores a file of a job's (a log, what the lab said) in the folder of the
// job's node and returns the URL where it can be read. A content type that is
// empty is guessed from the name.
type Keep func(ctx context.Context, name, contentType string, content io.Reader) (url string, err error)

// Collector is a Runtime that can be asked what came of a job, because its jobs
// do not report by themselves or may die before they do. The function poll asks,
// for each job whose node is still running.
type Collector interface {
	Runtime
	// Collect returns the report that the job of node n still owes: n with
	// state, result, data and artifacts as they are to be, and what is to be
	// below it. The job's files go through keep. It has no effect on the lab,
	// and twice gives the same. Conflict when the job has not ended, or when
	// it has reported and nothing is left to tell; NotFound when the lab does
	// not know data.job_id of n.
	Collect(ctx context.Context, n node.Node, keep Keep) (node.Hierarchy, error)
}

// Throttle is a Runtime that can have too much to do for more.
type Throttle interface {
	Runtime
	// Full says why a job should not be made now for devices of a type; "" when
	// it may, which counts as one more that waits. priority is from 0, the
	// lowest, to 1. An error says that it could not be found out.
	Full(ctx context.Context, deviceType string, priority float64) (reason string, err error)
}

// Tokens are the secrets of one runtime. They do not show when they are printed,
// logged or encoded.
type Tokens struct {
	Runtime  string // lets the pipeline into the lab
	Callback string // what the lab sends with its callbacks; empty: the one above
}

const hidden = "[secret]"

// Format implements fmt.Formatter, for every verb.
func (t Tokens) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, hidden) }

// LogValue implements slog.LogValuer.
func (t Tokens) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText implements encoding.TextMarshaler.
func (t Tokens) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// Without returns err without the secrets, for errors that quote what a lab said.
// The kind of the error stays, its chain does not when it held one.
func Without(err error, secrets ...string) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	for _, secret := range secrets {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, hidden)
		}
	}
	if text == err.Error() {
		return err
	}
	kind := errs.KindOf(err)
	if kind == nil {
		return fmt.Errorf("%s", text)
	}
	return errs.New(kind, "%s", text)
}
