package schedule

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/pipeline"
)

// Subject is what a decision is about.
type Subject struct {
	Event     event.Node
	Node      node.Node   // the event's node, as it is now
	Ancestors []node.Node // its parent first, up to the root
	// Again says that another attempt is asked for: the states that the node has
	// gone through set off their entries once more.
	Again bool
	// Retry counts the attempts before this one.
	Retry int
	// By and First are the attempt before this one and the first; "" when that is
	// not known.
	By, First node.ID
	// Runtime is where the attempt before ran: an entry that names another is not
	// meant. "" when that is not known.
	Runtime string
	// JobFilter and PlatformFilter replace the node's own when they are not
	// empty: another attempt is asked for by name.
	JobFilter      []string
	PlatformFilter []string
}

// Decision says whether one job runs on one runtime and platform.
type Decision struct {
	Entry    *pipeline.Entry
	Job      *pipeline.Job
	Runtime  *pipeline.Runtime  // nil when it does not run for want of one
	Platform *pipeline.Platform // nil when it does not run for want of one
	Run      bool
	Reason   string // why not; "" when it runs. The first of what Checks refuse
	// Checks lists the rules in the order in which they were looked at. Those
	// that need a runtime or a platform are not when the job has none.
	Checks []Check
	// Every is the least time since the job's last run for the same tree,
	// branch and platform; 0: none. Only the store knows whether it has passed.
	Every time.Duration
}

// Check is what one rule says.
type Check struct {
	Of     string `json:"of"`               // whose rule: "node", "entry at jobs.yaml:7", "job kunit", ...
	Rule   string `json:"rule"`             // its key: tree, min_version, jobfilter, ...
	Reason string `json:"reason,omitempty"` // why it does not let the job run; "" when it does
}

// trail collects what the rules say of one job.
type trail []Check

func (t *trail) add(of, rule, reason string) { *t = append(*t, Check{of, rule, reason}) }

// rule adds what one of the configured rules says.
func (t *trail) rule(of, rule, reason string) {
	if reason != "" {
		reason = "rules of " + of + ": " + reason
	}
	t.add(of, rule, reason)
}

// refusal is the first reason against; "" when there is none.
func (t trail) refusal() string {
	for i := range t {
		if t[i].Reason != "" {
			return t[i].Reason
		}
	}
	return ""
}

// Schedule decides by one configuration. It is safe for concurrent use.
type Schedule struct {
	cfg       *pipeline.Config
	supported func(*pipeline.Runtime) bool
	entries   map[key][]*pipeline.Entry
	rules     map[*pipeline.Rules]*rules
	byType    map[string][]*pipeline.Runtime // by lab type, in the order of names
}

// key is the part of an event by which entries are found; "" is any value.
type key struct{ kind, name, state string }

// New indexes the entries of channel node, which KernelCI's scheduler alone
// looks at. supported says for which runtimes there is a driver; nil is all.
func New(cfg *pipeline.Config, supported func(*pipeline.Runtime) bool) *Schedule {
	s := &Schedule{
		cfg: cfg, supported: supported,
		entries: map[key][]*pipeline.Entry{}, rules: map[*pipeline.Rules]*rules{}, byType: map[string][]*pipeline.Runtime{},
	}
	if s.supported == nil {
		s.supported = func(*pipeline.Runtime) bool { return true }
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Runtimes)) {
		r := cfg.Runtimes[name]
		s.byType[r.LabType] = append(s.byType[r.LabType], r)
		s.compile("runtime "+name, r.Rules)
	}
	for _, j := range cfg.Jobs {
		s.compile("job "+j.Name, j.Rules)
	}
	for _, p := range cfg.Platforms {
		s.compile("platform "+p.Name, p.Rules)
	}
	for _, e := range cfg.Scheduler {
		s.compile("the entry at "+e.Place.String(), e.Rules)
		if e.Channel == event.ChannelNode {
			k := key{text(e.Event["kind"]), text(e.Event["name"]), text(e.Event["state"])}
			s.entries[k] = append(s.entries[k], e)
		}
	}
	return s
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

// matching returns the entries that the event matches, in their order.
func (s *Schedule) matching(ev *event.Node) []*pipeline.Entry {
	var out []*pipeline.Entry
	for _, kind := range []string{"", string(ev.Kind)} {
		for _, name := range []string{"", ev.Name} {
			for _, state := range []string{"", string(ev.State)} {
				for _, e := range s.entries[key{kind, name, state}] {
					if matches(e.Event, ev) {
						out = append(out, e)
					}
				}
			}
		}
	}
	return inOrder(out)
}

// passed lists the states in which a node may have started jobs before it came
// to a state.
var passed = map[node.State][]node.State{node.Closing: {node.Available}, node.Done: {node.Available}}

// entriesOf returns the entries that the subject's event matches, in their
// order.
func (s *Schedule) entriesOf(sub *Subject) []*pipeline.Entry {
	out := s.matching(&sub.Event)
	if !sub.Again {
		return out
	}
	for _, state := range passed[sub.Event.State] {
		earlier := sub.Event
		earlier.State = state
		out = append(out, s.matching(&earlier)...)
	}
	return inOrder(out)
}

// inOrder sorts entries and leaves each once.
func inOrder(entries []*pipeline.Entry) []*pipeline.Entry {
	slices.SortFunc(entries, func(a, b *pipeline.Entry) int { return cmp.Compare(a.Index, b.Index) })
	return slices.Compact(entries)
}

// Fires says whether any entry matches the event anew. Most events start
// nothing; this tells without looking at the node.
func (s *Schedule) Fires(ev event.Node) bool {
	before, changed := previous(&ev)
	return slices.ContainsFunc(s.matching(&ev), func(e *pipeline.Entry) bool {
		return !changed || !matches(e.Event, &before)
	})
}

// Decide lists, in the order of the entries, what every entry that matches the
// event comes to: a decision for each platform. No two that run have the same
// job, runtime and platform.
func (s *Schedule) Decide(sub Subject) []Decision {
	var out []Decision
	before, changed := previous(&sub.Event)
	look := newLookup(sub)
	taken := map[[3]string]*pipeline.Entry{}
	for _, e := range s.entriesOf(&sub) {
		d := Decision{Entry: e, Job: s.cfg.Jobs[e.Job]}
		if changed && matches(e.Event, &before) {
			d.refuse("event", "previous_state", "the node matched before this update")
			out = append(out, d)
			continue
		}
		for _, d := range s.decideEntry(sub, look, d) {
			if d.Run {
				k := [3]string{d.Job.Name, d.Runtime.Name, d.Platform.Name}
				if first := taken[k]; first != nil {
					d.refuse("entry", "once", fmt.Sprintf("the entry at %s runs it already", first.Place))
				}
				taken[k] = e
			}
			out = append(out, d)
		}
	}
	return out
}

// refuse adds a check that the job does not pass.
func (d *Decision) refuse(of, rule, reason string) {
	d.Checks = append(slices.Clip(d.Checks), Check{of, rule, reason})
	d.Run, d.Reason = false, trail(d.Checks).refusal()
}

// decideEntry gives the decisions of an entry that the event has set off.
func (s *Schedule) decideEntry(sub Subject, look *lookup, d Decision) []Decision {
	if d.Job == nil {
		d.refuse("entry", "job", fmt.Sprintf("job %q is not configured", d.Entry.Job))
		return []Decision{d}
	}
	look.ofJob(d.Job)
	t := make(trail, 0, 8)
	filtered(sub, look, d, &t)
	s.rules[d.Entry.Rules].check(look.node, &t)
	s.rules[d.Job.Rules].check(look.value, &t)
	if d.Reason = t.refusal(); d.Reason == "" {
		d.Runtime, d.Reason = s.runtime(sub, look, d.Entry, &t)
	}
	if d.Checks = slices.Clip(t); d.Reason != "" {
		return []Decision{d}
	}
	look.own["runtime"] = d.Runtime.Name
	names := d.Entry.Platforms
	if len(names) == 0 {
		names = []string{d.Runtime.LabType}
	}
	out := make([]Decision, 0, len(names))
	for _, name := range names {
		out = append(out, s.onPlatform(sub, look, d, name))
	}
	return out
}

func (s *Schedule) onPlatform(sub Subject, look *lookup, d Decision, name string) Decision {
	d.Platform = s.cfg.Platforms[name]
	if d.Platform == nil {
		d.refuse("entry", "platforms", fmt.Sprintf("platform %q is not configured", name))
		return d
	}
	t := trail(d.Checks)
	if allowed := platformFilter(sub); d.Job.Kind == string(node.KindJob) && len(allowed) > 0 {
		reason := ""
		if !slices.Contains(allowed, name) {
			reason = fmt.Sprintf("platform_filter %s has no %q", among(allowed), name)
		}
		t.add("node", "platform_filter", reason)
	}
	look.own["platform"] = name
	s.rules[d.Platform.Rules].check(look.value, &t)
	d.Checks, d.Reason = t, t.refusal()
	if d.Run = d.Reason == ""; d.Run {
		d.Every = s.every(d)
	}
	return d
}

// every is the longest frequency that is asked for.
func (s *Schedule) every(d Decision) time.Duration {
	longest := d.Job.Frequency
	for _, r := range []*pipeline.Rules{d.Entry.Rules, d.Job.Rules, d.Runtime.Rules, d.Platform.Rules} {
		if r != nil {
			longest = max(longest, r.Frequency)
		}
	}
	return longest
}

// runtime finds where the entry's job runs, or why it cannot. The checks are
// those of the one that is taken; of all of a type when none can be.
func (s *Schedule) runtime(sub Subject, look *lookup, e *pipeline.Entry, t *trail) (*pipeline.Runtime, string) {
	if e.RuntimeName != "" {
		r := s.cfg.Runtimes[e.RuntimeName]
		if r == nil {
			t.add("entry", "runtime", fmt.Sprintf("runtime %q is not configured", e.RuntimeName))
			return nil, t.refusal()
		}
		s.usable(look, r, t)
		return r, t.refusal()
	}
	var best *pipeline.Runtime
	var most uint64
	var chosen trail
	all := slices.Clip(*t)
	for _, r := range s.byType[e.RuntimeType] {
		one := trail{}
		s.usable(look, r, &one)
		if all = append(all, one...); one.refusal() != "" {
			continue
		}
		if rank := rank(sub, e, r); best == nil || rank > most {
			best, most, chosen = r, rank, one
		}
	}
	if best != nil {
		*t = append(*t, chosen...)
		return best, ""
	}
	if *t = all; len(s.byType[e.RuntimeType]) == 0 {
		t.add("entry", "runtime", fmt.Sprintf("no runtime of type %q is configured", e.RuntimeType))
	}
	return nil, t.refusal()
}

func (s *Schedule) usable(look *lookup, r *pipeline.Runtime, t *trail) {
	if !s.supported(r) {
		t.add("runtime "+r.Name, "lab_type", fmt.Sprintf("this program has no driver for lab type %s of runtime %s", r.LabType, r.Name))
		return
	}
	look.own["runtime"] = r.Name
	defer delete(look.own, "runtime")
	s.rules[r.Rules].check(look.value, t)
}

// rank orders the runtimes of one type for one attempt at one job.
func rank(sub Subject, e *pipeline.Entry, r *pipeline.Runtime) uint64 {
	h := fnv.New64a()
	for _, part := range []string{string(sub.Node.ID), strconv.Itoa(sub.Retry), e.Job, r.Name} {
		h.Write([]byte(part))
		h.Write([]byte{0})
	}
	// FNV alone leaves the last bytes' mark in the low bits: spread it.
	v := h.Sum64()
	v ^= v >> 33
	v *= 0xff51afd7ed558ccd
	v ^= v >> 33
	return v
}
