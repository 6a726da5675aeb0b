package pipeline

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kernelflow/kernelflow/shared/node"
)

// check looks at what the parts say of each other, once all are read.
func (l *loader) check() {
	for _, e := range l.config.Scheduler {
		if _, ok := l.config.Jobs[e.Job]; !ok && e.Job != "" {
			l.problems.add(e.Place, "scheduler: no job %q%s", e.Job, nearestKey(e.Job, l.config.Jobs))
		}
	}
	l.checkEntries()
	for _, e := range l.config.Scheduler {
		l.checkEvent(e)
	}
	for _, b := range l.config.BuildConfigs {
		if _, ok := l.config.Trees[b.Tree]; !ok && b.Tree != "" {
			l.problems.add(b.Place, "build_configs.%s: no tree %q%s", b.Name, b.Tree, nearestKey(b.Tree, l.config.Trees))
		}
	}
	for _, j := range l.config.Jobs {
		l.checkJob(j)
	}
}

// channelNode carries the events that start jobs.
const channelNode = "node"

// eventKeys are what an event about a node has.
var eventKeys = []string{
	"op", "id", "kind", "name", "path", "group", "state", "result", "owner", "data", "is_hierarchy", "previous_state", "previous_result",
}

// checkEvent warns of an entry that waits for what no event ever says.
func (l *loader) checkEvent(e *Entry) {
	if e.Channel != "" && e.Channel != channelNode {
		l.problems.warn(e.Place, "scheduler entry of %s: nothing is started by channel %q%s", e.Job, e.Channel, nearest(e.Channel, []string{channelNode}))
	}
	oneOf := func(key string, known []string) {
		if word, ok := e.Event[key].(string); ok && !slices.Contains(known, word) {
			l.problems.warn(e.Place, "scheduler entry of %s: no event has %s %q%s", e.Job, key, word, nearest(word, known))
		}
	}
	oneOf("op", []string{"created", "updated"})
	oneOf("kind", asTexts(node.Kinds))
	oneOf("state", asTexts(node.States))
	oneOf("result", asTexts(node.Results))
	if kind := e.Event["kind"]; kind == string(node.KindKbuild) || kind == string(node.KindJob) || kind == string(node.KindProcess) {
		oneOf("name", slices.Collect(maps.Keys(l.config.Jobs)))
	}
	for _, key := range slices.Sorted(maps.Keys(e.Event)) {
		if !slices.Contains(eventKeys, key) {
			l.problems.warn(e.Place, "scheduler entry of %s: no event has a %q%s", e.Job, key, nearest(key, eventKeys))
		}
	}
}

func asTexts[T ~string](words []T) []string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = string(w)
	}
	return out
}

// absent is one name that entries use and that this configuration lacks.
type absent struct{ kind, name string }

// checkEntries warns once for each runtime and platform that is absent, at the
// first entry naming it: an instance with few labs has hundreds of entries for
// the others.
func (l *loader) checkEntries() {
	types := map[string]bool{}
	for _, r := range l.config.Runtimes {
		types[r.LabType] = true
	}
	missing := map[absent][]*Entry{}
	for _, e := range l.config.Scheduler {
		switch {
		case e.RuntimeName != "" && l.config.Runtimes[e.RuntimeName] == nil:
			a := absent{"runtime", e.RuntimeName}
			missing[a] = append(missing[a], e)
		case e.RuntimeName == "" && e.RuntimeType != "" && !types[e.RuntimeType]:
			a := absent{"runtime of type", e.RuntimeType}
			missing[a] = append(missing[a], e)
		}
		for _, p := range l.platforms(e) {
			if l.config.Platforms[p] == nil {
				a := absent{"platform", p}
				missing[a] = append(missing[a], e)
			}
		}
	}
	known := map[string][]string{
		"runtime": slices.Collect(maps.Keys(l.config.Runtimes)), "runtime of type": slices.Collect(maps.Keys(types)),
		"platform": slices.Collect(maps.Keys(l.config.Platforms)),
	}
	for a, entries := range missing {
		text := fmt.Sprintf("no %s %q%s; job %s never runs there", a.kind, a.name, nearest(a.name, known[a.kind]), entries[0].Job)
		if len(entries) > 1 {
			text += fmt.Sprintf(", and %d more entries name it", len(entries)-1)
		}
		l.problems.warn(entries[0].Place, "scheduler: %s", text)
	}
}

// platforms lists what the entry's jobs run on: its own platforms, or the one
// named like the runtime's lab type.
func (l *loader) platforms(e *Entry) []string {
	if len(e.Platforms) > 0 {
		return e.Platforms
	}
	if r := l.config.Runtimes[e.RuntimeName]; r != nil {
		return []string{r.LabType}
	}
	if e.RuntimeName == "" && e.RuntimeType != "" {
		return []string{e.RuntimeType}
	}
	return nil
}

var jobKinds = []string{string(node.KindJob), string(node.KindKbuild), string(node.KindNode), string(node.KindProcess), string(node.KindTest)}

func (l *loader) checkJob(j *Job) {
	if !slices.Contains(jobKinds, j.Kind) {
		l.problems.add(j.Place, "jobs.%s: kind %q is not one of %s%s", j.Name, j.Kind, strings.Join(jobKinds, ", "), nearest(j.Kind, jobKinds))
	}
	if ref, ok := j.Params["rootfs_ref"].(string); ok && l.config.Rootfs[ref] == nil {
		l.problems.add(j.Place, "jobs.%s: params.rootfs_ref: no rootfs %q%s", j.Name, ref, nearestKey(ref, l.config.Rootfs))
	}
	fragments, _ := j.Params["fragments"].([]any)
	for _, f := range fragments {
		name, _ := f.(string)
		// CONFIG_X=y stands for itself.
		if _, ok := l.config.Fragments[name]; !ok && !strings.HasPrefix(name, "CONFIG_") {
			l.problems.warn(j.Place, "jobs.%s: params.fragments: no fragment %q%s", j.Name, name, nearestKey(name, l.config.Fragments))
		}
	}
}
