package jobdef

import (
	"errors"
	"math/big"
	"strings"

	"github.com/kernelflow/kernelflow/shared/jinja"
)

// quote makes one word of a POSIX shell out of a scalar.
func quote(args []jinja.Value) (jinja.Value, error) {
	switch args[0].(type) {
	case nil, *jinja.Undefined:
		return nil, errors.New("quote: the value is missing")
	case string, jinja.Markup, bool, int, *big.Int, float64:
	default:
		return nil, errors.New("quote: the value must be a string, a number or a boolean")
	}
	text, err := jinja.Text(args[0])
	if err != nil {
		return nil, err
	}
	if strings.ContainsRune(text, 0) {
		return nil, errors.New("quote: the value holds a NUL byte")
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'", nil
}
