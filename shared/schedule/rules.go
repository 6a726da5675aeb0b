package schedule

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/pipeline"
)

// rules are pipeline.Rules, taken apart once.
type rules struct {
	of           string // whose they are: "job kunit"
	min, max     *pipeline.KernelVersion
	tree, branch *list
	others       []*list
}

// list is one rule: what it allows and what it denies.
type list struct {
	key                   string
	allow, deny           []string
	allowPairs, denyPairs []string // "tree:branch"
	allowed, allowedPairs string   // what is allowed, for reasons
}

// compile keeps the rules of what is called so ready for [rules.check].
func (s *Schedule) compile(of string, r *pipeline.Rules) {
	if r == nil || s.rules[r] != nil {
		return
	}
	c := &rules{of: of, min: r.MinVersion, max: r.MaxVersion}
	for _, rule := range r.Lists {
		l := &list{key: rule.Key}
		place := rule.Key == "tree" || rule.Key == "branch"
		for _, v := range rule.Values {
			bare, denied := strings.CutPrefix(v, "!")
			l.add(bare, denied, place && strings.Contains(bare, ":"))
		}
		l.allowed, l.allowedPairs = among(l.allow), among(l.allowPairs)
		switch rule.Key {
		case "tree":
			c.tree = l
		case "branch":
			c.branch = l
		default:
			c.others = append(c.others, l)
		}
	}
	s.rules[r] = c
}

func (l *list) add(value string, denied, pair bool) {
	to := &l.allow
	switch {
	case pair && denied:
		to = &l.denyPairs
	case pair:
		to = &l.allowPairs
	case denied:
		to = &l.deny
	}
	*to = append(*to, value)
}

// check says of each rule whether it lets a job run. A nil receiver has none.
func (r *rules) check(attribute func(string) any, t *trail) {
	if r == nil {
		return
	}
	r.checkVersion(attribute, t)
	r.checkPlace(attribute, t)
	for _, l := range r.others {
		t.rule(r.of, l.key, l.check(attribute(l.key)))
	}
}

func (r *rules) checkVersion(attribute func(string) any, t *trail) {
	if r.min == nil && r.max == nil {
		return
	}
	m, _ := attribute("version").(map[string]any)
	version, ok := integer(m["version"])
	level, ok2 := integer(m["patchlevel"])
	known := ok && ok2
	v := pipeline.KernelVersion{Version: version, PatchLevel: level}
	say := func(rule, format string, wrong bool, limit *pipeline.KernelVersion) {
		reason := ""
		switch {
		case !known:
			reason = "the kernel's version is not known"
		case wrong:
			reason = fmt.Sprintf(format, v, limit)
		}
		t.rule(r.of, rule, reason)
	}
	if r.min != nil {
		say("min_version", "kernel %s is older than %s", older(v, *r.min), r.min)
	}
	if r.max != nil {
		say("max_version", "kernel %s is newer than %s", older(*r.max, v), r.max)
	}
}

func older(a, b pipeline.KernelVersion) bool {
	return a.Version < b.Version || a.Version == b.Version && a.PatchLevel < b.PatchLevel
}

func integer(v any) (int, bool) {
	switch v := v.(type) {
	case int:
		return v, true
	case int64:
		return int(v), true
	case float64:
		return int(v), v == float64(int(v))
	case string:
		n, err := strconv.Atoi(v)
		return n, err == nil
	}
	return 0, false
}

// checkPlace checks tree and branch, in this order: an allowed combination
// settles both.
func (r *rules) checkPlace(attribute func(string) any, t *trail) {
	if r.tree == nil && r.branch == nil {
		return
	}
	tree, branch := text(attribute("tree")), text(attribute("branch"))
	for _, l := range []*list{r.tree, r.branch} {
		if l == nil {
			continue
		}
		if slices.Contains(l.allowPairs, tree+":"+branch) {
			t.rule(r.of, l.key, "")
			return
		}
		t.rule(r.of, l.key, l.checkPlace(tree, branch))
	}
}

// checkPlace applies a rule about tree or branch that allows no combination of
// the two.
func (l *list) checkPlace(tree, branch string) string {
	pair := tree + ":" + branch
	if slices.Contains(l.denyPairs, pair) {
		return fmt.Sprintf("tree and branch %q are denied", pair)
	}
	if len(l.allow) == 0 && len(l.allowPairs) > 0 {
		return fmt.Sprintf("tree and branch %q are not among %s", pair, l.allowedPairs)
	}
	value := tree
	if l.key == "branch" {
		value = branch
	}
	if value == "" {
		return l.check(nil)
	}
	return l.check(value)
}

// check applies the rule to a value: nil when there is none.
func (l *list) check(v any) string {
	if v == nil {
		if len(l.allow) > 0 {
			return fmt.Sprintf("%s is not known, and must be one of %s", l.key, l.allowed)
		}
		return ""
	}
	values := texts(v)
	for _, s := range values {
		if slices.Contains(l.deny, s) {
			return fmt.Sprintf("%s %q is denied", l.key, s)
		}
	}
	if len(l.allow) == 0 || slices.ContainsFunc(values, func(s string) bool { return slices.Contains(l.allow, s) }) {
		return ""
	}
	return fmt.Sprintf("%s %s is not among %s", l.key, among(values), l.allowed)
}

// maxNamed is how many values a reason names: some rules list a hundred.
const maxNamed = 8

func among(values []string) string {
	if len(values) == 0 {
		return "(none)"
	}
	named := values[:min(len(values), maxNamed)]
	out := make([]string, len(named))
	for i, v := range named {
		out[i] = fmt.Sprintf("%.60q", v)
	}
	if more := len(values) - len(named); more > 0 {
		out = append(out, fmt.Sprintf("%d more", more))
	}
	return strings.Join(out, ", ")
}

// texts gives a value, or the elements of a list, as rules write them.
func texts(v any) []string {
	switch v := v.(type) {
	case nil:
		return nil
	case []any:
		out := make([]string, 0, len(v))
		for _, e := range v {
			out = append(out, texts(e)...)
		}
		return out
	case []string:
		return v
	case string:
		return []string{v}
	case bool:
		return []string{strconv.FormatBool(v)}
	case int:
		return []string{strconv.Itoa(v)}
	case int64:
		return []string{strconv.FormatInt(v, 10)}
	case float64:
		return []string{strconv.FormatFloat(v, 'f', -1, 64)}
	}
	return nil
}

// lookup finds attributes, and remembers those of the nodes.
type lookup struct {
	nodes []*node.Node
	known map[string]any
	own   map[string]any // of the job's own node
}

func newLookup(sub Subject) *lookup {
	l := &lookup{nodes: []*node.Node{&sub.Node}, known: map[string]any{}, own: map[string]any{}}
	for i := range sub.Ancestors {
		l.nodes = append(l.nodes, &sub.Ancestors[i])
	}
	return l
}

// ofJob makes the lookup one for a node of job.
func (l *lookup) ofJob(job *pipeline.Job) {
	clear(l.own)
	l.own["name"], l.own["kind"], l.own["group"] = job.Name, job.Kind, job.Name
	if job.Kind != string(node.KindKbuild) {
		return
	}
	for _, k := range []string{"arch", "compiler", "defconfig", "fragments"} {
		if v := job.Params[k]; v != nil {
			l.own[k] = v
		}
	}
}

// value finds an attribute in the job's own node, then as node does.
func (l *lookup) value(name string) any {
	if v, ok := l.own[name]; ok {
		return v
	}
	return l.node(name)
}

// node finds an attribute in the event's node or its ancestors; nil when none
// has it.
func (l *lookup) node(name string) any {
	v, ok := l.known[name]
	if ok {
		return v
	}
	for _, n := range l.nodes {
		if v = attribute(n, name); v != nil {
			break
		}
	}
	l.known[name] = v
	return v
}

func attribute(n *node.Node, name string) any {
	if rev, ok := n.Data["kernel_revision"].(map[string]any); ok && rev[name] != nil {
		return rev[name]
	}
	if v := n.Data[name]; v != nil {
		return v
	}
	return ofNode(n, name)
}

// ofNode reads the fields of a node that a rule may name; nil for an empty one.
func ofNode(n *node.Node, name string) any {
	fields := map[string]string{
		"kind": string(n.Kind), "name": n.Name, "group": n.Group, "state": string(n.State), "result": string(n.Result),
		"owner": n.Owner, "submitter": n.Submitter, "treeid": n.TreeID,
	}
	if s := fields[name]; s != "" {
		return s
	}
	switch name {
	case "path":
		return n.Path
	case "user_groups":
		return n.UserGroups
	case "retry_counter":
		return n.RetryCounter
	}
	return nil
}
