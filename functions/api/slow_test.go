package api_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/functions/api"
	"github.com/kernelflow/kernelflow/shared/node"
)

// dial connects to a served API.
func dial(t *testing.T, url string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	check(t, err)
	t.Cleanup(func() { _ = conn.Close() }) // a test may have done so
	return conn
}

func TestABodyThatDribblesIsGivenUp(t *testing.T) {
	s := newSite(t, func(o *api.Options) { o.BodyTime = 100 * time.Millisecond })
	n := s.create(s.bob, named("n"))
	for _, target := range []string{"POST /latest/node", "PUT /latest/nodes/" + string(n.ID), "POST /latest/user/login", "POST /latest/push/work"} {
		conn := dial(t, s.url)
		kind := map[bool]string{true: "application/x-www-form-urlencoded", false: "application/json"}[strings.HasSuffix(target, "login")]
		_, err := fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\nContent-Length: 1000000\r\n\r\n{", target, s.bob, kind)
		check(t, err)
		answered := make(chan struct{})
		go func() {
			for dribble := time.NewTicker(5 * time.Millisecond); ; {
				select {
				case <-answered:
					dribble.Stop()
					return
				case <-dribble.C:
					_, _ = conn.Write([]byte(" ")) // fails when the server has had enough
				}
			}
		}()
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		close(answered)
		check(t, err)
		if text, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusRequestTimeout || !strings.Contains(string(text), "timeout") {
			t.Errorf("%s: %d %s", target, response.StatusCode, text)
		}
	}
	s.want("", "GET", "/latest/count", "", 200, "1")
}

func TestAReaderThatNeverReadsIsGivenUp(t *testing.T) {
	s := newSite(t, func(o *api.Options) {
		o.Slowness, o.KeepAlive, o.PopWait, o.Patience = 100*time.Millisecond, time.Millisecond, time.Millisecond, time.Second
	})
	// More than the buffers of two sockets hold.
	for i := range 64 {
		n := node.Node{ID: node.DeriveID("", fmt.Sprint(i)), Name: "n", Path: []string{"n"}, Owner: "bob", Debug: map[string]any{"x": strings.Repeat("x", 256<<10)}}
		n.SetDefaults(time.Now())
		_, err := s.store.Create(t.Context(), n)
		check(t, err)
	}
	ended := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		s.handler.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	_, err := io.WriteString(dial(t, server.URL), "GET /latest/nodes/fast HTTP/1.1\r\nHost: x\r\n\r\n")
	check(t, err)
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Error("the answer is still being written")
	}
	s.want("", "GET", "/latest/count", "", 200, "64")
}
