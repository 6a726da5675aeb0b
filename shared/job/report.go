package job

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/kernelflow/kernelflow/shared/ktap"
	"github.com/kernelflow/kernelflow/shared/node"
)

// The exit statuses of a script that have a meaning of their own.
const (
	exitSkip           = 77 // as in automake and kselftest
	exitInfrastructure = 75 // EX_TEMPFAIL
)

// Bounds of what is reported.
const (
	maxCases       = 20_000   // nodes below a job
	maxCaseText    = 4 << 10  // bytes of one case's error_msg
	maxReportTexts = 8 << 20  // bytes of all of them
	maxReportNodes = 24 << 20 // bytes of the rest of the nodes below a job, about
	plainNode      = 700      // bytes of a node without data, about
)

// protected are the keys of a node's data that a script cannot set: what it was
// run for, and who may edit the node.
var protected = []string{"kernel_revision", "runtime", "platform", "job_id", "regression"}

// inherited are the keys of a job's data that its tests share.
var inherited = []string{"kernel_revision", "arch", "defconfig", "config_full", "compiler", "kernel_type", "platform", "runtime"}

// verdict is a job's result with the reason for it.
type verdict struct {
	result node.Result
	code   string // data.error_code
	text   string // data.error_msg
}

// judge decides a job's result.
func judge(o outcome, limit time.Duration, r *results) verdict {
	broken := func(code, format string, args ...any) verdict {
		return verdict{node.Incomplete, code, orElse(r.message, fmt.Sprintf(format, args...))}
	}
	switch o.Cause {
	case limited:
		return verdict{node.Incomplete, node.ErrCodeTimeout, fmt.Sprintf("the job ran longer than its limit of %s", limit.Round(100*time.Millisecond))}
	case wasCanceled:
		return verdict{node.Incomplete, node.ErrCodeCanceled, "the job was cancelled"}
	case orphaned:
		return verdict{node.Incomplete, node.ErrCodeInfrastructure, "the job's supervisor died"}
	case rebooted:
		return verdict{node.Incomplete, node.ErrCodeInfrastructure, "the machine went down before the job was reported"}
	case unstarted:
		return verdict{node.Incomplete, node.ErrCodeInfrastructure, "the job could not be started: " + o.Detail}
	case signaled:
		return verdict{node.Incomplete, node.ErrCodeJob, "the job was killed by " + o.Detail}
	}
	if o.Exit == exitInfrastructure {
		return broken(node.ErrCodeInfrastructure, "the job met a fault of its machine or network (exit status %d)", o.Exit)
	}
	for _, s := range r.suites {
		if why := brokenOff(s.report); why != nil {
			return verdict{node.Incomplete, node.ErrCodeTest, fmt.Sprintf("tests of %s broke off: %s", s.name, why)}
		}
	}
	if failed := slices.ContainsFunc(r.suites, func(s suite) bool { return s.report.Result() == node.Fail }); failed {
		return verdict{node.Fail, "", r.message}
	}
	switch o.Exit {
	case 0:
		return verdict{result: node.Pass}
	case exitSkip:
		return verdict{node.Skip, "", r.message}
	}
	return verdict{node.Fail, "", orElse(r.message, fmt.Sprintf("the job ended with exit status %d", o.Exit))}
}

// brokenOff returns what says that results are missing from the report, or nil.
// Output without a plan counts: nobody can tell whether it is whole.
func brokenOff(r ktap.Report) *ktap.Problem {
	if p := r.Incomplete(); p != nil {
		return p
	}
	i := slices.IndexFunc(r.Problems, func(p ktap.Problem) bool { return p.Text == "no plan" })
	if i < 0 {
		return nil
	}
	return &r.Problems[i]
}

// report builds what is sent for a job: its node as the API has it, ended, over
// its test results. holdoff counts from now (UTC).
func report(root node.Node, v verdict, r *results, artifacts map[string]string, holdoff time.Time) node.Hierarchy {
	root = root.Clone()
	if root.Artifacts == nil {
		root.Artifacts = map[string]string{}
	}
	for name, link := range artifacts {
		root.Artifacts[name] = link
	}
	putData(&root, r)
	root.State, root.Result = node.Done, v.result
	if root.Kind == node.KindKbuild && v.result == node.Pass {
		root.State, root.Holdoff = node.Available, node.Time(holdoff)
	}
	if v.code != "" {
		root.Set("error_code", v.code)
	}
	if v.text != "" {
		root.Set("error_msg", v.text)
	}
	b := builder{root: root, texts: maxReportTexts}
	b.cases = min(maxCases, maxReportNodes/(plainNode+b.shared()))
	children := []node.Hierarchy{}
	for _, s := range r.suites {
		children = append(children, b.suite(s))
	}
	if b.left > 0 {
		r.note("%d test cases left out: the report would be too large", b.left)
	}
	return node.Hierarchy{Node: root, Children: children}
}

// putData merges what the script left into the node's data, unless the node
// would not be a good one with it.
func putData(root *node.Node, r *results) {
	if len(r.data) == 0 {
		return
	}
	merged := root.Clone()
	for _, key := range slices.Sorted(maps.Keys(r.data)) {
		if slices.Contains(protected, key) {
			r.note("%s: %s cannot be set by a job", dataFile, key)
			continue
		}
		merged.Set(key, r.data[key])
	}
	if err := merged.Validate(); err != nil {
		r.note("%s is ignored: %v", dataFile, err)
		return
	}
	*root = merged
}

// builder makes nodes of test results, within the bounds of a report.
type builder struct {
	root  node.Node
	cases int // that may still come
	texts int // bytes that may still come
	left  int // cases left out
}

// shared is the length of the data that each node below the job repeats; a
// commit's message is in it, and that may be of any length.
func (b *builder) shared() int {
	data, err := json.Marshal(b.test(nil, "", node.None, "").Data)
	if err != nil {
		return 0
	}
	return len(data)
}

// suite makes the node of one file of results. A lone case that is called like
// its file is not doubled.
func (b *builder) suite(s suite) node.Hierarchy {
	cases := s.report.Cases
	text := s.report.Diagnostics
	if len(cases) == 1 && cases[0].Name == s.name {
		text = cases[0].Diagnostics
		cases = cases[0].Cases
	}
	result, code := s.report.Result(), ""
	if why := brokenOff(s.report); why != nil {
		code, text = node.ErrCodeTest, why.String()
		if result != node.Fail {
			result = node.Incomplete
		}
	}
	n := b.test(b.root.Path, s.name, result, text)
	if code != "" {
		n.Set("error_code", code)
	}
	return node.Hierarchy{Node: n, Children: b.below(n, cases)}
}

func (b *builder) below(parent node.Node, cases []ktap.Case) []node.Hierarchy {
	children := []node.Hierarchy{}
	for _, c := range cases {
		if b.cases--; b.cases < 0 {
			b.left++
			continue
		}
		n := b.test(parent.Path, c.Name, c.Result, c.Diagnostics)
		children = append(children, node.Hierarchy{Node: n, Children: b.below(n, c.Cases)})
	}
	return children
}

// test makes the node of one result; text is kept when it did not pass.
func (b *builder) test(path []string, name string, result node.Result, text string) node.Node {
	n := node.Node{
		Kind: node.KindTest, Name: name, Path: append(slices.Clone(path), name), Group: b.root.Group,
		State: node.Done, Result: result, Data: map[string]any{},
	}
	for _, key := range inherited {
		if v := b.root.Data[key]; v != nil {
			n.Set(key, v)
		}
	}
	text = printable(text, min(maxCaseText, max(0, b.texts)))
	if text != "" && (result == node.Fail || result == node.Incomplete) {
		b.texts -= len(text)
		n.Set("error_msg", text)
	}
	return n
}

// bare is what is reported when the API refuses a report: the job's own node
// alone, incomplete, with the reason.
func bare(root node.Node, refused error) node.Hierarchy {
	root = root.Clone()
	root.SetError(node.Incomplete, node.ErrCodeInfrastructure, "the job's results were refused: "+printable(refused.Error(), maxError))
	return node.Hierarchy{Node: root, Children: []node.Hierarchy{}}
}
