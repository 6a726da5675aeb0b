package node

import (
	"slices"

	"github.com/kernelflow/kernelflow/shared/errs"
)

// Tally is how many nodes have the same in the fields by which they were
// counted.
type Tally struct {
	Values []string // in the order of the fields; "": null, or no text
	Count  int64
}

// Countable are the fields that nodes can be counted by.
var Countable = []string{"kind", "state", "result", "treeid", "data.kernel_revision.tree", "data.runtime", "data.arch"}

// MostTallies is how many tallies one question may have as its answer.
const MostTallies = 10_000

// ErrTooManyTallies answers a question with more; an errs.Invalid error.
var ErrTooManyTallies = errs.New(errs.Invalid, "more than %d groups, ask by fewer fields or of fewer nodes", MostTallies)

// CheckCountable refuses fields that nodes cannot be counted by, for drivers.
func CheckCountable(by []string) error {
	for _, field := range by {
		if !slices.Contains(Countable, field) {
			return errs.New(errs.Invalid, "%.60q: nodes cannot be counted by it", field)
		}
	}
	return nil
}

// Tallier sums up what a database has counted by finer differences than a
// Tally knows, for drivers. The zero Tallier has counted nothing.
type Tallier struct {
	places  map[string]int
	tallies []Tally
}

// Add counts n nodes more; a value that is no text is one that is not set.
func (t *Tallier) Add(values []any, n int64) error {
	texts := make([]string, len(values))
	key := ""
	for i, v := range values {
		texts[i], _ = v.(string)
		key += texts[i] + "\x00" // which no text of a node has
	}
	place, known := t.places[key]
	switch {
	case known:
		t.tallies[place].Count += n
		return nil
	case len(t.tallies) == MostTallies:
		return ErrTooManyTallies
	case t.places == nil:
		t.places = map[string]int{}
	}
	t.places[key] = len(t.tallies)
	t.tallies = append(t.tallies, Tally{Values: texts, Count: n})
	return nil
}

// Tallies returns what was counted, never nil.
func (t *Tallier) Tallies() []Tally { return append([]Tally{}, t.tallies...) }
