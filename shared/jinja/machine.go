package jinja

import (
	"context"
	"time"
)

// Bounds of one rendering.
const (
	maxSteps  = 20_000_000 // nodes evaluated and items read
	maxMemory = 256 << 20  // bytes of all the values that are made
	maxDepth  = 200        // macros, blocks, includes and loops that call each other
	maxLevels = 900        // of values in each other
	maxReads  = 100        // templates read
	maxDigits = 4300       // of an integer that is read or printed: Python's own bound
)

// maxItem is what an item of a dict takes, bytes: key, value and index.
const maxItem = 200

// machine is one rendering: what it has used of its bounds, and what it has
// read.
type machine struct {
	ctx       context.Context
	engine    *Engine
	templates map[string]*Template
	modules   map[*Template]*module
	steps     int
	memory    int
	depth     int
	levels    int
	written   int
}

// step counts a piece of work, and looks at the clock now and then.
func (m *machine) step() {
	m.steps++
	if m.steps > maxSteps {
		raise(limitError, "rendering takes more than %d steps", maxSteps)
	}
	if m.steps%1024 == 0 && m.ctx.Err() != nil {
		m.late()
	}
}

// spendSteps counts work of n steps.
func (m *machine) spendSteps(n int) {
	m.steps += n
	m.step()
	if m.ctx.Err() != nil {
		m.late()
	}
}

func (m *machine) late() {
	if deadline, ok := m.ctx.Deadline(); ok && !time.Now().Before(deadline) {
		raise(limitError, "rendering took longer than it may")
	}
	raise(limitError, "rendering was given up: %v", m.ctx.Err())
}

// spend counts bytes that are about to be used.
func (m *machine) spend(n int) {
	m.memory += n
	if n < 0 || m.memory > maxMemory {
		raise(limitError, "rendering needs more than %d bytes", maxMemory)
	}
}

// product is a size that must fit the memory, before it is multiplied.
func (m *machine) product(a, b int) int {
	if a > 0 && b > maxMemory/a {
		m.spend(maxMemory + 1)
	}
	return a * b
}

// enter goes one call deeper; call what it returns when it ends.
func (m *machine) enter() func() {
	if m.depth++; m.depth > maxDepth {
		raise(limitError, "templates, macros or blocks are nested too deeply")
	}
	return func() { m.depth-- }
}

// level goes into a value.
func (m *machine) level() func() {
	m.step()
	if m.levels++; m.levels > maxLevels {
		raise(recursionError, "values are nested too deeply")
	}
	return func() { m.levels-- }
}

// text makes a text whose size is counted.
func (m *machine) text(s string) string {
	m.spend(len(s))
	return s
}
