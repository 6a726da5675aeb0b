package api

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"math"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/telemetry"
)

// shownGroups is how many groups the analytics have, those with the most events.
const shownGroups = 100

type analyticsInput struct {
	AnomalyBounds
	Of      string `query:"of" default:"job_result" enum:"job_result,test_result" doc:"whose results are counted"`
	By      string `query:"by" default:"runtime" enum:"runtime,device_type,device_id,job_name,tree,branch,arch" doc:"what they are counted by"`
	Runtime string `query:"runtime" maxLength:"1000" doc:"count those of one runtime"`
	Tree    string `query:"tree" maxLength:"1000" doc:"count those of one kernel tree"`
}

// showAnalytics shows how often what telemetry tells of passed, and what stands
// out of it.
func (f *Function) showAnalytics(ctx context.Context, in *analyticsInput) (*pageOutput, error) {
	view := &analyticsView{analyticsInput: *in, Now: f.now()}
	since, err := view.check()
	if err != nil {
		return f.draw(ctx, "analytics", view, err)
	}
	return f.analytics.show(ctx, f, view.address(view.analyticsInput), func(patience context.Context) (*pageOutput, error) {
		return f.draw(ctx, "analytics", view, f.analyse(patience, view, since))
	})
}

// check returns when the window begins.
func (v *analyticsView) check() (time.Time, error) {
	if err := cmp.Or(checkText("runtime", v.Runtime), checkText("tree", v.Tree)); err != nil {
		return v.Now, err
	}
	return v.since(v.Now)
}

// analyticsView is what was asked for, and what was found.
type analyticsView struct {
	analyticsInput
	Now       time.Time
	All       groupView
	Groups    []groupView // the one with the most events first
	More      int         // groups that are not shown
	TooMany   bool        // groups to be counted
	Anomalies []anomalyView
	Errors    []errorAnomaly
}

// groupView is how the events went that have the same text in a field.
type groupView struct {
	Name string // "": not set
	Link string // to the same more closely; "": there is nothing closer
	telemetry.Counts
	rate
}

func (g *groupView) add(c telemetry.Counts) {
	g.Total, g.Pass, g.Fail = g.Total+c.Total, g.Pass+c.Pass, g.Fail+c.Fail
	g.Incomplete, g.Skip, g.InfraError = g.Incomplete+c.Incomplete, g.Skip+c.Skip, g.InfraError+c.InfraError
	g.rate = rate{g.Pass, g.Pass + g.Fail + g.Incomplete}
}

// anomalyView is an anomaly with its numbers as people read them.
type anomalyView struct {
	resultAnomaly
	Failed, Infra string
	Seen          time.Time
}

// option is one of a form's choices.
type option struct {
	Value, Text string
	Chosen      bool
}

func options(chosen string, pairs ...string) []option {
	var list []option
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, option{pairs[i], pairs[i+1], pairs[i] == chosen})
	}
	return list
}

// Windows are the spans of time to choose from, the shortest first.
func (v *analyticsView) Windows() []option {
	names := slices.SortedFunc(maps.Keys(anomalyWindows), func(a, b string) int { return cmp.Compare(anomalyWindows[a], anomalyWindows[b]) })
	var list []option
	for _, name := range names {
		list = append(list, option{name, name, name == v.Window})
	}
	return list
}

// Results are the kinds of event to choose from.
func (v *analyticsView) Results() []option {
	return options(v.Of, telemetry.JobResult, "jobs", telemetry.TestResult, "tests")
}

// Fields are the fields to choose from.
func (v *analyticsView) Fields() []option {
	return options(v.By, "runtime", "runtime", "device_type", "device type", "device_id", "device", "job_name", "job", "tree", "tree", "branch", "branch", "arch", "architecture")
}

// Scopes are what may stand out.
func (v *analyticsView) Scopes() []option {
	return options(v.Scope, scopeDeviceType, "device types", scopeDevice, "devices")
}

// Field is what is counted by, as people say it.
func (v *analyticsView) Field() string { return chosen(v.Fields()) }

// Whose is whose results are counted.
func (v *analyticsView) Whose() string { return chosen(v.Results()) }

// PerDevice says whether single devices may stand out.
func (v *analyticsView) PerDevice() bool { return v.Scope == scopeDevice }

// Rate is the threshold as people read it.
func (v *analyticsView) Rate() string { return decimal(v.Threshold*100) + " %" }

// Rates are the thresholds to choose from, and the one of the question.
func (v *analyticsView) Rates() []option {
	values := []float64{0.3, 0.5, 0.7, 0.9, 1}
	if place, usual := slices.BinarySearch(values, v.Threshold); !usual {
		values = slices.Insert(values, place, v.Threshold)
	}
	var list []option
	for _, value := range values {
		list = append(list, option{exact(value), decimal(value*100) + " %", value == v.Threshold})
	}
	return list
}

func chosen(list []option) string {
	return list[slices.IndexFunc(list, func(o option) bool { return o.Chosen })].Text
}

func exact(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

func decimal(v float64) string { return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64) }

// address leads to the answer to a question.
func (v *analyticsView) address(in analyticsInput) string {
	return "analytics?" + url.Values{
		"window": {in.Window}, "threshold": {exact(in.Threshold)}, "min_total": {strconv.FormatInt(in.MinTotal, 10)},
		"scope": {in.Scope}, "of": {in.Of}, "by": {in.By}, "runtime": {in.Runtime}, "tree": {in.Tree},
	}.Encode()
}

// closer leads from a group to what is in it.
func (v *analyticsView) closer(name string) string {
	in := v.analyticsInput
	switch {
	case name == "":
		return ""
	case in.By == "runtime":
		in.By, in.Runtime = "device_type", name
	case in.By == "tree":
		in.By, in.Tree = "runtime", name
	default:
		return ""
	}
	return v.address(in)
}

// analyse fills the view.
func (f *Function) analyse(ctx context.Context, view *analyticsView, since time.Time) error {
	filter := telemetry.Filter{Since: since, Is: map[telemetry.Field][]string{telemetry.Kind: {view.Of}}}
	for field, value := range map[telemetry.Field]string{telemetry.Runtime: view.Runtime, telemetry.Tree: view.Tree} {
		if value != "" {
			filter.Is[field] = []string{value}
		}
	}
	tallies, err := f.store.TallyTelemetry(ctx, filter, []telemetry.Field{groupable[view.By]})
	switch {
	case errors.Is(err, telemetry.ErrTooMany):
		view.TooMany = true
	case err != nil:
		return err
	}
	view.addGroups(tallies)
	return f.addAnomalies(ctx, view, since)
}

func (v *analyticsView) addGroups(tallies []telemetry.Tally) {
	for i, t := range tallies {
		v.All.add(t.Counts)
		if i < shownGroups {
			name := t.Key[groupable[v.By]]
			group := groupView{Name: name, Link: v.closer(name)}
			group.add(t.Counts)
			v.Groups = append(v.Groups, group)
		}
	}
	v.More = len(tallies) - len(v.Groups)
}

func (f *Function) addAnomalies(ctx context.Context, view *analyticsView, since time.Time) error {
	found, err := f.resultAnomalies(ctx, &view.AnomalyBounds, since)
	if err != nil {
		return err
	}
	for _, a := range found {
		seen := time.Time{}
		if a.LastSeen != nil {
			if seen, err = node.ParseTime(*a.LastSeen); err != nil {
				return err
			}
		}
		view.Anomalies = append(view.Anomalies, anomalyView{a, decimal(a.FailRate * 100), decimal(a.InfraRate * 100), seen})
	}
	view.Errors, err = f.errorAnomalies(ctx, &view.AnomalyBounds, since)
	return err
}
