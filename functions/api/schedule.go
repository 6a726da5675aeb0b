package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/schedule"
)

func (f *Function) scheduleRoutes(api huma.API) {
	register(api, http.MethodGet, "/node/{id}/schedule", "Why jobs were created for a node, or were not, the newest decision first", f.nodeSchedule)
}

type scheduleInput struct {
	ID       idIn   `path:"id"`
	Job      string `query:"job" maxLength:"200" doc:"decisions about this job alone"`
	Runtime  string `query:"runtime" maxLength:"200" doc:"decisions about this runtime alone"`
	Platform string `query:"platform" maxLength:"200" doc:"decisions about this platform alone"`
	Created  string `query:"created" enum:"true,false" doc:"true: what was created alone; false: what was not"`
	Limit    int    `query:"limit" default:"10" minimum:"1" maximum:"50" doc:"of events"`
	Offset   int    `query:"offset" default:"0" minimum:"0" maximum:"1000000000"`
}

type scheduleOutput struct{ Body schedulePage }

type schedulePage struct {
	Origin origin      `json:"origin" doc:"the decision that created this node itself; null where none is kept"`
	Items  []scheduled `json:"items" doc:"an event each"`
	Total  int64       `json:"total" doc:"events that were decided about and are still kept"`
	Limit  int         `json:"limit"`
	Offset int         `json:"offset"`
}

// origin is what was decided about an event, or null.
type origin struct{ of *scheduled }

// MarshalJSON implements json.Marshaler.
func (o origin) MarshalJSON() ([]byte, error) { return json.Marshal(o.of) }

// Schema implements huma.SchemaProvider.
func (origin) Schema(registry huma.Registry) *huma.Schema {
	return orNull[scheduled]{}.Schema(registry)
}

// scheduled is what was decided about one event.
type scheduled struct {
	Event     string     `json:"event" doc:"id of the event"`
	Channel   string     `json:"channel" enum:"node,retry"`
	Time      timeOut    `json:"time"`
	Kind      string     `json:"kind"`
	Name      string     `json:"name"`
	State     string     `json:"state"`
	Result    *string    `json:"result" nullable:"true"`
	Previous  *string    `json:"previous_state" nullable:"true" doc:"of the node before the event; null for a new node and a request to retry"`
	Retry     int        `json:"retry_counter" doc:"number of the attempt that was asked for"`
	Created   int        `json:"created" doc:"how many of the decisions led to a job"`
	Decisions []decision `json:"decisions" doc:"those that the filters select, in the order of the configuration"`
}

// decision says what became of one entry of the configuration, on one platform.
type decision struct {
	Job       string    `json:"job"`
	Kind      *string   `json:"kind" nullable:"true" doc:"of the job; null when it is not configured"`
	Runtime   *string   `json:"runtime" nullable:"true" doc:"null when none was found"`
	Type      *string   `json:"runtime_type" nullable:"true"`
	Platforms []string  `json:"platforms" doc:"one, or all of the entry when none was looked at"`
	Entry     string    `json:"entry" doc:"file and line"`
	Created   bool      `json:"created"`
	Node      *objectID `json:"node" nullable:"true" doc:"of the job"`
	Reason    *string   `json:"reason" nullable:"true" doc:"the first rule that was against it"`
	Rules     []verdict `json:"rules" doc:"in the order in which they were looked at"`
}

// verdict is what one rule said.
type verdict struct {
	Of      string  `json:"of" doc:"whose rule it is"`
	Rule    string  `json:"rule"`
	Allowed bool    `json:"allowed"`
	Reason  *string `json:"reason" nullable:"true" doc:"why it was against the job"`
}

func (f *Function) nodeSchedule(ctx context.Context, in *scheduleInput) (*scheduleOutput, error) {
	id, err := in.ID.parse()
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	kept, total, err := f.store.FindDecided(ctx, id, in.Limit, in.Offset)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	n, err := f.store.Get(ctx, id)
	if err != nil && (total == 0 || !errors.Is(err, errs.NotFound)) { // of a node that is gone the decisions are told all the same
		return nil, f.fail(ctx, err)
	}
	from, err := f.origin(ctx, n)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	page := schedulePage{Origin: from, Items: make([]scheduled, len(kept)), Total: total, Limit: in.Limit, Offset: in.Offset}
	for i, d := range kept {
		r, err := schedule.Unpack(d.Body)
		if err != nil {
			return nil, f.fail(ctx, err)
		}
		page.Items[i] = in.show(r)
	}
	return &scheduleOutput{Body: page}, nil
}

// mostOrigins is how many events of a parent are looked through for the one that
// created a node, the newest first.
const mostOrigins = 50

// origin looks for the decision that created n.
func (f *Function) origin(ctx context.Context, n node.Node) (origin, error) {
	if n.Parent == "" || n.Kind == node.KindTest {
		return origin{}, nil
	}
	kept, _, err := f.store.FindDecided(ctx, n.Parent, mostOrigins, 0)
	if err != nil {
		return origin{}, err
	}
	for _, d := range kept {
		r, err := schedule.Unpack(d.Body)
		if err != nil {
			return origin{}, err
		}
		i := slices.IndexFunc(r.Outcomes, func(o schedule.Outcome) bool { return o.Node == n.ID })
		if i < 0 {
			continue
		}
		r.Outcomes = r.Outcomes[i : i+1]
		s := new(scheduleInput).show(r)
		return origin{&s}, nil
	}
	return origin{}, nil
}

// show turns a record into what is answered.
func (in *scheduleInput) show(r schedule.Record) scheduled {
	s := scheduled{
		Event: r.Event, Channel: r.Channel, Time: timeOut(node.FormatTime(r.Time)), Kind: string(r.Kind), Name: r.Name, State: string(r.State),
		Result: textOrNull(r.Result), Previous: textOrNull(r.Previous), Retry: r.Retry, Decisions: []decision{},
	}
	for _, o := range r.Outcomes {
		if o.Node != "" {
			s.Created++
		}
		if in.selects(o) {
			s.Decisions = append(s.Decisions, show(o))
		}
	}
	return s
}

func (in *scheduleInput) selects(o schedule.Outcome) bool {
	return (in.Job == "" || in.Job == o.Job) && (in.Runtime == "" || in.Runtime == o.Runtime) &&
		(in.Platform == "" || slices.Contains(o.Platforms, in.Platform)) && (in.Created == "" || in.Created == "true" == (o.Node != ""))
}

func show(o schedule.Outcome) decision {
	d := decision{
		Job: o.Job, Kind: textOrNull(o.Kind), Runtime: textOrNull(o.Runtime), Type: textOrNull(o.Type), Platforms: append([]string{}, o.Platforms...),
		Entry: o.Entry, Created: o.Node != "", Reason: textOrNull(o.Reason), Rules: make([]verdict, len(o.Checks)),
	}
	if o.Node != "" {
		id := objectID(o.Node)
		d.Node = &id
	}
	for i, c := range o.Checks {
		d.Rules[i] = verdict{Of: c.Of, Rule: c.Rule, Allowed: c.Reason == "", Reason: textOrNull(c.Reason)}
	}
	return d
}
