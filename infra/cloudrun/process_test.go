package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// service is one process of this command, which may be killed and started again
// at the same address.
type service struct {
	t       testing.TB
	address string
	env     []string

	mu     sync.Mutex
	cmd    *exec.Cmd
	stderr *bytes.Buffer
}

// settings are what all processes share: a Redis, a folder, and what else is
// given.
func settings(t testing.TB, more ...string) []string {
	redis := os.Getenv("TEST_REDIS_URL")
	if redis == "" {
		server := miniredis.RunT(t)
		server.ClockTTL(true)
		redis = server.Addr()
	}
	return append([]string{
		asMain + "=1", "KERNELFLOW_DATA=" + t.TempDir(), "REDIS_HOST=" + redis, "SECRET_KEY=a secret of enough bytes for a test",
		"KCI_INITIAL_PASSWORD=" + password, "LISTEN_KEEPALIVE=5s", "LOG_LEVEL=error",
	}, more...)
}

const password = "correct horse"

// startService starts a process that is one function.
func startService(t testing.TB, function string, env []string) *service {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	check(t, err)
	address := l.Addr().String()
	check(t, l.Close())
	_, port, err := net.SplitHostPort(address)
	check(t, err)
	s := &service{t: t, address: address}
	s.env = append(env[:len(env):len(env)], "FUNCTION_TARGET="+function, "FUNCTION_HOST=127.0.0.1", "PORT="+port, "KERNELFLOW_URL=http://"+address)
	check(t, s.start(t.Context()))
	t.Cleanup(func() { s.kill() })
	return s
}

// start returns when the process answers.
func (s *service) start(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self)
	said := &bytes.Buffer{}
	cmd.Env, cmd.Stderr = append(os.Environ(), s.env...), said
	if err := cmd.Start(); err != nil {
		return err
	}
	s.mu.Lock()
	s.cmd, s.stderr = cmd, said
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if connection, err := new(net.Dialer).DialContext(ctx, "tcp", s.address); err == nil {
			return connection.Close()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			s.kill()
			return fmt.Errorf("the process does not listen on %s: %w\n%s", s.address, ctx.Err(), said)
		}
	}
}

// kill ends the process as kill -9 does, and waits until it has gone.
func (s *service) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.cmd.Process.Kill() // it may have ended
	_ = s.cmd.Wait()         // it says that it was killed
}

// terminate ends the process as a host does, and returns what it ended with.
func (s *service) terminate() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	if err := s.cmd.Wait(); err != nil {
		return fmt.Errorf("%w\n%s", err, s.stderr)
	}
	return nil
}

// client asks services as the admin.
type client struct {
	http  *http.Client
	token string
}

func newClient(t testing.TB) *client {
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(transport.CloseIdleConnections)
	return &client{http: &http.Client{Transport: transport, Timeout: time.Minute}}
}

// logIn gives the client the admin's token.
func (c *client) logIn(t testing.TB, s *service) {
	t.Helper()
	form := url.Values{"username": {"admin"}, "password": {password}}
	response, err := c.http.PostForm("http://"+s.address+"/latest/user/login", form)
	check(t, err)
	defer response.Body.Close()
	var answer struct {
		Token string `json:"access_token"`
	}
	check(t, json.NewDecoder(response.Body).Decode(&answer))
	c.token = answer.Token
}

// ask sends a request and decodes the answer, if it is wanted. A status other
// than 2xx is a refusal.
func (c *client) ask(ctx context.Context, s *service, method, path, body string, answer any) error {
	text, err := c.text(ctx, s, method, path, body)
	if err != nil || answer == nil {
		return err
	}
	return json.Unmarshal([]byte(text), answer)
}

func (c *client) text(ctx context.Context, s *service, method, path, body string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://"+s.address+path, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	r.Header.Set("Authorization", "Bearer "+c.token)
	r.Header.Set("Content-Type", "application/json")
	response, err := c.http.Do(r)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode/100 != 2 {
		err = &refusal{response.StatusCode, string(text)}
	}
	return string(text), err
}

// refusal is a whole answer that says no.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string { return fmt.Sprintf("status %d: %s", r.status, r.text) }

// subscribe makes a durable subscription and returns its id.
func (c *client) subscribe(t testing.TB, s *service, name string) int64 {
	t.Helper()
	var sub struct{ ID int64 }
	check(t, c.ask(t.Context(), s, "POST", "/latest/subscribe/node?subscriber_id="+name, "", &sub))
	return sub.ID
}

// heard is what a listener was told.
type heard struct {
	ID       string          `json:"id"`
	Sequence int64           `json:"_sequence_id"` // 0: a sign of life
	Data     json.RawMessage `json:"data"`
}

// listen polls once.
func (c *client) listen(ctx context.Context, s *service, id int64) (heard, error) {
	var message struct{ Data string }
	var h heard
	err := c.ask(ctx, s, "GET", fmt.Sprint("/latest/listen/", id), "", &message)
	if err == nil {
		err = json.Unmarshal([]byte(message.Data), &h)
	}
	return h, err
}

// created is the name and the write of the node of an event.
func (h heard) created() (name string, write int, err error) {
	var data struct {
		Name string
		Data struct{ Write int }
	}
	err = json.Unmarshal(h.Data, &data)
	return data.Name, data.Data.Write, err
}

// create makes a node of that name.
func (c *client) create(ctx context.Context, s *service, name string, write int) error {
	return c.ask(ctx, s, "POST", "/latest/node", fmt.Sprintf(`{"name":%q,"path":[%[1]q],"data":{"write":%d}}`, name, write), nil)
}
