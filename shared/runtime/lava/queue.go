package lava

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/kernelflow/kernelflow/shared/runtime"
)

var _ runtime.Throttle = (*Runtime)(nil)

// fresh is how long what the lab said of a queue is taken for true.
const fresh = 10 * time.Second

// queues are those of the lab's device types, as far as they were asked for.
type queues struct {
	mu    sync.Mutex
	known map[string]*queue
}

// queue is the jobs that wait for devices of one type.
type queue struct {
	mu      sync.Mutex
	asked   time.Time
	waiting int // as the lab said, and what was let in since
	devices int // that are in good health
}

func (q *queues) of(deviceType string) *queue {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.known[deviceType] == nil {
		q.known[deviceType] = &queue{}
	}
	return q.known[deviceType]
}

// Full implements runtime.Throttle.
func (r *Runtime) Full(ctx context.Context, deviceType string, priority float64) (string, error) {
	if r.options.QueueDepth < 1 {
		return "", nil
	}
	q := r.queues.of(deviceType)
	q.mu.Lock()
	defer q.mu.Unlock()
	if now := r.options.Now(); q.asked.IsZero() || now.Sub(q.asked) >= fresh {
		if err := r.ask(ctx, deviceType, q); err != nil {
			return "", fmt.Errorf("lava.Full(%.80s): %w", deviceType, err)
		}
		q.asked = now
	}
	if q.devices == 0 {
		return fmt.Sprintf("device type %.80s has no online devices", deviceType), nil
	}
	factor := 1 + max(0, min(1, priority))*(max(1, r.options.Factor)-1)
	if room := int(float64(r.options.QueueDepth*q.devices) * factor); q.waiting >= room {
		return fmt.Sprintf("device type %.80s: %d jobs are waiting, %d may: %d for each of %d online devices, times %.2f for its priority",
			deviceType, q.waiting, room, r.options.QueueDepth, q.devices, factor), nil
	}
	q.waiting++
	return "", nil
}

// maxPages bounds the pages of a list that are read.
const maxPages = 40

// ask asks the lab for the queue.
func (r *Runtime) ask(ctx context.Context, deviceType string, q *queue) error {
	devices := 0
	for offset := range maxPages {
		var list page[struct {
			Type   string  `json:"device_type"`
			Health *string `json:"health"`
		}]
		query := url.Values{"device_type": {deviceType}, "limit": {"256"}, "offset": {fmt.Sprint(offset * 256)}}
		if err := r.lab.do(ctx, http.MethodGet, "devices/", query, nil, &list); err != nil {
			return err
		}
		for _, d := range list.Results {
			if d.Type == deviceType && (d.Health == nil || *d.Health == "Good") {
				devices++
			}
		}
		if list.Next == nil {
			break
		}
	}
	var waiting page[struct{}]
	query := url.Values{"state": {"Submitted"}, "requested_device_type": {deviceType}, "limit": {"1"}}
	if err := r.lab.do(ctx, http.MethodGet, "jobs/", query, nil, &waiting); err != nil {
		return err
	}
	q.devices, q.waiting = devices, waiting.Count
	return nil
}
