package api_test

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/functions/api"
	"github.com/kernelflow/kernelflow/shared/node"
)

// html gets a page and holds it to what is true of all.
func (s *site) html(path string, status int) string {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), "GET", s.url+path, nil)
	check(s.t, err)
	response, text := respond(s.t, r)
	h := response.Header
	policy := h.Get("Content-Security-Policy")
	if response.StatusCode != status || h.Get("Content-Type") != "text/html; charset=utf-8" ||
		!strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "script-src") {
		s.t.Errorf("%s: %d, %s, %s", path, response.StatusCode, h.Get("Content-Type"), policy)
	}
	for _, bad := range []string{"<script", "<img", "<link", `href="javascript:`, "ZgotmplZ", "%!"} {
		if strings.Contains(text, bad) {
			s.t.Errorf("%s has %s:\n%s", path, bad, text)
		}
	}
	return text
}

// contains wants all parts in a page.
func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("no %s in\n%s", part, text)
		}
	}
}

func TestViewerShowsANodeAndWhatIsAroundIt(t *testing.T) {
	s := newSite(t)
	root := s.create(s.bob, strings.Replace(checkoutBody, `"branch"`, `"describe":"v6.1-rc2","branch"`, 1))
	build := s.create(s.bob, fmt.Sprintf(`{"kind":"kbuild","name":"kbuild-gcc","path":["checkout","kbuild-gcc"],"parent":%q,"result":"fail","state":"done",
		"artifacts":{"log":"https://x.example.org/log?a=1&b=2"},"created":"2025-01-12T08:00:00+01:00","data":{"arch":"arm64","defconfig":"defconfig",
		"compiler":"gcc-12","platform":"board","runtime":"lab","error_code":"kbuild_internal_error","error_msg":"no space","fail_node":%[1]q}}`, root.ID))
	s.create(s.bob, fmt.Sprintf(`{"kind":"test","name":"a test","path":["checkout","kbuild-gcc","a test"],"parent":%q,"result":"skip"}`, build.ID))

	page := s.html("/viewer?node_id="+string(build.ID), 200)
	contains(t, page, "<h1>kbuild-gcc</h1>", "<td>kbuild</td>", "<td>done</td>", `<b class="fail">fail</b>`, "arm64", "gcc-12", "board", "lab",
		"kbuild_internal_error", "no space", "2025-01-12 07:00:00 UTC", ">a test</a>", `<b class="skip">skip</b>`,
		`<a rel="noreferrer" href="https://x.example.org/log?a=1&amp;b=2">log</a>`, `href="node/`+string(build.ID)+`"`, `href="viewer?treeid=t1"`,
		`<a href="viewer?node_id=`+string(root.ID)+`">checkout</a> / `, `<tr><th>fail_node</th><td><a href="viewer?node_id=`+string(root.ID)+`">`)
	page = s.html("/viewer?node_id="+strings.ToUpper(string(root.ID)), 200)
	contains(t, page, "mainline/master v6.1-rc2", "<code>abc</code>", `<a rel="noreferrer" href="https://git.example.org/linux.git">`, "none yet",
		`<a href="viewer?node_id=`+string(build.ID)+`">kbuild-gcc</a>`)
}

func TestViewerAnswersUnderEveryPrefix(t *testing.T) {
	s := newSite(t)
	n := s.create(s.bob, checkoutBody)
	link := regexp.MustCompile(`href="(node/[^"]*)"`)
	for _, prefix := range []string{"/latest", "/v0", ""} {
		page := s.html(prefix+"/viewer?node_id="+string(n.ID), 200)
		s.html(prefix+"/dashboard", 200)
		s.want("", "GET", prefix+"/"+link.FindStringSubmatch(page)[1], "", 200, "")
	}
}

func TestViewerEscapesWhatOthersHaveWritten(t *testing.T) {
	s := newSite(t)
	const evil = `\"><script>alert(1)</script><img src=x>`
	root := s.create(s.bob, strings.NewReplacer(`"t1"`, `"`+evil+`"`, "master", evil, "https://git.example.org/linux.git", "javascript:alert(1)").Replace(checkoutBody))
	n := s.create(s.bob, fmt.Sprintf(`{"kind":"job","name":"%s","path":["%[1]s"],"parent":%q,"artifacts":{"%[1]s":"https://x.example.org/log"},
		"data":{"error_msg":"%[1]s","runtime":"%[1]s","job_id":["%[1]s"]}}`, evil, root.ID))
	const escaped = "&#34;&gt;&lt;script&gt;alert(1)&lt;/script&gt;"
	for _, path := range []string{
		"/viewer?node_id=" + string(n.ID), "/viewer?node_id=" + string(root.ID), "/viewer?treeid=" + url.QueryEscape(root.TreeID), "/dashboard",
	} {
		contains(t, s.html(path, 200), escaped)
	}
	s.html("/viewer?node_id=%3Cscript%3E", 400)
	s.html("/viewer?treeid=t&after=%3Cscript%3E", 400)
	s.html("/viewer?treeid=%3Cscript%3E", 200)
}

func TestViewerLinksTheWebAlone(t *testing.T) {
	s := newSite(t)
	for _, address := range []string{"git://git.example.org/linux.git", "javascript:alert(1)", "https:linux.git"} {
		n := s.create(s.bob, strings.Replace(checkoutBody, "https://git.example.org/linux.git", address, 1))
		contains(t, s.html("/viewer?node_id="+string(n.ID), 200), "<td>"+address+"</td>")
	}
}

func TestViewerSaysWhatIsWrong(t *testing.T) {
	s := newSite(t)
	contains(t, s.html("/viewer?node_id="+unknownID, 404), "no node has the id "+unknownID)
	contains(t, s.html("/viewer?node_id=zz", 400), "not a valid ObjectId")
	contains(t, s.html("/viewer?treeid=%00", 400), "NUL")
	contains(t, s.html("/viewer?treeid=t1&after=x", 400), "not the next of a page")
	s.want("", "GET", "/viewer?treeid="+strings.Repeat("x", 201), "", 422, "")
}

func TestViewerAsksForAnID(t *testing.T) {
	s := newSite(t)
	for _, path := range []string{"/viewer", "/viewer?node_id=&treeid="} {
		contains(t, s.html(path, 200), `<form action="viewer">`, `name="node_id"`, `name="treeid"`)
	}
}

func TestViewerBoundsTheChildren(t *testing.T) {
	s := newSite(t)
	root := s.create(s.bob, checkoutBody)
	for i := range 203 {
		s.below(root.ID, i)
	}
	page := s.html("/viewer?node_id="+string(root.ID), 200)
	if n := strings.Count(page, "<td>test</td>"); n != 200 {
		t.Errorf("%d children", n)
	}
	contains(t, page, "And 3 more", `href="nodes?parent=`+string(root.ID)+`"`)
}

// below stores a test, one of many.
func (s *site) below(parent node.ID, i int) node.ID {
	s.t.Helper()
	id := node.DeriveID(parent, fmt.Sprint(i))
	n := node.Node{ID: id, Kind: node.KindTest, Name: fmt.Sprintf("t%03d", i), Path: []string{"t"}, Parent: parent, TreeID: "t1"}
	n.SetDefaults(time.Now())
	_, err := s.store.Create(s.t.Context(), n)
	check(s.t, err)
	return id
}

func TestViewerBoundsTheAncestors(t *testing.T) {
	s := newSite(t)
	id := s.create(s.bob, checkoutBody).ID
	for i := range 40 {
		id = s.below(id, i)
	}
	page := s.html("/viewer?node_id="+string(id), 200)
	contains(t, page, "<p>… / <a ", ">t007</a> / <a ", ">t038</a> / </p>")
	if strings.Contains(page, ">t006<") {
		t.Errorf("all the way up:\n%s", page)
	}
}

func TestViewerListsATreePageByPage(t *testing.T) {
	s := newSite(t)
	root := s.create(s.bob, checkoutBody)
	for i := range 150 {
		s.below(root.ID, i)
	}
	s.create(s.bob, named("elsewhere"))
	next := regexp.MustCompile(`href="(viewer\?treeid=t1&amp;after=[^"]+)"`)
	first := s.html("/latest/viewer?treeid=t1", 200)
	link := next.FindStringSubmatch(first)
	if link == nil {
		t.Fatalf("no next page in\n%s", first)
	}
	contains(t, first, "151 nodes", ">t098</a>")
	second := s.html("/latest/"+strings.ReplaceAll(link[1], "&amp;", "&"), 200)
	contains(t, second, "151 nodes", ">t099</a>", ">t149</a>")
	if next.MatchString(second) || strings.Contains(second, "t098") || strings.Contains(first+second, "elsewhere") {
		t.Errorf("another page, or nodes of the first or of another tree:\n%s", second)
	}
}

func TestDashboardCountsBuildsAndJobsOfTheNewestCheckouts(t *testing.T) {
	now := time.Now()
	s := newSite(t, func(o *api.Options) { o.Now = func() time.Time { return now } })
	var last node.Node
	for i := range 52 {
		body := strings.NewReplacer(`"t1"`, fmt.Sprintf(`"tree-%d"`, i), `"abc"`, fmt.Sprintf(`"c0ffee%02d"`, i)).Replace(checkoutBody)
		last = s.create(s.bob, body)
	}
	for i, result := range []string{`"pass"`, `"pass"`, `"fail"`, "null"} {
		build := s.create(s.bob, fmt.Sprintf(`{"kind":"kbuild","name":"b%d","path":["b"],"parent":%q,"result":%s}`, i, last.ID, result))
		s.create(s.bob, fmt.Sprintf(`{"kind":"job","name":"j","path":["j"],"parent":%q,"result":"incomplete"}`, build.ID))
	}
	now = now.Add(3 * time.Hour)
	page := s.html("/dashboard", 200)
	contains(t, page, "<p>The newest 50, at ", `<a href="viewer?node_id=`+string(last.ID)+`">mainline/master c0ffee51</a>`, "c0ffee02", "<td>3 h</td>",
		`<td><b class="pass">2&nbsp;pass</b> <b class="fail">1&nbsp;fail</b> 1&nbsp;open </td><td><b class="incomplete">4&nbsp;incomplete</b> </td>`)
	if strings.Contains(page, "c0ffee01") || strings.Index(page, "c0ffee51") > strings.Index(page, "c0ffee50") {
		t.Errorf("not the newest ones first:\n%s", page)
	}
}

func TestDashboardIsMadeAnewAfterAWhile(t *testing.T) {
	now := time.Now()
	s := newSite(t, func(o *api.Options) { o.Now = func() time.Time { return now } })
	contains(t, s.html("/dashboard", 200), "The newest 0")
	s.create(s.bob, checkoutBody)
	contains(t, s.html("/dashboard", 200), "The newest 0")
	now = now.Add(10 * time.Second)
	contains(t, s.html("/dashboard", 200), "The newest 1")
}
