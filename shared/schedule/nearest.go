package schedule

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/pipeline"
)

// Near is an entry that an event does not match.
type Near struct {
	Entry   *pipeline.Entry
	Differs []string // each key that is not equal, with what is wanted and what there is
}

// Nearest returns up to limit entries of those that differ from the event in the
// fewest keys, in their order; none when an entry matches.
func (s *Schedule) Nearest(ev event.Node, limit int) []Near {
	var found []Near
	for _, e := range s.cfg.Scheduler {
		if e.Channel != event.ChannelNode {
			continue
		}
		n := Near{Entry: e, Differs: differs(e.Event, &ev)}
		switch {
		case len(n.Differs) == 0:
			return nil
		case len(found) == 0 || len(n.Differs) < len(found[0].Differs):
			found = []Near{n}
		case len(n.Differs) == len(found[0].Differs) && len(found) < limit:
			found = append(found, n)
		}
	}
	return found
}

// differs lists in which keys an event is not what is wanted.
func differs(want map[string]any, ev *event.Node) []string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(want)) {
		switch v, known := field(ev, k); {
		case !known:
			out = append(out, fmt.Sprintf("%s must be %s, and the event has none", k, asJSON(want[k])))
		case !same(want[k], v):
			out = append(out, fmt.Sprintf("%s must be %s, not %s", k, asJSON(want[k]), asJSON(v)))
		}
	}
	return out
}

func asJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return fmt.Sprintf("%.120s", text)
}
