package lavaresult

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/kernelflow/kernelflow/shared/runtime"
	"github.com/kernelflow/kernelflow/shared/yaml"
)

// maxLine bounds an entry of a log, bytes; of a longer one the rest is dropped.
const maxLine = 1 << 20

// KeepLog makes the artifacts of a log, LAVA's list of entries, while it streams
// by: the list as it is (lava_logs) and what the device printed (lava_log). A log
// that is empty makes none, and one in which no device printed makes one.
func KeepLog(ctx context.Context, log io.Reader, keep runtime.Keep) (map[string]string, error) {
	in := bufio.NewReaderSize(log, 64<<10)
	if _, err := in.Peek(1); err == io.EOF {
		return nil, nil
	}
	device := newFile(ctx, keep, "log.txt.gz", "application/gzip", true)
	whole := newFile(ctx, keep, "lava-logs.yaml", "application/yaml", false)
	err := split(in, whole, device)
	artifacts := map[string]string{}
	for name, f := range map[string]*file{ArtifactLog: device, ArtifactLogs: whole} {
		link, failed := f.end(err)
		if err = errors.Join(err, failed); link != "" {
			artifacts[name] = link
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the job's log: %w", err)
	}
	return artifacts, nil
}

// split copies the log to whole, and what the device printed to device.
func split(in *bufio.Reader, whole, device io.Writer) error {
	var entry []byte
	flush := func() error {
		defer func() { entry = entry[:0] }()
		if printed := target(entry); printed != "" {
			_, err := io.WriteString(device, printed+"\n")
			return err
		}
		return nil
	}
	for {
		line, err := in.ReadSlice('\n')
		if len(line) > 0 {
			if bytes.HasPrefix(line, []byte("- ")) {
				if err := flush(); err != nil {
					return err
				}
			}
			if len(entry) < maxLine {
				entry = append(entry, line...)
			}
			if _, err := whole.Write(line); err != nil {
				return err
			}
		}
		switch {
		case err == io.EOF:
			return flush()
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return err
		}
	}
}

// entry is one of a log.
type logEntry struct {
	Level   string `json:"lvl" yaml:"lvl"`
	Message any    `json:"msg" yaml:"msg"`
}

// target is what a device printed in an entry, fit to be read; "" for entries of
// another kind.
func target(text []byte) (printed string) {
	defer func() { _ = recover() }() // a fault in the parser of one entry is no reason to lose the others
	body, ok := bytes.CutPrefix(text, []byte("- "))
	var e logEntry
	if !ok || json.Unmarshal(body, &e) != nil && yaml.Unmarshal(body, &e) != nil || e.Level != "target" {
		return ""
	}
	message, _ := e.Message.(string)
	return strings.Map(func(r rune) rune {
		switch {
		case r == 0:
			return -1
		case r == '\n' || r == '\t' || unicode.IsPrint(r):
			return r
		}
		return '?'
	}, strings.ReplaceAll(strings.TrimSpace(message), "\x1b", "^["))
}

// file is an artifact that is kept while it is written, from its first byte on.
type file struct {
	keep   func(io.Reader) (string, error)
	packed bool
	in     *io.PipeWriter
	out    io.WriteCloser // nil: not begun
	done   chan struct{}
	link   string
	err    error
}

func newFile(ctx context.Context, keep runtime.Keep, name, contentType string, packed bool) *file {
	return &file{packed: packed, done: make(chan struct{}), keep: func(r io.Reader) (string, error) {
		return keep(ctx, name, contentType, r)
	}}
}

func (f *file) begin() {
	r, w := io.Pipe()
	f.in, f.out = w, w
	if f.packed {
		f.out = gzip.NewWriter(w)
	}
	go func() {
		defer close(f.done)
		f.link, f.err = f.keep(r)
		_ = r.CloseWithError(errors.Join(f.err, io.ErrClosedPipe)) // who writes on is told
	}()
}

// Write implements io.Writer.
func (f *file) Write(p []byte) (int, error) {
	if f.out == nil {
		f.begin()
	}
	return f.out.Write(p)
}

// end waits until the file is kept, or gives it up for the cause.
func (f *file) end(cause error) (string, error) {
	if f.out == nil {
		return "", nil
	}
	if cause == nil {
		cause = f.out.Close()
	}
	_ = f.in.CloseWithError(cause) // always nil; without a cause, the end of the file
	<-f.done
	if err := errors.Join(cause, f.err); err != nil {
		return "", err
	}
	return f.link, nil
}
