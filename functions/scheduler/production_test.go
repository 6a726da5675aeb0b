package scheduler

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/jobdef"
	"github.com/kernelflow/kernelflow/shared/node"
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
		s.drive(name, s.lab)
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

// BenchmarkCheckoutAndItsKernels is a checkout of mainline and three of its kernels
// that were built: several hundred jobs, which are decided, created, rendered from
// stand-in templates and handed to their runtimes, idle labs. The limit is 1 s.
func BenchmarkCheckoutAndItsKernels(b *testing.B) {
	s := production(b)
	templates, err := jobdef.New(filepath.Join("..", "..", "local", "validate", "testdata", "templates"))
	if err != nil {
		b.Fatal(err)
	}
	s.Renderer = templates
	s.Fetch = func(context.Context, string) ([]byte, error) { return everyDTB(s.Config), nil }
	jobs := 0
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		parent, checkout := s.checkout("tree-" + time.Duration(i).String())
		events, parents := []event.Event{checkout}, []node.ID{parent.ID}
		for _, name := range []string{"kbuild-gcc-14-arm64", "kbuild-gcc-14-x86", "kbuild-gcc-14-arm"} {
			kernel, e := s.arrive(kernelOf(s.Config, parent, name))
			events, parents = append(events, e), append(parents, kernel.ID)
		}
		b.StartTimer()
		for _, e := range events {
			s.handle(e)
		}
		b.StopTimer()
		for _, id := range parents {
			jobs += s.handedOver(id)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(jobs)/float64(b.N), "jobs/op")
	b.ReportMetric(1e9, "limit-ns/op")
}

// kernelOf is a kernel that the configuration builds, below the checkout.
func kernelOf(cfg *pipeline.Config, checkout node.Node, name string) node.Node {
	data := map[string]any{"kernel_revision": checkout.Data["kernel_revision"], "runtime": "elsewhere", "platform": "kubernetes"}
	for _, key := range []string{"arch", "compiler", "defconfig", "fragments"} {
		if v := cfg.Jobs[name].Params[key]; v != nil {
			data[key] = v
		}
	}
	return node.Node{
		ID: node.DeriveID(checkout.ID, name), Kind: node.KindKbuild, Name: name, Path: []string{"checkout", name}, Parent: checkout.ID,
		TreeID: checkout.TreeID, Data: data, Timeout: checkout.Timeout,
		Artifacts: map[string]string{"kernel": "https://s.example.org/Image", "metadata": "https://s.example.org/metadata.json"},
	}
}

// everyDTB is the metadata of a kernel for all platforms.
func everyDTB(cfg *pipeline.Config) []byte {
	made := map[string]string{}
	for _, p := range cfg.Platforms {
		for _, name := range p.DTB {
			made[name] = "https://s.example.org/" + name
		}
	}
	text, err := json.Marshal(map[string]any{"artifacts": made})
	if err != nil {
		panic(err)
	}
	return text
}

// handedOver is how many jobs below a node are with their runtimes; all must be.
func (s *setup) handedOver(parent node.ID) (jobs int) {
	s.t.Helper()
	for _, n := range s.below(parent) {
		if n.Text("platform") == "kubernetes" && n.Text("runtime") == "elsewhere" {
			continue // a kernel of the benchmark's own
		}
		if jobs++; n.Text("job_id") == "" {
			s.t.Fatalf("%s on %s: %s %s", n.Name, n.Text("platform"), n.Text("error_code"), n.Text("error_msg"))
		}
	}
	return jobs
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
