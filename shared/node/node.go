// Package node is KernelCI's node: the record of a checkout, a kernel build, a
// job, a test, a post-processing step or a regression, and the rules that are
// always true of it. It is pure: no I/O, no clock, no randomness of its own.
//
// Nodes form a hierarchy by parent and path; a checkout is the root of
// everything that a commit caused, and all of them carry its treeid. A node's
// life goes by states (running, available, closing, done); its outcome is the
// result. Facts are those of the KernelCI API (kernelci-core,
// kernelci/api/models.py): the field names, defaults, states and the allowed
// transitions.
//
// Decisions. `data` and `debug` stay maps, because clients put keys of their
// own there that must survive a round trip; the keys that KernelCI defines are
// checked by [Node.Validate] and read through accessors such as
// [Node.Revision]. Typed structs for each kind were the alternative; they lose
// unknown keys or carry them twice.
package node

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
)

// ID is a node's id: the 24 lower-case hex digits of an ObjectId. The empty ID
// is "none" (JSON null).
type ID string

// ParseID checks s. It returns an errs.Invalid error unless s is 24 hex digits;
// upper case is accepted and lowered.
func ParseID(s string) (ID, error) {
	if b, err := hex.DecodeString(s); err != nil || len(b) != 12 {
		return "", errs.New(errs.Invalid, "%.40q is not a valid ObjectId, it must be a 24-character hex string", s)
	}
	return ID(strings.ToLower(s)), nil
}

// NewID makes an id from the time (UTC seconds, so that ids sort roughly by
// age) and eight random bytes.
func NewID(now time.Time, random [8]byte) ID {
	var b [12]byte
	putSeconds(b[:4], now)
	copy(b[4:], random[:])
	return ID(hex.EncodeToString(b[:]))
}

// DeriveID makes the id that parent's descendant has when it is named by parts:
// the same words always give the same id, so that a repeated request creates
// nothing new. The age part is the parent's.
func DeriveID(parent ID, parts ...string) ID {
	h := sha256.New()
	fmt.Fprintf(h, "%s", parent)
	for _, p := range parts {
		fmt.Fprintf(h, "\x00%d:%s", len(p), p)
	}
	sum := h.Sum(nil)
	age := "00000000"
	if len(parent) == 24 {
		age = string(parent[:8])
	}
	return ID(age + hex.EncodeToString(sum[:8]))
}

func putSeconds(b []byte, t time.Time) {
	s := uint32(t.Unix())
	b[0], b[1], b[2], b[3] = byte(s>>24), byte(s>>16), byte(s>>8), byte(s)
}

// MarshalJSON writes null for the empty ID.
func (id ID) MarshalJSON() ([]byte, error) {
	if id == "" {
		return []byte("null"), nil
	}
	return json.Marshal(string(id))
}

// UnmarshalJSON reads null or 24 hex digits.
func (id *ID) UnmarshalJSON(b []byte) error {
	var s *string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	if s == nil {
		*id = ""
		return nil
	}
	parsed, err := ParseID(*s)
	*id = parsed
	return err
}

// Kind is what a node records.
type Kind string

// The kinds of node. A plain "node" is what the API creates when no kind is
// given.
const (
	KindNode       Kind = "node"
	KindCheckout   Kind = "checkout"
	KindKbuild     Kind = "kbuild"
	KindJob        Kind = "job"
	KindTest       Kind = "test"
	KindProcess    Kind = "process"
	KindRegression Kind = "regression"
)

// Kinds lists every kind.
var Kinds = []Kind{KindNode, KindCheckout, KindKbuild, KindJob, KindTest, KindProcess, KindRegression}

// NamePatchset is the name of a checkout that is another one with patches on it;
// that one is its parent.
const NamePatchset = "patchset"

// Below is the part of a path below the checkout, which is the same for what
// runs on a checkout and on a patchset of it.
func Below(path []string) []string {
	if len(path) > 1 {
		path = path[1:]
	}
	if len(path) > 1 && path[0] == NamePatchset {
		path = path[1:]
	}
	return path
}

// State is where a node is in its life.
type State string

// The states, in the order of a node's life.
const (
	Running   State = "running"
	Available State = "available"
	Closing   State = "closing"
	Done      State = "done"
)

// States lists every state, in the order of a node's life.
var States = []State{Running, Available, Closing, Done}

// Result is a node's outcome; the empty Result is "none yet" (JSON null).
type Result string

// The results.
const (
	None       Result = ""
	Pass       Result = "pass"
	Fail       Result = "fail"
	Skip       Result = "skip"
	Incomplete Result = "incomplete"
)

// Results lists every result but None.
var Results = []Result{Pass, Fail, Skip, Incomplete}

// Error codes that Kernelflow itself gives in data.error_code.
const (
	ErrCodeTimeout        = "node_timeout"         // the node's timeout lapsed
	ErrCodeGitCheckout    = "git_checkout_failure" // a checkout's source could not be had
	ErrCodeJobParams      = "invalid_job_params"   // a job's parameters make no sense
	ErrCodeJobGeneration  = "job_generation_error" // a job's template could not be rendered
	ErrCodeSubmit         = "submit_error"         // the runtime did not take the job
	ErrCodeKbuildInternal = "kbuild_internal_error"
	ErrCodeInfrastructure = "Infrastructure" // the machine or network under a job is at fault
	ErrCodeCanceled       = "Canceled"
	ErrCodeTest           = "Test" // the job's tests broke off
	ErrCodeJob            = "Job"  // the job itself broke off (died by a signal, for example)
)

// DefaultTimeout is how long a node may take when its creator does not say.
const DefaultTimeout = 6 * time.Hour

// Node is one record. Times are UTC with microsecond precision, of which a store
// keeps milliseconds at least. The zero value of an optional field is null on
// the wire.
type Node struct {
	ID             ID                `json:"id"`
	Kind           Kind              `json:"kind"`
	Name           string            `json:"name"`
	Path           []string          `json:"path"`
	Group          string            `json:"group"`
	Parent         ID                `json:"parent"`
	State          State             `json:"state"`
	Result         Result            `json:"result"`
	Artifacts      map[string]string `json:"artifacts"` // name to absolute http(s) URL
	Data           map[string]any    `json:"data"`
	Debug          map[string]any    `json:"debug"`
	JobFilter      []string          `json:"jobfilter"`       // nil: any job
	PlatformFilter []string          `json:"platform_filter"` // empty: any platform
	Created        time.Time         `json:"created"`
	Updated        time.Time         `json:"updated"`
	Timeout        time.Time         `json:"timeout"`
	Holdoff        time.Time         `json:"holdoff"` // zero: none
	Owner          string            `json:"owner"`
	Submitter      string            `json:"submitter"`
	TreeID         string            `json:"treeid"`
	UserGroups     []string          `json:"user_groups"`
	KCIDBProcessed bool              `json:"processed_by_kcidb_bridge"`
	RetryCounter   int               `json:"retry_counter"`
}

// Late says whether the node was ended by its timeout: what its job reports still
// counts then.
func (n *Node) Late() bool { return n.State == Done && n.Text("error_code") == ErrCodeTimeout }

// IsRoot says whether the node is at the top of its hierarchy.
func (n *Node) IsRoot() bool { return n.Parent == "" }

// SetDefaults fills what a creator may leave out, as the KernelCI API does:
// kind "node", state running, timeout six hours after now, created and updated
// now (UTC), no nil map or list but the optional ones.
func (n *Node) SetDefaults(now time.Time) {
	now = Time(now)
	n.Kind = orElse(n.Kind, KindNode)
	n.State = orElse(n.State, Running)
	if n.Created.IsZero() {
		n.Created = now
	}
	if n.Updated.IsZero() {
		n.Updated = now
	}
	if n.Timeout.IsZero() {
		n.Timeout = now.Add(DefaultTimeout)
	}
	n.Created, n.Updated, n.Timeout, n.Holdoff = Time(n.Created), Time(n.Updated), Time(n.Timeout), Time(n.Holdoff)
	if n.Artifacts == nil {
		n.Artifacts = map[string]string{}
	}
	if n.Data == nil {
		n.Data = map[string]any{}
	}
	if n.Debug == nil {
		n.Debug = map[string]any{}
	}
	if n.PlatformFilter == nil {
		n.PlatformFilter = []string{}
	}
	n.UserGroups = unique(n.UserGroups)
}

func orElse[T ~string](v, otherwise T) T {
	if v == "" {
		return otherwise
	}
	return v
}

func unique(list []string) []string {
	out := make([]string, 0, len(list))
	for _, s := range list {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// Clone returns a copy that shares nothing with n.
func (n Node) Clone() Node {
	n.Path = slices.Clone(n.Path)
	n.Artifacts = maps.Clone(n.Artifacts)
	n.Data = cloneMap(n.Data)
	n.Debug = cloneMap(n.Debug)
	n.JobFilter = slices.Clone(n.JobFilter)
	n.PlatformFilter = slices.Clone(n.PlatformFilter)
	n.UserGroups = slices.Clone(n.UserGroups)
	return n
}

func cloneMap(m map[string]any) map[string]any {
	if m == nil {
		return nil
	}
	out := make(map[string]any, len(m))
	for k, v := range m {
		out[k] = cloneValue(v)
	}
	return out
}

func cloneValue(v any) any {
	switch v := v.(type) {
	case map[string]any:
		return cloneMap(v)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = cloneValue(v[i])
		}
		return out
	case []string:
		return slices.Clone(v)
	}
	return v
}

// Get reads a dotted field of Data, such as "kernel_revision.tree". It returns
// nil when a part of the way is missing.
func (n *Node) Get(field string) any {
	var v any = n.Data
	for key := range strings.SplitSeq(field, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[key]
	}
	return v
}

// Text reads a dotted field of Data as a string; "" when it is missing or is
// not a string.
func (n *Node) Text(field string) string {
	s, _ := n.Get(field).(string)
	return s
}

// Set puts a top-level key of Data.
func (n *Node) Set(key string, value any) {
	if n.Data == nil {
		n.Data = map[string]any{}
	}
	n.Data[key] = value
}

// SetError ends the node: state done, the result, and data.error_code and
// data.error_msg.
func (n *Node) SetError(result Result, code, msg string) {
	n.State, n.Result = Done, result
	n.Set("error_code", code)
	n.Set("error_msg", msg)
}
