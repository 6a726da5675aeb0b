package node

import "strings"

// MaxRetries is how often a build or job is tried again by itself.
const MaxRetries = 3

// Keys of debug data that link the attempts at one job. KernelCI's requests for a
// retry carry the first.
const (
	retryByKey    = "retry_by"    // id of the attempt before
	retryFirstKey = "retry_first" // id of the first attempt
	retriedKey    = "retried"     // true: what follows this attempt is decided
)

// WantsRetry says whether the node asks for another attempt: a build or job that
// ended without a result, or a boot test that failed, and that has not been tried
// often enough.
func (n *Node) WantsRetry() bool {
	if n.State != Done || n.RetryCounter >= MaxRetries {
		return false
	}
	switch n.Kind {
	case KindKbuild:
		return n.Result == Incomplete
	case KindJob:
		return n.Result == Incomplete || n.Result == Fail && strings.HasPrefix(n.Name, "baseline")
	}
	return false
}

// Retried says whether the attempt that the node asks for has been created, or
// refused. Until then something is still to come.
func (n *Node) Retried() bool { return n.Debug[retriedKey] == true }

// SetRetried takes down that the attempt after n is created or refused.
func (n *Node) SetRetried() { n.setDebug(retriedKey, true) }

// SetRetryOf links n to the attempt before it and to the first one.
func (n *Node) SetRetryOf(before, first ID) {
	n.setDebug(retryByKey, string(before))
	n.setDebug(retryFirstKey, string(first))
}

// RetryOf returns the attempt before n, "" when it is the first.
func (n *Node) RetryOf() ID { return ID(debugText(n, retryByKey)) }

// FirstAttempt returns the first attempt: n itself when nothing came before.
func (n *Node) FirstAttempt() ID {
	if first := debugText(n, retryFirstKey); first != "" {
		return ID(first)
	}
	return n.ID
}

func debugText(n *Node, key string) string {
	s, _ := n.Debug[key].(string)
	return s
}

func (n *Node) setDebug(key string, v any) {
	if n.Debug == nil {
		n.Debug = map[string]any{}
	}
	n.Debug[key] = v
}

// Attempts finds out which of many runs count: of several attempts at one thing
// the last that came to a result, or when none did, the last. One that broke off
// takes nothing away from what an earlier one has found. The zero value is ready.
type Attempts struct {
	all   []attempt
	count map[any]attempt // by the first attempt's id, and by attemptKey
}

// attemptKey is what attempts have in common that are not linked.
type attemptKey struct {
	parent                  ID
	name, runtime, platform string
}

type attempt struct {
	id      ID
	keys    [2]any
	counter int
	result  bool
}

// before says whether b counts rather than a.
func (a attempt) before(b attempt) bool {
	if a.result != b.result {
		return b.result
	}
	return a.counter < b.counter
}

// Add takes a build or job into account; other kinds are left alone.
func (a *Attempts) Add(n Node) {
	if n.Kind != KindKbuild && n.Kind != KindJob {
		return
	}
	if a.count == nil {
		a.count = map[any]attempt{}
	}
	one := attempt{
		id: n.ID, counter: n.RetryCounter, result: n.Result != None && n.Result != Incomplete,
		keys: [2]any{n.FirstAttempt(), attemptKey{n.Parent, n.Name, n.Text("runtime"), n.Text("platform")}},
	}
	for _, key := range one.keys {
		if best, known := a.count[key]; !known || best.before(one) {
			a.count[key] = one
		}
	}
	a.all = append(a.all, one)
}

// Superseded lists the runs that do not count.
func (a *Attempts) Superseded() map[ID]bool {
	out := map[ID]bool{}
	for _, one := range a.all {
		for _, key := range one.keys {
			if one.before(a.count[key]) {
				out[one.id] = true
			}
		}
	}
	return out
}
