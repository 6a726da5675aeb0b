package scheduler

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/jobdef"
	"github.com/kernelflow/kernelflow/shared/node"
)

// ofKernel are the data of a kernel that whatever tests it carries on.
var ofKernel = []string{"arch", "defconfig", "config_full", "compiler", "kernel_type"}

// ofBuild are the parameters that a kernel build's data takes over.
var ofBuild = []string{"arch", "compiler", "defconfig", "fragments"}

// describe puts into n what its kernel is: the parent's, or for a build what
// the job's parameters say.
func describe(n *node.Node, parent node.Node, j *job) error {
	if n.Kind != node.KindKbuild {
		for _, k := range ofKernel {
			if v := parent.Data[k]; v != nil {
				n.Set(k, v)
			}
		}
		return nil
	}
	words := jobdef.Words(*n, j.Job, j.Platform)
	for _, k := range ofBuild {
		given := j.Job.Params[k]
		if given == nil {
			continue
		}
		v, err := jobdef.Fill(given, words)
		if err != nil {
			return fmt.Errorf("params.%s: %w", k, err)
		}
		if _, ok := v.(string); !ok && (k == "arch" || k == "compiler") {
			return errs.New(errs.Invalid, "params.%s: %.40q must be a text", k, asText(v))
		}
		n.Set(k, v)
	}
	return nil
}

func asText(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	return fmt.Sprint(v)
}

// maxMessage bounds data.error_msg.
const maxMessage = 2000

// bounded makes a text fit for a node's data.
func bounded(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= maxMessage {
		return s
	}
	cut := maxMessage
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "..."
}
