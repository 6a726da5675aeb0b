package node

import (
	"strconv"

	"github.com/kernelflow/kernelflow/shared/errs"
)

// Hierarchy is a node with its descendants, as a job reports its results.
type Hierarchy struct {
	Node     Node        `json:"node"`
	Children []Hierarchy `json:"child_nodes"`
}

// maxDepth bounds a hierarchy; deeper ones are refused.
const maxDepth = 100

// Descendants lists what is below root in h, parents before their children,
// ready to be stored: parent, owner, submitter, treeid and user groups are the
// root's, ids are derived from the root, the request and the place in the
// hierarchy, so that the same request gives the same nodes. A path or kind
// that a node lacks follows its parent. The error is errs.Invalid and names
// the node.
func (h Hierarchy) Descendants(root Node, request string) ([]Node, error) {
	w := walker{root: root, request: request}
	err := w.walk(root, h.Children, "", 1)
	return w.out, err
}

type walker struct {
	root    Node
	request string
	out     []Node
}

func (w *walker) walk(parent Node, children []Hierarchy, place string, depth int) error {
	if depth > maxDepth {
		return errs.New(errs.Invalid, "child_nodes: more than %d levels deep below %q", maxDepth, parent.Name)
	}
	for i, child := range children {
		at := place + "/" + strconv.Itoa(i)
		n := w.adopt(parent, child.Node, at)
		if err := n.Validate(); err != nil {
			return errs.New(errs.Invalid, "child_nodes%s: %s", at, err)
		}
		w.out = append(w.out, n)
		if err := w.walk(n, child.Children, at, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) adopt(parent, n Node, at string) Node {
	n = n.Clone()
	n.ID = DeriveID(w.root.ID, w.request, at)
	n.Parent = parent.ID
	n.Owner, n.Submitter, n.TreeID = w.root.Owner, w.root.Submitter, w.root.TreeID
	if len(n.UserGroups) == 0 {
		n.UserGroups = w.root.UserGroups
	}
	if len(n.Path) == 0 {
		n.Path = append(append([]string{}, parent.Path...), n.Name)
	}
	if n.Kind == "" {
		n.Kind = parent.Kind
	}
	n.Created, n.Updated = w.root.Updated, w.root.Updated
	n.SetDefaults(w.root.Updated)
	return n
}
