package api

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
)

// mostLags is how many durable subscribers have a lag of their own among the
// metrics: those that are furthest behind.
const mostLags = 100

// lags tells how far durable subscribers are behind, each time it is asked.
type lags struct{ f *Function }

var (
	lagDesc = prometheus.NewDesc("kernelflow_subscriber_lag_events",
		"events in the log behind what a durable subscriber has acknowledged; of the 100 that are furthest behind", []string{"subscriber_id"}, nil)
	lagUp = prometheus.NewDesc("kernelflow_subscriber_lag_up", "1 when the lags could be read", nil, nil)
)

// Describe implements prometheus.Collector.
func (l lags) Describe(descs chan<- *prometheus.Desc) { descs <- lagDesc; descs <- lagUp }

// Collect implements prometheus.Collector. Trouble with the store must not
// take the other metrics with it.
func (l lags) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), readyTime)
	defer cancel()
	up := 1.0
	if err := l.collect(ctx, metrics); err != nil {
		l.f.log.Warn("reading the lags of subscribers", "error", err)
		up = 0
	}
	metrics <- prometheus.MustNewConstMetric(lagUp, prometheus.GaugeValue, up)
}

func (l lags) collect(ctx context.Context, metrics chan<- prometheus.Metric) error {
	durable, err := l.f.store.Durable(ctx, mostLags)
	if err != nil {
		return err
	}
	last, err := l.f.store.LastSequence(ctx)
	if err != nil {
		return err
	}
	for _, s := range durable {
		// A name that is no text, as another program may have stored, is left out.
		if printable("subscriber_id", s.SubscriberID) == nil {
			metrics <- prometheus.MustNewConstMetric(lagDesc, prometheus.GaugeValue, float64(statsOf(s, last).Lag), s.SubscriberID)
		}
	}
	return nil
}

// waitingGauge tells how many listeners wait at this instance.
func (f *Function) waitingGauge() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "kernelflow_listeners_waiting", Help: "polls that wait for an event at this instance",
	}, func() float64 { return float64(f.waiting.Load()) })
}
