package api

import (
	"cmp"
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// readyTime bounds how long the parts may take to answer.
const readyTime = 5 * time.Second

// healthRoutes adds what operators look at, and returns how to measure the
// requests of a handler.
func (f *Function) healthRoutes(mux *router) func(http.Handler) http.Handler {
	registry := prometheus.NewRegistry()
	requests := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "kernelflow_http_request_seconds", Help: "how long requests took, by method, route and status",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60},
	}, []string{"method", "route", "status"})
	last := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "kernelflow_events_last_sequence", Help: "sequence of the newest event in the log",
	}, func() float64 {
		ctx, cancel := context.WithTimeout(context.Background(), readyTime)
		defer cancel()
		n, err := f.store.LastSequence(ctx)
		if err != nil {
			return -1
		}
		return float64(n)
	})
	registry.MustRegister(requests, last, lags{f}, f.waitingGauge(), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	all := prometheus.Gatherers{registry}
	if f.metrics != nil {
		all = append(all, f.metrics)
	}
	mux.HandleFunc("GET /metrics", promhttp.HandlerFor(all, promhttp.HandlerOpts{}).ServeHTTP)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { writeText(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", f.ready)
	return func(next http.Handler) http.Handler { return measure(next, requests) }
}

func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	// The client has gone when this fails.
	_, _ = w.Write([]byte(text + "\n"))
}

// ready asks all parts at once and names those that do not answer.
func (f *Function) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTime)
	defer cancel()
	parts := []struct {
		name string
		ping func(context.Context) error
	}{{"store", f.store.Ping}, {"storage", f.storage.Ping}, {"channel", f.bus.Ping}}
	problems := make([]error, len(parts))
	var group sync.WaitGroup
	for i, part := range parts {
		group.Go(func() { problems[i] = part.ping(ctx) })
	}
	group.Wait()
	var away []string
	for i, part := range parts {
		if problems[i] != nil {
			f.log.Warn("not ready", "part", part.name, "error", problems[i])
			away = append(away, "the "+part.name+" does not answer")
		}
	}
	if len(away) > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(retryAfter.Seconds())))
		writeText(w, http.StatusServiceUnavailable, strings.Join(away, "; "))
		return
	}
	writeText(w, http.StatusOK, "ready")
}

// statusWriter remembers the status of an answer; 0 until it begins.
type statusWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *statusWriter) Write(b []byte) (int, error) {
	w.status = cmp.Or(w.status, http.StatusOK)
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func measure(next http.Handler, requests *prometheus.HistogramVec) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		sw := &statusWriter{ResponseWriter: w}
		next.ServeHTTP(sw, r)
		requests.WithLabelValues(method(r.Method), route(r.URL.Path), strconv.Itoa(cmp.Or(sw.status, http.StatusOK))).Observe(time.Since(start).Seconds())
	})
}

var known = map[string]bool{
	"node": true, "nodes": true, "count": true, "batch": true, "events": true, "subscribe": true, "listen": true, "unsubscribe": true,
	"publish": true, "push": true, "pop": true, "user": true, "whoami": true, "storage": true, "stats": true, "dead-letters": true,
	"metrics": true, "healthz": true, "readyz": true, "docs": true,
	"kv": true, "telemetry": true, "viewer": true, "dashboard": true, "analytics": true, "manage": true,
}

// route is the first part of a path, from a bounded set: what strangers ask
// for must not fill the memory.
func route(path string) string {
	for _, prefix := range []string{"/latest/", "/v0/", "/"} {
		if rest, ok := strings.CutPrefix(path, prefix); ok {
			first, _, _ := strings.Cut(rest, "/")
			if known[first] {
				return first
			}
			return "other"
		}
	}
	return "other"
}

func method(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
		return m
	}
	return "other"
}
