package mail_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/mail"
)

// mailpit is a real mail server that takes mails by STARTTLS from user "bot"
// alone; scripts/test-servers.sh starts it, with a certificate that it makes
// known to this process.
type mailpit struct {
	t    *testing.T
	port int
	api  string
}

func realServer(t *testing.T) *mailpit {
	t.Helper()
	address, api := os.Getenv("TEST_SMTP_ADDR"), os.Getenv("TEST_SMTP_API")
	if address == "" || api == "" {
		if os.Getenv("CI_REQUIRE_SERVERS") != "" {
			t.Fatal("TEST_SMTP_ADDR and TEST_SMTP_API are not set")
		}
		t.Skip("TEST_SMTP_ADDR and TEST_SMTP_API are not set")
	}
	_, text, err := net.SplitHostPort(address)
	check(t, err)
	port, err := strconv.Atoi(text)
	check(t, err)
	s := &mailpit{t, port, api}
	s.call(http.MethodDelete, "/api/v1/messages", nil)
	return s
}

func (s *mailpit) send(ctx context.Context, password string) error {
	s.t.Helper()
	sender, err := mail.NewSMTP(mail.SMTPConfig{Host: "localhost", Port: s.port, User: "bot", Password: password})
	check(s.t, err)
	return sender.Send(ctx, message())
}

// call asks mailpit's own interface and decodes the answer into, if not nil.
func (s *mailpit) call(method, path string, into any) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.api+path, nil)
	check(s.t, err)
	answer, err := http.DefaultClient.Do(r)
	check(s.t, err)
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		s.t.Fatalf("%s %s: %s", method, path, answer.Status)
	}
	if into != nil {
		check(s.t, json.NewDecoder(answer.Body).Decode(into))
	}
}

// ids of the mails that the server has.
func (s *mailpit) ids() []string {
	s.t.Helper()
	var list struct{ Messages []struct{ ID string } }
	s.call(http.MethodGet, "/api/v1/messages", &list)
	var ids []string
	for _, m := range list.Messages {
		ids = append(ids, m.ID)
	}
	return ids
}

func TestARealServerTakesAMailByItsAccountOverTLS(t *testing.T) {
	s := realServer(t)
	check(t, s.send(t.Context(), "right"))
	ids := s.ids()
	if len(ids) != 1 {
		t.Fatalf("%d mails, want 1", len(ids))
	}
	var got struct{ MessageID, Subject, Text, HTML string }
	s.call(http.MethodGet, "/api/v1/message/"+ids[0], &got)
	want := message()
	if got.MessageID != want.ID || got.Subject != want.Subject {
		t.Errorf("message id %q, subject %q", got.MessageID, got.Subject)
	}
	if strings.TrimSpace(strings.ReplaceAll(got.Text, "\r\n", "\n")) != strings.TrimSpace(want.Text) {
		t.Errorf("text %q, want %q", got.Text, want.Text)
	}
	if want.HTML != "" && got.HTML == "" {
		t.Error("it has no HTML part")
	}
	headers := map[string][]string{}
	s.call(http.MethodGet, "/api/v1/message/"+ids[0]+"/headers", &headers)
	if reply := strings.Join(headers["In-Reply-To"], " "); reply != "<"+want.InReplyTo+">" {
		t.Errorf("in reply to %q, want %q", reply, want.InReplyTo)
	}
	for _, id := range want.References {
		if !strings.Contains(strings.Join(headers["References"], " "), "<"+id+">") {
			t.Errorf("references %v, %s is missing", headers["References"], id)
		}
	}
}

func TestARealServerRefusesAWrongPasswordWithoutItsBeingSaid(t *testing.T) {
	s := realServer(t)
	const wrong = "battery horse"
	err := s.send(t.Context(), wrong)
	if !errors.Is(err, errs.Temporary) || strings.Contains(err.Error(), wrong) {
		t.Errorf("%v", err)
	}
	if ids := s.ids(); len(ids) != 0 {
		t.Errorf("%d mails came", len(ids))
	}
}
