package scheduler

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/runtime"
)

// Bounds of what one runtime gets.
const (
	atOnce    = 8                // submissions that one runtime handles at once
	allowance = 30 * time.Second // what it may take for the jobs of one event or pass
	askTime   = 3 * time.Second  // what it may take to say how full it is
	trips     = 3                // failures in a row after which it is left alone
	coolest   = 5 * time.Minute  // for at most this long
	cooler    = 15 * time.Second // and at first for this long
)

// errWaits says that a job is still to be submitted, and that nobody is to blame.
var errWaits = errs.New(errs.Temporary, "the runtime is not asked now")

// lane is the way to one runtime: so many jobs at once and no more, and none
// while the runtime does not answer. Each instance of the function has its own.
type lane struct {
	name    string
	runtime runtime.Runtime
	now     func() time.Time
	slots   chan struct{}
	gauges  gauges

	mu     sync.Mutex
	failed int       // in a row
	until  time.Time // nothing is asked before; zero: it answers
	trial  bool      // one asks whether it answers again
}

func newLane(name string, r runtime.Runtime, g gauges, now func() time.Time) *lane {
	g.up.WithLabelValues(name).Set(1)
	return &lane{name: name, runtime: r, now: now, gauges: g, slots: make(chan struct{}, atOnce)}
}

// open says whether the runtime may be asked.
func (l *lane) open() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.until.IsZero() || !l.trial && !l.now().Before(l.until)
}

// enter begins a call; false while the runtime is left alone. After that time one
// call tries it, and others wait for what comes of it.
func (l *lane) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.until.IsZero() {
		return true
	}
	if l.trial || l.now().Before(l.until) {
		return false
	}
	l.trial = true
	return true
}

// leave ends a call. A runtime that refuses something answers all the same.
func (l *lane) leave(ctx context.Context, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trial = false
	switch {
	case errors.Is(ctx.Err(), context.Canceled): // the host is stopping
	case err == nil || !errs.Retry(err):
		l.failed, l.until = 0, time.Time{}
		l.gauges.up.WithLabelValues(l.name).Set(1)
	default:
		if l.failed++; l.failed >= trips {
			l.until = l.now().Add(min(coolest, cooler<<min(l.failed-trips, 8)))
			l.gauges.up.WithLabelValues(l.name).Set(0)
		}
	}
}

// submit hands a job over, when its turn comes before ctx ends. errWaits when it
// did not come to that.
func (l *lane) submit(ctx context.Context, j runtime.Job) (string, error) {
	waiting := l.gauges.queue.WithLabelValues(l.name)
	waiting.Inc()
	defer waiting.Dec()
	select {
	case l.slots <- struct{}{}:
		defer func() { <-l.slots }()
	case <-ctx.Done():
		return "", errWaits
	}
	if ctx.Err() != nil || !l.enter() {
		return "", errWaits
	}
	id, err := l.runtime.Submit(ctx, j)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) && err != nil && errs.KindOf(err) == nil {
		err = errs.Wrap(errs.Temporary, fmt.Errorf("no answer in %s: %w", allowance, err))
	}
	l.leave(ctx, err)
	if err != nil {
		l.gauges.failed.WithLabelValues(l.name).Inc()
		return "", err
	}
	l.gauges.submitted.WithLabelValues(l.name).Inc()
	return id, nil
}

// full says why the runtime should get no job for a device type now; "" when it
// may, or when it cannot say: then the submission will tell.
func (l *lane) full(ctx context.Context, deviceType string, priority float64) (string, error) {
	t, ok := l.runtime.(runtime.Throttle)
	if !ok || !l.enter() {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	reason, err := t.Full(ctx, deviceType, priority)
	l.leave(ctx, err)
	return reason, err
}

// gauges measure the runtimes, over all functions that share a registry.
type gauges struct {
	submitted, failed *prometheus.CounterVec
	queue, up         *prometheus.GaugeVec
}

func newGauges(r prometheus.Registerer) gauges {
	of := []string{"runtime"}
	return gauges{
		submitted: shared(r, prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kernelflow_runtime_submitted_total", Help: "jobs that the runtime took"}, of)),
		failed:    shared(r, prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kernelflow_runtime_failed_total", Help: "submissions that it did not take"}, of)),
		queue:     shared(r, prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "kernelflow_runtime_queue", Help: "jobs that are handed over now or wait for it"}, of)),
		up:        shared(r, prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "kernelflow_runtime_up", Help: "1 while the runtime answers, 0 while it is left alone"}, of)),
	}
}

// shared registers a collector, or returns the one that is there.
func shared[C prometheus.Collector](r prometheus.Registerer, c C) C {
	var there prometheus.AlreadyRegisteredError
	if err := r.Register(c); errors.As(err, &there) {
		if earlier, ok := there.ExistingCollector.(C); ok {
			return earlier
		}
	}
	return c
}
