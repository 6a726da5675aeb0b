package api_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/kernelflow/kernelflow/functions/api"
	"github.com/kernelflow/kernelflow/shared/auth"
	"github.com/kernelflow/kernelflow/shared/bus/redis"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/relay"
	"github.com/kernelflow/kernelflow/shared/storage/blob"
	"github.com/kernelflow/kernelflow/shared/store"
	"github.com/kernelflow/kernelflow/shared/store/mongo"
	"github.com/kernelflow/kernelflow/shared/store/mongo/mongotest"
	"github.com/kernelflow/kernelflow/shared/store/sqlite"
	"github.com/kernelflow/kernelflow/shared/store/storetest"
	"github.com/kernelflow/kernelflow/shared/user"
)

// world is what instances share: a database and a Redis channel.
type world struct {
	t         *testing.T
	openStore func(context.Context) (store.Store, error)
	redis     redis.Options
	auth      *auth.Auth
	files     string
}

func newWorld(t *testing.T, open func(context.Context) (store.Store, error)) *world {
	w := &world{t: t, openStore: open, redis: redis.Options{Addr: os.Getenv("TEST_REDIS_URL"), Prefix: "test:" + t.Name() + ":"}, files: t.TempDir()}
	if w.redis.Addr == "" {
		server := miniredis.RunT(t)
		server.ClockTTL(true)
		w.redis.Addr = server.Addr()
	}
	var err error
	w.auth, err = auth.New(auth.Options{Secret: []byte("a secret of enough bytes"), Now: time.Now})
	check(t, err)
	return w
}

// instance is one process of the API.
type instance struct {
	*relay.Relay
	address string
	server  *http.Server
	closers []io.Closer // the first opened first
}

// open starts a process.
func (w *world) open(ctx context.Context) (*instance, error) {
	log := slog.New(slog.DiscardHandler)
	b, err := redis.Open(w.redis)
	if err != nil {
		return nil, err
	}
	st, err := w.openStore(ctx)
	if err != nil {
		return nil, err
	}
	i := &instance{Relay: relay.New(st, b, log)}
	watch := relay.NewWatch(i.Relay, b, time.Second, log)
	files, err := blob.Open("file://"+w.files, "http://storage.example.org/storage")
	if err != nil {
		return nil, err
	}
	i.closers = []io.Closer{b, i.Relay, watch, files}
	handler, err := api.New(api.Options{
		Store: i.Relay, Watch: watch, Bus: b, Storage: files, Auth: w.auth, KeepAlive: 5 * time.Second, Now: time.Now, Rand: rand.Reader, Log: log,
	})
	if err != nil {
		return nil, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	i.address = listener.Addr().String()
	i.server = &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	go func() { _ = i.server.Serve(listener) }() // until it is closed
	return i, nil
}

// Close ends it abruptly: answers under way are cut off.
func (i *instance) Close() error {
	problems := []error{i.server.Close()}
	for _, c := range slices.Backward(i.closers) {
		problems = append(problems, c.Close())
	}
	return errors.Join(problems...)
}

// follower is a durable subscriber that polls two addresses in turn. When a
// poll breaks off it subscribes again, as a client must, and skips what it has
// had.
type follower struct {
	addresses *[2]atomic.Value // strings
	token     string
	query     string
	sub       store.Subscription
	seen      int64          // sequence of its last event
	counts    map[string]int // of each node, the last write that it was told of
	events    int
	repeats   int
	broken    int
}

func (f *follower) ask(ctx context.Context, turn int, method, path string, answer any) error {
	r, err := http.NewRequestWithContext(ctx, method, "http://"+f.addresses[turn%2].Load().(string)+path, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+f.token)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", response.StatusCode)
	}
	return json.NewDecoder(response.Body).Decode(answer)
}

func (f *follower) subscribe(ctx context.Context, turn int) error {
	return f.ask(ctx, turn, "POST", "/latest/subscribe/node?"+f.query, &f.sub)
}

// follow polls until it has had that many events.
func (f *follower) follow(ctx context.Context, want int, progress func(events int)) error {
	for turn := 0; f.events < want && ctx.Err() == nil; turn++ {
		var h heard
		if err := f.ask(ctx, turn, "GET", fmt.Sprint("/latest/listen/", f.sub.ID), &h); err != nil {
			f.broken++
			for again := turn + 1; f.subscribe(ctx, again) != nil && ctx.Err() == nil; again++ {
				f.broken++
			}
			continue
		}
		before := f.events
		if err := f.take(h); err != nil {
			return err
		}
		if f.events > before {
			progress(f.events)
		}
	}
	return ctx.Err()
}

// take checks that the event is the next one of its writer.
func (f *follower) take(h heard) error {
	var ce struct {
		Sequence int64           `json:"_sequence_id"`
		Data     json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal([]byte(h.Data), &ce); err != nil {
		return err
	}
	if string(ce.Data) == `"BEEP"` {
		return nil
	}
	if ce.Sequence <= f.seen {
		f.repeats++
		return nil
	}
	f.seen = ce.Sequence
	var data struct {
		ID   string         `json:"id"`
		Data map[string]any `json:"data"`
	}
	if err := json.Unmarshal(ce.Data, &data); err != nil {
		return err
	}
	write, _ := data.Data["write"].(float64)
	if int(write) != f.counts[data.ID]+1 {
		return fmt.Errorf("event %d tells of write %v of node %s, the last was %d", ce.Sequence, write, data.ID, f.counts[data.ID])
	}
	f.counts[data.ID]++
	f.events++
	return nil
}

const writers = 8

// write has each writer update its own node, which tells in each event the how
// manieth write it is.
func write(ctx context.Context, st store.Writer, each int) error {
	problems := make([]error, writers)
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			for count := 1; count <= each && problems[w] == nil; count++ {
				_, problems[w] = st.Update(ctx, storetest.ID(w+1), func(n *node.Node) error { n.Set("write", count); return nil })
			}
		})
	}
	group.Wait()
	return errors.Join(problems...)
}

// members makes bob and admin, and a node for each writer; every other is bob's.
func (w *world) members(st store.Store) (bob string) {
	for n, name := range []string{"bob", "admin"} {
		check(w.t, st.CreateUser(w.t.Context(), user.User{ID: storetest.ID(100 + n), Username: name, Email: name + "@example.org", Active: true, Verified: true}))
	}
	for n := range writers {
		c := storetest.Checkout(n + 1)
		c.Owner = []string{"bob", "admin"}[n%2]
		_, err := st.Create(w.t.Context(), c)
		check(w.t, err)
	}
	bob, err := w.auth.UserToken(storetest.ID(100))
	check(w.t, err)
	return bob
}

// follows has durable subscribers poll two instances in turn, one of which is
// closed and opened anew again and again, while a third process writes.
func (w *world) follows(total, restarts int) {
	t, ctx := w.t, w.t.Context()
	steady, err := w.open(ctx)
	check(t, err)
	frail, err := w.open(ctx)
	check(t, err)
	writer, err := w.open(ctx)
	check(t, err)
	var addresses [2]atomic.Value
	addresses[0].Store(steady.address)
	addresses[1].Store(frail.address)
	bob := w.members(writer)
	check(t, writer.Flush(ctx)) // what has been written so far is nobody's to hear

	step := make(chan struct{})
	restarted := 0
	var group sync.WaitGroup
	group.Go(func() {
		for range step {
			restarted++
			if err := frail.Close(); err != nil {
				t.Errorf("closing: %v", err)
			}
			if frail, err = w.open(ctx); err != nil {
				t.Errorf("opening anew: %v", err)
				return
			}
			addresses[1].Store(frail.address)
		}
	})
	var followers sync.WaitGroup
	for query, part := range map[string]int{"subscriber_id=all&promisc=true": total, "subscriber_id=own": total / 2} {
		f := &follower{addresses: &addresses, token: bob, query: query, counts: map[string]int{}}
		check(t, f.subscribe(ctx, 0))
		followers.Go(func() {
			every := part/(restarts+1) + 1
			err := f.follow(ctx, part, func(events int) {
				if part == total && events%every == 0 {
					step <- struct{}{}
				}
			})
			if err != nil || f.events != part {
				t.Errorf("%s: %d of %d events: %v", query, f.events, part, err)
			}
			t.Logf("%s: %d events, %d polls or subscriptions broke off, %d events came again", query, f.events, f.broken, f.repeats)
		})
	}
	check(t, write(ctx, writer, total/writers))
	followers.Wait()
	close(step)
	group.Wait()
	if restarted != restarts {
		t.Errorf("restarted %d times, not %d", restarted, restarts)
	}
	check(t, errors.Join(writer.Close(), frail.Close(), steady.Close()))
}

// manyEvents is how many events go through: TEST_EVENTS, or fewer for a quick
// test.
func manyEvents(t *testing.T, otherwise int) int {
	text := os.Getenv("TEST_EVENTS")
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	check(t, err)
	return n
}

func TestTwoInstancesGiveDurableSubscribersEachEventInOrder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	w := newWorld(t, func(ctx context.Context) (store.Store, error) {
		return sqlite.Open(ctx, sqlite.Options{Path: path, Now: time.Now})
	})
	w.follows(manyEvents(t, 2000), 5)
}

func TestTwoInstancesOnMongoGiveDurableSubscribersEachEventInOrder(t *testing.T) {
	uri := mongotest.Start(t)
	w := newWorld(t, func(ctx context.Context) (store.Store, error) {
		return mongo.Open(ctx, mongo.Options{URI: uri, Database: "two", Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	})
	w.follows(5*writers, 1)
}
