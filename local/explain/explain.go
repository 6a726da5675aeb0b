// Package explain says what one event would start under a configuration, and
// why not the rest, without a store: the event need never have happened.
//
// It asks shared/schedule, as the scheduler function does, so that the two cannot
// differ. Only what a store knows is left open: whether the least time between
// two runs has passed is said as a condition. Runtimes of every lab type count as
// there, whether this machine could drive them or not.
package explain

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/pipeline"
	"github.com/kernelflow/kernelflow/shared/schedule"
)

// maxInput bounds the event's file, bytes.
const maxInput = 16 << 20

// input is the file of an event: these keys beside "event", which is the data of
// a CloudEvent; or a CloudEvent, or one of the API's history; or its data alone.
type input struct {
	Channel   string          `json:"channel"`
	Node      json.RawMessage `json:"node"`
	Ancestors []node.Node     `json:"ancestors"` // the parent first
}

// Read reads the event that a decision is about. What is wrong with it is
// errs.Invalid and names the key.
func Read(r io.Reader) (schedule.Subject, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxInput+1))
	if err != nil {
		return schedule.Subject{}, err
	}
	if len(text) > maxInput {
		return schedule.Subject{}, errs.New(errs.Invalid, "the event is larger than %d bytes", maxInput)
	}
	sub, err := read(text)
	if err != nil {
		return sub, fmt.Errorf("the event: %w", errs.Wrap(errs.Invalid, err))
	}
	return sub, check(sub)
}

func read(text []byte) (schedule.Subject, error) {
	var sub schedule.Subject
	var in input
	keys := map[string]json.RawMessage{}
	if err := json.Unmarshal(text, &keys); err != nil {
		return sub, err
	}
	wrapped := keys["event"] != nil || keys["node"] != nil || keys["data"] != nil && keys["kind"] == nil
	payload := text
	if wrapped {
		if err := json.Unmarshal(text, &in); err != nil {
			return sub, err
		}
		payload = []byte(cmp.Or(string(keys["event"]), string(keys["data"])))
	}
	if len(payload) > 0 {
		if err := json.Unmarshal(payload, &sub.Event); err != nil {
			return sub, err
		}
	}
	if in.Node != nil {
		if err := json.Unmarshal(in.Node, &sub.Node); err != nil {
			return sub, fmt.Errorf("node: %w", err)
		}
	}
	if in.Channel != "" && in.Channel != event.ChannelNode && in.Channel != event.ChannelRetry {
		return sub, fmt.Errorf("channel: %.40q is neither node nor retry", in.Channel)
	}
	request, err := asked(payload)
	if err != nil {
		return sub, err
	}
	sub.Ancestors, sub.JobFilter, sub.PlatformFilter = in.Ancestors, sub.Event.JobFilter, request.Platforms
	if sub.Again = in.Channel == event.ChannelRetry; sub.Again {
		sub.Retry, sub.Runtime, sub.Event.PreviousState = max(0, sub.Event.RetryCounter), request.Runtime, nil
	}
	complete(&sub)
	return sub, nil
}

// asked reads what the event asks for beside its node.
func asked(payload []byte) (event.Request, error) {
	if len(payload) == 0 {
		return event.Request{}, nil
	}
	return event.Event{Data: payload}.Request()
}

// complete fills in from event and node what the other one says.
func complete(sub *schedule.Subject) {
	ev, n := &sub.Event, &sub.Node
	if ev.Kind == "" && ev.Name == "" {
		*ev = event.Node{Op: event.Updated, JobFilter: ev.JobFilter, RetryCounter: ev.RetryCounter, PreviousState: ev.PreviousState,
			PreviousResult: ev.PreviousResult, ID: n.ID, Kind: n.Kind, Name: n.Name, Path: n.Path, State: n.State, Owner: n.Owner, Data: n.Data}
		if n.Group != "" {
			ev.Group = &n.Group
		}
		if n.Result != node.None {
			ev.Result = &n.Result
		}
	}
	n.ID, n.Kind, n.Name = cmp.Or(n.ID, ev.ID), cmp.Or(n.Kind, ev.Kind), cmp.Or(n.Name, ev.Name)
	n.State, n.Owner = cmp.Or(n.State, ev.State), cmp.Or(n.Owner, ev.Owner)
	if n.Path == nil {
		n.Path = ev.Path
	}
	if n.Data == nil {
		n.Data = ev.Data
	}
	if n.Group == "" && ev.Group != nil {
		n.Group = *ev.Group
	}
	if n.Result == node.None && ev.Result != nil {
		n.Result = *ev.Result
	}
}

func check(sub schedule.Subject) error {
	ev := sub.Event
	switch {
	case !slices.Contains(node.Kinds, ev.Kind):
		return errs.New(errs.Invalid, "the event: kind: %.40q is not one of %v", ev.Kind, node.Kinds)
	case ev.Name == "":
		return errs.New(errs.Invalid, "the event: name: must be given")
	case !slices.Contains(node.States, ev.State):
		return errs.New(errs.Invalid, "the event: state: %.40q is not one of %v", ev.State, node.States)
	}
	return nil
}

// Write says what cfg decides about the event.
func Write(w io.Writer, cfg *pipeline.Config, sub schedule.Subject) error {
	s := schedule.New(cfg, nil)
	var runs, refused []schedule.Decision
	for _, d := range s.Decide(sub) {
		if d.Run {
			runs = append(runs, d)
		} else {
			refused = append(refused, d)
		}
	}
	p := &printer{w: w}
	p.event(sub)
	if len(runs)+len(refused) == 0 {
		p.nearest(s, sub.Event, len(cfg.Scheduler))
		return p.err
	}
	p.runs(runs)
	p.refused(refused)
	if len(runs) == 0 {
		p.closest(refused)
	}
	return p.err
}

type printer struct {
	w   io.Writer
	err error
}

func (p *printer) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

func (p *printer) event(sub schedule.Subject) {
	ev := sub.Event
	p.printf("%s %s, state %s", ev.Kind, ev.Name, ev.State)
	if ev.Result != nil {
		p.printf(", result %s", *ev.Result)
	}
	if ev.PreviousState != nil {
		p.printf(", was %s", *ev.PreviousState)
	}
	if sub.Again {
		p.printf(", attempt %d is asked for", sub.Retry)
	}
	if r, ok := sub.Node.Revision(); ok {
		p.printf("; %s/%s %s", r.Tree, r.Branch, cmp.Or(r.Describe, r.Commit))
	}
	p.printf("\n")
}

// runs lists what runs, by kind.
func (p *printer) runs(runs []schedule.Decision) {
	p.printf("\nRuns: %d\n", len(runs))
	for _, kind := range kindsOf(runs) {
		of := slices.DeleteFunc(slices.Clone(runs), func(d schedule.Decision) bool { return d.Job.Kind != kind })
		p.printf("\n  %s: %d\n", kind, len(of))
		table := tabwriter.NewWriter(p.w, 0, 8, 2, ' ', 0)
		for _, d := range of {
			often := ""
			if d.Every > 0 {
				often = "\tunless it ran in the last " + strings.TrimSuffix(strings.TrimSuffix(d.Every.String(), "0s"), "0m")
			}
			fmt.Fprintf(table, "    %s\t%s\t%s\t%s%s\n", d.Job.Name, d.Runtime.Name, d.Platform.Name, d.Entry.Place, often)
		}
		if err := table.Flush(); p.err == nil {
			p.err = err
		}
	}
}

func kindsOf(decisions []schedule.Decision) []string {
	var kinds []string
	for _, d := range decisions {
		if !slices.Contains(kinds, d.Job.Kind) {
			kinds = append(kinds, d.Job.Kind)
		}
	}
	return kinds
}

// refused lists what does not run, by what is against it: the most frequent
// reason first.
func (p *printer) refused(refused []schedule.Decision) {
	p.printf("\nDoes not run: %d\n", len(refused))
	groups := map[string][]schedule.Decision{}
	for _, d := range refused {
		reason := d.Reason
		if _, of := refusalOf(d); strings.HasPrefix(of, "job ") || strings.HasPrefix(of, "the entry ") {
			reason = strings.TrimPrefix(reason, "rules of "+of+": ") // both are named in the line below it
		}
		groups[reason] = append(groups[reason], d)
	}
	reasons := map[string][]string{} // what is alike but for a name, by the rule
	for reason := range groups {
		rule := ruleOf(groups[reason][0])
		reasons[rule] = append(reasons[rule], reason)
	}
	count := func(rule string) (n int) {
		for _, reason := range reasons[rule] {
			n += len(groups[reason])
		}
		return n
	}
	var rules []string
	for rule := range reasons {
		rules = append(rules, rule)
	}
	slices.SortFunc(rules, func(a, b string) int { return cmp.Or(cmp.Compare(count(b), count(a)), cmp.Compare(a, b)) })
	for _, rule := range rules {
		p.printf("\n  %s: %d\n", rule, count(rule))
		slices.Sort(reasons[rule])
		for _, reason := range reasons[rule] {
			p.printf("    %s\n", reason)
			for _, d := range groups[reason] {
				p.printf("      %s\n", what(d))
			}
		}
	}
}

// refusalOf returns the rule that was against a job, and whose it is.
func refusalOf(d schedule.Decision) (rule, of string) {
	for _, c := range d.Checks {
		if c.Reason != "" {
			return c.Rule, c.Of
		}
	}
	return "other", ""
}

// ruleOf names the rule that was against a job, and whose kind it is.
func ruleOf(d schedule.Decision) string {
	rule, of := refusalOf(d)
	of, _, _ = strings.Cut(strings.TrimPrefix(of, "the "), " ")
	return strings.TrimSuffix(rule+" ("+of+")", " ()")
}

// what names a decision: its job, where it would run, and its entry.
func what(d schedule.Decision) string {
	where := cmp.Or(d.Entry.RuntimeName, "any "+d.Entry.RuntimeType)
	if d.Runtime != nil {
		where = d.Runtime.Name
	}
	platform := ""
	switch {
	case d.Platform != nil:
		platform = ", " + d.Platform.Name
	case len(d.Entry.Platforms) == 1:
		platform = ", " + d.Entry.Platforms[0]
	case len(d.Entry.Platforms) > 1:
		platform = fmt.Sprintf(", %d platforms", len(d.Entry.Platforms))
	}
	return fmt.Sprintf("%s on %s%s (%s)", d.Entry.Job, where, platform, d.Entry.Place)
}

// mostNear is how many of the nearest entries are named.
const mostNear = 5

func (p *printer) nearest(s *schedule.Schedule, ev event.Node, entries int) {
	p.printf("\nNothing waits for this event: none of %d entries matches it.\n", entries)
	near := s.Nearest(ev, mostNear)
	if len(near) > 0 {
		p.printf("\nThe nearest:\n")
	}
	for _, n := range near {
		p.printf("  job %s at %s: %s\n", n.Entry.Job, n.Entry.Place, strings.Join(n.Differs, "; "))
	}
}

// closest names the jobs that the fewest rules are against.
func (p *printer) closest(refused []schedule.Decision) {
	against := func(d schedule.Decision) (reasons []string) {
		for _, c := range d.Checks {
			if c.Reason != "" {
				reasons = append(reasons, c.Reason)
			}
		}
		return reasons
	}
	slices.SortStableFunc(refused, func(a, b schedule.Decision) int { return cmp.Compare(len(against(a)), len(against(b))) })
	p.printf("\nThe nearest:\n")
	for _, d := range refused[:min(len(refused), mostNear)] {
		p.printf("  %s: %s\n", what(d), strings.Join(against(d), "; "))
	}
}
