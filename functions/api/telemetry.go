package api

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
	"github.com/kernelflow/kernelflow/shared/telemetry"
)

// countPatience is how long counting may take.
const countPatience = 15 * time.Second

func (f *Function) telemetryRoutes(api huma.API) {
	register(api, http.MethodPost, "/telemetry", "Store what happened to a service's work", f.postTelemetry, needsToken)
	register(api, http.MethodGet, "/telemetry", "A page of what happened, oldest first", f.listTelemetry, answers(http.StatusGatewayTimeout))
	register(api, http.MethodGet, "/telemetry/stats", "How often what happened had each result, by fields", f.telemetryStats, answers(http.StatusGatewayTimeout))
	register(api, http.MethodGet, "/telemetry/anomalies", "Runtimes and devices that fail at a high rate", f.telemetryAnomalies, answers(http.StatusGatewayTimeout))
}

type telemetryInput struct {
	WithToken
	Body []telemetryIn `maxItems:"1000"`
}

// telemetryIn is an event as services send it.
type telemetryIn map[string]any

// Schema implements huma.SchemaProvider.
func (telemetryIn) Schema(registry huma.Registry) *huma.Schema {
	s := telemetrySchema()
	for _, field := range telemetry.Fields {
		longest := telemetry.Longest(field)
		s.Properties[string(field)].MaxLength = &longest
	}
	s.Required = []string{string(telemetry.Kind)}
	kind, shortest := s.Properties[string(telemetry.Kind)], 1
	kind.Nullable, kind.MinLength, kind.Description = false, &shortest, "runtime_error, job_submission, job_skip, job_result, test_result, or another"
	s.Properties[telemetry.TimeName] = orNull[timeIn]{}.Schema(registry)
	s.Properties[telemetry.InfraErrorName] = &huma.Schema{Type: huma.TypeBoolean, Nullable: true}
	return s
}

// telemetrySchema describes what an event has going in and out: each text or
// null, and what else a service says.
func telemetrySchema() *huma.Schema {
	s := &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true, Properties: map[string]*huma.Schema{}}
	for _, field := range telemetry.Fields {
		s.Properties[string(field)] = &huma.Schema{Type: huma.TypeString, Nullable: true}
	}
	return s
}

type insertedOutput struct {
	Body struct {
		Inserted int `json:"inserted"`
	}
}

// postTelemetry stores a list of events, all or none. The ids follow from who
// sends what: the same list sent again is the same events, unless it leaves a
// time to us, which is another one then.
func (f *Function) postTelemetry(ctx context.Context, in *telemetryInput) (*insertedOutput, error) {
	u, err := f.person(ctx, in.WithToken)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	raw, err := json.Marshal(in.Body)
	if err != nil {
		return nil, invalidBody(err)
	}
	now := f.now()
	list := u.Username + "\n" + string(raw)
	if slices.ContainsFunc(in.Body, func(wire telemetryIn) bool { return wire[telemetry.TimeName] == nil }) {
		list += now.String()
	}
	sum := sha256.Sum256([]byte(list))
	events := make([]telemetry.Event, len(in.Body))
	for i, wire := range in.Body {
		if events[i], err = telemetry.Parse(wire, now); err != nil {
			return nil, invalidBody(errs.New(errs.Invalid, "%d.%s", i, err))
		}
		// In the order of the list, among those of one time.
		events[i].ID = node.ID(fmt.Sprintf("%x%04x", sum[:10], i))
	}
	if err := f.store.AddTelemetry(ctx, events); err != nil {
		return nil, f.fail(ctx, err)
	}
	out := &insertedOutput{}
	out.Body.Inserted = len(events)
	return out, nil
}

// TelemetryFilters is embedded by the inputs of the routes that ask: it is
// what both the list and the counts can be narrowed to.
type TelemetryFilters struct {
	Since      timeIn `query:"since" doc:"at or after this time, UTC"`
	Until      timeIn `query:"until" doc:"at or before this time, UTC"`
	Kind       string `query:"kind" doc:"runtime_error, job_submission, job_skip, job_result or test_result; as of all texts, null: not set"`
	Runtime    string `query:"runtime"`
	Lab        string `query:"lab" doc:"another name of runtime"`
	DeviceType string `query:"device_type"`
	DeviceID   string `query:"device_id"`
	JobName    string `query:"job_name"`
	JobID      string `query:"job_id"`
	NodeID     string `query:"node_id"`
	Tree       string `query:"tree"`
	Branch     string `query:"branch"`
	Arch       string `query:"arch"`
	Result     string `query:"result"`
	ErrorType  string `query:"error_type"`
	InfraError string `query:"is_infra_error" enum:"true,false,True,False"`

	unknown []string
}

// Resolve implements huma.Resolver: it finds the parameters that nobody reads.
func (in *TelemetryFilters) Resolve(ctx huma.Context) []error {
	u := ctx.URL()
	for _, name := range slices.Sorted(maps.Keys(u.Query())) {
		if !slices.ContainsFunc(ctx.Operation().Parameters, func(p *huma.Param) bool { return p.In == "query" && p.Name == name }) {
			in.unknown = append(in.unknown, name)
		}
	}
	return nil
}

func (in *TelemetryFilters) filter() (telemetry.Filter, error) {
	out := telemetry.Filter{Is: map[telemetry.Field][]string{}}
	if len(in.unknown) > 0 {
		return out, errs.New(errs.Invalid, "%.80s: is no field to ask for", in.unknown[0])
	}
	if in.Lab != "" && in.Runtime != "" && in.Lab != in.Runtime {
		return out, errs.New(errs.Invalid, "lab: is another name of runtime, and they differ")
	}
	for field, value := range map[telemetry.Field]string{
		telemetry.Kind: in.Kind, telemetry.Runtime: cmp.Or(in.Runtime, in.Lab), telemetry.DeviceType: in.DeviceType,
		telemetry.DeviceID: in.DeviceID, telemetry.JobName: in.JobName, telemetry.JobID: in.JobID, telemetry.NodeID: in.NodeID,
		telemetry.Tree: in.Tree, telemetry.Branch: in.Branch, telemetry.Arch: in.Arch, telemetry.Result: in.Result, telemetry.ErrorType: in.ErrorType,
	} {
		if err := checkText(string(field), value); err != nil {
			return out, err
		}
		switch value {
		case "":
		case "null":
			out.Is[field] = []string{""}
		default:
			out.Is[field] = []string{value}
		}
	}
	if in.InfraError != "" {
		yes := strings.EqualFold(in.InfraError, "true")
		out.InfraError = &yes
	}
	return out, in.span(&out)
}

func (in *TelemetryFilters) span(out *telemetry.Filter) error {
	for _, bound := range []struct {
		name string
		text timeIn
		to   *time.Time
	}{{"since", in.Since, &out.Since}, {"until", in.Until, &out.Until}} {
		if bound.text == "" {
			continue
		}
		at, err := node.ParseTime(string(bound.text))
		if err != nil {
			return errs.New(errs.Invalid, "%s: %s", bound.name, err)
		}
		*bound.to = at
	}
	return nil
}

type listTelemetryInput struct {
	TelemetryFilters
	Limit  int `query:"limit" default:"50" minimum:"1" maximum:"1000"`
	Offset int `query:"offset" default:"0" minimum:"0" maximum:"10000000"`
}

type listTelemetryOutput struct {
	Body struct {
		Items  []telemetryItem `json:"items"`
		Total  int64           `json:"total"`
		Limit  int             `json:"limit"`
		Offset int             `json:"offset"`
	}
}

// telemetryItem is an event as it goes out.
type telemetryItem struct{ telemetry.Event }

// Schema implements huma.SchemaProvider.
func (telemetryItem) Schema(registry huma.Registry) *huma.Schema {
	s := telemetrySchema()
	s.Properties[telemetry.IDName] = objectID("").Schema(registry)
	s.Properties[telemetry.TimeName] = timeOut("").Schema(registry)
	s.Properties[telemetry.InfraErrorName] = &huma.Schema{Type: huma.TypeBoolean}
	return s
}

func (f *Function) listTelemetry(ctx context.Context, in *listTelemetryInput) (*listTelemetryOutput, error) {
	limited, cancel := context.WithTimeout(ctx, countPatience)
	defer cancel()
	filter, err := in.filter()
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	events, err := f.store.FindTelemetry(limited, filter, store.TelemetryPage{Limit: in.Limit, Offset: in.Offset})
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	out := &listTelemetryOutput{}
	out.Body.Items, out.Body.Limit, out.Body.Offset = make([]telemetryItem, len(events)), in.Limit, in.Offset
	for i, e := range events {
		out.Body.Items[i] = telemetryItem{e}
	}
	// A page that is not full is the last one: nothing needs to be counted.
	out.Body.Total = int64(in.Offset + len(events))
	if len(events) == in.Limit || len(events) == 0 && in.Offset > 0 {
		out.Body.Total, err = f.store.CountTelemetry(limited, filter)
	}
	return out, f.fail(ctx, err)
}

// groupable are the names that telemetry can be counted by.
var groupable = map[string]telemetry.Field{
	"kind": telemetry.Kind, "runtime": telemetry.Runtime, "lab": telemetry.Runtime, "device_type": telemetry.DeviceType, "device_id": telemetry.DeviceID,
	"job_name": telemetry.JobName, "tree": telemetry.Tree, "branch": telemetry.Branch, "arch": telemetry.Arch, "error_type": telemetry.ErrorType,
}

type telemetryStatsInput struct {
	TelemetryFilters
	GroupBy string `query:"group_by" maxLength:"200" doc:"comma-separated: kind, runtime, lab, device_type, device_id, job_name, tree, branch, arch, error_type"`
}

type telemetryStatsOutput struct{ Body []map[string]any }

func (f *Function) telemetryStats(ctx context.Context, in *telemetryStatsInput) (*telemetryStatsOutput, error) {
	limited, cancel := context.WithTimeout(ctx, countPatience)
	defer cancel()
	filter, err := in.filter()
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	names, fields, err := parseGroupBy(in.GroupBy)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	tallies, err := f.store.TallyTelemetry(limited, filter, fields)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	out := &telemetryStatsOutput{Body: make([]map[string]any, len(tallies))}
	for i, t := range tallies {
		row := map[string]any{
			"total": t.Total, "pass": t.Pass, "fail": t.Fail, "incomplete": t.Incomplete, "skip": t.Skip, "infra_error": t.InfraError,
		}
		for _, name := range names {
			row[name] = textOrNull(t.Key[groupable[name]])
		}
		out.Body[i] = row
	}
	return out, nil
}

func parseGroupBy(list string) (names []string, fields []telemetry.Field, err error) {
	for name := range strings.SplitSeq(list, ",") {
		name = strings.TrimSpace(name)
		field, ok := groupable[name]
		if !ok {
			return nil, nil, errs.New(errs.Invalid, "group_by: %.40q is not one of %s", name, strings.Join(slices.Sorted(maps.Keys(groupable)), ", "))
		}
		names = append(names, name)
		if !slices.Contains(fields, field) {
			fields = append(fields, field)
		}
	}
	return names, fields, nil
}

// textOrNull gives "" as JSON's null.
func textOrNull[T ~string](s T) *string {
	if s == "" {
		return nil
	}
	text := string(s)
	return &text
}

// anomalyWindows are the spans of time in which anomalies are looked for.
var anomalyWindows = map[string]time.Duration{
	"1h": time.Hour, "3h": 3 * time.Hour, "6h": 6 * time.Hour, "12h": 12 * time.Hour, "24h": 24 * time.Hour, "48h": 48 * time.Hour,
}

const (
	scopeDeviceType = "device_type" // a runtime's devices of one type, by the results of jobs and of tests
	scopeDevice     = "device"      // one device, by the results of jobs alone: many tests must not thin out what a device did
)

// mostAnomalies is how many are told of, the worst ones.
const mostAnomalies = 500

// AnomalyBounds is embedded by the inputs of what tells of anomalies.
type AnomalyBounds struct {
	Window    string  `query:"window" default:"6h" doc:"1h, 3h, 6h, 12h, 24h or 48h"`
	Threshold float64 `query:"threshold" default:"0.5" minimum:"0" maximum:"1" doc:"the least rate of failures or of infrastructure errors"`
	MinTotal  int64   `query:"min_total" default:"3" minimum:"1" doc:"fewer events say nothing"`
	Scope     string  `query:"scope" default:"device_type" enum:"device_type,device"`
}

// Resolve implements huma.Resolver: what is no number is within any bounds.
func (in *AnomalyBounds) Resolve(huma.Context) []error {
	if math.IsNaN(in.Threshold) {
		return []error{&huma.ErrorDetail{Location: "query.threshold", Message: "expected a number from 0 to 1"}}
	}
	return nil
}

type anomaliesOutput struct {
	Body struct {
		Window    string          `json:"window"`
		Threshold float64         `json:"threshold"`
		MinTotal  int64           `json:"min_total"`
		Scope     string          `json:"scope"`
		Since     string          `json:"since"`
		Results   []resultAnomaly `json:"result_anomalies"`
		Errors    []errorAnomaly  `json:"error_anomalies"`
	}
}

// resultAnomaly is a runtime's devices of one type, or one device, of which
// too many jobs fail.
type resultAnomaly struct {
	Runtime    *string `json:"runtime"`
	Lab        *string `json:"lab"`
	DeviceType *string `json:"device_type"`
	DeviceID   *string `json:"device_id,omitempty"`
	telemetry.Counts
	InfraRate            float64 `json:"infra_rate"`
	FailRate             float64 `json:"fail_rate"`
	ConstantFailure      bool    `json:"constant_failure"`
	ConstantInfraFailure bool    `json:"constant_infra_failure"`
	LastSeen             *string `json:"last_seen"`
	LatestErrorType      *string `json:"latest_error_type"`
	LatestErrorMsg       *string `json:"latest_error_msg"`
}

// errorAnomaly is an error that a runtime has met again and again.
type errorAnomaly struct {
	Runtime   *string `json:"runtime"`
	ErrorType *string `json:"error_type"`
	Count     int64   `json:"count"`
}

// since is when the window begins.
func (in *AnomalyBounds) since(now time.Time) (time.Time, error) {
	window, ok := anomalyWindows[in.Window]
	if !ok {
		return now, errs.New(errs.Invalid, "window: %.20q is not one of 1h, 3h, 6h, 12h, 24h, 48h", in.Window)
	}
	return now.Add(-window), nil
}

func (f *Function) telemetryAnomalies(ctx context.Context, in *AnomalyBounds) (*anomaliesOutput, error) {
	limited, cancel := context.WithTimeout(ctx, countPatience)
	defer cancel()
	since, err := in.since(f.now())
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	out := &anomaliesOutput{}
	out.Body.Window, out.Body.Threshold, out.Body.MinTotal, out.Body.Scope = in.Window, in.Threshold, in.MinTotal, in.Scope
	out.Body.Since = node.FormatTime(since)
	if out.Body.Results, err = f.resultAnomalies(limited, in, since); err != nil {
		return nil, f.fail(ctx, err)
	}
	out.Body.Errors, err = f.errorAnomalies(limited, in, since)
	return out, f.fail(ctx, err)
}

func (f *Function) resultAnomalies(ctx context.Context, in *AnomalyBounds, since time.Time) ([]resultAnomaly, error) {
	filter := telemetry.Filter{Since: since, Is: map[telemetry.Field][]string{telemetry.Kind: {telemetry.JobResult, telemetry.TestResult}}}
	by := []telemetry.Field{telemetry.Runtime, telemetry.DeviceType}
	if in.Scope == scopeDevice {
		filter.Is[telemetry.Kind] = []string{telemetry.JobResult}
		filter.Set = []telemetry.Field{telemetry.DeviceID}
		by = append(by, telemetry.DeviceID)
	}
	tallies, err := f.store.TallyTelemetry(ctx, filter, by)
	if err != nil {
		return nil, err
	}
	bad := telemetry.Anomalies(tallies, in.Threshold, in.MinTotal)
	found := []resultAnomaly{}
	for _, t := range bad[:min(len(bad), mostAnomalies)] {
		a, err := f.anomaly(ctx, filter, t)
		if err != nil {
			return nil, err
		}
		found = append(found, a)
	}
	return found, nil
}

// anomaly tells of a tally and of the newest event in it.
func (f *Function) anomaly(ctx context.Context, filter telemetry.Filter, t telemetry.Tally) (resultAnomaly, error) {
	runtime := textOrNull(t.Key[telemetry.Runtime])
	a := resultAnomaly{
		Runtime: runtime, Lab: runtime, DeviceType: textOrNull(t.Key[telemetry.DeviceType]), DeviceID: textOrNull(t.Key[telemetry.DeviceID]),
		Counts: t.Counts, InfraRate: t.InfraRate(), FailRate: t.FailRate(),
		ConstantFailure: t.FailRate() == 1, ConstantInfraFailure: t.InfraRate() == 1,
	}
	filter.Is = maps.Clone(filter.Is)
	for field, value := range t.Key {
		filter.Is[field] = []string{value}
	}
	newest, err := f.store.FindTelemetry(ctx, filter, store.TelemetryPage{Limit: 1, NewestFirst: true})
	if len(newest) > 0 {
		e := newest[0]
		a.LastSeen = textOrNull(node.FormatTime(e.Time))
		a.LatestErrorType, a.LatestErrorMsg = textOrNull(e.Texts[telemetry.ErrorType]), textOrNull(e.Texts[telemetry.ErrorMsg])
	}
	return a, err
}

func (f *Function) errorAnomalies(ctx context.Context, in *AnomalyBounds, since time.Time) ([]errorAnomaly, error) {
	filter := telemetry.Filter{Since: since, Is: map[telemetry.Field][]string{telemetry.Kind: {telemetry.RuntimeError, telemetry.JobSkip}}}
	tallies, err := f.store.TallyTelemetry(ctx, filter, []telemetry.Field{telemetry.Runtime, telemetry.ErrorType})
	found := []errorAnomaly{}
	for _, t := range tallies {
		if t.Total >= in.MinTotal && len(found) < mostAnomalies {
			found = append(found, errorAnomaly{textOrNull(t.Key[telemetry.Runtime]), textOrNull(t.Key[telemetry.ErrorType]), t.Total})
		}
	}
	return found, err
}
