package scheduler

import (
	"context"

	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/telemetry"
)

// tell notes an event of a job for the telemetry. Where the job has no node, it is
// about the node that the job would be below.
func (f *Function) tell(j *job, kind string, texts map[telemetry.Field]string) {
	of := j.node
	if of == nil {
		of = &j.sub.Node
	}
	e := telemetry.About(*of, kind, f.Now())
	if j.node == nil {
		delete(e.Texts, telemetry.NodeID)
		delete(e.Texts, telemetry.JobID)
	}
	e.Set(telemetry.Runtime, j.Runtime.Name)
	e.Set(telemetry.JobName, j.Job.Name)
	e.Set(telemetry.DeviceType, j.Platform.Name)
	for field, text := range texts {
		e.Set(field, text)
	}
	// The same event of the same job at the same time is one.
	e.ID = node.DeriveID(of.ID, "telemetry", kind, j.Job.Name, j.Runtime.Name, j.Platform.Name, node.FormatTime(e.Time))
	j.told = append(j.told, e)
}

// flush stores what was told of the jobs. What is measured is not worth a job: an
// error is logged.
func (f *Function) flush(ctx context.Context, jobs []*job) {
	var events []telemetry.Event
	for _, j := range jobs {
		events = append(events, j.told...)
		j.told = nil
	}
	if len(events) == 0 {
		return
	}
	if err := f.Store.AddTelemetry(context.WithoutCancel(ctx), events); err != nil {
		f.Log.WarnContext(ctx, "telemetry is lost", "events", len(events), "error", err)
	}
}
