package git

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
)

// lockPoll is how often a lock that somebody holds is tried again: flock
// itself cannot be given up when a context ends.
const lockPoll = 50 * time.Millisecond

// openLock opens the lock file and takes it for itself alone.
func openLock(ctx context.Context, path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, errs.Wrap(errs.Temporary, err)
	}
	if err := flock(ctx, f, syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// flock takes or changes the lock, waiting until others let it go.
func flock(ctx context.Context, f *os.File, how int) error {
	clock := time.NewTicker(lockPoll)
	defer clock.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return errs.Wrap(errs.Temporary, fmt.Errorf("flock %s: %w", f.Name(), err))
		}
		select {
		case <-clock.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", f.Name(), ctx.Err())
		}
	}
}
