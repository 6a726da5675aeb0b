package api_test

import (
	"bytes"
	"encoding/json"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"

	"github.com/kernelflow/kernelflow/shared/node"
)

// ends sends a form of fields "name=content" for a job.
func (s *site) ends(token string, id node.ID, fields ...string) (int, node.Node) {
	s.t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for _, field := range fields {
		name, content, _ := strings.Cut(field, "=")
		check(s.t, form.WriteField(name, content))
	}
	check(s.t, form.Close())
	r, err := http.NewRequest(http.MethodPost, s.url+"/latest/node/"+string(id)+"/results", &body)
	check(s.t, err)
	r.Header.Set("Content-Type", form.FormDataContentType())
	r.Header.Set("Authorization", "Bearer "+token)
	status, answer := send(s.t, r)
	var n node.Node
	if status == http.StatusOK {
		check(s.t, json.Unmarshal([]byte(answer), &n))
	} else if !strings.Contains(answer, `"detail"`) {
		s.t.Errorf("%d %s", status, answer)
	}
	return status, n
}

func TestAJobWithoutASupervisorReportsOnceByAForm(t *testing.T) {
	s := newSite(t)
	n, token := s.job(s.bob, s.create(s.bob, checkoutBody).ID)
	log := "artifact:log=https://example.org/log.txt.gz"
	for range 2 {
		status, got := s.ends(token, n.ID, "exit=1", "error=no luck", "data={\"misc\":{\"a\":1},\"platform\":\"mine\"}", "results=1..1\nok 1 a\n", log)
		if status != http.StatusOK || got.Result != node.Fail || got.State != node.Done || got.Text("error_msg") != "no luck" {
			t.Fatalf("%d %+v", status, got)
		}
		if got.Artifacts["log"] == "" || got.Data["misc"] == nil || got.Text("platform") == "mine" {
			t.Errorf("%v %v", got.Artifacts, got.Data)
		}
	}
	s.want(s.bob, "GET", "/latest/count?parent="+string(n.ID), "", 200, "1")
	if status, _ := s.ends(token, n.ID, "exit=0"); status != http.StatusConflict {
		t.Errorf("another report: %d", status)
	}
}

func TestAFormForANodeThatSomebodyElseEndedLeavesItsLogAlone(t *testing.T) {
	s := newSite(t)
	n, token := s.job(s.bob, s.create(s.bob, checkoutBody).ID)
	s.want(s.bob, "PATCH", "/latest/node/"+string(n.ID), `{"state":"done","result":"incomplete"}`, 200, "")
	for _, link := range []string{"https://example.org/one", "https://example.org/two"} {
		if status, _ := s.ends(token, n.ID, "exit=0", "artifact:log="+link); status != http.StatusConflict {
			t.Errorf("%d", status)
		}
	}
	answer := s.want(s.bob, "GET", "/latest/node/"+string(n.ID), "", 200, "")
	if !strings.Contains(answer, "https://example.org/one") || !strings.Contains(answer, `"result":"incomplete"`) {
		t.Error(answer)
	}
}

func TestAFormIsRefusedWithTheReason(t *testing.T) {
	s := newSite(t)
	n, token := s.job(s.bob, s.create(s.bob, checkoutBody).ID)
	_, other := s.job(s.bob, s.create(s.bob, checkoutBody).ID)
	for _, row := range []struct {
		token  string
		id     node.ID
		field  string
		status int
	}{
		{token, n.ID, "exit=none", 400},
		{token, n.ID, "cause=lost", 400},
		{token, n.ID, "artifact:log=no URL", 422},
		{s.bob, "x", "exit=0", 400},
		{other, n.ID, "exit=0", 401},
		{"nonsense", n.ID, "exit=0", 401},
		{s.bob, unknownID, "exit=0", 404},
	} {
		if status, _ := s.ends(row.token, row.id, row.field); status != row.status {
			t.Errorf("%s for %s: %d, want %d", row.field, row.id, status, row.status)
		}
	}
	s.want(token, "POST", "/latest/node/"+string(n.ID)+"/results", `{"exit":0}`, 400, "")
	if got, _ := s.ends(token, n.ID, "exit=0"); got != http.StatusOK {
		t.Errorf("the good one: %d", got)
	}
}
