package emulator

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/app"
	"github.com/kernelflow/kernelflow/shared/bus/redis"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/relay"
	"github.com/kernelflow/kernelflow/shared/store/sqlite"
)

// outboxed is a store whose commits reach the log by Collect alone, as
// MongoDB's do; meanwhile runs once, during the next Find.
type outboxed struct {
	*sqlite.Store
	collected int64
	meanwhile func()
}

func (s *outboxed) Collect(ctx context.Context) (int, error) {
	last, err := s.Store.LastSequence(ctx)
	found := int(last - s.collected)
	s.collected = last
	return found, err
}

func (s *outboxed) LastSequence(context.Context) (int64, error) { return s.collected, nil }

func (s *outboxed) Find(ctx context.Context, q node.Query) ([]node.Node, error) {
	if s.meanwhile != nil {
		s.meanwhile()
		s.meanwhile = nil
	}
	return s.Store.Find(ctx, q)
}

func TestFaultsInWhatIsTakenOverCount(t *testing.T) {
	now := time.Date(2025, 1, 12, 8, 0, 0, 0, time.UTC)
	clock := func() time.Time { now = now.Add(time.Minute); return now }
	st, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "x.db"), Now: clock})
	check(t, err)
	b, err := redis.Embedded(slog.New(slog.DiscardHandler))
	check(t, err)
	defer func() { check(t, b.Close()) }()
	r := relay.New(st, b, slog.New(slog.DiscardHandler))
	defer func() { check(t, r.Close()) }()
	e := &Emulator{app: &app.App{Store: r, Now: clock}}
	add := func(name string, change func(*node.Node)) {
		n := node.Node{ID: node.DeriveID("", name), Name: name, Path: []string{name}, State: node.Running}
		change(&n)
		_, err := st.Create(t.Context(), n)
		check(t, err)
	}
	faulty := func(n *node.Node) { n.SetError(node.Incomplete, node.ErrCodeSubmit, "no lab") }
	add("of an earlier run that ended", faulty)
	for begun, want := range []int{0, 1} {
		if begun == 1 {
			add("checkout", func(*node.Node) {})
			add("job", faulty)
		}
		since, err := e.oldestPending(t.Context())
		check(t, err)
		faults, err := e.faults(t.Context(), since, nil)
		check(t, err)
		if len(faults) != want {
			t.Errorf("faults %q, want %d", faults, want)
		}
	}
}

func TestAWriteThatSlipsInIsPendingAlsoBeforeTheLogHasIt(t *testing.T) {
	ctx, log := t.Context(), slog.New(slog.DiscardHandler)
	st, err := sqlite.Open(ctx, sqlite.Options{Path: filepath.Join(t.TempDir(), "x.db"), Now: time.Now})
	check(t, err)
	b, err := redis.Embedded(log)
	check(t, err)
	defer func() { check(t, b.Close()) }()
	late := &outboxed{Store: st, meanwhile: func() {
		_, err := st.Create(ctx, node.Node{ID: node.DeriveID("", "x"), Name: "x", Path: []string{"x"}, State: node.Done})
		check(t, err)
	}}
	r := relay.New(late, b, log)
	defer func() { check(t, r.Close()) }()
	e := &Emulator{app: &app.App{Store: r}}
	for look, want := range []bool{false, true} {
		idle, err := e.idle(ctx)
		check(t, err)
		if idle != want {
			t.Errorf("look %d: idle is %v", look+1, idle)
		}
	}
}
