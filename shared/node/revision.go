package node

import (
	"encoding/json"
	"fmt"

	"github.com/kernelflow/kernelflow/shared/errs"
)

// Version is a kernel's version. Sublevel is nil when the version has none.
type Version struct {
	Version    int    `json:"version"`
	PatchLevel int    `json:"patchlevel"`
	Sublevel   *int   `json:"sublevel,omitempty"`
	Extra      string `json:"extra,omitempty"`
	Name       string `json:"name,omitempty"`
}

// Revision is the kernel source that a node is about.
type Revision struct {
	Tree          string   `json:"tree"`
	URL           string   `json:"url"`
	Branch        string   `json:"branch"`
	Commit        string   `json:"commit"`
	Describe      string   `json:"describe,omitempty"`
	Version       *Version `json:"version,omitempty"`
	Patchset      string   `json:"patchset,omitempty"`
	CommitTags    []string `json:"commit_tags,omitempty"`
	CommitMessage string   `json:"commit_message,omitempty"`
	TipOfBranch   *bool    `json:"tip_of_branch,omitempty"`
}

// Revision reads data.kernel_revision; false when there is none or it has
// another shape.
func (n *Node) Revision() (Revision, bool) {
	m, ok := n.Data["kernel_revision"].(map[string]any)
	if !ok {
		return Revision{}, false
	}
	var r Revision
	b, err := json.Marshal(m)
	if err != nil || json.Unmarshal(b, &r) != nil {
		return Revision{}, false
	}
	return r, true
}

// SetRevision writes data.kernel_revision, keeping keys there that Revision
// does not know.
func (n *Node) SetRevision(r Revision) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("node.SetRevision(%s): %w", r.Commit, err)
	}
	old, _ := n.Data["kernel_revision"].(map[string]any)
	merged := cloneMap(old)
	if merged == nil {
		merged = map[string]any{}
	}
	if err := json.Unmarshal(b, &merged); err != nil {
		return fmt.Errorf("node.SetRevision(%s): %w", r.Commit, errs.Wrap(errs.Invalid, err))
	}
	n.Set("kernel_revision", merged)
	return nil
}
