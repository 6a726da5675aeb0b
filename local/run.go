package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/term"

	"github.com/kernelflow/kernelflow/local/emulator"
	"github.com/kernelflow/kernelflow/local/progress"
	"github.com/kernelflow/kernelflow/local/sample"
	"github.com/kernelflow/kernelflow/shared/app"
	"github.com/kernelflow/kernelflow/shared/mail"
)

// errFaults ends a -once run in which the pipeline itself failed.
var errFaults = errors.New("the pipeline failed")

// errStopped ends a -once run that was told to stop.
var errStopped = errors.New("stopped with work left; started again on the same data it goes on")

func run(ctx context.Context, o options, stdout, stderr io.Writer) error {
	if err := os.MkdirAll(o.Data, 0o755); err != nil {
		return err
	}
	if o.ConfigDir == "" {
		dir, err := sample.Write(ctx, o.Data)
		if err != nil {
			return err
		}
		o.ConfigDir = dir
	}
	listener, err := listen(ctx, o)
	if err != nil {
		return err
	}
	if o.URL == "" {
		o.URL = "http://" + listener.Addr().String()
	}
	self, err := os.Executable()
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	o.Supervisor = []string{self, "job"}
	screen := progress.NewScreen(stdout, time.Now, terminalWidth(stdout))
	a, err := app.Open(ctx, o.Config, logger(o, screen, stdout, stderr), time.Now, rand.Reader)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	a.Mail = printer{Sender: a.Mail, out: screen}
	if terminalWidth(stdout) != nil {
		a.Progress = screen.Working
	}
	return errors.Join(serve(ctx, o, a, listener, screen), a.Close())
}

// listen opens the public address. With port 0 it is the port of the last start
// on the same data, if that is free: links in reports and the jobs under way
// lead there.
func listen(ctx context.Context, o options) (net.Listener, error) {
	host, port, err := net.SplitHostPort(o.addr)
	if err != nil {
		return nil, fmt.Errorf("-addr %q: %w", o.addr, err)
	}
	var l net.ListenConfig
	if port != "0" {
		return l.Listen(ctx, "tcp", o.addr)
	}
	file := filepath.Join(o.Data, "port")
	if kept, err := os.ReadFile(file); err == nil {
		if listener, err := l.Listen(ctx, "tcp", net.JoinHostPort(host, string(kept))); err == nil {
			return listener, nil
		}
	}
	listener, err := l.Listen(ctx, "tcp", o.addr)
	if err != nil {
		return nil, err
	}
	_, port, err = net.SplitHostPort(listener.Addr().String())
	if err == nil {
		err = replaceFile(file, []byte(port), 0o644)
	}
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return listener, nil
}

// replaceFile leaves the old content or the new, whenever it is stopped.
func replaceFile(file string, content []byte, mode fs.FileMode) error {
	if err := os.WriteFile(file+".new", content, mode); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

func serve(ctx context.Context, o options, a *app.App, listener net.Listener, screen *progress.Screen) error {
	if err := writeToken(ctx, o.Data, a); err != nil {
		return errors.Join(err, listener.Close())
	}
	e, err := emulator.New(ctx, a, listener, emulator.Options{Secret: rand.Text()})
	if err != nil {
		return err
	}
	underWay, err := e.UnderWay(ctx)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	screen.Recall(underWay)
	fmt.Fprintf(screen, "Kernelflow answers on %s (configuration %s, data %s)\n", o.URL, o.ConfigDir, o.Data)
	ctx, cancel := context.WithCancel(ctx)
	events := e.Observe(ctx)
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		screen.Follow(ctx, events)
	}()
	defer func() { cancel(); <-shown }()
	if !o.once {
		return e.Run(ctx)
	}
	faults, err := e.RunOnce(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	for _, f := range faults {
		fmt.Fprintln(screen, "fault:", f)
	}
	if err == nil && len(faults) > 0 {
		err = errFaults
	}
	return err
}

// writeToken leaves the admin's token where the user finds it, and nobody else.
func writeToken(ctx context.Context, dir string, a *app.App) error {
	token, err := a.AdminToken(ctx)
	if err != nil {
		return err
	}
	return replaceFile(filepath.Join(dir, "admin.token"), []byte(token+"\n"), 0o600)
}

// terminalWidth returns how to ask for the terminal's columns, or nil when w
// is no terminal.
func terminalWidth(w io.Writer) func() int {
	file, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return nil
	}
	return func() int {
		width, _, err := term.GetSize(int(file.Fd()))
		if err != nil || width < 1 { // a terminal on a line may not know its size
			return 80
		}
		return width
	}
}

// logger writes to stderr, or above the progress block when that is on a
// terminal.
func logger(o options, screen *progress.Screen, stdout, stderr io.Writer) *slog.Logger {
	level := o.Level()
	if terminalWidth(stdout) != nil {
		stderr = screen
		level = max(level, slog.LevelWarn)
	}
	return slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
}

// printer shows each report that was sent, and of what is private that it was.
type printer struct {
	mail.Sender
	out io.Writer
}

// Send sends the message and prints its text.
func (p printer) Send(ctx context.Context, m mail.Message) error {
	if err := p.Sender.Send(ctx, m); err != nil {
		return err
	}
	if m.Private {
		m.Text = "(to be read in the mail)"
	}
	_, err := fmt.Fprintf(p.out, "\nSubject: %s\n\n%s\n", m.Subject, m.Text)
	return err
}
