package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
)

const (
	statsDays  = 7  // how many days are counted where nobody says
	shownTrees = 50 // with the most nodes
)

// dayIn is a day, UTC, or nothing from a form that was left empty.
type dayIn string

// Schema implements huma.SchemaProvider.
func (dayIn) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeString, Description: "a day, UTC: 2025-01-12",
		Extensions: map[string]any{"pattern": "^(" + isoDate("[0-9]{2}", "[02468][048]|[13579][26]") + ")?$"},
	}
}

// parse reads the day that a field has; otherwise is meant where it has none.
func (d dayIn) parse(field string, otherwise time.Time) (time.Time, error) {
	if d == "" {
		return otherwise.UTC().Truncate(24 * time.Hour), nil
	}
	day, err := time.Parse(time.DateOnly, string(d))
	if err != nil {
		return day, errs.New(errs.Invalid, "%s: %.40q is not a day, for example 2025-01-12", field, string(d))
	}
	return day, nil
}

type statsInput struct {
	From dayIn  `query:"from" doc:"the first day; six days ago when it is left out"`
	To   dayIn  `query:"to" doc:"the last day, which is counted too; today when it is left out"`
	Tree string `query:"tree" maxLength:"200" doc:"the name of a kernel tree; all when it is left out"`
}

// showStats counts the nodes that were created in some days.
func (f *Function) showStats(ctx context.Context, in *statsInput) (*pageOutput, error) {
	view, err := f.askedStats(in)
	if err != nil {
		return f.draw(ctx, "stats", view, err)
	}
	return f.stats.show(ctx, f, view.key(), func(patience context.Context) (*pageOutput, error) {
		return f.draw(ctx, "stats", view, f.countStats(patience, view))
	})
}

// statsView is what was asked for, and what was counted.
type statsView struct {
	Now      time.Time
	From, To time.Time // days, both counted
	Tree     string
	Kinds    []kindView
	Trees    []treeStats // the one with the most nodes first; none of one tree alone
	More     int         // trees that are not shown
	TooMany  bool        // trees to be counted one by one
}

// kindView is how the nodes of a kind went.
type kindView struct {
	Kind   node.Kind
	Total  int64
	Counts []linkedCount // of each result, and of none
	States []stateCount
	rate
}

// linkedCount is a count with the list of what was counted.
type linkedCount struct {
	Count int64
	Link  string
}

type stateCount struct {
	State node.State
	Count int64
}

// treeStats is how builds, jobs and tests of a tree went.
type treeStats struct {
	Tree  string // "": not set
	Link  string
	Total int64
	kinds map[node.Kind]map[node.Result]int64
}

// rate is which part of what passed, failed or came to no end has passed.
type rate struct{ passed, ran int64 }

func (r *rate) add(result node.Result, n int64) {
	switch result {
	case node.Pass:
		r.passed, r.ran = r.passed+n, r.ran+n
	case node.Fail, node.Incomplete:
		r.ran += n
	}
}

// Ran says whether there is a rate.
func (r rate) Ran() bool { return r.ran > 0 }

// Part is the rate, from 0 to 1.
func (r rate) Part() float64 { return float64(r.passed) / float64(max(1, r.ran)) }

// Percent writes the rate so that only all is 100 % and only none is 0 %.
func (r rate) Percent() string {
	percent := min(max(r.Part()*100, 0.1), 99.9)
	if r.passed == 0 || r.passed == r.ran {
		percent = r.Part() * 100
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", percent), ".0") + " %"
}

// askedStats reads what is asked for.
func (f *Function) askedStats(in *statsInput) (*statsView, error) {
	view := &statsView{Now: f.now(), Tree: in.Tree}
	if err := checkText("tree", in.Tree); err != nil {
		return nil, err
	}
	var err error
	if view.To, err = in.To.parse("to", view.Now); err != nil {
		return nil, err
	}
	first := view.To.AddDate(0, 0, 1-statsDays)
	if first.Year() < 0 {
		first = view.To // no node has such a time
	}
	view.From, err = in.From.parse("from", first)
	return view, err
}

func (v *statsView) key() string { return v.address(v.Tree) }

// All leads to the same days of all trees.
func (v *statsView) All() string { return v.address("") }

// address leads to the same days of a tree.
func (v *statsView) address(tree string) string {
	return "stats?" + url.Values{"from": {v.From.Format(time.DateOnly)}, "to": {v.To.Format(time.DateOnly)}, "tree": {tree}}.Encode()
}

// until is the last moment of the last day that a node can have.
func (v *statsView) until() time.Time { return v.To.Add(24*time.Hour - time.Microsecond) }

// list is the address of the nodes of a kind with a result.
func (v *statsView) list(kind node.Kind, result node.Result) string {
	q := url.Values{
		"kind": {string(kind)}, "result": {cmp.Or(string(result), "null")},
		"created__gte": {node.FormatTime(v.From)}, "created__lte": {node.FormatTime(v.until())},
	}
	if v.Tree != "" {
		q.Set("data.kernel_revision.tree", v.Tree)
	}
	return "nodes?" + q.Encode()
}

// query selects what is counted: by every kind, for that is what an index of
// times begins with.
func (v *statsView) query(kinds ...node.Kind) node.Query {
	values := make([]any, len(kinds))
	for i, kind := range kinds {
		values[i] = kind
	}
	q := node.Query{}.And("kind", values...).Cond("created", node.Gte, v.From).Cond("created", node.Lte, v.until())
	if v.Tree != "" {
		q = q.And("data.kernel_revision.tree", v.Tree)
	}
	return q
}

// countStats fills the view.
func (f *Function) countStats(ctx context.Context, view *statsView) error {
	tallies, err := f.store.TallyNodes(ctx, view.query(node.Kinds...), "kind", "state", "result")
	if err != nil {
		return err
	}
	for _, kind := range node.Kinds {
		if k := view.kind(kind, tallies); k.Total > 0 {
			view.Kinds = append(view.Kinds, k)
		}
	}
	if view.Tree != "" || len(view.Kinds) == 0 {
		return nil
	}
	tallies, err = f.store.TallyNodes(ctx, view.query(ranKinds...), "data.kernel_revision.tree", "kind", "result")
	if errors.Is(err, node.ErrTooManyTallies) {
		view.TooMany = true
		return nil
	}
	view.addTrees(tallies)
	return err
}

// ranKinds are the kinds that are counted for each tree.
var ranKinds = []node.Kind{node.KindKbuild, node.KindJob, node.KindTest}

// kind sums up the tallies (kind, state, result) of one kind.
func (v *statsView) kind(kind node.Kind, tallies []node.Tally) kindView {
	view, results, states := kindView{Kind: kind}, map[node.Result]int64{}, map[node.State]int64{}
	for _, t := range tallies {
		if node.Kind(t.Values[0]) == kind {
			state, result := node.State(t.Values[1]), node.Result(t.Values[2])
			view.Total += t.Count
			states[state] += t.Count
			results[result] += t.Count
			view.add(result, t.Count)
		}
	}
	for _, result := range append(slices.Clip(node.Results), node.None) {
		view.Counts = append(view.Counts, linkedCount{results[result], v.list(kind, result)})
	}
	for _, state := range node.States {
		if states[state] > 0 {
			view.States = append(view.States, stateCount{state, states[state]})
		}
	}
	return view
}

// addTrees sums up the tallies (tree, kind, result).
func (v *statsView) addTrees(tallies []node.Tally) {
	places := map[string]int{}
	for _, t := range tallies {
		tree, kind := t.Values[0], node.Kind(t.Values[1])
		place, known := places[tree]
		if !known {
			place = len(v.Trees)
			places[tree] = place
			v.Trees = append(v.Trees, treeStats{Tree: tree, Link: v.address(tree), kinds: map[node.Kind]map[node.Result]int64{}})
		}
		one := &v.Trees[place]
		if one.kinds[kind] == nil {
			one.kinds[kind] = map[node.Result]int64{}
		}
		one.kinds[kind][node.Result(t.Values[2])] += t.Count
		one.Total += t.Count
	}
	slices.SortFunc(v.Trees, func(a, b treeStats) int { return cmp.Or(cmp.Compare(b.Total, a.Total), cmp.Compare(a.Tree, b.Tree)) })
	v.More = max(0, len(v.Trees)-shownTrees)
	v.Trees = v.Trees[:len(v.Trees)-v.More]
}

// Results lists how each kind that is counted for a tree went.
func (t treeStats) Results() [][]resultCount {
	lists := make([][]resultCount, len(ranKinds))
	for i, kind := range ranKinds {
		for result, n := range t.kinds[kind] {
			lists[i] = append(lists[i], resultCount{result, n})
		}
		inOrder(lists[i])
	}
	return lists
}

// parted parts thousands, for the eye.
func parted(n int64) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "\u202f" + text[i:]
	}
	return text
}
