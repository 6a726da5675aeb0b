package jobdef

import (
	"errors"
	"fmt"
	"maps"
	"runtime"
	"strings"
	"time"

	"github.com/nikolalohinski/gonja/v2/builtins"
	controls "github.com/nikolalohinski/gonja/v2/builtins/control_structures"
	"github.com/nikolalohinski/gonja/v2/exec"
	"github.com/nikolalohinski/gonja/v2/nodes"
	"github.com/nikolalohinski/gonja/v2/parser"
	"github.com/nikolalohinski/gonja/v2/tokens"
)

// maxFrames is the depth of the Go stack at which a rendering ends: endless
// recursion would otherwise end the whole process.
const maxFrames = 5000

// guard keeps one rendering within its bounds, and keeps what kci_raise said.
type guard struct {
	until  time.Time
	limit  time.Duration
	reads  int
	raised error
}

func (g *guard) late() error { return fmt.Errorf("rendering took longer than %s", g.limit) }

// check ends a rendering that is beyond its bounds. An error in a condition is
// lost in gonja, so that the first one is kept.
func (g *guard) check() error {
	if g.raised != nil {
		return g.raised
	}
	if time.Now().After(g.until) {
		return g.end(g.late())
	}
	var deep [1]uintptr
	if runtime.Callers(maxFrames, deep[:]) > 0 {
		return g.end(errors.New("templates, macros or blocks are nested too deeply"))
	}
	return nil
}

func (g *guard) end(err error) error {
	if g.raised == nil {
		g.raised = err
	}
	return g.raised
}

// environment is what a template may use. Nothing in it reaches a file, the
// network or the process's environment; lipsum and random are left out, they
// make another text each time.
func (g *guard) environment() (*exec.Environment, error) {
	filters := exec.NewFilterSet(map[string]exec.FilterFunction{}).Update(builtins.Filters)
	if err := filters.Replace("random", unavailable); err != nil {
		return nil, err
	}
	if err := filters.Register("quote", quoteFilter); err != nil {
		return nil, err
	}
	statements := exec.NewControlStructureSet(map[string]parser.ControlStructureParser{}).Update(builtins.ControlStructures)
	for _, name := range []string{"for", "macro", "block"} {
		parse, _ := statements.Get(name)
		if err := statements.Replace(name, g.guarded(parse)); err != nil {
			return nil, err
		}
	}
	globals := exec.EmptyContext().Update(builtins.GlobalFunctions).Update(builtins.GlobalVariables)
	for name, function := range g.globals() {
		globals.Set(name, function)
	}
	return &exec.Environment{
		Context: globals, Filters: filters, ControlStructures: statements,
		Tests: builtins.Tests, Methods: builtins.Methods,
	}, nil
}

// guarded puts a check at the head of the body that parse has read.
func (g *guard) guarded(parse parser.ControlStructureParser) parser.ControlStructureParser {
	return func(p, args *parser.Parser) (nodes.ControlStructure, error) {
		before := maps.Clone(p.Template.Blocks)
		statement, err := parse(p, args)
		if err != nil {
			return nil, err
		}
		switch s := statement.(type) {
		case *controls.ForControlStructure:
			g.guardBody(s.BodyWrapper)
		case *controls.MacroControlStructure:
			g.guardBody(s.Wrapper)
		}
		for name, body := range p.Template.Blocks {
			if _, old := before[name]; !old {
				g.guardBody(body)
			}
		}
		return statement, nil
	}
}

func (g *guard) guardBody(body *nodes.Wrapper) {
	if body == nil {
		return
	}
	check := &nodes.ControlStructureBlock{Location: body.Location, Name: "guard", ControlStructure: &checkpoint{guard: g, at: body.Location}}
	body.Nodes = append([]nodes.Node{check}, body.Nodes...)
}

// checkpoint is a statement that prints nothing and checks the bounds.
type checkpoint struct {
	guard *guard
	at    *tokens.Token
}

// Position is where the guarded body begins.
func (c *checkpoint) Position() *tokens.Token { return c.at }

// String names the statement in gonja's errors.
func (c *checkpoint) String() string { return "guard" }

// Execute checks.
func (c *checkpoint) Execute(*exec.Renderer, *nodes.ControlStructureBlock) error {
	return c.guard.check()
}

// output collects what is rendered, within bounds.
type output struct {
	guard *guard
	strings.Builder
}

// Write takes a piece of the definition.
func (o *output) Write(b []byte) (int, error) { return o.WriteString(string(b)) }

// WriteString takes a piece of the definition.
func (o *output) WriteString(s string) (int, error) {
	if err := o.guard.check(); err != nil {
		return 0, err
	}
	if o.Len()+len(s) > maxOutput {
		return 0, o.guard.end(fmt.Errorf("the definition is longer than %d bytes", maxOutput))
	}
	return o.Builder.WriteString(s)
}
