package pipeline

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
)

// Problem is one thing wrong with a configuration.
type Problem struct {
	Place   Place
	Text    string // lower case, without the place
	Warning bool   // the configuration can be used all the same
}

// String is "file:line: text", with "warning: " before the text of a warning.
func (p Problem) String() string {
	if p.Warning {
		return fmt.Sprintf("%s: warning: %s", p.Place, p.Text)
	}
	return fmt.Sprintf("%s: %s", p.Place, p.Text)
}

// Problems is all that is wrong with a configuration, sorted by place. As an
// error it is one line a problem.
type Problems []Problem

// Error joins the problems, one a line.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].String()
	}
	return strings.Join(lines, "\n")
}

func (p *Problems) add(at Place, format string, args ...any) {
	*p = append(*p, Problem{Place: at, Text: fmt.Sprintf(format, args...)})
}

func (p *Problems) warn(at Place, format string, args ...any) {
	*p = append(*p, Problem{Place: at, Text: fmt.Sprintf(format, args...), Warning: true})
}

// Sort orders the problems by place.
func (p Problems) Sort() {
	slices.SortFunc(p, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Place.File, b.Place.File), cmp.Compare(a.Place.Line, b.Place.Line), cmp.Compare(a.Text, b.Text))
	})
}

// nearest gives the hint "; did you mean X?" for a name that is not among the
// known ones, or nothing when none is near.
func nearest(name string, known []string) string {
	best, least := "", max(2, len(name)/3)+1
	for _, k := range slices.Sorted(slices.Values(known)) {
		d := levenshtein.ComputeDistance(name, k)
		if len(name) > 2 && strings.HasPrefix(k, name) {
			d = min(d, 1)
		}
		if d < least {
			best, least = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// Nearest gives the hint "; did you mean X?" for a name that is not among the
// known ones; "" when none is near.
func Nearest(name string, known []string) string { return nearest(name, known) }

// nearestKey is nearest among the keys of a map.
func nearestKey[V any](name string, known map[string]V) string {
	return nearest(name, slices.Collect(maps.Keys(known)))
}
