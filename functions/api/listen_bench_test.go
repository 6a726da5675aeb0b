package api_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/functions/api"
)

// listenOn polls until ctx ends and says when each answer was there.
func (s *site) listenOn(ctx context.Context, id int64, heard chan<- time.Time) {
	for ctx.Err() == nil {
		r, err := http.NewRequestWithContext(ctx, "GET", fmt.Sprint(s.url, "/latest/listen/", id), nil)
		check(s.t, err)
		r.Header.Set("Authorization", "Bearer "+s.bob)
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			if !errors.Is(err, context.Canceled) {
				s.t.Error(err)
			}
			return
		}
		response.Body.Close()
		select {
		case heard <- time.Now():
		case <-ctx.Done():
		}
	}
}

// BenchmarkPublishToListen publishes one event at a time, with so many who
// listen, and measures from the call to each listener's answer.
func BenchmarkPublishToListen(b *testing.B) {
	for _, listeners := range []int{1, 100} {
		b.Run(fmt.Sprint("listeners=", listeners), func(b *testing.B) {
			s := newSite(b, func(o *api.Options) { o.KeepAlive = time.Hour })
			ctx, stop := context.WithCancel(b.Context())
			heard := make(chan time.Time, listeners)
			var group sync.WaitGroup
			for range listeners {
				id := s.subscribe(s.bob, "?promisc=true")
				group.Go(func() { s.listenOn(ctx, id, heard) })
			}
			s.waitsFor(listeners)
			var took []time.Duration
			for b.Loop() {
				start := time.Now()
				s.want(s.bob, "POST", "/latest/node", `{"name":"x","path":["x"]}`, 200, "")
				for range listeners {
					took = append(took, (<-heard).Sub(start))
				}
			}
			stop()
			group.Wait()
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
		})
	}
}

func memory() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc+m.StackInuse) / (1 << 20)
}

// BenchmarkThousandListenersWait measures the memory of polls that wait, with
// both ends of their connections, and the processor time of an event for
// somebody else.
func BenchmarkThousandListenersWait(b *testing.B) {
	const listeners = 1000
	s := newSite(b, func(o *api.Options) { o.KeepAlive = time.Hour })
	ids := make([]int64, listeners)
	for i := range ids {
		ids[i] = s.subscribe(s.bob, "")
	}
	ctx, stop := context.WithCancel(b.Context())
	before := memory()
	var group sync.WaitGroup
	for _, id := range ids {
		group.Go(func() { s.listenOn(ctx, id, nil) })
	}
	s.waitsFor(listeners)
	took := memory() - before
	for b.Loop() {
		s.want(s.admin, "POST", "/latest/node", `{"name":"x","path":["x"]}`, 200, "")
	}
	if got := s.want("", "GET", "/metrics", "", 200, ""); !strings.Contains(got, "kernelflow_listeners_waiting 1000") {
		b.Error("some no longer wait")
	}
	b.ReportMetric(took, "MB")
	b.ReportMetric(took*1024/listeners, "KB/listener")
	stop()
	group.Wait()
}
