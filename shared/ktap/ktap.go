package ktap

import (
	"fmt"
	"slices"

	"github.com/kernelflow/kernelflow/shared/node"
)

// Case is one result, with its subtests.
type Case struct {
	Name        string      // never empty: an unnamed result 3 is "test-3"
	Result      node.Result // pass, fail, skip; incomplete when its result line is missing
	Diagnostics string      // lines, without "# "; valid UTF-8; long ones have their middle left out
	Cases       []Case
}

// Problem is something wrong with the output, as opposed to a failed test.
type Problem struct {
	Line       int // from 1
	Text       string
	Incomplete bool // results are missing because of it
}

// String is "line N: text".
func (p Problem) String() string { return fmt.Sprintf("line %d: %s", p.Line, p.Text) }

// Report is what a test printed.
type Report struct {
	Cases       []Case
	Diagnostics string // what came after the last result
	Skipped     bool   // the plan was 1..0
	Problems    []Problem
}

// Incomplete returns the first problem that means missing results, or nil.
func (r Report) Incomplete() *Problem {
	i := slices.IndexFunc(r.Problems, func(p Problem) bool { return p.Incomplete })
	if i < 0 {
		return nil
	}
	return &r.Problems[i]
}

// Result sums the report up: fail if any case failed, else incomplete if
// results are missing, else pass if any passed, else skip.
func (r Report) Result() node.Result {
	sum := Sum(r.Cases)
	if sum != node.Fail && r.Incomplete() != nil {
		return node.Incomplete
	}
	return sum
}

// Sum is the result of a suite by its cases: fail if any failed, else
// incomplete if any is, else pass if any passed, else skip.
func Sum(cases []Case) node.Result {
	for _, result := range []node.Result{node.Fail, node.Incomplete, node.Pass} {
		if slices.ContainsFunc(cases, func(c Case) bool { return c.Result == result }) {
			return result
		}
	}
	return node.Skip
}
