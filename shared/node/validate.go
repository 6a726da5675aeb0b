package node

import (
	"net/url"
	"slices"
	"strconv"

	"github.com/kernelflow/kernelflow/shared/errs"
)

var transitions = map[State][]State{
	Running:   {Available, Closing, Done},
	Available: {Closing, Done},
	Closing:   {Done},
}

// CheckTransition returns an errs.Invalid error unless a node in state from may
// go to state to. Staying where it is, is always allowed.
func CheckTransition(from, to State) error {
	if from == to || slices.Contains(transitions[from], to) {
		return nil
	}
	return errs.New(errs.Invalid, "Transition not allowed with state: %s", to)
}

// Validate checks what is true of every node and, in data, the keys that
// KernelCI defines for its kind. Numeric strings in a kernel version become
// integers. The error is errs.Invalid and names the field.
func (n *Node) Validate() error {
	if !slices.Contains(Kinds, n.Kind) {
		return errs.New(errs.Invalid, "kind: %.40q is not one of %v", n.Kind, Kinds)
	}
	if n.Name == "" {
		return errs.New(errs.Invalid, "name: must not be empty")
	}
	if len(n.Path) == 0 {
		return errs.New(errs.Invalid, "path: must list the names from the top node to this one")
	}
	if !slices.Contains(States, n.State) {
		return errs.New(errs.Invalid, "state: %.40q is not one of %v", n.State, States)
	}
	if n.Result != None && !slices.Contains(Results, n.Result) {
		return errs.New(errs.Invalid, "result: %.40q is not one of %v or null", n.Result, Results)
	}
	if n.RetryCounter < 0 {
		return errs.New(errs.Invalid, "retry_counter: %d is negative", n.RetryCounter)
	}
	if err := checkArtifacts(n.Artifacts); err != nil {
		return err
	}
	for field, v := range map[string]any{"data": n.Data, "debug": n.Debug} {
		if deeper(v, maxNesting) {
			return errs.New(errs.Invalid, "%s: is nested more than %d levels deep", field, maxNesting)
		}
	}
	return n.validateData()
}

// maxNesting is how deep data may go. MongoDB takes 100 levels in all.
const maxNesting = 64

// deeper says whether v goes on below so many levels.
func deeper(v any, levels int) bool {
	switch v := v.(type) {
	case map[string]any:
		for _, below := range v {
			if levels == 0 || deeper(below, levels-1) {
				return true
			}
		}
	case []any:
		return len(v) > 0 && levels == 0 || slices.ContainsFunc(v, func(below any) bool { return deeper(below, levels-1) })
	}
	return false
}

func checkArtifacts(artifacts map[string]string) error {
	for name, link := range artifacts {
		u, err := url.Parse(link)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return errs.New(errs.Invalid, "artifacts.%.40s: %.80q is not an absolute http(s) URL", name, link)
		}
	}
	return nil
}

// TextKeys are the keys of data that hold a text or null.
var TextKeys = []string{"error_code", "error_msg", "arch", "compiler", "config_full", "platform", "runtime", "device"}

// IDKeys are the keys of data that hold a node's id or null.
var IDKeys = []string{"fail_node", "pass_node", "regression"}

func (n *Node) validateData() error {
	if rev := n.Data["kernel_revision"]; rev != nil {
		if err := checkRevision(rev); err != nil {
			return err
		}
	}
	for _, key := range IDKeys {
		switch id := n.Data[key].(type) {
		case nil:
		case string:
			if _, err := ParseID(id); err != nil {
				return errs.New(errs.Invalid, "data.%s: %s", key, err)
			}
		default:
			return errs.New(errs.Invalid, "data.%s: must be a node's id or null", key)
		}
	}
	for _, key := range TextKeys {
		if !textOrNull(n.Data[key]) {
			return errs.New(errs.Invalid, "data.%s: must be a string or null", key)
		}
	}
	return nil
}

func checkRevision(v any) error {
	rev, ok := v.(map[string]any)
	if !ok {
		return errs.New(errs.Invalid, "data.kernel_revision: must be an object")
	}
	for _, key := range []string{"tree", "url", "branch", "commit"} {
		if s, ok := rev[key].(string); !ok || s == "" {
			return errs.New(errs.Invalid, "data.kernel_revision.%s: must be a non-empty string", key)
		}
	}
	if u, err := url.Parse(rev["url"].(string)); err != nil || u.Scheme == "" {
		return errs.New(errs.Invalid, "data.kernel_revision.url: %.80q is not an absolute URL", rev["url"])
	}
	for _, key := range []string{"describe", "patchset", "commit_message"} {
		if !textOrNull(rev[key]) {
			return errs.New(errs.Invalid, "data.kernel_revision.%s: must be a string or null", key)
		}
	}
	if _, ok := rev["tip_of_branch"].(bool); !ok && rev["tip_of_branch"] != nil {
		return errs.New(errs.Invalid, "data.kernel_revision.tip_of_branch: must be true, false or null")
	}
	if !textsOrNull(rev["commit_tags"]) {
		return errs.New(errs.Invalid, "data.kernel_revision.commit_tags: must be a list of strings or null")
	}
	switch version := rev["version"].(type) {
	case nil:
		return nil
	case map[string]any:
		return checkVersion(version)
	}
	return errs.New(errs.Invalid, "data.kernel_revision.version: must be an object")
}

func textOrNull(v any) bool {
	_, ok := v.(string)
	return ok || v == nil
}

func textsOrNull(v any) bool {
	switch list := v.(type) {
	case nil, []string:
		return true
	case []any:
		return !slices.ContainsFunc(list, func(e any) bool { _, ok := e.(string); return !ok })
	}
	return false
}

func checkVersion(version map[string]any) error {
	for _, key := range []string{"extra", "name"} {
		if !textOrNull(version[key]) {
			return errs.New(errs.Invalid, "data.kernel_revision.version.%s: must be a string or null", key)
		}
	}
	for _, key := range []string{"version", "patchlevel", "sublevel"} {
		if version[key] == nil && key == "sublevel" {
			continue
		}
		n, err := integer(version[key])
		if err != nil {
			return errs.New(errs.Invalid, "data.kernel_revision.version.%s: must be an integer", key)
		}
		version[key] = n
	}
	return nil
}

// integer turns a JSON number or numeric string into the float64 that
// encoding/json would have given, so that a node reads the same before and
// after it was stored.
func integer(v any) (any, error) {
	switch v := v.(type) {
	case int:
		return float64(v), nil
	case int64:
		return float64(v), nil
	case float64:
		if v == float64(int64(v)) {
			return v, nil
		}
	case string:
		n, err := strconv.Atoi(v)
		return float64(n), err
	}
	return nil, strconv.ErrSyntax
}
