package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/user"
)

// object reads a JSON object.
func object(t testing.TB, text string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return m
}

const unknownID = "65f0000000000000000000ff"

func TestAnotherVersionIsRefusedAsText(t *testing.T) {
	s := newSite(t)
	for _, version := range []string{"v1", "v2.3", "v00"} {
		s.want(s.bob, "GET", "/"+version+"/nodes", "", 400, "Unsupported API version: "+version)
	}
	s.want("", "GET", "/viewers", "", 404, `{"detail":"Not Found"}`) // no version at all
}

func TestAWrongMethodIsToldTheRightOnes(t *testing.T) {
	s := newSite(t)
	for _, tc := range []struct{ method, path, allow string }{
		{"DELETE", "/latest/nodes", "GET, HEAD"},
		{"PUT", "/nodes/fast", "GET, HEAD"},
		{"POST", "/v0/nodes/fast", "GET, HEAD"},
		{"DELETE", "/latest/node/" + unknownID, "GET, HEAD, PATCH, PUT"},
		{"GET", "/latest/node", "POST"},
		{"POST", "/healthz", "GET, HEAD"},
		{"TRACE", "/latest/count", "GET, HEAD"},
		{"BREW", "/docs", "GET, HEAD"},
	} {
		r, err := http.NewRequestWithContext(t.Context(), tc.method, s.url+tc.path, nil)
		check(t, err)
		response, text := respond(t, r)
		if response.StatusCode != 405 || response.Header.Get("Allow") != tc.allow || text != `{"detail":"Method Not Allowed"}` {
			t.Errorf("%s %s: %d, Allow: %q, %s", tc.method, tc.path, response.StatusCode, response.Header.Get("Allow"), text)
		}
	}
}

func TestTimesComeInAnyISOFormAndGoOutInOne(t *testing.T) {
	s := newSite(t)
	for in, out := range map[string]string{
		"2025-01-12T08:00:00":              "2025-01-12T08:00:00.000000",
		"2025-01-12 08:00:00.5":            "2025-01-12T08:00:00.500000",
		"2025-01-12T08:00:00Z":             "2025-01-12T08:00:00.000000",
		"2025-01-12T08:00:00+02:00":        "2025-01-12T06:00:00.000000",
		"2025-01-12 08:00:00.123456-01:30": "2025-01-12T09:30:00.123456",
		"2025-01-12":                       "2025-01-12T00:00:00.000000",
	} {
		body := fmt.Sprintf(`{"name":"n","path":["n"],"timeout":%q,"holdoff":%q,"created":%q}`, in, in, in)
		got := object(t, s.want(s.bob, "POST", "/latest/node", body, 200, ""))
		for _, field := range []string{"timeout", "holdoff", "created"} {
			if got[field] != out {
				t.Errorf("%s %q became %v", field, in, got[field])
			}
		}
	}
}

func TestGetNode(t *testing.T) {
	s := newSite(t)
	n := s.create(s.bob, checkoutBody)
	path := "/latest/node/" + string(n.ID)
	got := s.want("", "GET", path, "", 200, "")
	if object(t, got)["id"] != string(n.ID) || object(t, got)["_id"] != nil {
		t.Errorf("%s", got)
	}
	s.want("", "GET", "/latest/node/"+strings.ToUpper(string(n.ID)), "", 200, got)
	s.want("", "GET", "/latest/node/"+unknownID, "", 200, "null")
	for _, id := range []string{"x", unknownID + "0", strings.Repeat("g", 24), "%00", "..%2f", "null"} {
		status, text := s.call("", "GET", "/latest/node/"+id, "")
		if status != 400 || !strings.Contains(text, "is not a valid ObjectId") {
			t.Errorf("%s: %d %s", id, status, text)
		}
	}
	// kci-dev sends its token bare, and to routes that need none.
	r, err := http.NewRequestWithContext(t.Context(), "GET", s.url+path, nil)
	check(t, err)
	r.Header.Set("Authorization", "no-token-of-ours")
	if status, text := send(t, r); status != 200 || text != got {
		t.Errorf("with a bare token: %d %s", status, text)
	}
}

func TestPostNode(t *testing.T) {
	s := newSite(t)
	got := object(t, s.want(s.bob, "POST", "/latest/node", `{"name":"n","path":["n"]}`, 200, ""))
	for field, want := range map[string]any{
		"kind": "node", "name": "n", "group": nil, "parent": nil, "state": "running", "result": nil, "jobfilter": nil, "holdoff": nil,
		"owner": "bob", "submitter": nil, "treeid": nil, "processed_by_kcidb_bridge": false, "retry_counter": 0.0,
	} {
		if value, there := got[field]; !there || value != want {
			t.Errorf("%s: %v, want %v", field, value, want)
		}
	}
	for _, field := range []string{"artifacts", "data", "debug"} {
		if m, ok := got[field].(map[string]any); !ok || len(m) != 0 {
			t.Errorf("%s: %v", field, got[field])
		}
	}
	for _, field := range []string{"platform_filter", "user_groups"} {
		if l, ok := got[field].([]any); !ok || len(l) != 0 {
			t.Errorf("%s: %v", field, got[field])
		}
	}
	created, err := time.Parse(node.TimeLayout, got["created"].(string))
	check(t, err)
	timeout, err := time.Parse(node.TimeLayout, got["timeout"].(string))
	check(t, err)
	if timeout.Sub(created) != 6*time.Hour {
		t.Errorf("timeout after %s", timeout.Sub(created))
	}
	for _, tc := range []struct {
		body   string
		status int
		answer string
	}{
		{`{"name":"n","path":["n"],"owner":"eve","unknown":{"kept":false}}`, 200, ""},
		{`{"name":"n","path":["n"],"id":"` + unknownID + `"}`, 400, `{"detail":"Object cannot be created with id: ` + unknownID + `"}`},
		{`{"name":"n","path":["n"],"_id":"` + unknownID + `"}`, 400, `{"detail":"Object cannot be created with id: ` + unknownID + `"}`},
		{`{"name":"n","path":["n"],"parent":"` + unknownID + `"}`, 404, `{"detail":"Parent not found with id: ` + unknownID + `"}`},
		{`{"name":"n","path":["n"],"user_groups":["none"]}`, 400, `{"detail":"User group does not exist with name: none"}`},
		{`{"name":"n","path":["n"],"kind":"banana"}`, 400, `{"detail":"Unsupported node kind: banana"}`},
		{`{"name":"n","path":["n"],"state":"asleep"}`, 422, ""},
		{`{"name":"n","path":["n"],"result":"maybe"}`, 422, ""},
		{`{"name":"n","path":[]}`, 422, ""},
		{`{"name":"n"}`, 422, `{"detail":[{"loc":["body","path"],"msg":"Field required","type":"missing"}]}`},
		{`{"name":"n","path":["n",3]}`, 422, `{"detail":[{"loc":["body","path",1],"msg":"expected string","type":"value_error"}]}`},
		{`{"name":"n","path":["n"],"artifacts":{"log":"file:///etc/passwd"}}`, 422, ""},
	} {
		text := s.want(s.bob, "POST", "/latest/node", tc.body, tc.status, tc.answer)
		if n := object(t, text); tc.status == 200 && (n["owner"] != "bob" || n["unknown"] != nil) {
			t.Errorf("%s became %s", tc.body, text)
		}
	}
	check(t, s.store.CreateGroup(t.Context(), user.Group{ID: "65f0000000000000000000e1", Name: "lab"}))
	twice := object(t, s.want(s.bob, "POST", "/latest/node", `{"name":"n","path":["n"],"user_groups":["lab","lab"]}`, 200, ""))
	if groups := twice["user_groups"].([]any); len(groups) != 1 {
		t.Errorf("groups are not unique: %v", groups)
	}
}

func TestPutNode(t *testing.T) {
	s := newSite(t)
	n := s.create(s.bob, checkoutBody)
	path := "/latest/node/" + string(n.ID)
	sent := object(t, s.want("", "GET", path, "", 200, ""))
	for field, value := range map[string]any{
		"id": unknownID, "created": "2000-01-01", "owner": "eve", "submitter": "eve", "user_groups": []string{"eve"},
		"name": "renamed", "debug": map[string]any{"x": 1.0}, "result": "pass", "state": "available",
	} {
		sent[field] = value
	}
	body, err := json.Marshal(sent)
	check(t, err)
	got := object(t, s.want(s.bob, "PUT", path, string(body), 200, ""))
	if got["id"] != string(n.ID) || got["created"] != node.FormatTime(n.Created) || got["owner"] != "bob" || got["submitter"] != nil ||
		len(got["user_groups"].([]any)) != 0 || got["name"] != "renamed" || got["result"] != "pass" || got["updated"] == sent["updated"] {
		t.Errorf("%v", got)
	}
	sent["parent"] = string(n.ID)
	body, err = json.Marshal(sent)
	check(t, err)
	s.want(s.bob, "PUT", path, string(body), 400, `{"detail":"Parent cannot be the same as the object"}`)
	s.want(s.bob, "PUT", "/latest/node/"+unknownID, string(body), 404, `{"detail":"Node not found with id: `+unknownID+`"}`)
	s.want(s.bob, "PUT", "/latest/node/x", string(body), 400, "")
	s.want("", "PUT", path, string(body), 401, `{"detail":"Unauthorized"}`)
}

func TestOnlyAllowedTransitionsOfState(t *testing.T) {
	s := newSite(t)
	allowed := map[node.State][]node.State{
		node.Running: {node.Running, node.Available, node.Closing, node.Done}, node.Available: {node.Available, node.Closing, node.Done},
		node.Closing: {node.Closing, node.Done}, node.Done: {node.Done},
	}
	for from, to := range allowed {
		for _, state := range node.States {
			n := s.create(s.bob, fmt.Sprintf(`{"name":"n","path":["n"],"state":%q}`, from))
			status, answer := 200, ""
			if !slices.Contains(to, state) {
				status, answer = 400, fmt.Sprintf(`{"detail":"Transition not allowed with state: %s"}`, state)
			}
			s.want(s.bob, "PATCH", "/latest/node/"+string(n.ID), fmt.Sprintf(`{"state":%q}`, state), status, answer)
			m := s.create(s.bob, fmt.Sprintf(`{"name":"n","path":["n"],"state":%q}`, from))
			s.want(s.bob, "PUT", "/latest/node/"+string(m.ID), fmt.Sprintf(`{"name":"n","path":["n"],"state":%q}`, state), status, answer)
			m = s.create(s.bob, fmt.Sprintf(`{"name":"n","path":["n"],"state":%q}`, from))
			s.want(s.bob, "PUT", "/latest/nodes/"+string(m.ID), fmt.Sprintf(`{"node":{"name":"n","path":["n"],"state":%q},"child_nodes":[]}`, state), status, answer)
		}
	}
}

func TestPutResetsProcessedByKCIDBUnlessItFlipsIt(t *testing.T) {
	s := newSite(t)
	for _, tc := range []struct {
		before, sent bool
		state        string
		after        bool
	}{
		{false, false, "running", false}, {false, true, "running", true}, {true, true, "running", false}, {true, false, "running", false},
		{false, true, "done", false}, {true, true, "done", false},
	} {
		n := s.create(s.bob, fmt.Sprintf(`{"name":"n","path":["n"],"processed_by_kcidb_bridge":%t}`, tc.before))
		body := fmt.Sprintf(`{"name":"n","path":["n"],"state":%q,"processed_by_kcidb_bridge":%t}`, tc.state, tc.sent)
		got := object(t, s.want(s.bob, "PUT", "/latest/node/"+string(n.ID), body, 200, ""))
		if got["processed_by_kcidb_bridge"] != tc.after {
			t.Errorf("%+v: %v", tc, got["processed_by_kcidb_bridge"])
		}
	}
}

func TestPatchNode(t *testing.T) {
	s := newSite(t)
	n := s.create(s.bob, checkoutBody)
	path := "/latest/node/" + string(n.ID)
	for _, tc := range []struct{ field, value, want string }{
		{"state", `"available"`, `"available"`}, {"result", `"pass"`, `"pass"`}, {"result", `null`, `null`},
		{"artifacts", `{"log":"https://x.example.org/l?a=b"}`, `{"log":"https://x.example.org/l?a=b"}`},
		{"data", `{"own":[1,"x",{"deep":null}]}`, `{"own":[1,"x",{"deep":null}]}`}, {"debug", `{"x":true}`, `{"x":true}`},
		{"jobfilter", `["kver","kbuild+"]`, `["kver","kbuild+"]`}, {"jobfilter", `null`, `null`}, {"platform_filter", `["qemu"]`, `["qemu"]`},
		{"timeout", `"2031-01-01"`, `"2031-01-01T00:00:00.000000"`}, {"holdoff", `"2031-01-01T00:00:00Z"`, `"2031-01-01T00:00:00.000000"`},
		{"holdoff", `null`, `null`}, {"processed_by_kcidb_bridge", `true`, `true`},
	} {
		var got map[string]json.RawMessage
		check(t, json.Unmarshal([]byte(s.want(s.bob, "PATCH", path, fmt.Sprintf(`{%q:%s}`, tc.field, tc.value), 200, "")), &got))
		if string(got[tc.field]) != tc.want {
			t.Errorf("%s %s became %s", tc.field, tc.value, got[tc.field])
		}
		if string(got["name"]) != `"checkout"` || string(got["treeid"]) != `"t1"` {
			t.Errorf("%s changed more: %s", tc.field, got)
		}
	}
	for _, field := range []string{"state", "artifacts", "data", "debug", "platform_filter", "timeout", "processed_by_kcidb_bridge"} {
		s.want(s.bob, "PATCH", path, fmt.Sprintf(`{%q:null}`, field), 422, fmt.Sprintf(`{"detail":[{"loc":["body",%q],"msg":"must not be null","type":"value_error"}]}`, field))
	}
	for _, nothing := range []string{`{}`, `{"name":"n"}`, `{"owner":"eve"}`} {
		s.want(s.bob, "PATCH", path, nothing, 400, `{"detail":"No fields to update"}`)
	}
	s.want(s.bob, "PATCH", "/latest/node/"+unknownID, `{"result":"pass"}`, 404, `{"detail":"Node not found with id: `+unknownID+`"}`)
	s.want(s.bob, "PATCH", "/latest/node/x", `{"result":"pass"}`, 400, "")
	s.want("", "PATCH", path, `{"result":"pass"}`, 401, `{"detail":"Unauthorized"}`)
}

func TestNoEventIsTheCallersChoice(t *testing.T) {
	s := newSite(t)
	n := s.create(s.bob, named("n"))
	path, put := "/latest/node/"+string(n.ID), named("n")
	for _, tc := range []struct {
		method, query, body string
		events              int64
	}{
		{"PATCH", "", `{"result":"pass"}`, 1}, {"PATCH", "?noevent=true", `{"result":"fail"}`, 0}, {"PATCH", "?noevent=false", `{"result":"skip"}`, 1},
		{"PUT", "", put, 1}, {"PUT", "?noevent=true", put, 0}, {"PUT", "?noevent=1", put, 0},
	} {
		before, err := s.store.LastSequence(t.Context())
		check(t, err)
		s.want(s.bob, tc.method, path+tc.query, tc.body, 200, "")
		if after, err := s.store.LastSequence(t.Context()); err != nil || after-before != tc.events {
			t.Errorf("%s%s: %d events, %v", tc.method, tc.query, after-before, err)
		}
	}
	s.want(s.bob, "PATCH", path+"?noevent=perhaps", `{"result":"pass"}`, 422, "")
}

func TestPutNodesTakesAHierarchy(t *testing.T) {
	s := newSite(t)
	root := s.create(s.bob, strings.Replace(checkoutBody, `"treeid"`, `"submitter":"service:pipeline","treeid"`, 1))
	before, err := s.store.LastSequence(t.Context())
	check(t, err)
	body := `{"node":{"kind":"checkout","name":"checkout","path":["checkout"],"state":"done","result":"fail","treeid":"t1"},"child_nodes":[
		{"node":{"kind":"test","name":"suite","path":["checkout","suite"],"owner":"eve","submitter":"eve","treeid":"other","state":"done","result":"fail"},"child_nodes":[
			{"node":{"kind":"test","name":"case","state":"done","result":"fail"},"child_nodes":[]}]},
		{"node":{"kind":"test","name":"other","state":"done","result":"pass"}}]}`
	path := "/latest/nodes/" + string(root.ID)
	var got []node.Node
	check(t, json.Unmarshal([]byte(s.want(s.bob, "PUT", path, body, 200, "")), &got))
	if len(got) != 4 || got[0].ID != root.ID || got[0].State != node.Done || got[1].Parent != root.ID || got[2].Parent != got[1].ID || got[3].Parent != root.ID {
		t.Fatalf("%+v", got)
	}
	for _, n := range got[1:] {
		if n.Owner != "bob" || n.Submitter != "service:pipeline" || n.TreeID != "t1" {
			t.Errorf("not inherited: %+v", n)
		}
	}
	if !slices.Equal(got[2].Path, []string{"checkout", "suite", "case"}) {
		t.Errorf("path %v", got[2].Path)
	}
	events, _, err := s.store.After(t.Context(), before, eventFilter, 10)
	check(t, err)
	if len(events) != 1 {
		t.Fatalf("%d events", len(events))
	}
	if p, err := events[0].Node(); err != nil || !p.IsHierarchy || p.Op != event.Updated || p.ID != root.ID {
		t.Errorf("%+v, %v", p, err)
	}
	s.want(s.bob, "PUT", "/latest/nodes/"+unknownID, body, 404, `{"detail":"Node not found with id: `+unknownID+`"}`)
	s.want(s.bob, "PUT", "/latest/nodes/x", body, 400, "")
	s.want("", "PUT", path, body, 401, `{"detail":"Unauthorized"}`)
}

// cases is a hierarchy with so many descendants below a root.
func cases(count int, last string) string {
	var b strings.Builder
	b.WriteString(`{"node":{"kind":"job","name":"job","path":["job"],"state":"done","result":"pass"},"child_nodes":[`)
	for i := range count {
		if i > 0 {
			b.WriteString(",")
		}
		name := fmt.Sprintf("case-%d", i)
		if i == count-1 {
			name = last
		}
		fmt.Fprintf(&b, `{"node":{"kind":"test","name":%q,"path":["job",%[1]q],"state":"done","result":"pass"},"child_nodes":[]}`, name)
	}
	return b.String() + `]}`
}

func TestTenThousandDescendantsAreAllOrNothingAndDoubleNothing(t *testing.T) {
	for _, backend := range backends {
		t.Run(backend.name, func(t *testing.T) {
			if backend.name == "mongo" && os.Getenv("CI_REQUIRE_SERVERS") == "" {
				t.Skip("CI_REQUIRE_SERVERS is not set: FerretDB takes long for so many")
			}
			tenThousand(t, backend.site(t))
		})
	}
}

func tenThousand(t *testing.T, s *site) {
	const count = 10_000
	root := s.create(s.bob, `{"kind":"job","name":"job","path":["job"]}`)
	path := "/latest/nodes/" + string(root.ID)
	last := func() int64 {
		_, err := s.store.Collect(t.Context())
		check(t, err)
		sequence, err := s.store.LastSequence(t.Context())
		check(t, err)
		return sequence
	}
	before := last()
	// The last one is no node: nobody sees any of them.
	text := s.want(s.bob, "PUT", path, cases(count, ""), 422, "")
	if !strings.Contains(text, fmt.Sprintf(`"loc":["body","child_nodes",%d,"node","name"]`, count-1)) {
		t.Errorf("the fault is not named: %.300s", text)
	}
	s.want("", "GET", "/latest/count", "", 200, "1")
	for range 2 { // the second time as after a lost answer
		var got []node.Node
		check(t, json.Unmarshal([]byte(s.want(s.bob, "PUT", path, cases(count, "last"), 200, "")), &got))
		if len(got) != count+1 || got[count].Name != "last" {
			t.Errorf("%d nodes", len(got))
		}
		s.want("", "GET", "/latest/count?parent="+string(root.ID), "", 200, fmt.Sprint(count))
		if after := last(); after != before+1 {
			t.Errorf("%d events", after-before)
		}
	}
}

func TestWhoMayEditANode(t *testing.T) {
	s := newSite(t)
	const editAny, lab, editor, admin, other = "node:edit:any", "lab", "runtime:lava-x:node-editor", "runtime:lava-x:node-admin", "runtime:lava-y:node-admin"
	tokens := map[string]string{"": s.account("65f0000000000000000000c0", "nobody", false)}
	for i, name := range []string{editAny, lab, editor, admin, other} {
		g := user.Group{ID: node.ID(fmt.Sprintf("65f0000000000000000000e%d", i)), Name: name}
		check(t, s.store.CreateGroup(t.Context(), g))
		id := node.ID(fmt.Sprintf("65f0000000000000000000d%d", i))
		tokens[name] = s.account(id, fmt.Sprintf("member%d", i), false)
		_, err := s.store.UpdateUser(t.Context(), id, func(u *user.User) error { u.Groups = []user.Group{g}; return nil })
		check(t, err)
	}
	n := s.create(s.bob, `{"name":"n","path":["n"],"user_groups":["lab"],"data":{"runtime":"lava-x"}}`)
	for who, tc := range map[string]struct {
		token string
		may   bool
	}{
		"its owner": {s.bob, true}, "a superuser": {s.admin, true}, "who may edit any": {tokens[editAny], true}, "one of its groups": {tokens[lab], true},
		"an editor of its runtime": {tokens[editor], true}, "an admin of its runtime": {tokens[admin], true},
		"an admin of another": {tokens[other], false}, "anybody": {tokens[""], false},
	} {
		for method, request := range map[string][2]string{
			"PATCH": {"/latest/node/", `{"debug":{}}`}, "PUT": {"/latest/node/", `{"name":"n","path":["n"],"data":{"runtime":"lava-x"}}`},
		} {
			status, answer := 200, ""
			if !tc.may {
				status, answer = 401, `{"detail":"Unauthorized to complete the operation"}`
			}
			t.Run(who+" "+method, func(t *testing.T) {
				s.want(tc.token, method, request[0]+string(n.ID), request[1], status, answer)
			})
		}
	}
}
