package emulator_test

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/local/emulator"
	"github.com/kernelflow/kernelflow/shared/app"
	"github.com/kernelflow/kernelflow/shared/node"
)

// BenchmarkUpdateToFunction measures from the return of a node's update to the
// request that invokes the scheduler with its event.
func BenchmarkUpdateToFunction(b *testing.B) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(b, err)
	c, err := app.FromEnvironment()
	check(b, err)
	c.Data, c.URL = b.TempDir(), "http://"+listener.Addr().String()
	a, err := app.Open(b.Context(), c, slog.New(slog.DiscardHandler), time.Now, rand.Reader)
	check(b, err)
	defer func() { check(b, a.Close()) }()
	entered := make(chan time.Time, 100)
	watch := func(next http.RoundTripper) http.RoundTripper {
		return round(func(r *http.Request) (*http.Response, error) {
			if strings.HasSuffix(r.URL.Path, "/scheduler") {
				entered <- time.Now()
			}
			return next.RoundTrip(r)
		})
	}
	e, err := emulator.New(b.Context(), a, listener, emulator.Options{Secret: rand.Text(), Transport: watch})
	check(b, err)
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	n, err := a.Store.Create(ctx, node.Node{ID: "65f000000000000000000001", Name: "x", Path: []string{"x"}, TreeID: "x"})
	check(b, err)
	<-entered
	var waits []time.Duration
	for b.Loop() {
		_, err := a.Store.Update(ctx, n.ID, func(n *node.Node) error { n.Set("count", len(waits)); return nil })
		check(b, err)
		updated := time.Now()
		waits = append(waits, (<-entered).Sub(updated))
	}
	slices.Sort(waits)
	b.ReportMetric(float64(waits[len(waits)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(waits[len(waits)*99/100].Microseconds())/1000, "p99-ms")
	cancel()
	check(b, <-ended)
}

type round func(*http.Request) (*http.Response, error)

func (f round) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
