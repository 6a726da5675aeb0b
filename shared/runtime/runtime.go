// Package runtime says how jobs reach the machines that run them. A driver per
// kind of lab (lab_type in the configuration) is in the sub-packages;
// runtimetest is the suite that each must pass.
//
// A job reports its own results through the API; a runtime only starts it,
// stops it and tells whether it is still there.
package runtime

import (
	"context"
	"time"

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

// State is what a runtime knows of a job.
type State string

// The states of a job in its runtime.
const (
	Queued   State = "queued"
	Running  State = "running"
	Finished State = "finished" // ended and reported, or about to
	Lost     State = "lost"     // it will not report
)

// Runtime runs jobs.
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
