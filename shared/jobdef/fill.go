package jobdef

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/pipeline"
)

// Words are what names in braces stand for in the parameters of a job and in what
// its node takes over from them: the platform's attributes and parameters, over
// them the job's parameters, the names of the architecture, and krev for the
// kernel's version.
func Words(n node.Node, job *pipeline.Job, platform *pipeline.Platform) map[string]any {
	w := map[string]any{
		"name": platform.Name, "platform_name": platform.Name, "base_name": platform.BaseName,
		"boot_method": platform.BootMethod, "mach": platform.Mach, "arch": platform.Arch,
	}
	for k, v := range platform.Params {
		w[k] = v
	}
	for k, v := range job.Params {
		w[k] = v
	}
	arch, _ := w["arch"].(string)
	for system, name := range archNames(arch) {
		w[system] = name
	}
	if r, ok := n.Revision(); ok && r.Version != nil {
		w["krev"] = fmt.Sprintf("%d.%d", r.Version.Version, r.Version.PatchLevel)
	}
	return w
}

var braces = regexp.MustCompile(`\{\{|\}\}|\{[A-Za-z_][A-Za-z0-9_]*\}`)

// Fill replaces {word} in every text of v, however deep, once: what a word stands
// for is not looked at again. {{ and }} are braces. An unknown word is
// errs.Invalid.
func Fill(v any, words map[string]any) (any, error) {
	switch v := v.(type) {
	case string:
		return fillText(v, words)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			var err error
			if out[i], err = Fill(v[i], words); err != nil {
				return nil, err
			}
		}
		return out, nil
	case map[string]any:
		out := make(map[string]any, len(v))
		for k := range v {
			var err error
			if out[k], err = Fill(v[k], words); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	return v, nil
}

func fillText(s string, words map[string]any) (string, error) {
	var unknown, shapeless string
	out := braces.ReplaceAllStringFunc(s, func(found string) string {
		if found == "{{" || found == "}}" {
			return found[:1]
		}
		word, known := words[found[1:len(found)-1]]
		if !known {
			unknown = found
			return found
		}
		text, ok := asPython(word)
		if !ok {
			shapeless = found
			return found
		}
		return text
	})
	if shapeless != "" {
		return "", errs.New(errs.Invalid, "%.80q: %.40s is no text", s, shapeless)
	}
	if unknown != "" {
		return "", errs.New(errs.Invalid, "%.80q: nothing is called %.40s; a brace that is meant as one is written twice", s, unknown)
	}
	return out, nil
}

// asPython writes a scalar as Python does; false for what is none.
func asPython(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case bool:
		if v {
			return "True", true
		}
		return "False", true
	case int:
		return strconv.Itoa(v), true
	case float64:
		text := strconv.FormatFloat(v, 'g', -1, 64)
		if !strings.ContainsAny(text, ".e") {
			text += ".0"
		}
		return text, true
	}
	return "", false
}
