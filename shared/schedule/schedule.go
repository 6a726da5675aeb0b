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
	Reason   string // why not; "" when it runs
	// Every is the least time since the job's last run for the same tree,
	// branch and platform; 0: none. Only the store knows whether it has passed.
	Every time.Duration
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
		s.compile(r.Rules)
	}
	for _, j := range cfg.Jobs {
		s.compile(j.Rules)
	}
	for _, p := range cfg.Platforms {
		s.compile(p.Rules)
	}
	for _, e := range cfg.Scheduler {
		s.compile(e.Rules)
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
			d.Reason = "the node matched before this update"
			out = append(out, d)
			continue
		}
		for _, d := range s.decideEntry(sub, look, d) {
			if d.Run {
				k := [3]string{d.Job.Name, d.Runtime.Name, d.Platform.Name}
				if first := taken[k]; first != nil {
					d.Run, d.Reason = false, fmt.Sprintf("the entry at %s runs it already", first.Place)
				}
				taken[k] = e
			}
			out = append(out, d)
		}
	}
	return out
}

// decideEntry gives the decisions of an entry that the event has set off.
func (s *Schedule) decideEntry(sub Subject, look *lookup, d Decision) []Decision {
	refuse := func(reason string) []Decision {
		d.Reason = reason
		return []Decision{d}
	}
	if d.Job == nil {
		return refuse(fmt.Sprintf("job %q is not configured", d.Entry.Job))
	}
	look.ofJob(d.Job)
	if reason := filtered(sub, look, d.Job); reason != "" {
		return refuse(reason)
	}
	if reason := s.rules[d.Entry.Rules].check(look.node); reason != "" {
		return refuse("rules of the entry at " + d.Entry.Place.String() + ": " + reason)
	}
	if reason := s.rules[d.Job.Rules].check(look.value); reason != "" {
		return refuse("rules of job " + d.Job.Name + ": " + reason)
	}
	var reason string
	if d.Runtime, reason = s.runtime(sub, look, d.Entry); reason != "" {
		return refuse(reason)
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
		d.Reason = fmt.Sprintf("platform %q is not configured", name)
		return d
	}
	if allowed := platformFilter(sub); d.Job.Kind == string(node.KindJob) && len(allowed) > 0 && !slices.Contains(allowed, name) {
		d.Reason = fmt.Sprintf("platform_filter %s has no %q", among(allowed), name)
		return d
	}
	look.own["platform"] = name
	if reason := s.rules[d.Platform.Rules].check(look.value); reason != "" {
		d.Reason = "rules of platform " + name + ": " + reason
		return d
	}
	d.Run, d.Every = true, d.Job.Frequency
	for _, r := range []*pipeline.Rules{d.Entry.Rules, d.Job.Rules, d.Runtime.Rules, d.Platform.Rules} {
		if r != nil {
			d.Every = max(d.Every, r.Frequency)
		}
	}
	return d
}

// runtime finds where the entry's job runs, or why it cannot.
func (s *Schedule) runtime(sub Subject, look *lookup, e *pipeline.Entry) (*pipeline.Runtime, string) {
	if e.RuntimeName != "" {
		r := s.cfg.Runtimes[e.RuntimeName]
		if r == nil {
			return nil, fmt.Sprintf("runtime %q is not configured", e.RuntimeName)
		}
		return r, s.usable(look, r)
	}
	var best *pipeline.Runtime
	var most uint64
	reason := fmt.Sprintf("no runtime of type %q is configured", e.RuntimeType)
	for _, r := range s.byType[e.RuntimeType] {
		if why := s.usable(look, r); why != "" {
			reason = why
			continue
		}
		if rank := rank(sub, e, r); best == nil || rank > most {
			best, most = r, rank
		}
	}
	if best == nil {
		return nil, reason
	}
	return best, ""
}

func (s *Schedule) usable(look *lookup, r *pipeline.Runtime) string {
	if !s.supported(r) {
		return fmt.Sprintf("this program has no driver for lab type %s of runtime %s", r.LabType, r.Name)
	}
	look.own["runtime"] = r.Name
	defer delete(look.own, "runtime")
	if reason := s.rules[r.Rules].check(look.value); reason != "" {
		return "rules of runtime " + r.Name + ": " + reason
	}
	return ""
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
