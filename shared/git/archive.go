package git

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/klauspost/pgzip"

	"github.com/kernelflow/kernelflow/shared/errs"
)

// The compression. The bytes depend on level and block size alone; how many
// blocks are in work at once follows the machine, within about 4 MiB each.
const (
	gzipLevel  = 6
	blockSize  = 1 << 20
	mostBlocks = 8
)

// Archive writes the commit's source, with the patches of Apply, as a gzipped
// tar to w, everything below the folder prefix ("" for none). It streams: nothing is kept on disk, and
// memory does not grow with the archive. Bytes before compression go to
// report, which may be nil. An error of w is returned as it is, wrapped.
func (s *Snapshot) Archive(ctx context.Context, prefix string, w io.Writer, report func(Progress)) error {
	err := s.archive(ctx, prefix, w, report)
	if err != nil {
		return fmt.Errorf("git.Archive(%s): %w", s.mirror.want.ID, err)
	}
	return nil
}

func (s *Snapshot) archive(ctx context.Context, prefix string, w io.Writer, report func(Progress)) error {
	gz, err := pgzip.NewWriterLevel(w, gzipLevel)
	if err != nil {
		return errs.Wrap(errs.Invalid, err)
	}
	if err := gz.SetConcurrency(blockSize, min(runtime.GOMAXPROCS(0), mostBlocks)); err != nil {
		return errs.Wrap(errs.Invalid, err)
	}
	gz.ModTime = time.Unix(0, 0)
	err = s.tar(ctx, prefix, &meter{w: gz, report: report})
	if closeErr := gz.Close(); closeErr != nil && err == nil {
		err = fmt.Errorf("write: %w", closeErr)
	}
	return err
}

func (s *Snapshot) tar(ctx context.Context, prefix string, w io.Writer) error {
	args := []string{"archive", "--format=tar"}
	if prefix != "" {
		args = append(args, "--prefix="+prefix+"/")
	}
	c := s.call(append(args, s.source())...)
	c.out = w
	return s.explain(s.mirror.git.run(ctx, c))
}

// reportEvery is how many bytes of an archive lie between two reports.
const reportEvery = 8 << 20

// meter counts what passes.
type meter struct {
	w      io.Writer
	report func(Progress)
	count  int64
}

func (m *meter) Write(p []byte) (int, error) {
	n, err := m.w.Write(p)
	before := m.count
	m.count += int64(n)
	if m.report != nil && before/reportEvery != m.count/reportEvery {
		m.report(Progress{Phase: "Archiving", Bytes: m.count})
	}
	return n, err
}
