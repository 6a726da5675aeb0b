// Package validate checks a configuration and, with the folders of its templates,
// that each job which the scheduler may start can be rendered wherever it may
// run.
//
// What a job knows only once its parent has run (artifacts, the kernel's version,
// which device trees were built) is stood in for: everything is there. A template
// that passes here may still raise an error about a real node; one that fails here
// cannot work.
package validate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kernelflow/kernelflow/shared/jobdef"
	"github.com/kernelflow/kernelflow/shared/pipeline"
)

// Options are what is checked.
type Options struct {
	Dir       string   // of the configuration
	Templates []string // folders; nil: nothing is rendered
}

// Result is what was found.
type Result struct {
	Problems pipeline.Problems // sorted by place
	Rendered int               // jobs on a runtime and platform
}

// Count returns how many problems are errors and how many are warnings.
func (r Result) Count() (wrong, warnings int) {
	for _, p := range r.Problems {
		if p.Warning {
			warnings++
		} else {
			wrong++
		}
	}
	return wrong, warnings
}

// Check checks everything. Progress, where it is not nil, is told on long work.
// The error is that of reading the folders.
func Check(ctx context.Context, o Options, progress io.Writer) (Result, error) {
	var r Result
	cfg, warnings, err := pipeline.LoadDir(o.Dir, pipeline.Options{})
	r.Problems = append(r.Problems, warnings...)
	var found pipeline.Problems
	switch {
	case errors.As(err, &found):
		r.Problems = append(r.Problems, found...)
	case err != nil:
		return r, err
	case len(o.Templates) > 0:
		if err := r.render(ctx, cfg, o, progress); err != nil {
			return r, err
		}
	}
	r.Problems.Sort()
	return r, nil
}

// work is one job to be rendered.
type work struct {
	entry    *pipeline.Entry
	job      *pipeline.Job
	runtime  *pipeline.Runtime
	platform *pipeline.Platform
}

func (r *Result) render(ctx context.Context, cfg *pipeline.Config, o Options, progress io.Writer) error {
	renderer, err := jobdef.New(o.Templates...)
	if err != nil {
		return err
	}
	known := renderer.Names()
	missing := map[string]bool{}
	var all []work
	for _, w := range scheduled(cfg) {
		if renderer.Has(w.job.Template) {
			all = append(all, w)
		} else if !missing[w.job.Name] {
			missing[w.job.Name] = true
			r.Problems = append(r.Problems, pipeline.Problem{Place: w.job.Place,
				Text: fmt.Sprintf("jobs.%s: template %q is in none of the folders%s", w.job.Name, w.job.Template, pipeline.Nearest(w.job.Template, known))})
		}
	}
	failures, err := renderAll(ctx, renderer, cfg, all, progress)
	r.Problems, r.Rendered = append(r.Problems, failures...), len(all)
	return err
}

// scheduled lists each job with each runtime and platform that an entry names,
// once.
func scheduled(cfg *pipeline.Config) []work {
	var all []work
	seen := map[[3]string]bool{}
	for _, e := range cfg.Scheduler {
		for _, rt := range runtimesOf(cfg, e) {
			platforms := e.Platforms
			if len(platforms) == 0 {
				platforms = []string{rt.LabType}
			}
			for _, name := range platforms {
				key := [3]string{e.Job, rt.Name, name}
				if p := cfg.Platforms[name]; p != nil && !seen[key] {
					seen[key] = true
					all = append(all, work{e, cfg.Jobs[e.Job], rt, p})
				}
			}
		}
	}
	return all
}

func runtimesOf(cfg *pipeline.Config, e *pipeline.Entry) []*pipeline.Runtime {
	if rt := cfg.Runtimes[e.RuntimeName]; rt != nil {
		return []*pipeline.Runtime{rt}
	}
	var of []*pipeline.Runtime
	for _, rt := range cfg.Runtimes {
		if e.RuntimeName == "" && rt.LabType == e.RuntimeType {
			of = append(of, rt)
		}
	}
	slices.SortFunc(of, func(a, b *pipeline.Runtime) int { return cmp.Compare(a.Name, b.Name) })
	return of
}

// every is how often progress is told.
const every = time.Second

// renderAll renders what is given, on all processors. A job that fails in the
// same way in many places is one problem.
func renderAll(ctx context.Context, renderer *jobdef.Renderer, cfg *pipeline.Config, all []work, progress io.Writer) (pipeline.Problems, error) {
	causes := make([]error, len(all))
	var done atomic.Int64
	stop := telling(progress, &done, len(all))
	defer stop()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, w := range all {
		group.Go(func() error {
			_, causes[i] = renderer.Render(standIn(cfg, w))
			done.Add(1)
			return ctx.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return summed(all, causes), nil
}

// telling writes how far the work is, until the returned function is called.
func telling(progress io.Writer, done *atomic.Int64, all int) func() {
	if progress == nil {
		return func() {}
	}
	quit := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
				fmt.Fprintf(progress, "%d of %d jobs rendered\n", done.Load(), all)
			}
		}
	})
	return func() { close(quit); group.Wait() }
}

// summed makes one problem of each job and cause.
func summed(all []work, causes []error) pipeline.Problems {
	type key struct{ job, cause string }
	first := map[key]int{} // index among the problems
	more := map[key]int{}
	var problems pipeline.Problems
	for i, w := range all {
		if causes[i] == nil {
			continue
		}
		k := key{w.job.Name, causes[i].Error()}
		if _, known := first[k]; known {
			more[k]++
			continue
		}
		first[k] = len(problems)
		problems = append(problems, pipeline.Problem{Place: w.job.Place,
			Text: fmt.Sprintf("jobs.%s on %s, %s (%s): %s", w.job.Name, w.runtime.Name, w.platform.Name, w.entry.Place, k.cause)})
	}
	for k, n := range more {
		problems[first[k]].Text += fmt.Sprintf("; and so in %d more places", n)
	}
	return problems
}

// Write lists what was found and counts it.
func Write(w io.Writer, r Result, took time.Duration) error {
	for _, p := range r.Problems {
		if _, err := fmt.Fprintln(w, p); err != nil {
			return err
		}
	}
	wrong, warnings := r.Count()
	rendered := ""
	if r.Rendered > 0 {
		rendered = fmt.Sprintf(", %d jobs rendered", r.Rendered)
	}
	_, err := fmt.Fprintf(w, "%d errors, %d warnings%s in %s\n", wrong, warnings, rendered, took.Round(time.Millisecond))
	return err
}
