package scheduler

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/pipeline"
	"github.com/kernelflow/kernelflow/shared/schedule"
)

// production is the function on KernelCI's own configuration, which lies
// beside the repository, with a lab behind every runtime.
func production(b *testing.B) *setup {
	b.Helper()
	dir := filepath.Join("..", "..", "..", "shared", "kernelci-config")
	if _, err := os.Stat(dir); err != nil {
		b.Skipf("SKIPPED: KernelCI's production configuration is not here: %v", err)
	}
	cfg, _, err := pipeline.Load(os.DirFS(dir), pipeline.Options{})
	if err != nil {
		b.Fatal(err)
	}
	s := newSetupOf(b, cfg)
	for name := range cfg.Runtimes {
		s.Runtimes[name] = s.lab
	}
	return s
}

// The limit is 1 s for the several hundred jobs of one checkout. What is
// measured here goes on to submit and record them too.
func BenchmarkCheckoutOfMainline(b *testing.B) {
	s := production(b)
	jobs := 0
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		parent, e := s.checkout("tree-" + time.Duration(i).String())
		b.StartTimer()
		s.handle(e)
		b.StopTimer()
		jobs += len(s.children(parent.ID))
		b.StartTimer()
	}
	b.ReportMetric(float64(jobs)/float64(b.N), "jobs/op")
	b.ReportMetric(1e9, "limit-ns/op")
}

// BenchmarkCreateJobNodes is one checkout that 300 jobs wait for: their nodes
// alone, durable.
func BenchmarkCreateJobNodes(b *testing.B) {
	s := production(b)
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		_, e := s.checkout("tree-" + time.Duration(i).String())
		sub, err := s.subject(b.Context(), e)
		if err != nil {
			b.Fatal(err)
		}
		var jobs []*job
		for _, d := range s.schedule.Decide(*sub) {
			for n := 0; d.Run && n < 5 && len(jobs) < 300; n++ {
				again := *sub
				again.Retry = n
				jobs = append(jobs, &job{Decision: d, sub: &again, outcome: new(schedule.Outcome)})
			}
		}
		if len(jobs) != 300 {
			b.Fatalf("%d jobs", len(jobs))
		}
		b.StartTimer()
		if err := s.each(b.Context(), jobs, creators, s.create); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(1e9, "limit-ns/op")
}
