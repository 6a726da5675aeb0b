package api_test

import (
	"crypto/sha256"
	"encoding/base64"
	"html"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/kernelflow/kernelflow/shared/user"
)

// whole gets an answer to the last byte, and its header.
func (s *site) whole(path string) (string, http.Header) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), "GET", s.url+path, nil)
	check(s.t, err)
	response, err := http.DefaultClient.Do(r)
	check(s.t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	check(s.t, err)
	if response.StatusCode != 200 {
		s.t.Errorf("%s: %d", path, response.StatusCode)
	}
	return string(text), response.Header
}

func TestManageIsAPageWithOneScriptKnownByItsHash(t *testing.T) {
	s := newSite(t)
	for _, prefix := range []string{"/latest", "/v0", ""} {
		page, header := s.whole(prefix + "/manage")
		script, scriptHeader := s.whole(prefix + "/manage.js")
		sum := sha256.Sum256([]byte(script))
		hash := "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
		const policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'; connect-src 'self'; script-src '"
		if got := header.Get("Content-Security-Policy"); got != policy+hash+"'" || header.Get("Cache-Control") != "no-store" {
			t.Errorf("policy %s", got)
		}
		if got := scriptHeader.Get("Content-Type"); got != "text/javascript; charset=utf-8" {
			t.Errorf("the script is %s", got)
		}
		contains(t, html.UnescapeString(page), `<script src="manage.js" integrity="`+hash+`"`, "<noscript>")
		if strings.Count(page, "<script") != 1 || regexp.MustCompile(`\son[a-z]+=|href="(https?:)?//|src="(https?:)?//|javascript:`).MatchString(page) {
			t.Errorf("another script, or something from elsewhere:\n%s", page)
		}
	}
}

func TestManageAsksForRoutesThatThereAre(t *testing.T) {
	s := newSite(t)
	script, _ := s.whole("/manage.js")
	var routes []string
	for _, o := range s.description().operations() {
		routes = append(routes, regexp.MustCompile(`\{[^}]*\}`).ReplaceAllString(o.String(), "{}"))
	}
	// A path that goes on with an id ends in a slash.
	calls := regexp.MustCompile(`ask\("([A-Z]+)", "([^"?]+)`).FindAllStringSubmatch(script, -1)
	if all := strings.Count(script, "await ask("); len(calls) != all || all < 12 {
		t.Errorf("%d calls of %d can be read", len(calls), all)
	}
	for _, call := range calls {
		path := call[2]
		if strings.HasSuffix(path, "/") {
			path += "{}"
		}
		if route := call[1] + " /" + path; !slices.Contains(routes, route) {
			t.Errorf("there is no %s", route)
		}
	}
}

func TestManageFindsOnThePageWhatItLooksFor(t *testing.T) {
	s := newSite(t)
	page, _ := s.whole("/manage")
	script, _ := s.whole("/manage.js")
	found := 0
	for _, m := range regexp.MustCompile(`(?:section\("|["(,]#)([a-z]+)`).FindAllStringSubmatch(script, -1) {
		contains(t, page, `id="`+m[1]+`"`)
		found++
	}
	for _, m := range regexp.MustCompile(`\[name=([a-z]+)\]|fields\.(?:get|getAll|has)\("([a-z_]+)"\)`).FindAllStringSubmatch(script, -1) {
		if name := m[1] + m[2]; name != "groups" { // which the script makes itself
			contains(t, page, `name="`+name+`"`)
			found++
		}
	}
	if found < 30 {
		t.Errorf("only %d of them are looked at", found)
	}
}

func TestManagePutsNothingInAsMarkupAndStoresNothing(t *testing.T) {
	script, _ := newSite(t).whole("/manage.js")
	for _, bad := range []string{"innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "Function(", "Storage", "cookie", "indexedDB", "location", "http:", "https:", "console."} {
		if strings.Contains(script, bad) {
			t.Errorf("the script has %s", bad)
		}
	}
}

func TestManageTellsWhatEachScopeIsFor(t *testing.T) {
	page, _ := newSite(t).whole("/manage")
	for _, scope := range user.Scopes {
		if !regexp.MustCompile(`value="` + string(scope) + `">` + string(scope) + `: [a-z ]{10,}</label>`).MatchString(page) {
			t.Errorf("nothing of %s", scope)
		}
	}
	if strings.Count(page, `class="tick" data-admin>`) != 1 {
		t.Errorf("not the admin's scope alone is for admins:\n%s", page)
	}
}
