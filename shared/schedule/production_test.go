package schedule

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kernelflow/kernelflow/shared/node"
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

// onto is a checkout of another tree, branch and version.
func onto(tree, branch string, version, patchlevel int, more ...func(*Subject)) Subject {
	sub := checkout()
	r := sub.Node.Data["kernel_revision"].(map[string]any)
	r["tree"], r["branch"] = tree, branch
	r["version"] = map[string]any{"version": float64(version), "patchlevel": float64(patchlevel)}
	return changed(sub, more...)
}

func changed(sub Subject, more ...func(*Subject)) Subject {
	for _, change := range more {
		change(&sub)
	}
	return sub
}

// built is a kernel of the production configuration below the checkout.
func built(cfg *pipeline.Config, name string, below Subject, state node.State, result node.Result) Subject {
	n := node.Node{
		ID: "65a0c0ffee65a0c0ffee65a1", Kind: node.KindKbuild, Name: name, Path: []string{"checkout", name}, Parent: below.Node.ID, TreeID: "t1",
		State: state, Result: result, Data: map[string]any{"kernel_revision": below.Node.Data["kernel_revision"], "defconfig": "defconfig"},
	}
	for _, k := range []string{"arch", "compiler", "defconfig", "fragments"} {
		if v := cfg.Jobs[name].Params[k]; v != nil {
			n.Data[k] = v
		}
	}
	return of(n, below.Node)
}

// was makes the event one of a node that had the state before.
func was(s node.State, r node.Result) func(*Subject) {
	return func(sub *Subject) {
		sub.Event.PreviousState = &s
		if r != node.None {
			sub.Event.PreviousResult = &r
		}
	}
}

// productionEvents are what the golden file tells about.
func productionEvents(cfg *pipeline.Config) []struct {
	title string
	sub   Subject
} {
	filter := func(names ...string) func(*Subject) { return func(s *Subject) { s.Node.JobFilter = names } }
	arm64 := built(cfg, "kbuild-gcc-14-arm64", checkout(), node.Available, node.Pass)
	job := of(node.Node{ID: "65a0c0ffee65a0c0ffee65a2", Kind: node.KindJob, Name: "blktests-ddp-x86", Path: []string{"checkout", "k", "blktests-ddp-x86"},
		State: node.Done, Result: node.Incomplete, Data: arm64.Node.Data}, arm64.Node, checkout().Node)
	return []struct {
		title string
		sub   Subject
	}{
		{"a checkout of mainline", checkout()},
		{"a checkout of next", onto("next", "master", 6, 13)},
		{"a checkout of an old stable branch", onto("stable-rc", "linux-5.4.y", 5, 4)},
		{"a checkout of android", onto("android", "android-mainline", 6, 12)},
		{"a checkout of a tree that nobody knows", onto("unheard-of", "main", 6, 12)},
		{"a checkout that is available already", changed(checkout(), was(node.Available, node.Pass))},
		{"a checkout that closes", changed(checkout(), func(s *Subject) { s.Event.State, s.Node.State = node.Closing, node.Closing }, was(node.Available, node.Pass))},
		{"a checkout that is still running", changed(checkout(), func(s *Subject) { s.Event.State, s.Node.State = node.Running, node.Running })},
		{"a checkout for one job", onto("mainline", "master", 6, 12, filter("kbuild-gcc-14-arm64"))},
		{"a checkout for one architecture", onto("mainline", "master", 6, 12, func(s *Subject) { s.Node.Data["architecture_filter"] = []any{"riscv"} })},
		{"a kernel that was built", arm64},
		{"a kernel that was built for one board", changed(arm64, func(s *Subject) { s.Node.PlatformFilter = []string{"qemu-arm64"} })},
		{"a kernel below a filter", changed(arm64, filter("kbuild-gcc-14-arm64+"))},
		{"a kernel beside a filter", changed(arm64, filter("kbuild-gcc-14-x86+"))},
		{"a kernel that was not built", built(cfg, "kbuild-gcc-14-arm64", checkout(), node.Done, node.Fail)},
		{"a kernel that is updated", changed(arm64, was(node.Available, node.Pass))},
		{"a kernel that is done", built(cfg, "kbuild-gcc-14-x86-kselftest", onto("next", "master", 6, 13), node.Done, node.Pass)},
		{"a job that ended", job},
		{"another attempt at a job", changed(arm64, func(s *Subject) {
			s.Event.PreviousState, s.Event.State = nil, node.Done
			s.Again, s.Retry, s.JobFilter, s.PlatformFilter = true, 1, []string{"baseline-arm64"}, []string{"qemu-arm64"}
		})},
	}
}

// TestProductionDecidesTheSame holds the decisions over KernelCI's configuration:
// job, runtime and platform of what runs, and the reason of each job that does
// not.
func TestProductionDecidesTheSame(t *testing.T) {
	cfg := production(t)
	s := New(cfg, nil)
	var got strings.Builder
	for _, e := range productionEvents(cfg) {
		fmt.Fprintf(&got, "== %s\n", e.title)
		for _, d := range s.Decide(e.sub) {
			if d.Run {
				fmt.Fprintln(&got, d.Job.Name, d.Runtime.Name, d.Platform.Name)
				continue
			}
			where := d.Entry.RuntimeName
			if d.Platform != nil {
				where += " " + d.Platform.Name
			}
			fmt.Fprintf(&got, "- %s %s: %s\n", d.Entry.Job, where, strings.TrimPrefix(d.Reason, "rules of job "+d.Entry.Job+": "))
		}
	}
	golden := filepath.Join("testdata", "production.txt")
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
		t.Errorf("other decisions than in %s (go test -update writes it):\n%s", golden, firstDifference(got.String(), string(want)))
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return fmt.Sprintf("line %d: %s\nwant %s", i+1, g[i], w[i])
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(g), len(w))
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
