package jobdef

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/nikolalohinski/gonja/v2/exec"
)

// maxRange is how many items range() may have.
const maxRange = 100_000

// globals are the functions that a template can call, besides gonja's.
func (g *guard) globals() map[string]any {
	return map[string]any{
		"kci_raise":     g.raise,
		"kci_yaml_dump": yamlDump,
		"range":         g.interval,
		"lipsum":        func(*exec.Evaluator, *exec.VarArgs) (any, error) { return nil, errUnavailable },
	}
}

var errUnavailable = errors.New("is not available: a definition is the same each time")

func unavailable(*exec.Evaluator, *exec.Value, *exec.VarArgs) *exec.Value {
	return exec.AsValue(errUnavailable)
}

func (g *guard) raise(_ *exec.Evaluator, params *exec.VarArgs) (any, error) {
	text := "kci_raise"
	if len(params.Args) > 0 {
		text = params.Args[0].String()
	}
	return nil, g.end(errors.New(text))
}

// yamlDump writes JSON on one line: that is YAML wherever it is put, however it
// is indented.
func yamlDump(_ *exec.Evaluator, params *exec.VarArgs) (string, error) {
	if len(params.Args) != 1 {
		return "", errors.New("kci_yaml_dump takes one value")
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(params.Args[0].ToGoSimpleType(false)); err != nil {
		return "", fmt.Errorf("kci_yaml_dump: %w", err)
	}
	return strings.TrimSpace(out.String()), nil
}

// interval is range(): a list, where gonja's own leaves a goroutine behind when
// a loop does not come to its end.
func (g *guard) interval(_ *exec.Evaluator, params *exec.VarArgs) ([]int, error) {
	numbers := []int{}
	for _, v := range params.Args {
		if !v.IsInteger() {
			return nil, errors.New("range takes integers")
		}
		numbers = append(numbers, v.Integer())
	}
	start, step := 0, 1
	var stop int
	switch len(numbers) {
	case 1:
		stop = numbers[0]
	case 3:
		step = numbers[2]
		fallthrough
	case 2:
		start, stop = numbers[0], numbers[1]
	default:
		return nil, errors.New("range takes one to three integers")
	}
	if step == 0 {
		return nil, errors.New("range: the step must not be 0")
	}
	list := []int{}
	for i := start; step > 0 && i < stop || step < 0 && i > stop; i += step {
		if len(list) == maxRange {
			return nil, g.end(fmt.Errorf("range has more than %d items", maxRange))
		}
		list = append(list, i)
	}
	return list, nil
}

// quoteFilter makes one word of a POSIX shell out of a scalar.
func quoteFilter(_ *exec.Evaluator, in *exec.Value, _ *exec.VarArgs) *exec.Value {
	switch {
	case in.IsError():
		return in
	case in.IsNil():
		return exec.AsValue(errors.New("the value is missing"))
	case !in.IsString() && !in.IsNumber() && !in.IsBool():
		return exec.AsValue(errors.New("must be a string, a number or a boolean"))
	}
	text := in.String()
	if strings.ContainsRune(text, 0) {
		return exec.AsValue(errors.New("holds a NUL byte"))
	}
	return exec.AsSafeValue("'" + strings.ReplaceAll(text, "'", `'\''`) + "'")
}
