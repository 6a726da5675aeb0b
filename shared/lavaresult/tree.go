package lavaresult

import (
	"cmp"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/kernelflow/kernelflow/shared/node"
)

// Names of a job's artifacts.
const (
	ArtifactLog      = "lava_log"
	ArtifactLogs     = "lava_logs"
	ArtifactCallback = "callback_data"
)

// Report is what a lab says of a job that has ended.
type Report struct {
	Head
	Device  string // on which it ran; empty: on none
	Cases   []Case
	Problem string // with the results; empty: none
}

// inherited are the keys of a job's data that its results share.
var inherited = []string{"kernel_revision", "arch", "defconfig", "config_full", "compiler", "kernel_type", "platform", "runtime"}

// Tree makes the results of the job: its node n as it is to be, over the suites.
// artifacts come beside those that n has; without a log among them a job cannot
// have passed.
func (r Report) Tree(n node.Node, artifacts map[string]string) node.Hierarchy {
	root := n.Clone()
	if root.Artifacts == nil {
		root.Artifacts = map[string]string{}
	}
	b := builder{root: &root}
	for _, c := range r.Cases {
		b.add(c)
	}
	maps.Copy(root.Artifacts, artifacts)
	if r.Device != "" {
		root.Set("device", text(r.Device))
	}
	root.Set("job_id", r.Job)
	delete(root.Data, "error_code")
	delete(root.Data, "error_msg")
	h := node.Hierarchy{Node: root, Children: b.children()}
	v := r.verdict(&b, h.Children)
	h.Node.State, h.Node.Result = node.Done, v.result
	if v.code != "" {
		h.Node.Set("error_code", v.code)
	}
	if v.text != "" {
		h.Node.Set("error_msg", v.text)
	}
	return h
}

// verdict is a job's result with the reason for it.
type verdict struct {
	result node.Result
	code   string // data.error_code
	text   string // data.error_msg
}

func (r Report) verdict(b *builder, suites []node.Hierarchy) verdict {
	v := verdict{result: node.Pass}
	logged := b.root.Artifacts[ArtifactLogs] != ""
	switch {
	case r.Problem != "" && (b.job == nil || r.Status == Complete):
		return verdict{node.Incomplete, node.ErrCodeInfrastructure, "the lab's results cannot be read: " + text(r.Problem)}
	case r.Status != Complete || !logged:
		v = r.why(b.job, logged)
	}
	setup, failed := false, false
	for _, s := range suites {
		setup = setup || s.Node.Name == setupSuite && s.Node.Result == node.Fail
		failed = failed || s.Node.Result == node.Fail
	}
	baseline := strings.Contains(b.root.Name, "baseline")
	switch {
	case setup && baseline && v.code != node.ErrCodeInfrastructure:
		v.result = node.Fail
	case v.result == node.Pass && setup:
		v = verdict{result: node.Incomplete, text: "the device was not set up: see the results of " + setupSuite}
	case v.result == node.Pass && failed:
		v.result = node.Fail
	}
	return v
}

// why is what LAVA says of a job that did not end well.
func (r Report) why(job *Case, logged bool) verdict {
	v := verdict{result: node.Incomplete}
	switch {
	case job != nil && job.Metadata.ErrorType != "":
		v.code, v.text = text(job.Metadata.ErrorType), text(job.Metadata.ErrorMsg)
	case r.Status == Canceled || r.Status == canceling:
		v.code, v.text = node.ErrCodeCanceled, "canceled in the lab before it started"
	case !logged:
		v.code, v.text = node.ErrCodeInfrastructure, "the lab sent no log"
	default:
		v.code, v.text = node.ErrCodeInfrastructure, "the lab does not say why the job is incomplete"
	}
	if v.text == "" {
		v.text = "the lab says no more than " + v.code
	}
	return v
}

// Names of suites and cases that mean something.
const (
	lavaSuite   = "lava"
	setupSuite  = "setup"
	uploadSuite = "upload"
	uploadCase  = "artifact-upload:"
)

// builder sorts cases into suites.
type builder struct {
	root   *node.Node
	suites []*suite
	login  node.Result
	kernel node.Result
	job    *Case
	stages map[string]node.Result // of suites, as LAVA's own steps say
}

// suite is a suite or a test set.
type suite struct {
	name  string
	cases []node.Hierarchy
	sets  []*suite
	known map[string]bool
}

func (b *builder) add(c Case) {
	c.Name = text(c.Name)
	if c.Suite == lavaSuite {
		b.step(c)
		return
	}
	name := text(c.Suite)
	if _, behind, numbered := strings.Cut(name, "_"); numbered {
		name = behind
	}
	if name == uploadSuite && b.upload(c) {
		return
	}
	s := named(&b.suites, name)
	if set := text(c.Metadata.Set); set != "" {
		s = named(&s.sets, set)
	}
	if c.Name == "" || s.known[c.Name] {
		return
	}
	if s.known == nil {
		s.known = map[string]bool{}
	}
	s.known[c.Name] = true
	s.cases = append(s.cases, node.Hierarchy{Node: b.result(c), Children: []node.Hierarchy{}})
}

// named returns the suite of that name, which is added if need be.
func named(list *[]*suite, name string) *suite {
	for _, s := range *list {
		if s.name == name {
			return s
		}
	}
	s := &suite{name: cmp.Or(name, "unnamed")}
	*list = append(*list, s)
	return s
}

// step takes what one of LAVA's own steps says.
func (b *builder) step(c Case) {
	result := resultOf(c.Result)
	switch c.Name {
	case "job":
		b.job = &c
	case "auto-login-action", "login-action": // tried again, one that passes is enough
		if result != node.Pass {
			result = node.Fail
		}
		if b.login != node.Pass {
			b.login = result
		}
	case "kernel-messages": // one that found a panic is too many
		if b.kernel != node.Fail {
			b.kernel = node.Pass
		}
		if result == node.Fail {
			b.kernel = node.Fail
		}
	}
	if _, name, numbered := strings.Cut(c.Name, "_"); numbered {
		if b.stages == nil {
			b.stages = map[string]node.Result{}
		}
		b.stages[name] = result
	}
}

// upload makes an artifact of a case that names one.
func (b *builder) upload(c Case) bool {
	rest, ok := strings.CutPrefix(c.Name, uploadCase)
	if !ok {
		return false
	}
	name, link, ok := strings.Cut(rest, ":")
	u, err := url.Parse(link)
	if ok && c.Result == "pass" && name != "" && err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https") {
		b.root.Artifacts[name] = link
	}
	return true
}

// children are the nodes below the job's.
func (b *builder) children() []node.Hierarchy {
	list := []node.Hierarchy{}
	setup := &suite{name: setupSuite}
	for _, c := range []Case{{Name: "login", Result: string(b.login)}, {Name: "kernelmsg", Result: string(b.kernel)}} {
		if c.Result != "" {
			setup.cases = append(setup.cases, node.Hierarchy{Node: b.result(c), Children: []node.Hierarchy{}})
		}
	}
	if len(setup.cases) > 0 {
		list = append(list, b.suite(setup, node.None))
	}
	for _, s := range b.suites {
		list = append(list, b.suite(s, b.stages[s.name]))
	}
	return list
}

// suite makes the node of a suite, whose step LAVA gave the stage's result.
func (b *builder) suite(s *suite, stage node.Result) node.Hierarchy {
	h := node.Hierarchy{Node: b.node(node.KindJob, s.name), Children: slices.Clone(s.cases)}
	for _, set := range s.sets {
		h.Children = append(h.Children, b.suite(set, b.stages[set.name]))
	}
	h.Node.Result = stage
	if stage == node.None || stage == node.Pass {
		h.Node.Result = sum(h.Children)
	}
	return h
}

// sum is the result of a suite of these.
func sum(cases []node.Hierarchy) node.Result {
	found := map[node.Result]bool{}
	for _, c := range cases {
		found[c.Node.Result] = true
	}
	for _, r := range []node.Result{node.Fail, node.Pass, node.Skip} {
		if found[r] {
			return r
		}
	}
	if len(cases) == 0 {
		return node.Pass
	}
	return node.Incomplete
}

func (b *builder) result(c Case) node.Node {
	n := b.node(node.KindTest, c.Name)
	n.Result = resultOf(c.Result)
	if m := text(c.Measurement); m != "" && m != "None" {
		misc := map[string]any{"measurement": m}
		if c.Unit != "" {
			misc["unit"] = text(c.Unit)
		}
		n.Set("misc", misc)
	}
	return n
}

func (b *builder) node(kind node.Kind, name string) node.Node {
	n := node.Node{Kind: kind, Name: name, Group: b.root.Group, State: node.Done, Data: map[string]any{}}
	for _, key := range inherited {
		if v := b.root.Data[key]; v != nil {
			n.Set(key, v)
		}
	}
	return n
}

func resultOf(s string) node.Result {
	switch s {
	case "pass", "fail", "skip":
		return node.Result(s)
	}
	return node.Incomplete
}

// maxText bounds a name and a message, bytes.
const maxText = 2000

// text makes what a lab says fit for a node.
func text(s string) string {
	s = strings.TrimSpace(strings.Map(func(r rune) rune {
		if r == 0 || r < ' ' && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD")))
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "") + "..."
	}
	return s
}
