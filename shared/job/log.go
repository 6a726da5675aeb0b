package job

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
)

// logWriter keeps the beginning and the end of a log of any length. The log is
// cut into segments, files named by their offset; the first (half of what may be
// kept) stays, and of the others (a quarter each) the last two. So what is on
// disk says by itself what is missing, whenever the writer dies.
type logWriter struct {
	dir     string
	max     int64
	offset  int64    // of the next byte
	left    int64    // room in the segment
	segment *os.File // nil: none open
	tail    []string // segments after the first, the oldest first
}

func newLog(dir string, limit int64) (*logWriter, error) {
	return &logWriter{dir: dir, max: limit}, os.MkdirAll(dir, 0o700)
}

// Write never fails and never waits for anything but the disk: what cannot be
// written (the disk is full) is missing from the log.
func (l *logWriter) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		if l.segment == nil {
			l.open()
		}
		n := min(int64(len(rest)), max(l.left, 1))
		if l.segment != nil {
			if _, err := l.segment.Write(rest[:n]); err != nil {
				l.left = n // the next byte opens a segment of its own
			}
		}
		l.offset, l.left, rest = l.offset+n, l.left-n, rest[n:]
		if l.left <= 0 {
			l.close()
		}
	}
	return len(p), nil
}

func (l *logWriter) open() {
	name := filepath.Join(l.dir, fmt.Sprintf("%019d", l.offset))
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if l.left = l.max / 4; l.offset == 0 {
		l.left = l.max / 2
	}
	if err != nil {
		return
	}
	l.segment = file
	if l.offset == 0 {
		return
	}
	if l.tail = append(l.tail, name); len(l.tail) > 2 {
		// A segment that cannot be removed costs disk, nothing else.
		_ = os.Remove(l.tail[0])
		l.tail = l.tail[1:]
	}
}

func (l *logWriter) close() {
	if l.segment != nil {
		_ = l.segment.Close() // what it could not write is missing, as above
	}
	l.segment = nil
}

// readLog returns the log that a logWriter left in dir, with a line where
// something is missing, and its last line ended. An absent log is empty.
func readLog(dir string) (io.ReadCloser, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	all := &segments{}
	var parts []io.Reader
	var end int64
	for _, e := range entries {
		offset, err := strconv.ParseInt(e.Name(), 10, 64)
		if err != nil {
			continue
		}
		file, err := os.Open(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, errors.Join(err, all.Close())
		}
		all.files = append(all.files, file)
		if offset > end {
			parts = append(parts, note("\n[kernelflow: %d bytes of the log left out here]\n", offset-end))
		}
		info, err := file.Stat()
		if err != nil {
			return nil, errors.Join(err, all.Close())
		}
		parts = append(parts, file)
		end = offset + info.Size()
	}
	if n := len(all.files); n > 0 && !endsItsLine(all.files[n-1]) {
		parts = append(parts, note("\n"))
	}
	all.Reader = io.MultiReader(parts...)
	return all, nil
}

// endsItsLine says whether nothing or a newline is at the end of the file.
func endsItsLine(f *os.File) bool {
	end, err := f.Seek(-1, io.SeekEnd)
	if err != nil {
		return true // empty
	}
	var last [1]byte
	_, err = f.ReadAt(last[:], end)
	_, back := f.Seek(0, io.SeekStart)
	return errors.Join(err, back) == nil && last[0] == '\n'
}

type segments struct {
	io.Reader
	files []*os.File
}

func (s *segments) Close() error {
	var problems []error
	for _, f := range s.files {
		problems = append(problems, f.Close())
	}
	return errors.Join(problems...)
}
