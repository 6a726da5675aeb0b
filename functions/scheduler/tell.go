package scheduler

import (
	"context"
	"maps"

	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/telemetry"
)

// tell notes an event for the telemetry.
func (f *Function) tell(j *job, kind string, texts map[telemetry.Field]string) {
	e := telemetry.Event{Time: telemetry.Millisecond(f.Now()), Texts: map[telemetry.Field]string{
		telemetry.Kind: kind, telemetry.Runtime: j.Runtime.Name, telemetry.JobName: j.Job.Name, telemetry.DeviceType: j.Platform.Name,
	}}
	if device, ok := j.Job.Params["device_type"].(string); ok && device != "" {
		e.Texts[telemetry.DeviceType] = device
	}
	of := j.node
	if of == nil {
		of = &j.sub.Node
	} else {
		e.Texts[telemetry.NodeID] = string(of.ID)
	}
	if r, ok := of.Revision(); ok {
		e.Texts[telemetry.Tree], e.Texts[telemetry.Branch] = r.Tree, r.Branch
	}
	e.Texts[telemetry.Arch] = of.Text("arch")
	maps.Copy(e.Texts, texts)
	maps.DeleteFunc(e.Texts, func(f telemetry.Field, text string) bool { return text == "" || len(text) > telemetry.Longest(f) })
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
