package emulator

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/kernelflow/kernelflow/functions/catalog"
	"github.com/kernelflow/kernelflow/shared/app"
	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/event"
)

// shutdownGrace is how long requests under way may take when the emulator
// stops. Long polls end at once; jobs go on without us.
const shutdownGrace = 5 * time.Second

// Emulator is the whole pipeline in one process.
type Emulator struct {
	app         *app.App
	public      *server
	private     *server
	dispatchers []*dispatcher
	tickers     []*ticker
	trigger     *ticker
}

// server is an http.Server with its listener.
type server struct {
	*http.Server
	listener net.Listener
}

// Options are what an emulator may be given.
type Options struct {
	// Secret must be in each request that invokes a function. It is random
	// for each process.
	Secret string
	// Transport stands between the emulator and the functions, for tests that
	// disturb deliveries; nil: nothing does.
	Transport func(http.RoundTripper) http.RoundTripper
}

// New opens every function of the catalog. The HTTP functions answer on
// public; the others on a loopback port of their own, to nobody but the
// emulator. On an error public is closed.
func New(ctx context.Context, a *app.App, public net.Listener, o Options) (*Emulator, error) {
	private, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("emulator.New: %w", err), public.Close())
	}
	e := &Emulator{app: a}
	front, back := http.NewServeMux(), http.NewServeMux()
	client := &http.Client{Transport: bearer{secret: o.Secret, next: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true}}}
	if o.Transport != nil {
		client.Transport = o.Transport(client.Transport)
	}
	for _, f := range catalog.Functions {
		if err := e.mount(f, front, back, "http://"+private.Addr().String(), client); err != nil {
			return nil, errors.Join(err, public.Close(), private.Close())
		}
	}
	e.public = newServer(front, public, headerTime)
	e.private = newServer(onlyBearer(o.Secret, back), private, headerTime)
	return e, nil
}

// headerTime is how long a client may take to send the headers of a request.
const headerTime = 10 * time.Second

func newServer(h http.Handler, l net.Listener, headers time.Duration) *server {
	return &server{listener: l, Server: &http.Server{
		Handler: h, ReadHeaderTimeout: headers, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
	}}
}

func (e *Emulator) mount(f catalog.Function, front, back *http.ServeMux, base string, client *http.Client) error {
	built, err := f.Open(e.app)
	if err != nil {
		return fmt.Errorf("function %s: %w", f.Name, err)
	}
	handler := f.Handler(built)
	if f.Trigger.Path != "" {
		front.Handle(f.Trigger.Path, handler)
		if f.Trigger.Post != "" {
			front.Handle(http.MethodPost+" "+f.Trigger.Post, handler)
		}
		return nil
	}
	path := "/functions/" + f.Name
	back.Handle(path, handler)
	if f.Trigger.Events != nil {
		e.dispatchers = append(e.dispatchers, newDispatcher(f, base+path, e.app.Store, e.app.Watch, client, e.app.Now, e.app.Config.Speed, e.app.Log))
		return nil
	}
	period := f.Trigger.Every.Duration() / time.Duration(max(e.app.Config.Speed, 1))
	t := &ticker{function: f, url: base + path, client: client, period: max(period, 100*time.Millisecond), logger: e.app.Log}
	e.tickers = append(e.tickers, t)
	if f.Name == "trigger" {
		e.trigger = t
	}
	return nil
}

// bearer adds the secret to each request.
type bearer struct {
	secret string
	next   http.RoundTripper
}

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.secret)
	return b.next.RoundTrip(r)
}

func onlyBearer(secret string, next http.Handler) http.Handler {
	want := []byte("Bearer " + secret)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), want) != 1 {
			http.Error(w, "only the emulator invokes functions here", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Deliver gives an event once more to every function that wants it, whatever
// has been delivered before, and returns what they answered. The emulator must
// be running.
func (e *Emulator) Deliver(ctx context.Context, again event.Event) error {
	var problems []error
	for _, d := range e.dispatchers {
		if d.function.Trigger.Events.Match(again) {
			problems = append(problems, d.post(ctx, again))
		}
	}
	return errors.Join(problems...)
}

// Run serves until ctx ends, then stops cleanly: requests under way get a
// moment, events and jobs are kept for the next start.
func (e *Emulator) Run(ctx context.Context) error {
	return e.run(ctx, e.tickers)
}

func (e *Emulator) run(ctx context.Context, tickers []*ticker) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var group sync.WaitGroup
	start := func(what string, f func(context.Context) error) {
		group.Go(func() {
			if err := f(ctx); err != nil {
				cancel(fmt.Errorf("%s: %w", what, err))
			}
		})
	}
	// The end of ctx ends long polls at once, but not functions at work.
	start("public server", func(ctx context.Context) error { return e.public.serve(ctx, ctx) })
	start("private server", func(ctx context.Context) error { return e.private.serve(ctx, context.WithoutCancel(ctx)) })
	for _, d := range e.dispatchers {
		start("dispatcher", d.run)
	}
	for _, t := range tickers {
		group.Go(func() { t.run(ctx) })
	}
	group.Wait()
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// serve answers until ctx ends; requests see the context base.
func (s *server) serve(ctx, base context.Context) error {
	s.BaseContext = func(net.Listener) context.Context { return base }
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(s.listener) }()
	select {
	case err := <-ended:
		return errs.Wrap(errs.Temporary, err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer cancel()
	if s.Shutdown(grace) != nil {
		return s.Close()
	}
	return nil
}
