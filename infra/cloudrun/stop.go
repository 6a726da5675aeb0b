package main

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/kernelflow/kernelflow/functions/catalog"
)

// grace is how long requests under way may take when the host stops this
// process, which it kills after ten seconds.
const grace = 8 * time.Second

// stopper ends the framework's server as net/http's would end. The framework
// does not give it out; each request knows it.
type stopper struct {
	ctx    context.Context // ends when the process is to stop
	server atomic.Pointer[http.Server]
}

// stoppable serves a function until the process is to stop: then requests of
// people, which may wait for something to happen, are to end at once, but not
// functions at work.
func (s *stopper) stoppable(f catalog.Function, next http.Handler) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		if server, ok := r.Context().Value(http.ServerContextKey).(*http.Server); ok {
			s.server.Store(server)
		}
		if f.Trigger.Path != "" {
			ctx, cancel := context.WithCancel(r.Context())
			defer cancel()
			defer context.AfterFunc(s.ctx, cancel)()
			r = r.WithContext(ctx)
		}
		defer breakOff(w)
		next.ServeHTTP(w, r)
	}
}

// breakOff closes the connection of an answer that must not be taken for whole.
// The framework would answer on it instead.
func breakOff(w http.ResponseWriter) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler {
		if connection, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_ = connection.Close() // it is to be broken
			return
		}
	}
	panic(p)
}

// stop takes no more requests and waits for those under way.
func (s *stopper) stop() error {
	server := s.server.Load()
	if server == nil {
		return nil // nobody has asked for anything
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), grace)
	defer cancel()
	if server.Shutdown(ctx) != nil {
		return server.Close()
	}
	return nil
}
