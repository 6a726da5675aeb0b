package api_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/functions/api"
	"github.com/kernelflow/kernelflow/shared/node"
)

// counted is a site on the evening of 12 January 2025 with nodes of two trees.
func counted(t *testing.T) *site {
	t.Helper()
	now := time.Date(2025, 1, 12, 20, 0, 0, 0, time.UTC)
	s := newSite(t, func(o *api.Options) { o.Now = func() time.Time { return now } })
	i := 0
	add := func(count int, kind node.Kind, tree, created string, state node.State, result node.Result) {
		at, err := node.ParseTime(created)
		check(t, err)
		for range count {
			i++
			n := node.Node{ID: node.DeriveID(unknownID, fmt.Sprint(i)), Kind: kind, Name: fmt.Sprint("n", i), Path: []string{"n"}, State: state, Result: result, Created: at}
			if tree != "" {
				check(t, n.SetRevision(node.Revision{Tree: tree, URL: "https://git.example.org/linux.git", Branch: "master", Commit: "abc"}))
			}
			n.SetDefaults(now)
			_, err := s.store.Create(t.Context(), n)
			check(t, err)
		}
	}
	add(3, node.KindKbuild, "mainline", "2025-01-12T23:59:59.999999", node.Done, node.Pass)
	add(1, node.KindKbuild, "mainline", "2025-01-06T00:00:00", node.Done, node.Fail)
	add(1, node.KindKbuild, "mainline", "2025-01-05T23:59:59.999999", node.Done, node.Fail) // the day before
	add(1, node.KindKbuild, "mainline", "2025-01-13T00:00:00", node.Done, node.Fail)        // the day after
	add(2, node.KindJob, "next", "2025-01-10T08:00:00", node.Running, node.None)
	add(1, node.KindJob, "next", "2025-01-10T08:00:00", node.Done, node.Incomplete)
	add(1, node.KindJob, "next", "2025-01-10T08:00:00", node.Done, node.Skip)
	add(1, node.KindTest, "", "2025-01-10T08:00:00", node.Done, node.Pass)
	return s
}

// row returns the row of a table that begins with a name, without its tags.
func row(t *testing.T, page, name string) string {
	t.Helper()
	for line := range strings.SplitSeq(strings.ReplaceAll(page, "\n<td", "<td"), "\n") {
		if text := strings.Join(strings.Fields(regexp.MustCompile(`<[^>]*>`).ReplaceAllString(line, " ")), " "); strings.HasPrefix(text, name+" ") && strings.HasPrefix(line, "<tr>") {
			return strings.ReplaceAll(text, "&nbsp;", " ")
		}
	}
	t.Errorf("no row of %s in\n%s", name, page)
	return ""
}

func TestStatsCountTheNodesOfSomeDaysByKindStateResultAndTree(t *testing.T) {
	s := counted(t)
	for _, asked := range []struct {
		query string
		rows  []string // "!name": there is no such row
	}{
		{"", []string{
			"kbuild 4 75 % 3 1 0 0 0 4 done", "job 4 0 % 0 0 1 1 2 2 running, 2 done", "test 1 100 % 1 0 0 0 0 1 done",
			"mainline 4 3 pass 1 fail", "next 4 1 skip 1 incomplete 2 open", "none 1 1 pass", "!checkout",
		}},
		{"?from=&to=&tree=", []string{"kbuild 4 75 % 3 1 0 0 0 4 done"}},
		{"?from=2025-01-05&to=2025-01-13", []string{"kbuild 6 50 % 3 3 0 0 0 6 done"}},
		{"?from=2025-01-10&to=2025-01-10", []string{"job 4 0 % 0 0 1 1 2 2 running, 2 done", "!kbuild", "!mainline"}},
		{"?to=2025-01-06", []string{"kbuild 2 0 % 0 2 0 0 0 2 done", "!job"}},
		{"?tree=mainline", []string{"kbuild 4 75 % 3 1 0 0 0 4 done", "!job", "!mainline"}},
		{"?tree=next&from=2025-01-10", []string{"job 4 0 % 0 0 1 1 2 2 running, 2 done", "!kbuild"}},
	} {
		page := s.html("/stats"+asked.query, 200)
		for _, want := range asked.rows {
			if name, absent := strings.CutPrefix(want, "!"); absent {
				if strings.Contains(page, ">"+name+"<") {
					t.Errorf("%s: %s in\n%s", asked.query, name, page)
				}
			} else if name, _, _ := strings.Cut(want, " "); row(t, page, name) != want {
				t.Errorf("%s: %q, want %q", asked.query, row(t, page, name), want)
			}
		}
	}
}

func TestStatsCountsLeadToTheNodesThatWereCounted(t *testing.T) {
	s := counted(t)
	for _, prefix := range []string{"/latest", "/v0", ""} {
		for _, query := range []string{"", "?tree=next"} {
			found := 0
			for _, m := range regexp.MustCompile(`<a href="(nodes[^"]*)">(\d+)</a>`).FindAllStringSubmatch(s.html(prefix+"/stats"+query, 200), -1) {
				var list struct{ Total int }
				check(t, json.Unmarshal([]byte(s.want("", "GET", prefix+"/"+strings.ReplaceAll(m[1], "&amp;", "&"), "", 200, "")), &list))
				if fmt.Sprint(list.Total) != m[2] {
					t.Errorf("%s: %d nodes, counted %s", m[1], list.Total, m[2])
				}
				found++
			}
			if want := map[string]int{"": 6, "?tree=next": 3}[query]; found != want {
				t.Errorf("%s: %d links, want %d", query, found, want)
			}
		}
	}
}

func TestStatsSayThatThereIsNothing(t *testing.T) {
	s := counted(t)
	contains(t, s.html("/stats?from=2024-01-01&to=2024-01-02", 200), "There are none.", "Try other days.")
	contains(t, s.html("/stats?tree=elsewhere", 200), "There are none.", "or another tree", `<a href="stats?from=2025-01-06&amp;to=2025-01-12&amp;tree=">All trees</a>`)
	contains(t, s.html("/stats?from=2025-01-12&to=2025-01-01", 200), "The first day is later than the last.")
	for _, edge := range []string{"from=0000-01-01&to=9999-12-31", "to=0000-01-01", "to=9999-12-31", "from=9999-12-31"} {
		s.html("/stats?"+edge, 200)
	}
}

func TestStatsSayWhatIsWrong(t *testing.T) {
	s := newSite(t)
	contains(t, s.html("/stats?from=yesterday", 400), "from: &#34;yesterday&#34; is not a day")
	contains(t, s.html("/stats?to=2025-02-29", 400), "to: &#34;2025-02-29&#34; is not a day")
	contains(t, s.html("/stats?tree=%00", 400), "NUL")
	s.html("/stats?from=%3Cscript%3E", 400)
	s.want("", "GET", "/stats?tree="+strings.Repeat("x", 201), "", 422, "")
}

func TestStatsEscapeWhatOthersHaveWritten(t *testing.T) {
	s := newSite(t)
	const evil = `"><script>alert(1)</script>`
	body := strings.Replace(checkoutBody, `"mainline"`, `"\`+evil+`"`, 1)
	s.create(s.bob, strings.Replace(body, `"kind":"checkout"`, `"kind":"job"`, 1))
	const escaped = "&#34;&gt;&lt;script&gt;alert(1)&lt;/script&gt;"
	contains(t, s.html("/stats", 200), escaped)
	contains(t, s.html("/stats?tree="+url.QueryEscape(evil), 200), escaped, "<th>job</th>")
}

func TestStatsShowTheTreesWithTheMostNodes(t *testing.T) {
	s := newSite(t)
	for i := range 52 {
		for range 1 + i/51 {
			s.create(s.bob, strings.NewReplacer(`"kind":"checkout"`, `"kind":"kbuild"`, `"mainline"`, fmt.Sprintf(`"tree-%02d"`, i)).Replace(checkoutBody))
		}
	}
	page := s.html("/stats", 200)
	contains(t, page, "And 2 trees with fewer nodes.", "tree-51", "tree-48")
	if strings.Contains(page, "tree-49") || strings.Index(page, "tree-51") > strings.Index(page, "tree-00") {
		t.Errorf("not those with the most nodes first:\n%s", page)
	}
}

func TestStatsAreMadeAnewAfterAWhileForEachQuestion(t *testing.T) {
	now := time.Now()
	s := newSite(t, func(o *api.Options) { o.Now = func() time.Time { return now } })
	contains(t, s.html("/stats", 200), "There are none.")
	s.create(s.bob, checkoutBody)
	contains(t, s.html("/stats", 200), "There are none.")
	contains(t, s.html("/stats?tree=mainline", 200), "<th>checkout</th>")
	now = now.Add(10 * time.Second)
	contains(t, s.html("/stats", 200), "<th>checkout</th>")
}
