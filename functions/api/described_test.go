package api_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/functions/api"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/user"
)

// trial sends requests that differ from a good one in one thing.
type trial struct {
	*site
	*description
	operation
	node   string          // to change, as long as nothing has
	made   int             // nodes
	judged map[string]bool // requests
}

// trials returns one trial of each operation, with what the examples name: the
// node that ids are of, and a group.
func trials(t *testing.T) []*trial {
	s := newSite(t, func(o *api.Options) {
		o.Logins = api.LoginLimits{Account: 1 << 40, Address: 1 << 40, Window: time.Minute}
		o.KeepAlive, o.PopWait = time.Millisecond, time.Millisecond
	})
	check(t, s.store.CreateGroup(t.Context(), user.Group{ID: thereID, Name: "x"}))
	n := s.create(s.admin, named("n"))
	n.ID = thereID
	_, err := s.store.Create(t.Context(), n)
	check(t, err)
	d := s.description()
	var all []*trial
	for _, o := range d.operations() {
		all = append(all, &trial{site: s, description: d, operation: o, judged: map[string]bool{}})
	}
	return all
}

// parameters are the operation's, by name and then by what it says of them.
func (r *trial) parameters(in string) []fields {
	var found []fields
	list, _ := r.fields["parameters"].([]any)
	for i, p := range list {
		p := maps.Clone(p.(fields))
		if p["in"] == in {
			p["place"] = r.place("parameters", fmt.Sprint(i), "schema")
			found = append(found, p)
		}
	}
	return found
}

// bodies are the types of the bodies that the operation takes, in order.
func (r *trial) bodies() (content fields, kinds []string) {
	body, _ := r.fields["requestBody"].(fields)
	content, _ = body["content"].(fields)
	return content, slices.Sorted(maps.Keys(content))
}

// request is a request of the operation.
type request struct {
	path  map[string]string
	query url.Values
	kind  string
	body  any
}

// usual is the good request.
func (r *trial) usual() request {
	usual := request{path: map[string]string{}, query: url.Values{}}
	for _, p := range r.parameters("path") {
		text, _ := asParameter(r.example(p["schema"].(fields), 0))
		usual.path[p["name"].(string)] = text
	}
	for _, p := range r.parameters("query") {
		if p["name"] == "limit" {
			usual.query.Set("limit", "1") // or the answers grow with each test
		}
	}
	if content, kinds := r.bodies(); len(kinds) > 0 {
		usual.kind = kinds[0]
		usual.body = r.example(content[kinds[0]].(fields)["schema"].(fields), 0)
		if usual.kind == urlencoded {
			asForm(&usual)
		}
	}
	return usual
}

// send sends a request; a node that it changes is a new one.
func (r *trial) send(q request) (int, string) {
	r.site.t.Helper()
	return r.sendBody(q, q.kind, encoded(r.site.t, q))
}

func (r *trial) sendBody(q request, kind, body string) (int, string) {
	r.site.t.Helper()
	path := r.operation.path
	for name, value := range q.path {
		if strings.Contains(path, "node") && r.method != http.MethodGet && value == thereID {
			value = r.fresh()
		}
		path = strings.ReplaceAll(path, "{"+name+"}", url.PathEscape(value))
	}
	if len(q.query) > 0 {
		path += "?" + q.query.Encode()
	}
	request, err := http.NewRequestWithContext(r.site.t.Context(), r.method, r.url+path, strings.NewReader(body))
	check(r.site.t, err)
	request.Header.Set("Authorization", "Bearer "+r.admin)
	if kind != "" {
		request.Header.Set("Content-Type", kind)
	}
	status, text := send(r.site.t, request)
	if status < 300 {
		r.node = ""
	}
	return status, text
}

// fresh returns the id of a node that nothing has changed.
func (r *trial) fresh() string {
	if r.node != "" {
		return r.node
	}
	r.made++
	n, err := r.store.Get(r.site.t.Context(), thereID)
	check(r.site.t, err)
	n.ID = node.DeriveID(thereID, r.operation.String(), fmt.Sprint(r.made))
	_, err = r.store.Create(r.site.t.Context(), n)
	check(r.site.t, err)
	r.node = string(n.ID)
	return r.node
}

const urlencoded = "application/x-www-form-urlencoded"

// asForm makes the values of a body texts; false when one has none.
func asForm(q *request) bool {
	form := fields{}
	given, ok := q.body.(fields)
	for name, value := range given {
		text, isText := asParameter(value)
		form[name], ok = text, ok && isText
	}
	q.body = form
	return ok
}

// encoded is the body of a request.
func encoded(t testing.TB, q request) string {
	t.Helper()
	switch q.kind {
	case "":
		return ""
	case urlencoded:
		form := url.Values{}
		for name, value := range q.body.(fields) {
			form.Set(name, value.(string))
		}
		return form.Encode()
	}
	text, err := json.Marshal(q.body)
	check(t, err)
	return string(text)
}

// judge compares the answer to a request with what the description says of it.
func (r *trial) judge(what string, allowed bool, q request) {
	r.site.t.Helper()
	key := fmt.Sprint(q)
	if r.judged[key] {
		return
	}
	r.judged[key] = true
	status, text := r.send(q)
	switch {
	case status >= 500:
		r.site.t.Errorf("%s, %s: %d %.300s", r.operation, what, status, text)
	case allowed && (status == 422 || status == 415) && !strings.Contains(text, "must be in the future") && !strings.Contains(text, "has yet to come"):
		r.site.t.Errorf("%s refuses what is allowed, %s: %d %.300s", r.operation, what, status, text)
	case !allowed && status < 400:
		r.site.t.Errorf("%s takes what is forbidden, %s: %d %.300s", r.operation, what, status, text)
	}
}

func TestWhatTheDescriptionForbidsIsRefused(t *testing.T) {
	for _, r := range trials(t) {
		t.Run(r.operation.String(), func(t *testing.T) {
			r.site.t, r.description.t = t, t
			r.judge("the example", true, r.usual())
			r.tryParameters()
			r.tryHostile()
			r.tryTwice()
			r.tryBodies()
			r.tryTypes()
			r.tryMethods()
		})
	}
}

// tryTwice gives a parameter twice. Of free filters the last one counts, as in
// KernelCI.
func (r *trial) tryTwice() {
	for _, p := range r.parameters("query") {
		name, schema := p["name"].(string), p["schema"].(fields)
		if text, ok := asParameter(r.example(schema, 0)); ok && (typeOf(schema) != "string" || schema["enum"] != nil) && typeOf(schema) != "" {
			q := r.usual()
			q.query[name] = []string{text, text}
			r.judge(name+" is there twice", false, q)
		}
	}
}

// tryTypes sends bodies of types that are not described, and none at all.
func (r *trial) tryTypes() {
	content, kinds := r.bodies()
	if len(kinds) == 0 {
		return
	}
	for _, kind := range []string{"application/json", urlencoded, "application/vnd.api+json", "text/json", "multipart/form-data; boundary=x", "text/plain", "x", "application/json, text/plain"} {
		if content[kind] == nil {
			q := r.usual()
			status, text := r.sendBody(q, kind, encoded(r.site.t, q))
			if status != http.StatusUnsupportedMediaType {
				r.site.t.Errorf("%s of type %s: %d %.300s", r.operation, kind, status, text)
			}
		}
	}
	status, text := r.sendBody(r.usual(), kinds[0], "")
	if required := r.fields["requestBody"].(fields)["required"] == true; required && status != 422 || status >= 500 {
		r.site.t.Errorf("%s without a body: %d %.300s", r.operation, status, text)
	}
}

// tryMethods calls the path by methods that it is not described with.
func (r *trial) tryMethods() {
	item := r.root["paths"].(fields)[r.operation.path].(fields)
	for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"} {
		if item[strings.ToLower(method)] == nil {
			other := *r
			other.method = method
			if status, text := other.send(request{path: r.usual().path}); status != http.StatusMethodNotAllowed {
				r.site.t.Errorf("%s %s: %d %.300s", method, r.operation.path, status, text)
			}
		}
	}
}

func (r *trial) tryParameters() {
	for _, in := range []string{"path", "query"} {
		for _, p := range r.parameters(in) {
			name, schema, place := p["name"].(string), p["schema"].(fields), p["place"].(string)
			for _, v := range r.variants(schema, 0) {
				text, ok := asParameter(v.value)
				if !ok || in == "path" && text == "" {
					continue
				}
				q := r.usual()
				if in == "path" {
					q.path[name] = text
				} else {
					q.query.Set(name, text)
				}
				r.judge(fmt.Sprintf("%s parameter %s=%q", in, name, text), r.allowsText(place, text), q)
			}
		}
	}
}

// tryHostile sends what no text may be, or is too long, as each parameter.
func (r *trial) tryHostile() {
	for _, in := range []string{"path", "query"} {
		for _, p := range r.parameters(in) {
			for _, text := range []string{"a\x00b", "\xff\xfe", "..", "%", "{}", strings.Repeat("x", 40_000)} {
				q := r.usual()
				if in == "path" {
					q.path[p["name"].(string)] = text
				} else {
					q.query.Set(p["name"].(string), text)
				}
				if status, answer := r.send(q); status >= 500 {
					r.site.t.Errorf("%s, %s parameter %s=%.40q: %d %.300s", r.operation, in, p["name"], text, status, answer)
				}
			}
		}
	}
}

func (r *trial) tryBodies() {
	content, kinds := r.bodies()
	for _, kind := range kinds {
		for _, v := range r.variants(content[kind].(fields)["schema"].(fields), 0) {
			q := r.usual()
			q.kind, q.body = kind, v.value
			if kind == urlencoded && !asForm(&q) {
				continue
			}
			allowed := r.allows(r.place("requestBody", "content", kind, "schema"), q.body)
			if allowed && len(v.at) > 2 {
				continue // it is sent as a node, and to write it as a part of a hierarchy takes long
			}
			r.judge(v.String(), allowed, q)
		}
	}
}
