package api_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"mime/quotedprintable"
	"net/http"
	netmail "net/mail"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/functions/api"
	"github.com/kernelflow/kernelflow/shared/auth"
	"github.com/kernelflow/kernelflow/shared/mail"
	"github.com/kernelflow/kernelflow/shared/user"
)

// postbox is where a site's mails go.
type postbox struct {
	mail.Sender
	t   *testing.T
	dir string

	mu    sync.Mutex
	mails int
	more  chan struct{} // closed when there is one more
}

func newPostbox(t *testing.T) (*postbox, option) {
	t.Helper()
	dir := t.TempDir()
	sender, err := mail.NewFolder(dir)
	check(t, err)
	p := &postbox{Sender: sender, t: t, dir: dir, more: make(chan struct{})}
	return p, func(o *api.Options) {
		o.Mail, o.MailFrom, o.URL = p, "kernelflow@example.org", "https://api.example.org/"
	}
}

func (p *postbox) Send(ctx context.Context, m mail.Message) error {
	err := p.Sender.Send(ctx, m)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mails++
	close(p.more)
	p.more = make(chan struct{})
	return err
}

// wait returns the newest mail when count of them have been sent.
func (p *postbox) wait(count int) (subject, text string) {
	p.t.Helper()
	late := time.After(20 * time.Second)
	for {
		p.mu.Lock()
		mails, more := p.mails, p.more
		p.mu.Unlock()
		if mails >= count {
			return p.newest(count)
		}
		select {
		case <-more:
		case <-late:
			p.t.Fatalf("%d mails, want %d", mails, count)
		}
	}
}

func (p *postbox) newest(count int) (subject, text string) {
	p.t.Helper()
	files, err := filepath.Glob(filepath.Join(p.dir, "*.eml"))
	check(p.t, err)
	if len(files) != count {
		p.t.Fatalf("%d mails, want %d", len(files), count)
	}
	newest, at := "", time.Time{}
	for _, file := range files {
		info, err := os.Stat(file)
		check(p.t, err)
		if !info.ModTime().Before(at) {
			newest, at = file, info.ModTime()
		}
	}
	file, err := os.Open(newest)
	check(p.t, err)
	defer file.Close()
	m, err := netmail.ReadMessage(file)
	check(p.t, err)
	body, err := io.ReadAll(quotedprintable.NewReader(m.Body))
	check(p.t, err)
	return m.Header.Get("Subject"), string(body)
}

var tokenForm = regexp.MustCompile(`(?m)^[\w-]+\.[\w-]+\.[\w-]+\s*$`)

func tokenIn(text string) string { return strings.TrimSpace(tokenForm.FindString(text)) }

type inviteAnswer struct {
	User      user.User `json:"user"`
	EmailSent bool      `json:"email_sent"`
	Base      string    `json:"public_base_url"`
	Accept    string    `json:"accept_invite_url"`
	URL       *string   `json:"invite_url"`
	Token     *string   `json:"token"`
}

func (s *site) invite(body string) inviteAnswer {
	s.t.Helper()
	var got inviteAnswer
	check(s.t, json.Unmarshal([]byte(s.want(s.admin, "POST", "/latest/user/invite", body, 200, "")), &got))
	return got
}

func accept(token, word string) string { return fmt.Sprintf(`{"token":%q,"password":%q}`, token, word) }

func TestUserInviteLetsItsReaderIn(t *testing.T) {
	box, mailed := newPostbox(t)
	s := newSite(t, mailed)
	s.group("lab")
	got := s.invite(`{"username":"carol","email":"carol@example.org","groups":["lab"],"is_superuser":true}`)
	if !got.EmailSent || got.Token != nil || got.URL != nil || got.Base != "https://api.example.org" || got.Accept != got.Base+"/user/accept-invite" {
		t.Errorf("%+v", got)
	}
	if u := got.User; u.Verified || !u.Active || !u.Superuser || len(u.Groups) != 1 {
		t.Errorf("%+v", u)
	}
	_, text := box.wait(1)
	token := tokenIn(text)
	if token == "" || !strings.Contains(text, got.Accept+"?token="+token) {
		t.Fatalf("the mail says\n%s", text)
	}
	s.want(token, "GET", "/latest/whoami", "", 401, unauthorized)
	s.want("", "POST", "/latest/user/accept-invite", accept(token, ""), 400, "")
	answer := s.want("", "POST", "/latest/user/accept-invite", accept(token, "battery staple"), 200, "")
	if !strings.Contains(answer, `"is_verified":true`) || !strings.Contains(answer, `"username":"carol"`) || strings.Contains(answer, "argon2") {
		t.Errorf("%s", answer)
	}
	if subject, _ := box.wait(2); !strings.Contains(subject, "Welcome") {
		t.Errorf("a mail on %s", subject)
	}
	s.want("", "POST", "/latest/user/accept-invite", accept(token, "another"), 400, `{"detail":"Invite already accepted"}`)
	if status, _ := s.login("carol", "battery staple"); status != 200 {
		t.Errorf("login: %d", status)
	}
}

func TestUserInviteIsAPageWithOneScript(t *testing.T) {
	s := newSite(t)
	for _, path := range []string{"/user/invite", "/latest/user/invite"} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", s.url+path, nil)
		check(t, err)
		response, page := respond(t, r)
		_, script, _ := strings.Cut(page, "<script>")
		script, _, _ = strings.Cut(script, "</script>")
		sum := sha256.Sum256([]byte(script))
		hash := "script-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
		if policy := response.Header.Get("Content-Security-Policy"); response.StatusCode != 200 || script == "" || !strings.Contains(policy, hash) || !strings.Contains(policy, "default-src 'none'") {
			t.Errorf("%d with %s", response.StatusCode, policy)
		}
	}
}

func TestUserAcceptInviteIsAPageWithAForm(t *testing.T) {
	s := newSite(t)
	got := s.invite(`{"username":"carol","email":"carol@example.org","send_email":false,"return_token":true}`)
	page := s.want("", "GET", "/user/accept-invite?token="+*got.Token, "", 200, "")
	if !strings.Contains(page, `name="token" value="`+*got.Token+`"`) || !strings.Contains(page, `action="accept-invite"`) {
		t.Errorf("%s", page)
	}
	if page := s.want("", "GET", "/latest/user/accept-invite?token=%22%3E%3Cscript%3E", "", 200, ""); strings.Contains(page, "<script>") {
		t.Errorf("a script got through: %s", page)
	}
	if page := s.want("", "GET", "/user/accept-invite", "", 200, ""); strings.Contains(page, "<form") {
		t.Errorf("a form without a token: %s", page)
	}
	if response, answer := s.form("/user/accept-invite", "", "token", *got.Token, "password", "battery staple"); response.StatusCode != 200 {
		t.Errorf("%d %s", response.StatusCode, answer)
	}
	if status, _ := s.login("carol", "battery staple"); status != 200 {
		t.Errorf("login: %d", status)
	}
}

func TestUserInviteIsCheckedAndSentAgain(t *testing.T) {
	s := newSite(t)
	const path = "/latest/user/invite"
	carol := func(more string) string { return `{"username":"carol","email":"carol@example.org"` + more + `}` }
	first := s.invite(carol(`,"send_email":false,"return_token":true`))
	if first.EmailSent || first.Token == nil || first.URL == nil || *first.URL != first.Accept+"?token="+*first.Token || !strings.HasPrefix(first.Base, "http://127.0.0.1:") {
		t.Errorf("%+v", first)
	}
	for _, tc := range []struct {
		token, body string
		status      int
		answer      string
	}{
		{s.bob, carol(""), 403, forbidden},
		{"", carol(""), 401, unauthorized},
		{s.admin, carol(""), 400, `{"detail":"User already exists"}`},
		{s.admin, `{"username":"eve","email":"CAROL@example.org"}`, 400, `{"detail":"User already exists"}`},
		{s.admin, `{"username":"eve","email":"carol@example.org","resend_if_exists":true}`, 400, `{"detail":"Existing user has a different username"}`},
		{s.admin, `{"username":"carol","email":"eve@example.org","resend_if_exists":true}`, 400, `{"detail":"Existing user has a different email"}`},
		{s.admin, `{"username":"bob","email":"bob@example.org","resend_if_exists":true}`, 400, `{"detail":"User already verified"}`},
		{s.admin, `{"username":"eve","email":"eve@example.org","groups":["nothing"]}`, 400, `{"detail":"User group does not exist with name: nothing"}`},
		{s.admin, `{"username":"eve","email":"eve"}`, 422, `{"detail":[{"loc":["body","email"],"msg":"expected string to be an e-mail address","type":"value_error"}]}`},
		{s.admin, `{"username":"eve@home","email":"eve@example.org"}`, 422, ""},
		{s.admin, `{"username":"eve"}`, 422, ""},
	} {
		s.want(tc.token, "POST", path, tc.body, tc.status, tc.answer)
	}
	s.want(s.admin, "GET", "/latest/users?username=eve", "", 200, `{"items":[],"total":0,"limit":50,"offset":0}`)
	again := s.invite(carol(`,"send_email":true,"return_token":true,"resend_if_exists":true`))
	if again.EmailSent || again.User.ID != first.User.ID {
		t.Errorf("%+v", again)
	}
	// Of two who accept at once one sets the password.
	statuses := make(chan int, 2)
	var group sync.WaitGroup
	for _, token := range []string{*first.Token, *again.Token} {
		group.Go(func() {
			status, _ := s.call("", "POST", "/latest/user/accept-invite", accept(token, "battery staple"))
			statuses <- status
		})
	}
	group.Wait()
	if sum := <-statuses + <-statuses; sum != 200+400 {
		t.Errorf("the sum of both statuses is %d", sum)
	}
}

func TestUserInviteURLTellsWhereInvitesLead(t *testing.T) {
	_, mailed := newPostbox(t)
	s := newSite(t, mailed)
	s.want(s.admin, "GET", "/latest/user/invite/url", "", 200,
		`{"public_base_url":"https://api.example.org","accept_invite_url":"https://api.example.org/user/accept-invite"}`)
	s.want(s.bob, "GET", "/latest/user/invite/url", "", 403, forbidden)
}

func TestUserAcceptInviteRefusesEveryOtherToken(t *testing.T) {
	s := newSite(t)
	got := s.invite(`{"username":"carol","email":"carol@example.org","send_email":false,"return_token":true}`)
	lapsed, err := auth.New(auth.Options{Secret: []byte("a secret of enough bytes"), Now: func() time.Time { return time.Now().Add(-8 * 24 * time.Hour) }})
	check(t, err)
	carol, err := s.store.User(t.Context(), got.User.ID)
	check(t, err)
	old, err := lapsed.Once(auth.Invite, carol, 7*24*time.Hour)
	check(t, err)
	reset, err := s.auth.Once(auth.ResetPassword, carol, time.Hour)
	check(t, err)
	for name, token := range map[string]string{"lapsed": old, "for a reset": reset, "a login": s.bob, "noise": "a.b.c"} {
		if status, answer := s.call("", "POST", "/latest/user/accept-invite", accept(token, "x")); status != 400 || answer != `{"detail":"Invalid or expired invite token"}` {
			t.Errorf("%s: %d %s", name, status, answer)
		}
	}
	path := "/latest/user/" + string(carol.ID)
	for body, want := range map[string]string{`{"is_active":false}`: "User is inactive", `{"is_active":true,"email":"eve@example.org"}`: "Invalid invite token"} {
		s.want(s.admin, "PATCH", path, body, 200, "")
		s.want("", "POST", "/latest/user/accept-invite", accept(*got.Token, "x"), 400, fmt.Sprintf(`{"detail":%q}`, want))
	}
	s.want(s.admin, "DELETE", path, "", 204, "")
	s.want("", "POST", "/latest/user/accept-invite", accept(*got.Token, "x"), 404, `{"detail":"User not found"}`)
}

func TestUserForgotPasswordMailsATokenThatWorksOnce(t *testing.T) {
	box, mailed := newPostbox(t)
	s := newSite(t, mailed)
	const forgot, reset, bad = "/latest/user/forgot-password", "/latest/user/reset-password", `{"detail":"RESET_PASSWORD_BAD_TOKEN"}`
	for _, body := range []string{`{}`, `{"email":"bob"}`, `{"email":7}`} {
		s.want("", "POST", forgot, body, 422, "")
	}
	s.want("", "POST", forgot, `{"email":"nobody@example.org"}`, 202, "null")
	s.want("", "POST", forgot, `{"email":"bob@example.org"}`, 202, "null")
	_, text := box.wait(1)
	token := tokenIn(text)
	s.want("", "POST", reset, accept("a.b.c", "x"), 400, bad)
	s.want("", "POST", reset, accept(s.bob, "x"), 400, bad)
	s.want("", "POST", reset, accept(token, ""), 400, `{"detail":{"code":"RESET_PASSWORD_INVALID_PASSWORD","reason":"password: must be 1 to 1024 bytes long"}}`)
	s.want("", "POST", reset, `{"token":"x"}`, 422, "")
	s.want("", "POST", reset, accept(token, "battery staple"), 200, "null")
	s.want("", "POST", reset, accept(token, "another"), 400, bad)
	for word, want := range map[string]int{password: 400, "another": 400, "battery staple": 200} {
		if status, _ := s.login("bob", word); status != want {
			t.Errorf("%s: %d", word, status)
		}
	}
	box.wait(2)
}

func TestUserForgotPasswordFillsNobodysInbox(t *testing.T) {
	box, mailed := newPostbox(t)
	s := newSite(t, mailed)
	for i := range 6 {
		s.want("", "POST", "/latest/user/forgot-password", `{"email":"bob@example.org"}`, 202, "null")
		box.wait(min(i+1, 3))
	}
	s.want(s.admin, "PATCH", "/latest/user/"+bobID, `{"is_active":false}`, 200, "")
	s.want("", "POST", "/latest/user/forgot-password", `{"email":"bob@example.org"}`, 202, "null")
	box.wait(3)
}

func TestUserForgotPasswordAnswersWithoutMailToo(t *testing.T) {
	s := newSite(t)
	s.want("", "POST", "/latest/user/forgot-password", `{"email":"bob@example.org"}`, 202, "null")
}

func TestUserVerifyProvesAnAddress(t *testing.T) {
	box, mailed := newPostbox(t)
	s := newSite(t, mailed)
	const ask, verify = "/latest/user/request-verify-token", "/latest/user/verify"
	s.want("", "POST", ask, `{"email":"bob@example.org"}`, 202, "null") // is verified: no mail
	s.want(s.bob, "PATCH", "/latest/user/me", `{"email":"robert@example.org"}`, 200, "")
	s.want("", "POST", ask, `{"email":"robert@example.org"}`, 202, "null")
	_, text := box.wait(1)
	body := fmt.Sprintf(`{"token":%q}`, tokenIn(text))
	s.want("", "POST", verify, `{"token":"a.b.c"}`, 400, `{"detail":"VERIFY_USER_BAD_TOKEN"}`)
	if answer := s.want("", "POST", verify, body, 200, ""); !strings.Contains(answer, `"is_verified":true`) {
		t.Errorf("%s", answer)
	}
	s.want("", "POST", verify, body, 400, `{"detail":"VERIFY_USER_ALREADY_VERIFIED"}`)
	s.want(s.admin, "PATCH", "/latest/user/"+bobID, `{"email":"bob@example.org"}`, 200, "")
	s.want("", "POST", verify, body, 400, `{"detail":"VERIFY_USER_BAD_TOKEN"}`)
}
