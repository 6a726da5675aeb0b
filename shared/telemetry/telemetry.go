// Package telemetry is what the pipeline's services say of their own work: a
// job was submitted, skipped or has ended, a runtime did not answer. From many
// such events follows which runtimes and devices are in trouble.
//
// Pure, without input or output: events and their form on the wire, which of
// them a question selects, how they are counted, and what is an anomaly.
//
// Decisions. An event is a set of named texts rather than a struct of fields:
// what filters, groups and stores them treats all alike, and the list of names
// is in one place. Keys that are not on it are kept as they came, because
// services are newer than this package at times. Times have milliseconds: that
// is all that MongoDB keeps.
package telemetry

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
)

// Field is the name of one of an event's texts.
type Field string

// The texts of an event.
const (
	Kind       Field = "kind"
	Runtime    Field = "runtime"
	DeviceType Field = "device_type"
	DeviceID   Field = "device_id"
	JobName    Field = "job_name"
	JobID      Field = "job_id"
	NodeID     Field = "node_id"
	Tree       Field = "tree"
	Branch     Field = "branch"
	Arch       Field = "arch"
	Result     Field = "result"
	ErrorType  Field = "error_type"
	ErrorMsg   Field = "error_msg"
)

// Fields are all of them.
var Fields = []Field{Kind, Runtime, DeviceType, DeviceID, JobName, JobID, NodeID, Tree, Branch, Arch, Result, ErrorType, ErrorMsg}

// Kinds of event that this package knows the meaning of; others are kept too.
const (
	JobSubmission = "job_submission"
	JobResult     = "job_result"
	TestResult    = "test_result"
	RuntimeError  = "runtime_error"
	JobSkip       = "job_skip"
)

// Event is one thing that happened.
type Event struct {
	ID         node.ID
	Time       time.Time // UTC, whole milliseconds; "ts" on the wire
	Texts      map[Field]string
	InfraError bool           // the infrastructure is to blame, not the kernel
	Rest       map[string]any // what else the service said, as JSON has it
}

// Names of what is not a text.
const (
	IDName         = "id"
	TimeName       = "ts"
	InfraErrorName = "is_infra_error"
)

// Millisecond brings t to what an event keeps.
func Millisecond(t time.Time) time.Time { return node.Time(t).Truncate(time.Millisecond) }

// About begins an event about the job of a node: its texts are what the node says.
func About(job node.Node, kind string, at time.Time) Event {
	e := Event{Time: Millisecond(at), Texts: map[Field]string{}, Rest: map[string]any{}}
	r, _ := job.Revision()
	for field, text := range map[Field]string{
		Kind: kind, Runtime: job.Text("runtime"), DeviceType: job.Text("platform"), DeviceID: job.Text("device"), JobName: job.Name,
		JobID: job.Text("job_id"), NodeID: string(job.ID), Tree: r.Tree, Branch: r.Branch, Arch: job.Text("arch"),
	} {
		e.Set(field, text)
	}
	return e
}

// Set gives the event a text. One that is empty, or longer than the text may be,
// is left out.
func (e *Event) Set(f Field, text string) {
	if text != "" && len(text) <= Longest(f) {
		e.Texts[f] = text
	}
}

// MarshalJSON writes the event as KernelCI does: every text, null for what is
// not set, and the time in node.TimeLayout.
func (e Event) MarshalJSON() ([]byte, error) {
	wire := map[string]any{}
	maps.Copy(wire, e.Rest)
	wire[IDName], wire[TimeName], wire[InfraErrorName] = e.ID, node.FormatTime(e.Time), e.InfraError
	for _, f := range Fields {
		wire[string(f)] = nil
		if text := e.Texts[f]; text != "" {
			wire[string(f)] = text
		}
	}
	return json.Marshal(wire)
}

// ahead is how far a service's clock may be before ours. What claims to be
// later would outlive its retention.
const ahead = 24 * time.Hour

// Longest is how many characters a text may have.
func Longest(f Field) int {
	if f == ErrorMsg {
		return 64_000
	}
	return 1000
}

// Parse reads an event as a service sends it; without a time it happens now.
// An id in it is ignored. Errors are errs.Invalid and begin with the field.
func Parse(wire map[string]any, now time.Time) (Event, error) {
	e := Event{Time: Millisecond(now), Texts: map[Field]string{}, Rest: maps.Clone(wire)}
	for _, f := range Fields {
		text, err := parseText(f, wire[string(f)])
		if err != nil {
			return Event{}, err
		}
		if text != "" {
			e.Texts[f] = text
		}
		delete(e.Rest, string(f))
	}
	if e.Texts[Kind] == "" {
		return Event{}, errs.New(errs.Invalid, "%s: is missing", Kind)
	}
	if err := e.parseOthers(wire, now); err != nil {
		return Event{}, err
	}
	for _, name := range []string{IDName, "_id", TimeName, InfraErrorName} {
		delete(e.Rest, name)
	}
	return e, nil
}

func parseText(f Field, v any) (string, error) {
	text, ok := v.(string)
	switch {
	case v == nil:
		return "", nil
	case !ok:
		return "", errs.New(errs.Invalid, "%s: must be a text", f)
	case utf8.RuneCountInString(text) > Longest(f):
		return "", errs.New(errs.Invalid, "%s: has %d characters, may have %d", f, utf8.RuneCountInString(text), Longest(f))
	case strings.ContainsRune(text, 0):
		return "", errs.New(errs.Invalid, "%s: must not contain NUL", f)
	}
	return text, nil
}

func (e *Event) parseOthers(wire map[string]any, now time.Time) error {
	switch v := wire[InfraErrorName].(type) {
	case nil:
	case bool:
		e.InfraError = v
	default:
		return errs.New(errs.Invalid, "%s: must be true or false", InfraErrorName)
	}
	if wire[TimeName] == nil {
		return nil
	}
	text, ok := wire[TimeName].(string)
	if !ok {
		return errs.New(errs.Invalid, "%s: must be a time as text", TimeName)
	}
	at, err := node.ParseTime(text)
	if err != nil {
		return errs.New(errs.Invalid, "%s: %s", TimeName, err)
	}
	if at.Sub(now) > ahead {
		return errs.New(errs.Invalid, "%s: %s has yet to come", TimeName, node.FormatTime(at))
	}
	e.Time = Millisecond(at)
	return nil
}

// Filter selects events. The zero Filter selects all.
type Filter struct {
	Since, Until time.Time          // UTC, both included; zero: no bound
	Is           map[Field][]string // is one of these; "" stands for not set
	Set          []Field            // are set
	InfraError   *bool
}

// Match says whether the filter selects e: what stores must do.
func (f Filter) Match(e Event) bool {
	if !f.Since.IsZero() && e.Time.Before(f.Since) || !f.Until.IsZero() && e.Time.After(f.Until) {
		return false
	}
	if f.InfraError != nil && *f.InfraError != e.InfraError {
		return false
	}
	for field, values := range f.Is {
		if !slices.Contains(values, e.Texts[field]) {
			return false
		}
	}
	return !slices.ContainsFunc(f.Set, func(field Field) bool { return e.Texts[field] == "" })
}

// Counts are how often events had each result.
type Counts struct {
	Total      int64 `json:"total"`
	Pass       int64 `json:"pass"`
	Fail       int64 `json:"fail"`
	Incomplete int64 `json:"incomplete"`
	Skip       int64 `json:"skip"`
	InfraError int64 `json:"infra_error"`
}

// Add counts n events more.
func (c *Counts) Add(result string, infraError bool, n int64) {
	c.Total += n
	switch result {
	case "pass":
		c.Pass += n
	case "fail":
		c.Fail += n
	case "incomplete":
		c.Incomplete += n
	case "skip":
		c.Skip += n
	}
	if infraError {
		c.InfraError += n
	}
}

// InfraRate is which part of all was an infrastructure error, from 0 to 1.
func (c Counts) InfraRate() float64 { return rate(c.InfraError, c.Total) }

// FailRate is which part of all failed or came to no end, from 0 to 1.
func (c Counts) FailRate() float64 { return rate(c.Fail+c.Incomplete, c.Total) }

func rate(part, total int64) float64 {
	if total == 0 {
		return 0
	}
	return float64(part) / float64(total)
}

// Tally is the count of the events that have the same texts in the fields by
// which they were grouped.
type Tally struct {
	Key map[Field]string // "": not set
	Counts
}

// MostTallies is how many tallies one question may have as its answer.
const MostTallies = 10_000

// ErrTooMany answers a question with more; an errs.Invalid error.
var ErrTooMany = errs.New(errs.Invalid, "group_by: more than %d groups, ask by fewer fields or of less time", MostTallies)

// ByTotal orders tallies, the greatest first, and those alike by their keys.
func ByTotal(a, b Tally) int {
	order := cmp.Compare(b.Total, a.Total)
	for i := 0; i < len(Fields) && order == 0; i++ {
		order = cmp.Compare(a.Key[Fields[i]], b.Key[Fields[i]])
	}
	return order
}

// Anomalies picks the tallies of at least minTotal events whose rate of
// infrastructure errors or of failures reaches threshold, the worst first.
func Anomalies(tallies []Tally, threshold float64, minTotal int64) []Tally {
	bad := slices.DeleteFunc(slices.Clone(tallies), func(t Tally) bool {
		return t.Total < minTotal || t.worst() < threshold
	})
	slices.SortFunc(bad, func(a, b Tally) int { return cmp.Or(cmp.Compare(b.worst(), a.worst()), ByTotal(a, b)) })
	return bad
}

func (t Tally) worst() float64 { return max(t.InfraRate(), t.FailRate()) }
