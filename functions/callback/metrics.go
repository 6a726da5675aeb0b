package callback

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// counts are the counters of this process, under the names that KernelCI's
// pipeline gives them.
type counts struct {
	requests, calls, refused prometheus.Counter
	callbacks, strangers     prometheus.Counter
}

// handler makes the counters and what shows them.
func (c *counts) handler() http.Handler {
	registry := prometheus.NewRegistry()
	counter := func(name, help string) prometheus.Counter {
		made := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: prometheus.Labels{"kind": "pipeline_callback"}})
		registry.MustRegister(made)
		return made
	}
	c.requests = counter("http_requests_total", "requests of any kind")
	c.calls = counter("pipeline_api_requests_total", "requests for checkouts, retries and patchsets")
	c.refused = counter("pipeline_api_auth_fail_total", "those of them that no good token came with")
	c.callbacks = counter("lava_callback_requests_total", "callbacks of labs")
	c.strangers = counter("lava_callback_requests_authfail_total", "those of them that no lab's token came with")
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
}

func (c *counts) counting(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.requests.Inc()
		next.ServeHTTP(w, r)
	})
}
