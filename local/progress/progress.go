// Package progress shows a person how each checkout comes along: a block that
// redraws itself on a terminal, plain lines elsewhere. It learns everything
// from the pipeline's events and keeps one line a checkout, one word a job.
package progress

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/git"
	"github.com/kernelflow/kernelflow/shared/node"
)

// Board is the state of every checkout under way. It is not safe for
// concurrent use.
type Board struct {
	trees map[string]*tree
}

// tree is one checkout and its jobs.
type tree struct {
	id       node.ID // of the checkout
	title    string
	work     string // what git is doing for it
	checkout node.State
	result   node.Result
	started  time.Time
	jobs     map[node.ID]*job
}

type job struct {
	name   string
	state  node.State
	result node.Result
}

// NewBoard returns an empty board.
func NewBoard() *Board { return &Board{trees: map[string]*tree{}} }

// Apply takes an event in and returns the line that it is worth, or "".
func (b *Board) Apply(e event.Event) string {
	p, err := e.Node()
	if err != nil || e.TreeID == "" {
		return ""
	}
	if b.trees[e.TreeID] == nil && p.State == node.Done {
		return b.late(e, p) // its checkout is done: nothing to draw any more
	}
	t := b.tree(e, p)
	switch p.Kind {
	case node.KindCheckout:
		return b.checkout(e, t, p)
	case node.KindKbuild, node.KindJob, node.KindProcess:
		return t.job(e, p)
	}
	return b.late(e, p)
}

// late is the line of what comes when a checkout is done: regressions.
func (b *Board) late(e event.Event, p event.Node) string {
	if p.Kind != node.KindRegression || p.Op != event.Created {
		return ""
	}
	t := &tree{}
	if r, ok := (&node.Node{Data: p.Data}).Revision(); ok {
		t.title = title(r)
	}
	return line(e, t, strings.Join(p.Path[1:], "."), "REGRESSION")
}

func (b *Board) tree(e event.Event, p event.Node) *tree {
	t := b.trees[e.TreeID]
	if t == nil {
		t = &tree{jobs: map[node.ID]*job{}, started: e.Time, checkout: node.Running}
		b.trees[e.TreeID] = t
	}
	n := node.Node{Data: p.Data}
	if r, ok := n.Revision(); ok {
		t.title = title(r)
	}
	return t
}

func title(r node.Revision) string {
	return r.Tree + "/" + r.Branch + " " + cmp.Or(r.Describe, fmt.Sprintf("%.12s", r.Commit))
}

func (b *Board) checkout(e event.Event, t *tree, p event.Node) string {
	if p.Op == event.Updated && t.checkout == p.State {
		return ""
	}
	t.id, t.work = p.ID, ""
	t.checkout, t.result = p.State, result(p)
	if p.State == node.Done {
		delete(b.trees, e.TreeID)
		n := node.Node{Data: p.Data}
		if text := n.Text("error_msg"); text != "" {
			return line(e, t, "checkout", "done "+string(t.result)+": "+text)
		}
		return line(e, t, "checkout", "done, "+t.summary())
	}
	return line(e, t, "checkout", string(p.State))
}

// Working takes in how far git's work on a checkout is; it is shown until the
// checkout's next event.
func (b *Board) Working(checkout node.ID, p git.Progress) {
	for _, t := range b.trees {
		if t.id == checkout {
			t.work = work(p)
		}
	}
}

func work(p git.Progress) string {
	text := p.Phase
	if p.Total > 0 {
		text += fmt.Sprintf(" %d%%", 100*p.Done/p.Total)
	}
	if mib := p.Bytes >> 20; mib > 0 {
		text += fmt.Sprintf(" %d MiB", mib)
	}
	return text
}

func (t *tree) job(e event.Event, p event.Node) string {
	j := t.jobs[p.ID]
	if j == nil {
		j = &job{name: p.Name}
		t.jobs[p.ID] = j
	}
	if j.state == p.State && j.result == result(p) {
		return ""
	}
	reported := j.result != node.None
	j.state, j.result = p.State, result(p)
	if reported {
		return "" // closing after the report is not news
	}
	if j.result == node.None {
		return line(e, t, p.Name, string(p.State))
	}
	n := node.Node{Data: p.Data}
	if text := n.Text("error_msg"); text != "" {
		return line(e, t, p.Name, string(j.result)+": "+text)
	}
	return line(e, t, p.Name, string(j.result))
}

func result(p event.Node) node.Result {
	if p.Result == nil {
		return node.None
	}
	return *p.Result
}

func line(e event.Event, t *tree, what, how string) string {
	return fmt.Sprintf("%s  %-32s  %-24s  %s", e.Time.Format(time.TimeOnly), printable(t.title), printable(what), printable(how))
}

// printable keeps control characters in names away from the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}

// summary counts the jobs by how they stand.
func (t *tree) summary() string {
	counts := map[string]int{}
	for _, j := range t.jobs {
		if j.result == node.None {
			counts["running"]++
		} else {
			counts[string(j.result)]++
		}
	}
	text := fmt.Sprintf("%d jobs", len(t.jobs))
	for _, how := range []string{"running", "pass", "fail", "incomplete", "skip"} {
		if counts[how] > 0 {
			text += fmt.Sprintf(", %d %s", counts[how], how)
		}
	}
	return text
}

// Block draws every checkout under way, oldest first, one line each, at most
// width columns wide.
func (b *Board) Block(now time.Time, width int) []string {
	list := make([]*tree, 0, len(b.trees))
	for _, t := range b.trees {
		list = append(list, t)
	}
	slices.SortFunc(list, func(a, b *tree) int { return cmp.Or(a.started.Compare(b.started), strings.Compare(a.title, b.title)) })
	lines := make([]string, len(list))
	for i, t := range list {
		lines[i] = clip(t.draw(now), width)
	}
	return lines
}

const barWidth = 20

func (t *tree) draw(now time.Time) string {
	finished := 0
	var running []string
	for _, j := range t.jobs {
		if j.result != node.None {
			finished++
		} else {
			running = append(running, j.name)
		}
	}
	slices.Sort(running)
	bar := strings.Repeat("#", barWidth*finished/max(len(t.jobs), 1))
	elapsed := max(now.Sub(t.started), 0).Truncate(time.Second)
	if len(t.jobs) == 0 && t.work != "" {
		return printable(fmt.Sprintf("%-32s %-9s %s  %s", t.title, t.checkout, elapsed, t.work))
	}
	return printable(fmt.Sprintf("%-32s %-9s [%-*s] %d/%d jobs %s  %s", t.title, t.checkout, barWidth, bar, finished, len(t.jobs), elapsed, strings.Join(running, " ")))
}

func clip(s string, width int) string {
	runes := []rune(s)
	if len(runes) <= width {
		return s
	}
	return string(runes[:max(width-1, 0)]) + "…"
}
