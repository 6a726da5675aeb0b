package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/kernelflow/kernelflow/shared/store/mongo/mongotest"
)

const (
	writers     = 8
	subscribers = 2
)

// trial is two instances that are killed and started again while events are
// written through them and heard from them.
type trial struct {
	t         *testing.T
	instances [2]*service
	killed    int
}

// writer creates nodes, one after the other, and remembers which were
// acknowledged.
type writer struct {
	*client
	name         string
	acknowledged []bool // by write
}

// write creates the next node at the instance, or at the other when that one
// does not listen. An answer that was lost tells nothing.
func (w *writer) write(ctx context.Context, instances [2]*service) (acknowledged bool, err error) {
	write := len(w.acknowledged)
	for turn := write; ; turn++ {
		err := w.create(ctx, instances[turn%2], w.name, write)
		var refused *refusal
		switch {
		case errors.As(err, &refused):
			return false, fmt.Errorf("%s, write %d: %w", w.name, write, err)
		case ctx.Err() != nil:
			return false, ctx.Err()
		case errors.Is(err, syscall.ECONNREFUSED):
			continue
		}
		w.acknowledged = append(w.acknowledged, err == nil)
		return err == nil, nil
	}
}

// follower is a durable subscriber that polls two instances in turn, and does
// nothing about a poll that breaks off but to poll again.
type follower struct {
	*client
	subscription int64
	last         heard
	repeated     int
	broken       int
	seen         map[string][]int // of each writer, in order
}

// follow polls until it hears of the node "end".
func (f *follower) follow(ctx context.Context, instances [2]*service) error {
	for turn := 0; ctx.Err() == nil; turn++ {
		h, err := f.listen(ctx, instances[turn%2], f.subscription)
		var refused *refusal
		if errors.As(err, &refused) {
			return err
		}
		if err != nil {
			f.broken++
			continue
		}
		if ended, err := f.take(h); ended || err != nil {
			return err
		}
	}
	return ctx.Err()
}

// take wants each event behind the one before, or the same again.
func (f *follower) take(h heard) (ended bool, err error) {
	switch h.Sequence {
	case 0:
		return false, nil
	case f.last.Sequence:
		if h.ID != f.last.ID {
			return false, fmt.Errorf("event %d is %s, then %s", h.Sequence, f.last.ID, h.ID)
		}
		f.repeated++
		return false, nil
	case f.last.Sequence + 1:
	default:
		return false, fmt.Errorf("event %d comes after %d", h.Sequence, f.last.Sequence)
	}
	f.last = h
	name, write, err := h.created()
	f.seen[name] = append(f.seen[name], write)
	return name == "end", err
}

// missed is an error when an acknowledged write was not heard of, or not once
// and in order.
func (f *follower) missed(w *writer) error {
	heard := make([]bool, len(w.acknowledged))
	last := -1
	for _, write := range f.seen[w.name] {
		if write <= last {
			return fmt.Errorf("%s: write %d comes after %d", w.name, write, last)
		}
		last, heard[write] = write, true
	}
	for write, acknowledged := range w.acknowledged {
		if acknowledged && !heard[write] {
			return fmt.Errorf("%s: nothing is heard of write %d", w.name, write)
		}
	}
	return nil
}

// killing kills an instance at each of the moments and starts it anew.
func (tr *trial) killing(ctx context.Context, moments <-chan struct{}) error {
	for range moments {
		victim := tr.instances[rand.IntN(len(tr.instances))]
		victim.kill()
		tr.killed++
		if err := victim.start(ctx); err != nil {
			return err
		}
	}
	return nil
}

// writing has each writer create nodes until that many are acknowledged. At
// some random ones an instance is to be killed.
func (tr *trial) writing(ctx context.Context, all []*writer, each, kills int, moments chan<- struct{}) error {
	defer close(moments)
	var written atomic.Int64
	deadly := map[int64]bool{}
	for len(deadly) < kills {
		deadly[1+rand.Int64N(int64(writers*each))] = true
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, w := range all {
		group.Go(func() error {
			for acknowledged := 0; acknowledged < each; {
				yes, err := w.write(ctx, tr.instances)
				if err != nil {
					return err
				}
				if !yes {
					continue
				}
				acknowledged++
				if deadly[written.Add(1)] {
					moments <- struct{}{}
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// run is the whole trial: each subscriber hears of each acknowledged write in
// order, and of at most one twice for each instance that was killed.
func (tr *trial) run(env []string, events, kills int) {
	t := tr.t
	for i := range tr.instances {
		tr.instances[i] = startService(t, "api", env)
	}
	admin := newClient(t)
	admin.logIn(t, tr.instances[0])
	following := make([]*follower, subscribers)
	for i := range following {
		f := &follower{client: newClient(t), seen: map[string][]int{}}
		f.token = admin.token
		f.subscription = f.subscribe(t, tr.instances[i%2], fmt.Sprint("subscriber-", i))
		following[i] = f
	}
	all := make([]*writer, writers)
	for i := range all {
		all[i] = &writer{client: newClient(t), name: fmt.Sprint("writer-", i)}
		all[i].token = admin.token
	}
	group, ctx := errgroup.WithContext(t.Context())
	for _, f := range following {
		group.Go(func() error { return f.follow(ctx, tr.instances) })
	}
	moments := make(chan struct{}, kills)
	killed := make(chan struct{})
	group.Go(func() error {
		defer close(killed)
		return tr.killing(ctx, moments)
	})
	group.Go(func() error {
		err := tr.writing(ctx, all, events/writers, kills, moments)
		<-killed // nobody publishes here what a late kill would leave of the end: no relay function runs
		end := &writer{client: admin, name: "end"}
		for ended := false; err == nil && !ended; {
			ended, err = end.write(ctx, tr.instances)
		}
		return err
	})
	check(t, group.Wait())
	tr.judge(all, following)
}

func (tr *trial) judge(writing []*writer, following []*follower) {
	acknowledged := 0
	for _, w := range writing {
		for _, yes := range w.acknowledged {
			if yes {
				acknowledged++
			}
		}
	}
	tr.t.Logf("%d writes acknowledged, %d kills", acknowledged, tr.killed)
	for i, f := range following {
		for _, w := range writing {
			if err := f.missed(w); err != nil {
				tr.t.Errorf("subscriber %d: %v", i, err)
			}
		}
		if f.repeated > tr.killed {
			tr.t.Errorf("subscriber %d: %d events came again", i, f.repeated)
		}
		tr.t.Logf("subscriber %d: %d events, %d polls broke off, %d events came again", i, f.last.Sequence, f.broken, f.repeated)
	}
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

func TestKilledInstancesLoseNoEventOfADurableSubscriber(t *testing.T) {
	events := manyEvents(t, 800)
	(&trial{t: t}).run(settings(t), events, max(4, events/5000))
}

func TestKilledInstancesOnMongoLoseNoEventOfADurableSubscriber(t *testing.T) {
	(&trial{t: t}).run(settings(t, "MONGO_SERVICE="+mongotest.Start(t)), 10*writers, 2)
}
