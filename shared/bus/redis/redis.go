// Package redis is the bus on Redis, through go-redis: channels are Redis
// channels, lists are Redis lists, counters are keys that expire, as are the
// sets of those who hold a thing, all under a prefix. [Embedded] starts a Redis in this process (miniredis) for who has
// none; everything else is the same code.
//
// It is safe to lose: see package bus. A connection that breaks is made again
// by go-redis; what was published meanwhile is gone, and the readers of the
// log look again by themselves.
package redis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/kernelflow/kernelflow/shared/bus"
	"github.com/kernelflow/kernelflow/shared/errs"
)

// Options say where the server is.
type Options struct {
	Addr     string // host, host:port or redis:// URL; the port is 6379 by default
	Password string
	Prefix   string // of every channel, list and counter; "kernelflow:" by default
	Log      *slog.Logger
}

// Bus is the driver. See package bus for what each method promises.
type Bus struct {
	client *redis.Client
	prefix string
	log    *slog.Logger
	stop   func()

	mu     sync.Mutex
	closed bool
	subs   map[*subscription]struct{}
}

var _ bus.Bus = (*Bus)(nil)

// patience bounds how long a call waits for a server that is away.
const patience = 3 * time.Second

// Open connects. A server that is away now is no error: it may come.
func Open(o Options) (*Bus, error) {
	options, err := clientOptions(o)
	if err != nil {
		return nil, fmt.Errorf("redis.Open(): %w", err) // the address may hold a password
	}
	prefix := o.Prefix
	if prefix == "" {
		prefix = "kernelflow:"
	}
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Bus{client: redis.NewClient(options), prefix: prefix, log: log, stop: func() {}, subs: map[*subscription]struct{}{}}, nil
}

func clientOptions(o Options) (*redis.Options, error) {
	options := &redis.Options{Addr: o.Addr}
	switch {
	case o.Addr == "":
		return nil, errs.New(errs.Invalid, "no address, give host or host:port")
	case strings.Contains(o.Addr, "://"):
		parsed, err := redis.ParseURL(o.Addr)
		if err != nil {
			return nil, errs.New(errs.Invalid, "not a redis:// URL") // the URL may hold a password
		}
		options = parsed
	case !strings.Contains(o.Addr, ":"):
		options.Addr += ":6379"
	}
	if o.Password != "" {
		options.Password = o.Password
	}
	options.DialTimeout, options.ReadTimeout, options.WriteTimeout, options.PoolTimeout = patience, patience, patience, patience
	options.MaxRetries, options.DialerRetries = 1, 1
	options.ContextTimeoutEnabled = true
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return options, nil
}

// Embedded starts a Redis in this process, on a loopback port of its own, and
// connects to it.
func Embedded(log *slog.Logger) (*Bus, error) {
	server := miniredis.NewMiniRedis()
	server.ClockTTL(true) // without it no key ever expires
	if err := server.Start(); err != nil {
		return nil, fmt.Errorf("redis.Embedded(): %w", errs.Wrap(errs.Temporary, err))
	}
	b, err := Open(Options{Addr: server.Addr(), Log: log})
	if err != nil {
		server.Close()
		return nil, err
	}
	b.stop = server.Close
	return b, nil
}

// Publish implements bus.Bus.
func (b *Bus) Publish(ctx context.Context, channel string, message []byte) error {
	return wrap(b.client.Publish(ctx, b.prefix+channel, message).Err(), "Publish(%q)", channel)
}

// Push implements bus.Bus.
func (b *Bus) Push(ctx context.Context, list string, item []byte) error {
	key := b.prefix + "list:" + list
	length, err := b.client.LLen(ctx, key).Result()
	if err == nil && length >= bus.MostItems {
		err = errs.New(errs.Temporary, "the list is full: it has %d items, and nobody takes them", length)
	}
	if err == nil {
		err = b.client.RPush(ctx, key, item).Err()
	}
	return wrap(err, "Push(%q)", list)
}

// Pop implements bus.Bus. The server waits, so that many can wait at once.
func (b *Bus) Pop(ctx context.Context, list string, wait time.Duration) ([]byte, error) {
	key := b.prefix + "list:" + list
	if wait < time.Second {
		return b.popSoon(ctx, list, key, wait)
	}
	pair, err := b.client.WithTimeout(wait+patience).BLPop(ctx, wait, key).Result()
	if err != nil {
		return nil, wrap(err, "Pop(%q)", list)
	}
	return []byte(pair[1]), nil
}

// popSoon looks at the beginning and at the end of a wait that is shorter than
// Redis can count.
func (b *Bus) popSoon(ctx context.Context, list, key string, wait time.Duration) ([]byte, error) {
	item, err := b.client.LPop(ctx, key).Bytes()
	if wait > 0 && errors.Is(err, redis.Nil) {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return nil, wrap(ctx.Err(), "Pop(%q)", list)
		case <-timer.C:
		}
		item, err = b.client.LPop(ctx, key).Bytes()
	}
	return item, wrap(err, "Pop(%q)", list)
}

// Count implements bus.Bus.
func (b *Bus) Count(ctx context.Context, name string, by int64, window time.Duration) (value int64, rest time.Duration, err error) {
	key := b.prefix + "count:" + name
	var sum *redis.IntCmd
	var left *redis.DurationCmd
	_, err = b.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.SetNX(ctx, key, 0, window)
		sum, left = p.IncrBy(ctx, key, by), p.PTTL(ctx, key)
		return nil
	})
	if err != nil {
		return 0, 0, wrap(err, "Count(%q)", name)
	}
	return sum.Val(), left.Val(), nil
}

// Hold implements bus.Bus. The holders are a set, which Redis removes with the
// last of them.
func (b *Bus) Hold(ctx context.Context, name, holder string, lasts time.Duration) error {
	key := b.held(name)
	_, err := b.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.SAdd(ctx, key, holder)
		p.PExpire(ctx, key, lasts)
		return nil
	})
	return wrap(err, "Hold(%q)", name)
}

// Release implements bus.Bus.
func (b *Bus) Release(ctx context.Context, name, holder string) error {
	return wrap(b.client.SRem(ctx, b.held(name), holder).Err(), "Release(%q)", name)
}

// Held implements bus.Bus.
func (b *Bus) Held(ctx context.Context, name string) (bool, error) {
	n, err := b.client.Exists(ctx, b.held(name)).Result()
	return n > 0, wrap(err, "Held(%q)", name)
}

func (b *Bus) held(name string) string { return b.prefix + "held:" + name }

// Ping implements bus.Bus.
func (b *Bus) Ping(ctx context.Context) error {
	return wrap(b.client.Ping(ctx).Err(), "Ping()")
}

// Close implements bus.Bus.
func (b *Bus) Close() error {
	b.mu.Lock()
	b.closed = true
	subs := b.subs
	b.subs = nil
	b.mu.Unlock()
	var all []error
	for s := range subs {
		all = append(all, s.end())
	}
	all = append(all, b.client.Close())
	b.stop()
	return errors.Join(all...)
}

func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	switch {
	case errors.Is(err, redis.Nil):
		err = errs.New(errs.NotFound, "nothing there")
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
	default:
		err = errs.Wrap(errs.Temporary, err)
	}
	return fmt.Errorf("redis."+format+": %w", append(args, err)...)
}
