package scheduler

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/kernelflow/kernelflow/shared/errs"
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
	words := words(*n, j)
	for _, k := range ofBuild {
		given := j.Job.Params[k]
		if given == nil {
			continue
		}
		v, err := fill(given, words)
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

// words are what the names in braces stand for. The job's parameters go before
// the platform's.
func words(n node.Node, j *job) map[string]any {
	w := map[string]any{
		"name": j.Platform.Name, "platform_name": j.Platform.Name, "base_name": j.Platform.BaseName,
		"boot_method": j.Platform.BootMethod, "mach": j.Platform.Mach, "arch": j.Platform.Arch,
	}
	for k, v := range j.Platform.Params {
		w[k] = v
	}
	for k, v := range j.Job.Params {
		w[k] = v
	}
	if r, ok := n.Revision(); ok && r.Version != nil {
		w["krev"] = fmt.Sprintf("%d.%d", r.Version.Version, r.Version.PatchLevel)
	}
	return w
}

var braces = regexp.MustCompile(`\{\{|\}\}|\{[A-Za-z_][A-Za-z0-9_]*\}`)

// fill replaces {word} in every text of v, once: what a word stands for is not
// looked at again. {{ and }} are braces. An unknown word is errs.Invalid.
func fill(v any, words map[string]any) (any, error) {
	switch v := v.(type) {
	case string:
		return fillText(v, words)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			var err error
			if out[i], err = fill(v[i], words); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	return v, nil
}

func fillText(s string, words map[string]any) (string, error) {
	var unknown string
	out := braces.ReplaceAllStringFunc(s, func(found string) string {
		if found == "{{" || found == "}}" {
			return found[:1]
		}
		word, known := words[found[1:len(found)-1]]
		if !known {
			unknown = found
			return found
		}
		return asText(word)
	})
	if unknown != "" {
		return "", errs.New(errs.Invalid, "%.80q: nothing is called %.40s", s, unknown)
	}
	return out, nil
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
