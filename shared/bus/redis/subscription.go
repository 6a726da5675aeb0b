package redis

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/kernelflow/kernelflow/shared/bus"
	"github.com/kernelflow/kernelflow/shared/errs"
)

// buffer is how many messages wait for a slow reader before the oldest goes.
const buffer = 256

type subscription struct {
	bus    *Bus
	pubsub *redis.PubSub
	out    chan bus.Message
	ended  chan struct{}
	close  func() error
}

// Subscribe implements bus.Bus.
func (b *Bus) Subscribe(ctx context.Context, channel string) (bus.Subscription, error) {
	var pubsub *redis.PubSub
	if channel == "*" {
		pubsub = b.client.PSubscribe(ctx, b.prefix+"*")
	} else {
		pubsub = b.client.Subscribe(ctx, b.prefix+channel)
	}
	if _, err := pubsub.ReceiveTimeout(ctx, patience); err != nil {
		return nil, errors.Join(wrap(err, "Subscribe(%q)", channel), pubsub.Close())
	}
	s := &subscription{bus: b, pubsub: pubsub, out: make(chan bus.Message, buffer), ended: make(chan struct{})}
	s.close = sync.OnceValue(s.end)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, errors.Join(errs.New(errs.Temporary, "redis.Subscribe(%q): the bus is closed", channel), pubsub.Close())
	}
	b.subs[s] = struct{}{}
	go s.forward()
	return s, nil
}

// Messages implements bus.Subscription.
func (s *subscription) Messages() <-chan bus.Message { return s.out }

// Close implements bus.Subscription.
func (s *subscription) Close() error {
	s.bus.mu.Lock()
	delete(s.bus.subs, s)
	s.bus.mu.Unlock()
	return s.close()
}

// end closes the connection and waits until nothing more is forwarded.
func (s *subscription) end() error {
	err := s.pubsub.Close()
	<-s.ended
	if errors.Is(err, redis.ErrClosed) {
		return nil
	}
	return err
}

// forward hands messages on until the subscription is closed.
func (s *subscription) forward() {
	defer close(s.ended)
	defer close(s.out)
	for m := range s.pubsub.Channel(redis.WithChannelSize(buffer)) {
		s.offer(bus.Message{Channel: strings.TrimPrefix(m.Channel, s.bus.prefix), Payload: []byte(m.Payload)})
	}
}

// offer makes room by dropping the oldest message when the reader is slow.
func (s *subscription) offer(m bus.Message) {
	for {
		select {
		case s.out <- m:
			return
		default:
		}
		select {
		case <-s.out:
		default:
		}
	}
}
