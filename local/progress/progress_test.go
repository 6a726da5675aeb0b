package progress_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/local/progress"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/git"
	"github.com/kernelflow/kernelflow/shared/node"
)

var start = time.Date(2025, 1, 12, 8, 0, 0, 0, time.UTC)

// life makes the events of a node as its store would.
type life struct {
	t        *testing.T
	n        node.Node
	revision int64
}

func born(t *testing.T, kind node.Kind, id int, path ...string) (*life, event.Event) {
	t.Helper()
	n := node.Node{ID: node.ID(fmt.Sprintf("%024x", id)), Kind: kind, Name: path[len(path)-1], Path: path, TreeID: "t1", Data: map[string]any{
		"kernel_revision": map[string]any{"tree": "mainline", "url": "https://example.org/linux.git", "branch": "master", "commit": "708283abf896dd48"},
	}}
	n.SetDefaults(start)
	e, err := event.OfCreated(n)
	if err != nil {
		t.Fatal(err)
	}
	return &life{t, n, 1}, e
}

func (l *life) becomes(state node.State, result node.Result, message string) event.Event {
	l.t.Helper()
	before := l.n.Clone()
	l.n.State, l.n.Result = state, result
	l.n.Updated = l.n.Updated.Add(time.Second)
	if message != "" {
		l.n.Set("error_msg", message)
	}
	l.revision++
	e, err := event.OfUpdated(before, l.n, l.revision, false)
	if err != nil {
		l.t.Fatal(err)
	}
	return e
}

func TestEachStepOfACheckoutIsOneLine(t *testing.T) {
	board := progress.NewBoard()
	var got []string
	say := func(e event.Event) {
		if line := board.Apply(e); line != "" {
			got = append(got, strings.Join(strings.Fields(line), " "))
		}
	}
	checkout, e := born(t, node.KindCheckout, 1, "checkout")
	say(e)
	say(checkout.becomes(node.Available, node.Pass, ""))
	build, e := born(t, node.KindKbuild, 2, "checkout", "kbuild")
	say(e)
	say(build.becomes(node.Available, node.Pass, ""))
	test, e := born(t, node.KindJob, 3, "checkout", "kbuild", "ktest\x1b[31m")
	say(e)
	say(test.becomes(node.Done, node.Incomplete, "killed by SIGKILL"))
	say(build.becomes(node.Done, node.Pass, ""))
	_, e = born(t, node.KindRegression, 4, "checkout", "kbuild", "ktest")
	say(e)
	say(checkout.becomes(node.Done, node.Pass, ""))
	want := []string{
		"08:00:00 mainline/master 708283abf896 checkout running",
		"08:00:01 mainline/master 708283abf896 checkout available",
		"08:00:00 mainline/master 708283abf896 kbuild running",
		"08:00:01 mainline/master 708283abf896 kbuild pass",
		"08:00:00 mainline/master 708283abf896 ktest?[31m running",
		"08:00:01 mainline/master 708283abf896 ktest?[31m incomplete: killed by SIGKILL",
		"08:00:00 mainline/master 708283abf896 kbuild.ktest REGRESSION",
		"08:00:02 mainline/master 708283abf896 checkout done, 2 jobs, 1 pass, 1 incomplete",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if block := board.Block(start, 80); len(block) != 0 {
		t.Errorf("a finished checkout is still on the board: %q", block)
	}
}

func TestTheBlockFitsTheTerminal(t *testing.T) {
	board := progress.NewBoard()
	_, e := born(t, node.KindCheckout, 1, "checkout")
	board.Apply(e)
	build, e := born(t, node.KindKbuild, 2, "checkout", "kbuild")
	board.Apply(e)
	_, e = born(t, node.KindJob, 3, "checkout", "kver")
	board.Apply(e)
	board.Apply(build.becomes(node.Available, node.Pass, ""))
	want := "mainline/master 708283abf896     running   [##########          ] 1/2 jobs 1m30s  kver"
	if block := board.Block(start.Add(90*time.Second), 200); len(block) != 1 || block[0] != want {
		t.Errorf("got  %q\nwant %q", block, want)
	}
	if block := board.Block(start, 20); len([]rune(block[0])) != 20 {
		t.Errorf("not clipped: %q", block[0])
	}
}

func TestGitsWorkIsShownUntilTheSourceIsThere(t *testing.T) {
	board := progress.NewBoard()
	checkout, e := born(t, node.KindCheckout, 1, "checkout")
	board.Apply(e)
	for _, step := range []struct {
		p    git.Progress
		want string
	}{
		{git.Progress{Phase: "Receiving objects", Done: 50, Total: 200, Bytes: 3 << 20}, "mainline/master 708283abf896     running   1m0s  Receiving objects 25% 3 MiB"},
		{git.Progress{Phase: "Archiving", Bytes: 9 << 20}, "mainline/master 708283abf896     running   1m0s  Archiving 9 MiB"},
	} {
		board.Working(checkout.n.ID, step.p)
		if block := board.Block(start.Add(time.Minute), 200); len(block) != 1 || block[0] != step.want {
			t.Errorf("got  %q\nwant %q", block, step.want)
		}
	}
	board.Apply(checkout.becomes(node.Available, node.Pass, ""))
	if block := board.Block(start, 200); strings.Contains(block[0], "Archiving") {
		t.Errorf("still at work: %q", block)
	}
}

func TestTextScrollsByAboveTheBlock(t *testing.T) {
	var out bytes.Buffer
	screen := progress.NewScreen(&out, func() time.Time { return start }, func() int { return 200 })
	events := make(chan event.Event, 1)
	_, e := born(t, node.KindCheckout, 1, "checkout")
	events <- e
	close(events)
	screen.Follow(context.Background(), events)
	out.Reset()
	if _, err := fmt.Fprintln(screen, "a report"); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !strings.HasPrefix(got, "\x1b[1A\x1b[Ja report\nmainline/master") {
		t.Errorf("%q", got)
	}
}

func TestWhatWasUnderWayBeforeIsOnTheBoard(t *testing.T) {
	var out bytes.Buffer
	screen := progress.NewScreen(&out, func() time.Time { return start }, nil)
	checkout, created := born(t, node.KindCheckout, 1, "checkout")
	build, built := born(t, node.KindKbuild, 2, "checkout", "kbuild")
	screen.Recall([]event.Event{created, built})
	if out.Len() > 0 {
		t.Errorf("it is told as news: %q", &out)
	}
	events := make(chan event.Event, 2)
	events <- build.becomes(node.Done, node.Fail, "")
	events <- checkout.becomes(node.Done, node.Pass, "")
	close(events)
	screen.Follow(t.Context(), events)
	if got := out.String(); !strings.Contains(got, "kbuild") || !strings.Contains(got, "done, 1 jobs, 1 fail") {
		t.Errorf("%q", got)
	}
}

func TestWithoutATerminalThereAreLinesOnly(t *testing.T) {
	var out bytes.Buffer
	screen := progress.NewScreen(&out, func() time.Time { return start }, nil)
	events := make(chan event.Event, 1)
	_, e := born(t, node.KindCheckout, 1, "checkout")
	events <- e
	close(events)
	screen.Follow(t.Context(), events)
	if got := out.String(); strings.Contains(got, "\x1b") || strings.Count(got, "\n") != 1 {
		t.Errorf("%q", got)
	}
}
