package schedule

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kernelflow/kernelflow/shared/pipeline"
)

var update = flag.Bool("update", false, "write the golden files anew")

// production loads KernelCI's own configuration, which lies beside the repository.
func production(t testing.TB) *pipeline.Config {
	t.Helper()
	dir := filepath.Join("..", "..", "..", "shared", "kernelci-config")
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("SKIPPED: KernelCI's production configuration is not here: %v", err)
	}
	return loadDir(t, os.DirFS(dir))
}

func loadDir(t testing.TB, fsys fs.FS) *pipeline.Config {
	t.Helper()
	cfg, _, err := pipeline.Load(fsys, pipeline.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestProductionStartsTheSameJobsForMainline(t *testing.T) {
	cfg := production(t)
	s := New(cfg, nil)
	var got strings.Builder
	for _, d := range s.Decide(checkout()) {
		if d.Run {
			fmt.Fprintln(&got, d.Job.Name, d.Runtime.Name, d.Platform.Name)
		}
	}
	sub := kbuild()
	sub.Node.Name, sub.Event.Name = "kbuild-gcc-14-arm64", "kbuild-gcc-14-arm64"
	sub.Node.Data["fragments"] = cfg.Jobs[sub.Node.Name].Params["fragments"]
	sub.Node.Path = []string{"checkout", "kbuild-gcc-14-arm64"}
	for _, d := range s.Decide(sub) {
		if d.Run {
			fmt.Fprintln(&got, "kbuild-gcc-14-arm64 >", d.Job.Name, d.Runtime.Name, d.Platform.Name)
		}
	}
	golden := filepath.Join("testdata", "mainline.txt")
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("other jobs than in %s (go test -update writes it):\n%s", golden, got.String())
	}
}

func TestEveryJobNotRunHasAReason(t *testing.T) {
	s := New(production(t), nil)
	for _, sub := range []Subject{checkout(), kbuild()} {
		for _, d := range s.Decide(sub) {
			if d.Run == (d.Reason != "") || d.Run && (d.Job == nil || d.Runtime == nil || d.Platform == nil) {
				t.Errorf("entry at %s: run %t, reason %q", d.Entry.Place, d.Run, d.Reason)
			}
		}
	}
}

// The limit is 1 ms for one event and the whole production configuration.
func BenchmarkDecide(b *testing.B) {
	s := New(production(b), nil)
	sub := checkout()
	b.ReportAllocs()
	for b.Loop() {
		s.Decide(sub)
	}
	b.ReportMetric(1e6, "limit-ns/op")
}

func BenchmarkFires(b *testing.B) {
	s := New(production(b), nil)
	ev := checkout().Event
	ev.State = "running"
	for b.Loop() {
		s.Fires(ev)
	}
}
