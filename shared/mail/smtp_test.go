package mail_test

import (
	"context"
	"errors"
	"net"
	"net/textproto"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/mail"
)

// hangUp is an answer of a server that gives none.
const hangUp = ""

// server is a mail server in plain text. It answers a verb as answers says, in
// the way of a willing server otherwise.
type server struct {
	port    int
	answers map[string]string

	mu    sync.Mutex
	mails []string // what was taken
	lines []string // all that clients said, but mails
}

func serve(t *testing.T, answers map[string]string) *server {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	check(t, err)
	s := &server{port: l.Addr().(*net.TCPAddr).Port, answers: answers}
	var group sync.WaitGroup
	ctx, stop := context.WithCancel(context.Background())
	group.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			// A client that was refused may leave its end open.
			context.AfterFunc(ctx, func() { _ = conn.Close() })
			group.Go(func() { s.talk(textproto.NewConn(conn)) })
		}
	})
	t.Cleanup(func() {
		stop()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		group.Wait()
	})
	return s
}

var willing = map[string]string{
	"CONNECT": "220 mx.example ready", "EHLO": "250 mx.example", "MAIL": "250 yes", "RCPT": "250 yes", "DATA": "354 go on",
	".": "250 taken", "RSET": "250 yes", "NOOP": "250 yes", "QUIT": "221 bye",
}

// say answers a verb; false ends the talk.
func (s *server) say(c *textproto.Conn, verb string) bool {
	answer, own := s.answers[verb]
	if !own {
		answer = willing[verb]
	}
	return answer != hangUp && c.PrintfLine("%s", strings.ReplaceAll(answer, "\n", "\r\n")) == nil
}

func (s *server) talk(c *textproto.Conn) {
	defer func() { _ = c.Close() }() // the client may have closed it
	for ok := s.say(c, "CONNECT"); ok; {
		line, err := c.ReadLine()
		if err != nil {
			return
		}
		s.note(&s.lines, line)
		verb, _, _ := strings.Cut(line, " ")
		ok = s.say(c, strings.ToUpper(verb))
		if answer, own := s.answers["DATA"]; ok && verb == "DATA" && (!own || answer[0] == '3') {
			ok = s.take(c)
		}
	}
}

// take reads a mail and answers to its end.
func (s *server) take(c *textproto.Conn) bool {
	b, err := c.ReadDotBytes()
	if err != nil {
		return false
	}
	if answer, own := s.answers["."]; !own || strings.HasPrefix(answer, "2") {
		s.note(&s.mails, string(b))
	}
	return s.say(c, ".")
}

func (s *server) note(list *[]string, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*list = append(*list, text)
}

func (s *server) said() (lines string, mails []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.lines, "\n"), s.mails
}

const password = "correct horse battery"

func (s *server) sender(t *testing.T, user string) *mail.SMTP {
	t.Helper()
	sender, err := mail.NewSMTP(mail.SMTPConfig{Host: "127.0.0.1", Port: s.port, User: user, Password: password})
	check(t, err)
	return sender
}

func TestAServerGetsTheSameMailAsAFolder(t *testing.T) {
	s := serve(t, nil)
	sender := s.sender(t, "")
	if sender.Repeatable() {
		t.Error("a mail server does not know what it has")
	}
	check(t, sender.Send(t.Context(), message()))
	lines, mails := s.said()
	want := strings.ReplaceAll(string(sent(t, message())), "\r\n", "\n")
	if len(mails) != 1 || strings.TrimSpace(mails[0]) != strings.TrimSpace(want) {
		t.Errorf("the server got %d mails: %s\nwant %s", len(mails), mails, want)
	}
	for _, line := range []string{"MAIL FROM:<bot@kernelflow.example>", "RCPT TO:<kernel@lists.example>", "RCPT TO:<joerg@lists.example>", "RCPT TO:<lab@lists.example>"} {
		if !strings.Contains(lines, line) {
			t.Errorf("not said: %s\n%s", line, lines)
		}
	}
}

func TestARefusalForGoodIsToldFromOneThatMayPass(t *testing.T) {
	for name, tc := range map[string]struct {
		answers map[string]string
		want    error
	}{
		"busy when we come":              {map[string]string{"CONNECT": "421 too many"}, errs.Temporary},
		"sender not now":                 {map[string]string{"MAIL": "451 later"}, errs.Temporary},
		"sender never":                   {map[string]string{"MAIL": "553 not you"}, errs.Invalid},
		"greylisted":                     {map[string]string{"RCPT": "450 4.2.0 greylisted"}, errs.Temporary},
		"no such mailbox":                {map[string]string{"RCPT": "550 5.1.1 unknown"}, errs.Invalid},
		"no data now":                    {map[string]string{"DATA": "452 disk full"}, errs.Temporary},
		"no data ever":                   {map[string]string{"DATA": "554 no"}, errs.Invalid},
		"mail not now":                   {map[string]string{".": "451 scanner away"}, errs.Temporary},
		"mail never":                     {map[string]string{".": "554 5.7.1 spam"}, errs.Invalid},
		"gone before the mail":           {map[string]string{"RCPT": hangUp}, errs.Temporary},
		"gone without an answer to it":   {map[string]string{".": hangUp}, mail.ErrUnsure},
		"no mail server at all":          {map[string]string{"CONNECT": "HTTP/1.1 400 Bad Request"}, errs.Temporary},
		"taken, and gone without a word": {map[string]string{"RSET": hangUp}, nil},
		"taken, and rude in leaving":     {map[string]string{"QUIT": "500 what"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			err := serve(t, tc.answers).sender(t, "").Send(t.Context(), message())
			if tc.want == nil && err != nil || !errors.Is(err, tc.want) {
				t.Fatalf("%v, want %v", err, tc.want)
			}
			if tc.want != nil && !strings.Contains(err.Error(), message().ID) {
				t.Errorf("the error does not name the mail: %v", err)
			}
			if errs.Retry(err) != (tc.want == errs.Temporary) {
				t.Errorf("another try: %t", errs.Retry(err))
			}
		})
	}
}

func TestAServerThatIsAwayIsTemporary(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	check(t, err)
	_, port, err := net.SplitHostPort(l.Addr().String())
	check(t, err)
	check(t, l.Close())
	number, err := strconv.Atoi(port)
	check(t, err)
	if err := (&server{port: number}).sender(t, "").Send(t.Context(), message()); !errors.Is(err, errs.Temporary) {
		t.Errorf("%v", err)
	}
}

func TestACancelledSendEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := serve(t, nil).sender(t, "").Send(ctx, message()); !errors.Is(err, errs.Temporary) {
		t.Errorf("%v", err)
	}
}

func TestThePasswordIsInNoErrorAndNeverInTheClear(t *testing.T) {
	const plain = "AGJvdABjb3JyZWN0IGhvcnNlIGJhdHRlcnk=" // user bot and the password, as AUTH PLAIN says them
	for name, answers := range map[string]map[string]string{
		"only in the clear":        {"EHLO": "250-mx.example\n250 AUTH PLAIN LOGIN"},
		"no accounts":              {"EHLO": "250 mx.example"},
		"refused, and said back":   {"EHLO": "250-mx.example\n250 AUTH CRAM-MD5", "AUTH": "535 5.7.8 bad password " + password + " " + plain},
		"said back when we come":   {"CONNECT": "554 go away " + password},
		"said back as an encoding": {"CONNECT": "554 go away Y29ycmVjdCBob3JzZSBiYXR0ZXJ5"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, answers)
			err := s.sender(t, "bot").Send(t.Context(), message())
			if !errors.Is(err, errs.Temporary) {
				t.Fatalf("%v: an account can be put right", err)
			}
			lines, mails := s.said()
			for _, form := range []string{password, plain, "Y29ycmVjdCBob3JzZSBiYXR0ZXJ5"} {
				if strings.Contains(err.Error(), form) || strings.Contains(lines, form) {
					t.Errorf("the password is out: %v\n%s", err, lines)
				}
			}
			if len(mails) != 0 {
				t.Errorf("%d mails went out without the account", len(mails))
			}
		})
	}
}

func TestAServerWithoutANameIsInvalid(t *testing.T) {
	_, err := mail.NewSMTP(mail.SMTPConfig{User: "bot", Password: password})
	if !errors.Is(err, errs.Invalid) || strings.Contains(err.Error(), password) {
		t.Errorf("%v", err)
	}
}
