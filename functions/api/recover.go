package api

import (
	"errors"
	"net/http"
	"runtime/debug"
)

// errPanic is what a client is told of a fault in the program: 500, no more.
var errPanic = errors.New("a handler panicked")

// recovering answers 500 where next panics, with the reason in the log. An
// answer that has begun is broken off, so that nobody takes it for whole.
func (f *Function) recovering(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sw := &statusWriter{ResponseWriter: w}
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if p == http.ErrAbortHandler {
				panic(p) // net/http's own way to break an answer off
			}
			f.log.Error(errPanic.Error(), "method", r.Method, "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
			if sw.status != 0 {
				panic(http.ErrAbortHandler)
			}
			f.writeError(sw, r, errPanic)
		}()
		next.ServeHTTP(sw, r)
	})
}
