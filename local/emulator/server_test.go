package emulator

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// serving runs a server that takes requests with a short patience, and tells
// whether one has reached its handler.
func serving(t *testing.T) (address string, reached <-chan struct{}) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	got, ended := make(chan struct{}, 1), make(chan error, 1)
	s := newServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { got <- struct{}{} }), listener, 100*time.Millisecond)
	go func() { ended <- s.Serve(listener) }()
	t.Cleanup(func() {
		if err := errors.Join(s.Close(), <-ended); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return listener.Addr().String(), got
}

func TestHeadersThatDribbleAreGivenUp(t *testing.T) {
	address, reached := serving(t)
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n"); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	go func() {
		for dribble := time.NewTicker(5 * time.Millisecond); ; {
			select {
			case <-stop:
				dribble.Stop()
				return
			case <-dribble.C:
				_, _ = io.WriteString(conn, "X: y\r\n") // fails when the server has had enough
			}
		}
	}()
	// The connection ends, with or without a word.
	_, _ = io.Copy(io.Discard, conn)
	close(stop)
	select {
	case <-reached:
		t.Error("the request was answered")
	default:
	}
}

func TestAFloodOfHeadersIsRefused(t *testing.T) {
	address, reached := serving(t)
	for what, headers := range map[string]string{
		"many": strings.Repeat("X: "+strings.Repeat("y", 100)+"\r\n", 2000), "one": "X: " + strings.Repeat("y", 200_000) + "\r\n",
	} {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		go func() { _, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n"+headers+"\r\n") }() // fails when the server has had enough
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("%s: %s", what, response.Status)
		}
	}
	select {
	case <-reached:
		t.Error("a request was answered")
	default:
	}
}
