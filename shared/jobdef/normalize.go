package jobdef

import (
	"context"
	"fmt"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/jinja"
	"github.com/kernelflow/kernelflow/shared/yaml"
)

// Normalize reads a definition for LAVA and writes it anew, as KernelCI does
// before it submits one: of a key that is there twice the last one counts, merge
// keys are resolved, and long commands are folded. What is no YAML is Invalid.
func Normalize(definition string) (string, error) {
	v, err := yaml.Load([]byte(definition))
	if err != nil {
		return "", fmt.Errorf("the definition: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), maxTime)
	defer cancel()
	text, err := jinja.YAML(ctx, v)
	if err != nil {
		return "", fmt.Errorf("the definition: %w", err)
	}
	if len(text) > maxNormal {
		return "", errs.New(errs.Invalid, "the definition: has more than %d bytes", maxNormal)
	}
	return text, nil
}

// maxNormal is the most bytes of a definition that is written anew: indents may
// have grown.
const maxNormal = 4 * maxOutput
