package progress

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/git"
	"github.com/kernelflow/kernelflow/shared/node"
)

// Screen writes what a Board says. On a terminal the checkouts under way are a
// block at the bottom that redraws itself, and everything else (finished
// lines, log records, reports) scrolls by above it; elsewhere there are lines
// only. It is an io.Writer for that everything else, safe for concurrent use.
type Screen struct {
	now   func() time.Time
	width func() int // of the terminal; nil when it is none

	mu    sync.Mutex
	out   io.Writer
	board *Board
	drawn int // lines of the block on the terminal now
}

// NewScreen returns a screen on out. width tells the columns of the terminal
// and is nil when out is none.
func NewScreen(out io.Writer, now func() time.Time, width func() int) *Screen {
	return &Screen{out: out, now: now, width: width, board: NewBoard()}
}

// Write puts p above the block.
func (s *Screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.redraw(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// redraw erases the block, writes above, and draws the block again, all in one
// write so that nothing flickers; s.mu is held.
func (s *Screen) redraw(above []byte) error {
	var b bytes.Buffer
	if s.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\x1b[J", s.drawn)
		s.drawn = 0
	}
	b.Write(above)
	if s.width != nil && (len(above) == 0 || bytes.HasSuffix(above, []byte("\n"))) {
		lines := s.board.Block(s.now(), s.width())
		for _, l := range lines {
			b.WriteString(l + "\n")
		}
		s.drawn = len(lines)
	}
	_, err := s.out.Write(b.Bytes())
	return err
}

// Recall takes in what was under way before: it is on the board, and worth no
// line.
func (s *Screen) Recall(events []event.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range events {
		s.board.Apply(e)
	}
}

// Working takes in how far git's work on a checkout is.
func (s *Screen) Working(checkout node.ID, p git.Progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.board.Working(checkout, p)
}

// Follow applies events until the channel closes or ctx ends, and redraws the
// block once a second so that its clocks run.
func (s *Screen) Follow(ctx context.Context, events <-chan event.Event) {
	clock := time.NewTicker(time.Second)
	defer clock.Stop()
	for {
		select {
		case e, open := <-events:
			if !open {
				return
			}
			s.apply(e)
		case <-clock.C:
			s.tick()
		case <-ctx.Done():
			return
		}
	}
}

// tick and apply ignore errors of the terminal: there is nobody to tell.
func (s *Screen) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.width != nil && s.drawn > 0 {
		_ = s.redraw(nil)
	}
}

func (s *Screen) apply(e event.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := s.board.Apply(e)
	if text != "" {
		text = strings.TrimRight(text, " ") + "\n"
	}
	if text != "" || s.width != nil {
		_ = s.redraw([]byte(text))
	}
}
