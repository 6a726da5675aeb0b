package node

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
)

// wire is a Node as JSON: what is null there is a pointer here.
type wire struct {
	ID             ID                `json:"id"`
	Kind           Kind              `json:"kind"`
	Name           string            `json:"name"`
	Path           []string          `json:"path"`
	Group          *string           `json:"group"`
	Parent         ID                `json:"parent"`
	State          State             `json:"state"`
	Result         *Result           `json:"result"`
	Artifacts      map[string]string `json:"artifacts"`
	Data           map[string]any    `json:"data"`
	Debug          map[string]any    `json:"debug"`
	JobFilter      []string          `json:"jobfilter"`
	PlatformFilter []string          `json:"platform_filter"`
	Created        *wireTime         `json:"created"`
	Updated        *wireTime         `json:"updated"`
	Timeout        *wireTime         `json:"timeout"`
	Holdoff        *wireTime         `json:"holdoff"`
	Owner          *string           `json:"owner"`
	Submitter      *string           `json:"submitter"`
	TreeID         *string           `json:"treeid"`
	UserGroups     []string          `json:"user_groups"`
	KCIDBProcessed bool              `json:"processed_by_kcidb_bridge"`
	RetryCounter   whole             `json:"retry_counter"`
	AltID          ID                `json:"_id,omitempty"`
}

type wireTime time.Time

func (t wireTime) MarshalJSON() ([]byte, error) {
	return []byte(`"` + FormatTime(time.Time(t)) + `"`), nil
}

func (t *wireTime) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	parsed, err := ParseTime(s)
	*t = wireTime(parsed)
	return err
}

// whole is an integer that JSON may write as 3 or as 3.0.
type whole int

func (w *whole) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	f, err := strconv.ParseFloat(string(b), 64)
	if err != nil || f != float64(int32(f)) {
		return errs.New(errs.Invalid, "retry_counter: %.40s is no integer", b)
	}
	*w = whole(f)
	return nil
}

func pointer[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

func timePointer(t time.Time) *wireTime {
	if t.IsZero() {
		return nil
	}
	w := wireTime(t)
	return &w
}

// MarshalJSON writes the node as the API shows it: every field present, null
// for what is not set, times in TimeLayout.
func (n Node) MarshalJSON() ([]byte, error) {
	return json.Marshal(wire{
		ID: n.ID, Kind: n.Kind, Name: n.Name, Path: n.Path, Group: pointer(n.Group), Parent: n.Parent,
		State: n.State, Result: pointer(n.Result), Artifacts: n.Artifacts, Data: n.Data, Debug: n.Debug,
		JobFilter: n.JobFilter, PlatformFilter: n.PlatformFilter,
		Created: timePointer(n.Created), Updated: timePointer(n.Updated),
		Timeout: timePointer(n.Timeout), Holdoff: timePointer(n.Holdoff),
		Owner: pointer(n.Owner), Submitter: pointer(n.Submitter), TreeID: pointer(n.TreeID),
		UserGroups: n.UserGroups, KCIDBProcessed: n.KCIDBProcessed, RetryCounter: whole(n.RetryCounter),
	})
}

// UnmarshalJSON reads what MarshalJSON writes, with `_id` accepted for `id` and
// times in any form that ParseTime takes.
func (n *Node) UnmarshalJSON(b []byte) error {
	var w wire
	if err := json.Unmarshal(b, &w); err != nil {
		return err
	}
	if w.ID == "" {
		w.ID = w.AltID
	}
	*n = Node{
		ID: w.ID, Kind: w.Kind, Name: w.Name, Path: w.Path, Group: value(w.Group), Parent: w.Parent,
		State: w.State, Result: value(w.Result), Artifacts: w.Artifacts, Data: w.Data, Debug: w.Debug,
		JobFilter: w.JobFilter, PlatformFilter: w.PlatformFilter,
		Created: time.Time(value(w.Created)), Updated: time.Time(value(w.Updated)),
		Timeout: time.Time(value(w.Timeout)), Holdoff: time.Time(value(w.Holdoff)),
		Owner: value(w.Owner), Submitter: value(w.Submitter), TreeID: value(w.TreeID),
		UserGroups: w.UserGroups, KCIDBProcessed: w.KCIDBProcessed, RetryCounter: int(w.RetryCounter),
	}
	return nil
}
