package node

import "slices"

// scheduledKey is where debug data says for which states of the node the jobs
// that they start have been created.
const scheduledKey = "scheduled"

// SchedulableKinds are the kinds of node that are marked by [Node.SetScheduled].
var SchedulableKinds = []Kind{KindCheckout, KindKbuild, KindJob}

// Scheduled says whether every job that the node starts by being in the state
// has been created. Until then nobody can say that nothing is left to do below
// the node.
func (n *Node) Scheduled(s State) bool {
	list, _ := n.Debug[scheduledKey].([]any)
	return slices.Contains(list, any(string(s)))
}

// SetScheduled takes down that every job which the state starts is created.
func (n *Node) SetScheduled(s State) {
	if n.Scheduled(s) {
		return
	}
	list, _ := n.Debug[scheduledKey].([]any)
	if n.Debug == nil {
		n.Debug = map[string]any{}
	}
	n.Debug[scheduledKey] = append(slices.Clip(list), string(s))
}
