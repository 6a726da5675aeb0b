package ending

import (
	"cmp"
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

// Verdict is a job's result with the reason for it.
type Verdict struct {
	Result node.Result
	Code   string // data.error_code
	Text   string // data.error_msg
}

// Verdict decides the job's result.
func (e Ending) Verdict() Verdict {
	broken := func(code, text string) Verdict { return Verdict{node.Incomplete, code, text} }
	switch e.Cause {
	case Limited:
		return broken(node.ErrCodeTimeout, fmt.Sprintf("the job ran longer than its limit of %s", e.Limit.Round(100*time.Millisecond)))
	case Canceled:
		return broken(node.ErrCodeCanceled, "the job was cancelled")
	case Orphaned:
		return broken(node.ErrCodeInfrastructure, "the job's supervisor died")
	case Rebooted:
		return broken(node.ErrCodeInfrastructure, "the machine went down before the job was reported")
	case Unstarted:
		return broken(node.ErrCodeInfrastructure, "the job could not be started: "+e.Detail)
	case Signaled:
		return broken(node.ErrCodeJob, "the job was killed by "+e.Detail)
	}
	if e.Exit == exitInfrastructure {
		return broken(node.ErrCodeInfrastructure,
			cmp.Or(e.Error, fmt.Sprintf("the job met a fault of its machine or network (exit status %d)", e.Exit)))
	}
	for _, s := range e.Suites {
		if why := brokenOff(s.Report); why != nil {
			return broken(node.ErrCodeTest, fmt.Sprintf("tests of %s broke off: %s", s.Name, why))
		}
	}
	if failed := slices.ContainsFunc(e.Suites, func(s Suite) bool { return s.Report.Result() == node.Fail }); failed {
		return Verdict{node.Fail, "", e.Error}
	}
	switch e.Exit {
	case 0:
		return Verdict{Result: node.Pass}
	case exitSkip:
		return Verdict{node.Skip, "", e.Error}
	}
	return Verdict{node.Fail, "", cmp.Or(e.Error, fmt.Sprintf("the job ended with exit status %d", e.Exit))}
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

// Report is what is sent for a job: its node as the API has it, ended, over its
// test results; notes are what was left out. now is UTC.
func (e Ending) Report(root node.Node, now time.Time) (h node.Hierarchy, notes []string) {
	root = root.Clone()
	if root.Artifacts == nil {
		root.Artifacts = map[string]string{}
	}
	maps.Copy(root.Artifacts, e.Artifacts)
	notes = e.putData(&root)
	v := e.Verdict()
	root.State, root.Result = node.Done, v.Result
	if root.Kind == node.KindKbuild && v.Result == node.Pass {
		root.State, root.Holdoff = node.Available, node.Time(now.Add(e.Holdoff))
	}
	if v.Code != "" {
		root.Set("error_code", v.Code)
	}
	if v.Text != "" {
		root.Set("error_msg", v.Text)
	}
	b := builder{root: root, texts: maxReportTexts}
	b.cases = min(maxCases, maxReportNodes/(plainNode+b.shared()))
	children := []node.Hierarchy{}
	for _, s := range e.Suites {
		children = append(children, b.suite(s))
	}
	if b.left > 0 {
		notes = append(notes, fmt.Sprintf("%d test cases left out: the report would be too large", b.left))
	}
	return node.Hierarchy{Node: root, Children: children}, notes
}

// putData merges what the script left into the node's data, unless the node
// would not be a good one with it.
func (e Ending) putData(root *node.Node) (notes []string) {
	if len(e.Data) == 0 {
		return nil
	}
	merged := root.Clone()
	for _, key := range slices.Sorted(maps.Keys(e.Data)) {
		if slices.Contains(protected, key) {
			notes = append(notes, fmt.Sprintf("data.json: %s cannot be set by a job", key))
			continue
		}
		merged.Set(key, e.Data[key])
	}
	if err := merged.Validate(); err != nil {
		return append(notes, fmt.Sprintf("data.json is ignored: %v", err))
	}
	*root = merged
	return notes
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
func (b *builder) suite(s Suite) node.Hierarchy {
	cases := s.Report.Cases
	text := s.Report.Diagnostics
	if len(cases) == 1 && cases[0].Name == s.Name {
		text = cases[0].Diagnostics
		cases = cases[0].Cases
	}
	result, code := s.Report.Result(), ""
	if why := brokenOff(s.Report); why != nil {
		code, text = node.ErrCodeTest, why.String()
		if result != node.Fail {
			result = node.Incomplete
		}
	}
	n := b.test(b.root.Path, s.Name, result, text)
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
	text = Printable(text, min(maxCaseText, max(0, b.texts)))
	if text != "" && (result == node.Fail || result == node.Incomplete) {
		b.texts -= len(text)
		n.Set("error_msg", text)
	}
	return n
}

// Bare is what is reported when the API refuses a report: the job's own node
// alone, incomplete, with the reason.
func Bare(root node.Node, refused error) node.Hierarchy {
	root = root.Clone()
	root.SetError(node.Incomplete, node.ErrCodeInfrastructure, "the job's results were refused: "+Printable(refused.Error(), maxError))
	return node.Hierarchy{Node: root, Children: []node.Hierarchy{}}
}
