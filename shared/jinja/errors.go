package jinja

import (
	"errors"
	"fmt"
	"slices"

	"github.com/kernelflow/kernelflow/shared/errs"
)

// The classes of exception, by Python's and Jinja2's names.
const (
	typeError          = "TypeError"
	valueError         = "ValueError"
	keyError           = "KeyError"
	indexError         = "IndexError"
	attributeError     = "AttributeError"
	zeroDivision       = "ZeroDivisionError"
	overflowError      = "OverflowError"
	nameError          = "NameError"
	recursionError     = "RecursionError"
	assertionError     = "AssertionError"
	pythonRuntimeError = "RuntimeError"
	raisedError        = "Exception"
	undefinedError     = "UndefinedError"
	syntaxError        = "TemplateSyntaxError"
	runtimeError       = "TemplateRuntimeError"
	filterError        = "FilterArgumentError"
	notFoundError      = "TemplateNotFound"
	// Two of our own: Jinja2 would go on. No template can catch them.
	limitError  = "LimitError"
	unsupported = "Unsupported"
)

// exception is what a template raises: it is thrown by panic inside this
// package, which ends it in Render.
type exception struct {
	class    string
	text     string
	template string
	line     int
}

func (e *exception) Error() string { return e.class + ": " + e.text }

func raise(class, format string, args ...any) {
	panic(&exception{class: class, text: fmt.Sprintf(format, args...)})
}

func raiseAt(template string, line int, class, format string, args ...any) {
	panic(&exception{class: class, text: fmt.Sprintf(format, args...), template: template, line: line})
}

// try runs f, and says whether it raised one of the classes; it lets others
// pass.
func try(f func(), classes ...string) (raised *exception) {
	defer func() {
		if e := caught(recover()); e != nil {
			if !slices.Contains(classes, e.class) {
				panic(e)
			}
			raised = e
		}
	}()
	f()
	return nil
}

// caught is the exception in what recover gave; it passes on any other panic.
func caught(fault any) *exception {
	if fault == nil {
		return nil
	}
	e, ok := fault.(*exception)
	if !ok {
		panic(fault)
	}
	return e
}

// positioned adds the place to an exception that passes through a node there.
func (a *activation) positioned(line int) {
	if e, ok := recover().(*exception); ok {
		if e.line == 0 {
			e.template, e.line = a.template.name, line
		}
		panic(e)
	}
}

// Error is why a template could not be rendered.
type Error struct {
	Class    string // the exception's class, as Python or Jinja2 names it
	Text     string
	Template string
	Line     int // 1 is the first; 0: unknown
}

// Error says the place and the cause.
func (e *Error) Error() string {
	text := e.Text
	if e.Class != raisedError {
		text = e.Class + ": " + text
	}
	switch {
	case e.Line > 0:
		return fmt.Sprintf("%s, line %d: %s", e.Template, e.Line, text)
	case e.Template != "":
		return e.Template + ": " + text
	}
	return text
}

// Is says that the error is of the kind errs.Invalid.
func (e *Error) Is(target error) bool { return target == errs.Invalid }

// isNotFound says whether a loader's error means that there is no template.
func isNotFound(err error) bool { return errors.Is(err, errs.NotFound) }
