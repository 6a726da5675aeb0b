package report

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"unicode"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
)

// Bounds of one mail.
const (
	maxRuns   = 1000 // rows of the table
	maxItems  = 500  // entries of a list
	maxDetail = 300  // bytes of an error's first line
	maxLink   = 2000 // bytes of a URL
)

// maxDepth bounds the way up to the root: a circle of parents cannot be, but must
// not hang us.
const maxDepth = 100

// shortHash is how many digits of the patches' hash are shown.
const shortHash = 12

// Report is what one mail says.
type Report struct {
	Tree, Branch, Describe, URL, Commit string
	Link                                string // to the checkout's node
	Error                               string // why there was no source, or it took too long; "" when all is well
	New, Active, Fixed                  List   // regressions
	Runs                                []Run
	MoreRuns                            int
	Incomplete                          List // runs without a result
	Retried                             List // attempts that another one came after; they count for nothing else
	Failing                             List
	Failures                            int // failing test cases, and failing runs without any
}

// List is a bounded list.
type List struct {
	Items []Item
	More  int
}

// Len is how many entries there are, listed or not.
func (l List) Len() int { return len(l.Items) + l.More }

func (l *List) add(i Item) {
	if len(l.Items) >= maxItems {
		l.More++
		return
	}
	l.Items = append(l.Items, i)
}

func (l *List) sort() {
	slices.SortFunc(l.Items, func(a, b Item) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Where, b.Where), cmp.Compare(a.Log, b.Log))
	})
}

// Item is one entry of a list.
type Item struct {
	Path   string // names from below the checkout, joined with dots
	Where  string // platform, arch, defconfig, compiler, as far as known
	Detail string // first line of what went wrong
	Log    string // URL
}

// Run is one build or job.
type Run struct {
	Name            string
	Where           string
	Result          string
	Total, Failures int // test cases
	Log             string
}

// entry is what is kept of a node while all are read.
type entry struct {
	parent node.ID
	run    *runEntry // of a run
	failed *Item     // of a failing test
	parts  bool      // something is below it
	test   bool
	result node.Result
}

type runEntry struct {
	Run
	item Item
	code string
}

// gather reads all that is below the checkout.
func (f *Function) gather(ctx context.Context, checkout node.Node) (*Report, error) {
	revision, _ := checkout.Revision()
	r := &Report{
		Tree: line(revision.Tree), Branch: line(revision.Branch), Describe: line(cmp.Or(revision.Describe, revision.Commit)),
		URL: line(revision.URL), Commit: line(revision.Commit), Link: f.URL + "/latest/node/" + string(checkout.ID),
	}
	if revision.Patchset != "" {
		r.Describe += " with patches " + line(revision.Patchset[:min(shortHash, len(revision.Patchset))])
	}
	if code := checkout.Text("error_code"); code != "" {
		r.Error = strings.TrimSuffix(line(code)+": "+line(checkout.Text("error_msg")), ": ")
	}
	entries := map[node.ID]*entry{}
	var attempts node.Attempts
	q := node.Where("treeid", checkout.TreeID).And("kind", node.KindKbuild, node.KindJob, node.KindTest)
	for n, err := range f.Store.Each(ctx, q) {
		if err != nil {
			return nil, err
		}
		entries[n.ID] = newEntry(n)
		attempts.Add(n)
	}
	r.setAside(entries, attempts.Superseded())
	r.add(entries)
	return r, f.addRegressions(ctx, r, checkout, entries)
}

// setAside lists the attempts that were followed by another, and takes them and
// all below them out of the entries.
func (r *Report) setAside(entries map[node.ID]*entry, superseded map[node.ID]bool) {
	var retried []Item
	gone := map[node.ID]bool{}
	for id, e := range entries {
		if superseded[id] {
			item := e.run.item
			item.Detail = strings.TrimSuffix(strings.TrimSuffix(e.run.Result+" "+line(e.run.code), " ")+": "+item.Detail, ": ")
			retried = append(retried, item)
		}
		if within(entries, id, superseded) {
			gone[id] = true
		}
	}
	for id := range gone {
		delete(entries, id)
	}
	r.Retried = listed(retried)
}

// within says whether id, or anything above it, is one of the set.
func within(entries map[node.ID]*entry, id node.ID, set map[node.ID]bool) bool {
	for range maxDepth {
		e := entries[id]
		if e == nil || set[id] {
			return e != nil
		}
		id = e.parent
	}
	return false
}

func newEntry(n node.Node) *entry {
	e := &entry{parent: n.Parent, test: n.Kind == node.KindTest, result: n.Result}
	item := Item{Path: below(n.Path), Where: where(n), Detail: line(n.Text("error_msg")), Log: logOf(n)}
	if !e.test {
		result := cmp.Or(string(n.Result), "none")
		e.run = &runEntry{Run: Run{Name: item.Path, Where: item.Where, Result: result, Log: item.Log}, item: item, code: n.Text("error_code")}
	} else if n.Result == node.Fail {
		e.failed = &item
	}
	return e
}

// add sums up what was read.
func (r *Report) add(entries map[node.ID]*entry) {
	for _, e := range entries {
		if parent := entries[e.parent]; parent != nil && e.test {
			parent.parts = true
		}
	}
	for _, e := range entries {
		run := runOf(entries, e)
		if !e.test || e.parts || run == nil {
			continue
		}
		run.Total++
		if e.result == node.Fail {
			run.Failures++
			e.failed.Log = cmp.Or(e.failed.Log, run.Log)
		}
	}
	r.lists(entries)
}

// lists fills the table and the lists in a fixed order, so that what does not
// fit is always the same.
func (r *Report) lists(entries map[node.ID]*entry) {
	var runs []Run
	var failing, incomplete []Item
	for _, e := range entries {
		switch {
		case e.failed != nil && !e.parts:
			failing = append(failing, *e.failed)
		case e.run == nil:
			continue
		case e.result == node.Fail && e.run.Failures == 0:
			failing = append(failing, e.run.item)
		case e.result == node.Incomplete:
			item := e.run.item
			item.Detail = strings.TrimSuffix(line(e.run.code)+": "+item.Detail, ": ")
			incomplete = append(incomplete, item)
		}
		if e.run != nil {
			runs = append(runs, e.run.Run)
		}
	}
	slices.SortFunc(runs, func(a, b Run) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Where, b.Where), cmp.Compare(a.Log, b.Log))
	})
	r.Failures = len(failing)
	r.Runs, r.MoreRuns = runs[:min(len(runs), maxRuns)], max(0, len(runs)-maxRuns)
	r.Failing, r.Incomplete = listed(failing), listed(incomplete)
}

func listed(items []Item) List {
	all := List{Items: items}
	all.sort()
	return List{Items: items[:min(len(items), maxItems)], More: max(0, len(items)-maxItems)}
}

// runOf finds the run that e is a part of.
func runOf(entries map[node.ID]*entry, e *entry) *runEntry {
	for range maxDepth {
		if e == nil || e.run != nil {
			break
		}
		e = entries[e.parent]
	}
	if e == nil {
		return nil
	}
	return e.run
}

// addRegressions reads the regressions that the checkout's findings name.
func (f *Function) addRegressions(ctx context.Context, r *Report, checkout node.Node, entries map[node.ID]*entry) error {
	var found struct {
		New, Active, Fixed []node.ID
		Runs               map[node.ID]node.ID
	}
	b, err := json.Marshal(checkout.Data["regressions"])
	if err == nil {
		err = json.Unmarshal(b, &found)
	}
	if err != nil {
		return errs.Wrap(errs.Invalid, err)
	}
	for _, part := range []struct {
		ids  []node.ID
		list *List
	}{{found.New, &r.New}, {found.Active, &r.Active}, {found.Fixed, &r.Fixed}} {
		for _, id := range part.ids {
			n, err := f.Store.Get(ctx, id)
			if errors.Is(err, errs.NotFound) {
				continue
			}
			if err != nil {
				return err
			}
			item := Item{Path: below(n.Path), Where: where(n), Detail: line(n.Text("error_msg"))}
			failed := cmp.Or(found.Runs[id], n.Parent)
			if run := runOf(entries, entries[failed]); run != nil && part.list != &r.Fixed {
				item.Log = run.Log
			}
			part.list.add(item)
		}
		part.list.sort()
	}
	return nil
}

// below joins a path's names, without the checkout at its top.
func below(path []string) string {
	return line(strings.Join(node.Below(path), "."))
}

// where says on what something ran.
func where(n node.Node) string {
	var parts []string
	for _, key := range []string{"platform", "arch", "defconfig", "compiler"} {
		var text string
		switch v := n.Data[key].(type) {
		case string:
			text = v
		case []any:
			for _, one := range v {
				if s, ok := one.(string); ok {
					text = strings.TrimPrefix(text+"+"+s, "+")
				}
			}
		}
		if text = line(text); text != "" && !slices.Contains(parts, text) {
			parts = append(parts, text)
		}
	}
	return strings.Join(parts, ", ")
}

// logOf is the URL of a node's log; "" when it has none that a link may lead to.
func logOf(n node.Node) string {
	for _, name := range []string{"log", "lava_log", "build_log"} {
		if link := n.Artifacts[name]; fit(link) {
			return link
		}
	}
	return ""
}

// fit says whether a link can stand in a mail as it is. A part of one would lead
// elsewhere.
func fit(link string) bool {
	http := strings.HasPrefix(link, "http://") || strings.HasPrefix(link, "https://")
	return http && len(link) <= maxLink && !strings.ContainsFunc(link, func(r rune) bool { return r == ' ' || !unicode.IsPrint(r) })
}

// line is the first line of a text, printable and bounded: the end of a long one
// stays, since that is where an error says what went wrong in the end.
func line(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	if over := len(s) - maxDetail; over > 0 {
		cut := maxDetail / 2
		s = strings.ToValidUTF8(s[:cut], "") + " ... " + strings.ToValidUTF8(s[cut+over:], "")
	}
	return strings.TrimSpace(s)
}
