// Package mongotest gives tests a MongoDB: FerretDB with its SQLite handler,
// in the test's own process, on the loopback interface. Nothing is installed
// and nothing is asked of the network.
//
// MongoDB promises that a write to one document is atomic. FerretDB 1 reads,
// changes and writes a document in separate steps, so that two updates that
// meet can both succeed. The server given out here therefore stands in front
// of FerretDB and hands it one message at a time: what the mongo driver relies
// on then holds.
//
// Decisions. FerretDB does not know transactions, change streams, partial or
// TTL indexes, nor lists inside lists, and it filters outside its database.
// That is the price of tests without a MongoDB; keep their data small. Writes
// reach the file without an fsync: they outlive the process, not the machine.
package mongotest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"sync"
	"testing"

	"github.com/FerretDB/FerretDB/ferretdb"
)

// Start runs a server for the length of the test and returns its URI.
func Start(t testing.TB) string {
	t.Helper()
	s, err := Serve(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s.URI()
}

// Server is a running MongoDB.
type Server struct {
	listener net.Listener
	backend  string
	cancel   context.CancelFunc
	ended    chan error
	turn     sync.Mutex // one message at a time
	clients  sync.WaitGroup

	mu     sync.Mutex
	conns  map[net.Conn]bool // nil once closed
	lonely error             // why accepting ended, if not by Close
}

// Serve runs a server that keeps its databases in the folder dir, which must
// exist, on a port of the loopback interface that is free.
func Serve(dir string) (*Server, error) {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("mongotest.Serve(%s): not a folder: %w", dir, errors.Join(err, os.ErrInvalid))
	}
	files := url.URL{Scheme: "file", Opaque: (&url.URL{Path: dir}).EscapedPath() + "/"}
	files.RawQuery = url.Values{"_pragma": {"busy_timeout(10000)", "journal_mode(wal)", "synchronous(off)"}}.Encode()
	db, err := ferretdb.New(&ferretdb.Config{
		Listener:  ferretdb.ListenerConfig{TCP: "127.0.0.1:0"},
		Logger:    slog.New(slog.DiscardHandler),
		Handler:   "sqlite",
		SQLiteURL: files.String(),
	})
	if err != nil {
		return nil, fmt.Errorf("mongotest.Serve(%s): %w", dir, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{cancel: cancel, ended: make(chan error, 1), conns: map[net.Conn]bool{}}
	go func() { s.ended <- db.Run(ctx) }()
	backend, err := url.Parse(db.MongoDBURI())
	if err == nil {
		s.backend = backend.Host
		s.listener, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("mongotest.Serve(%s): %w", dir, errors.Join(err, <-s.ended))
	}
	s.clients.Go(s.accept)
	return s, nil
}

// URI is the address for a client.
func (s *Server) URI() string { return "mongodb://" + s.listener.Addr().String() + "/" }

// Close ends the server and all connections to it.
func (s *Server) Close() error {
	s.mu.Lock()
	conns, lonely := s.conns, s.lonely
	s.conns = nil
	s.mu.Unlock()
	err := s.listener.Close()
	for c := range conns {
		_ = c.Close() // the client may have closed it
	}
	s.clients.Wait()
	s.cancel()
	return errors.Join(lonely, err, <-s.ended)
}

func (s *Server) accept() {
	for {
		client, err := s.listener.Accept()
		s.mu.Lock()
		if err != nil && s.conns != nil {
			s.lonely = err
		}
		s.mu.Unlock()
		if err != nil {
			return
		}
		s.clients.Go(func() { s.serve(client) })
	}
}

// keep notes a connection for Close; false when that has come already.
func (s *Server) keep(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns == nil {
		return false
	}
	s.conns[c] = true
	return true
}

func (s *Server) drop(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	_ = c.Close() // Close may have been faster
}

// serve carries one client's messages until either side ends.
func (s *Server) serve(client net.Conn) {
	defer s.drop(client)
	if !s.keep(client) {
		return
	}
	db, err := net.Dial("tcp", s.backend)
	if err != nil {
		return // the client sees a closed connection
	}
	defer s.drop(db)
	if !s.keep(db) {
		return
	}
	for {
		request, err := readMessage(client)
		if err != nil {
			return
		}
		answer, err := s.ask(db, request)
		if err != nil {
			return
		}
		if _, err := client.Write(answer); err != nil {
			return
		}
	}
}

func (s *Server) ask(db net.Conn, request []byte) ([]byte, error) {
	s.turn.Lock()
	defer s.turn.Unlock()
	if _, err := db.Write(request); err != nil {
		return nil, err
	}
	return readMessage(db)
}

// maxMessage is the wire protocol's own limit.
const maxMessage = 48_000_000

// readMessage reads one message: its first four bytes are its length.
func readMessage(from io.Reader) ([]byte, error) {
	var header [4]byte
	if _, err := io.ReadFull(from, header[:]); err != nil {
		return nil, err
	}
	size := binary.LittleEndian.Uint32(header[:])
	if size < 16 || size > maxMessage {
		return nil, fmt.Errorf("a message of %d bytes", size)
	}
	message := make([]byte, size)
	copy(message, header[:])
	_, err := io.ReadFull(from, message[4:])
	return message, err
}
