package ktap

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/kernelflow/kernelflow/shared/node"
)

// Limits of what is kept. Beyond them a [Problem] says what was lost.
const (
	maxLine     = 64 << 10 // bytes of a line; the rest of it is skipped
	maxName     = 256      // bytes of a name
	maxText     = 8 << 10  // bytes of one case's diagnostics
	maxAllText  = 16 << 20 // bytes of all diagnostics
	maxDepth    = 32       // levels of subtests
	maxCases    = 100_000  // results
	maxProblems = 100
)

// block is a document or a subtest whose end has not been seen.
type block struct {
	indent  int
	hash    bool
	name    string // of the subtest, when a "# Subtest:" line gave it
	next    string // of the subtest to come, when that line stands before it
	plan    int    // -1: none yet
	early   bool   // the plan came before the results
	count   int    // results since the document began, kept or not
	last    int    // number of the last result
	cases   []Case
	pending clipped // diagnostics for the next result
	after   clipped // diagnostics for the last one
	yaml    bool    // inside a YAML block
	failed  bool    // inside the lines that follow a "Failed test"
}

type parser struct {
	report  Report
	stack   []*block // the document first, the innermost subtest last
	line    int
	started bool // a version or plan line was seen
	cases   int  // kept so far
	text    int  // bytes of diagnostics kept so far
	said    map[string]bool
}

// Parse reads test results until r ends. The error is r's; the report is good
// for what was read before it.
func Parse(r io.Reader) (Report, error) {
	p := &parser{stack: []*block{{plan: -1}}, said: map[string]bool{}}
	in := bufio.NewReaderSize(r, maxLine)
	for {
		raw, err := in.ReadSlice('\n')
		if len(raw) > 0 {
			p.read(clean(raw))
		}
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = in.ReadSlice('\n')
		}
		if err != nil {
			p.finish()
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return p.report, err
		}
	}
}

func (p *parser) top() *block { return p.stack[len(p.stack)-1] }

// behind says whether lines behind "# " with this indentation belong to a
// subtest that began behind "# ".
func (p *parser) behind(indent int) bool {
	for _, b := range p.stack {
		if b.hash && indent >= b.indent-1 {
			return true
		}
	}
	return false
}

func (p *parser) read(s string) {
	p.line++
	l := parseLine(s, p.behind)
	if p.top().yaml && l.indent > p.top().indent {
		p.top().inYAML(l)
		return
	}
	p.top().yaml = false
	switch l.kind {
	case version:
		p.version(l)
	case plan:
		p.plan(l)
	case result:
		p.result(l)
	case subtest:
		p.subtest(l)
	case bail:
		p.bail(l)
	default:
		p.diagnostic(l)
	}
}

// level brings the block that l belongs to to the top of the stack, opening it
// if need be. ended is the subtest of that block which l ends, or nil. It
// returns a nil block when l is nested too deep.
func (p *parser) level(l line) (b, ended *block) {
	for len(p.stack) > 1 && p.top().indent > l.indent+1 {
		inner := p.top()
		p.stack = p.stack[:len(p.stack)-1]
		p.adopt(inner, ended)
		ended = inner
	}
	b = p.top()
	if l.indent <= b.indent+1 {
		return b, ended
	}
	p.adopt(b, ended)
	if len(p.stack) >= maxDepth {
		p.once("depth", true, "subtests nested deeper than %d levels: the inner ones are not kept", maxDepth)
		return nil, nil
	}
	b = &block{indent: l.indent, hash: l.hash, plan: -1, name: b.next}
	p.stack = append(p.stack, b)
	return b, nil
}

// adopt keeps the cases of a subtest that ended without a result of its own.
func (p *parser) adopt(b, orphan *block) {
	if orphan == nil {
		return
	}
	p.close(orphan)
	if len(orphan.cases) == 0 && orphan.name == "" {
		return
	}
	c := Case{Name: orElse(orphan.name, "unfinished"), Cases: orphan.cases, Result: node.Incomplete}
	if Sum(c.Cases) == node.Fail {
		c.Result = node.Fail
	}
	p.problem(true, "subtest %q ended without a result", c.Name)
	c.Diagnostics = p.keep(&orphan.pending)
	p.add(b, c)
}

func (p *parser) version(l line) {
	p.started = true
	b, ended := p.level(l)
	if b == nil {
		return
	}
	p.adopt(b, ended)
	switch {
	case b.count == 0 && b.plan < 0:
	case len(p.stack) == 1:
		p.close(b)
		*b = block{plan: -1, cases: b.cases, pending: b.pending}
	default: // the next subtest, while the one before has no result
		p.stack = p.stack[:len(p.stack)-1]
		p.adopt(p.top(), b)
		p.stack = append(p.stack, &block{indent: l.indent, hash: l.hash, plan: -1})
	}
}

func (p *parser) plan(l line) {
	p.started = true
	b, ended := p.level(l)
	if b == nil {
		return
	}
	p.adopt(b, ended)
	switch {
	case b.plan < 0:
	case len(p.stack) == 1 && b.early && b.count == b.plan: // another document, without a version line
		b.count, b.last = 0, 0
	default:
		p.problem(false, "plan 1..%d after plan 1..%d", l.count, b.plan)
		return
	}
	b.plan, b.early = l.count, b.count == 0
	if l.count == 0 && len(p.stack) == 1 {
		p.report.Skipped = true
		b.pending.add(l.note)
	}
}

func (p *parser) subtest(l line) {
	b, ended := p.level(l)
	if b == nil {
		return
	}
	p.adopt(b, ended)
	name := shorten(l.text, maxName)
	if len(p.stack) > 1 && b.name == "" && b.count == 0 {
		b.name = name
	} else {
		b.next = name
	}
}

func (p *parser) result(l line) {
	if l.number == 0 && !l.dash && !p.started {
		p.diagnostic(l) // a word of prose that happens to be "ok"
		return
	}
	b, ended := p.level(l)
	if b == nil {
		return
	}
	p.number(b, &l)
	c := Case{Name: p.name(l), Result: l.verdict()}
	if ended != nil {
		p.close(ended)
		c.Cases = ended.cases
		b.pending.add(ended.pending.take())
	}
	if c.Result == node.Pass && Sum(c.Cases) == node.Fail {
		p.problem(false, "%q is reported ok over a failed subtest", c.Name)
		c.Result = node.Fail
	}
	b.pending.add(l.note)
	c.Diagnostics = p.keep(&b.pending)
	p.add(b, c)
}

// number checks the number of a result, and gives it one if it has none.
func (p *parser) number(b *block, l *line) {
	switch {
	case l.number == 0:
		l.number = b.last + 1
	case l.number == b.last:
		p.problem(false, "number %d given twice", l.number)
	case l.number != b.last+1:
		p.problem(false, "number %d after %d", l.number, b.last)
	}
	b.last = l.number
}

func (p *parser) name(l line) string {
	if len(l.text) > maxName {
		p.problem(false, "name of %d bytes cut to %d", len(l.text), maxName)
	}
	return orElse(shorten(l.text, maxName), fmt.Sprintf("test-%d", l.number))
}

// add appends a finished case to b.
func (p *parser) add(b *block, c Case) {
	p.settle(b)
	b.next, b.failed = "", false
	b.count++
	if p.cases++; p.cases > maxCases {
		p.once("cases", true, "more than %d results: the rest is not kept", maxCases)
		return
	}
	b.cases = append(b.cases, c)
}

// settle hands the diagnostics that came after b's last case to it.
func (p *parser) settle(b *block) {
	text := p.keep(&b.after)
	if text == "" || len(b.cases) == 0 {
		return
	}
	last := &b.cases[len(b.cases)-1]
	last.Diagnostics = strings.TrimLeft(last.Diagnostics+"\n"+text, "\n")
}

// close ends b: no result is to come for it.
func (p *parser) close(b *block) {
	p.settle(b)
	switch {
	case b.plan > b.count:
		p.problem(true, "plan 1..%d, %d reported%s", b.plan, b.count, in(b.name))
	case b.plan >= 0 && b.plan < b.count:
		p.problem(false, "plan 1..%d, %d reported%s", b.plan, b.count, in(b.name))
	case b.plan < 0 && len(p.stack) == 1 && b.indent == 0 && b.count > 0:
		p.problem(false, "no plan")
	}
	b.plan, b.count = -1, 0
}

func in(name string) string {
	if name == "" {
		return ""
	}
	return fmt.Sprintf(" in %q", name)
}

func (p *parser) bail(l line) {
	for _, b := range p.stack {
		b.plan = b.count // what was planned will not come, and this says why
	}
	p.problem(true, "bail out: %s", orElse(shorten(l.text, maxName), "no reason given"))
}

func (p *parser) diagnostic(l line) {
	b := p.top()
	switch {
	case l.words == "---" && l.indent > b.indent && b.count > 0:
		b.yaml = true
	case strings.HasPrefix(l.words, "Failed test") && b.count > 0:
		b.failed = true
		b.after.add(l.words)
	case b.failed:
		b.after.add(l.words)
	default:
		b.pending.add(l.words)
	}
}

func (b *block) inYAML(l line) {
	if l.words == "..." {
		b.yaml = false
		return
	}
	b.after.add(strings.Repeat(" ", max(0, l.indent-b.indent-2)) + l.words)
}

// keep takes a text for the report, as long as all of them fit.
func (p *parser) keep(c *clipped) string {
	s := c.take()
	if p.text += len(s); p.text > maxAllText {
		p.once("text", false, "more than %d bytes of diagnostics: the rest is not kept", maxAllText)
		return ""
	}
	return s
}

func (p *parser) finish() {
	root, ended := p.level(line{})
	if ended != nil && ended.name == "" && root.count == 0 && root.plan < 0 {
		root = ended // the whole output was indented
	}
	if root != ended {
		p.adopt(root, ended)
	}
	p.close(root)
	p.report.Cases = root.cases
	p.report.Diagnostics = p.keep(&root.pending)
	if p.cases == 0 && !p.report.Skipped && p.report.Incomplete() == nil {
		p.problem(true, "no test result found")
	}
}

// once notes a problem that would otherwise be noted a million times.
func (p *parser) once(key string, incomplete bool, format string, args ...any) {
	if !p.said[key] {
		p.said[key] = true
		p.problem(incomplete, format, args...)
	}
}

func (p *parser) problem(incomplete bool, format string, args ...any) {
	problem := Problem{Line: p.line, Text: fmt.Sprintf(format, args...), Incomplete: incomplete}
	if len(p.report.Problems) < maxProblems {
		p.report.Problems = append(p.report.Problems, problem)
		return
	}
	// The last place goes to the first one that matters most.
	if last := &p.report.Problems[maxProblems-1]; incomplete && !last.Incomplete {
		*last = problem
	}
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
