// Command cloudrun serves Kernelflow's functions through
// functions-framework-go, as Cloud Run and any other Knative-like host expect:
// FUNCTION_TARGET names the one function that this service is, PORT is where it
// listens. Without FUNCTION_TARGET all that answer people are served at their
// paths, and no other: who may invoke those is checked by the host, for a
// service of their own.
//
// The framework's server bounds neither headers nor their time: the host's front
// end does. Bodies and answers are bounded by the functions.
//
// At SIGTERM long polls are answered at once, and other requests under way have
// most of the ten seconds that the host leaves (stop.go).
//
// It holds no pipeline logic: the functions come from functions/catalog, their
// parts from shared/app, which reads them from the environment.
package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/GoogleCloudPlatform/functions-framework-go/funcframework"
	"github.com/GoogleCloudPlatform/functions-framework-go/functions"

	"github.com/kernelflow/kernelflow/functions/catalog"
	"github.com/kernelflow/kernelflow/shared/app"
	"github.com/kernelflow/kernelflow/shared/errs"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := realMain(ctx); err != nil {
		slog.Error("kernelflow", "error", err)
		os.Exit(1)
	}
}

func realMain(ctx context.Context) error {
	config, err := app.FromEnvironment()
	if err != nil {
		return err
	}
	targets, err := targets(os.Getenv("FUNCTION_TARGET"))
	if err != nil {
		return err
	}
	a, err := app.Open(ctx, config, slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: config.Level()})), time.Now, rand.Reader)
	if err != nil {
		return err
	}
	s := &stopper{ctx: ctx}
	for _, f := range targets {
		if err := register(f, a, s); err != nil {
			return errors.Join(err, a.Close())
		}
	}
	return errors.Join(serve(s), a.Close())
}

// targets lists the functions that this service is.
func targets(name string) ([]catalog.Function, error) {
	if name == "" {
		return slices.DeleteFunc(slices.Clone(catalog.Functions), func(f catalog.Function) bool { return f.Trigger.Path == "" }), nil
	}
	f, ok := catalog.Lookup(name)
	if !ok {
		return nil, errs.New(errs.Invalid, "FUNCTION_TARGET %q is not in the table of functions", name)
	}
	return []catalog.Function{f}, nil
}

// register has the framework serve a function: at its path, and by its name
// where FUNCTION_TARGET asks for it.
func register(f catalog.Function, a *app.App, s *stopper) error {
	h, err := f.Open(a)
	if err != nil {
		return fmt.Errorf("function %s: %w", f.Name, err)
	}
	handler := f.Handler(h)
	if os.Getenv("FUNCTION_TARGET") != "" {
		functions.HTTP(f.Name, s.stoppable(f, handler))
		return nil
	}
	err = funcframework.RegisterHTTPFunctionContext(s.ctx, f.Trigger.Path, s.stoppable(f, handler))
	if err == nil && f.Trigger.Post != "" {
		err = funcframework.RegisterHTTPFunctionContext(s.ctx, http.MethodPost+" "+f.Trigger.Post, s.stoppable(f, handler))
	}
	return err
}

// serve returns when the framework fails or the stopper's context ends.
func serve(s *stopper) error {
	failed := make(chan error, 1)
	go func() {
		failed <- funcframework.StartHostPort(os.Getenv("FUNCTION_HOST"), cmp.Or(os.Getenv("PORT"), "8080"))
	}()
	select {
	case err := <-failed:
		return fmt.Errorf("functions-framework: %w", err)
	case <-s.ctx.Done():
		return s.stop()
	}
}
