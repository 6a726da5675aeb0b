package git

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkArchive compares, in one run, this package's archive with git
// archive alone and with git archive piped into pigz (gzip where there is no
// pigz). The goals: 2.2 times git alone at most, half of the pipe, 64 MiB of
// memory. LINUX_TREE names a repository to take instead of a made one.
func BenchmarkArchive(b *testing.B) {
	s := benchSnapshot(b)
	zip := "pigz"
	if _, err := exec.LookPath(zip); err != nil {
		zip = "gzip"
	}
	alone := []string{"git", "--git-dir=" + s.mirror.dir, "archive", "--format=tar", s.mirror.want.ID}
	var ours, git, pipe time.Duration
	for b.Loop() {
		git += clock(b, func() error { return shell(b.Context(), strings.Join(alone, " ")) })
		pipe += clock(b, func() error { return shell(b.Context(), strings.Join(alone, " ")+" | "+zip) })
		ours += clock(b, func() error { return s.Archive(b.Context(), "linux", io.Discard, nil) })
	}
	b.ReportMetric(ours.Seconds()/float64(b.N), "s/archive")
	b.ReportMetric(ours.Seconds()/git.Seconds(), "x-git-alone(max2.2)")
	b.ReportMetric(ours.Seconds()/pipe.Seconds(), "x-git-to-"+zip+"(max0.5)")
	b.ReportMetric(peakMiB(b), "MiB-peak(max64)")
}

func clock(b *testing.B, work func() error) time.Duration {
	b.Helper()
	start := time.Now()
	if err := work(); err != nil {
		b.Fatal(err)
	}
	return time.Since(start)
}

func shell(ctx context.Context, line string) error {
	cmd := exec.CommandContext(ctx, "sh", "-c", line+" | cat >/dev/null")
	cmd.Stderr = os.Stderr
	return cmd.Run()
}

// peakMiB is the most memory that this process ever had.
func peakMiB(b *testing.B) float64 {
	b.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Logf("no memory figure on %s: %v", runtime.GOOS, err)
		return 0
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	kib, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	return kib / 1024
}

// benchSnapshot reads a repository in place, without a mirror.
func benchSnapshot(b *testing.B) *Snapshot {
	b.Helper()
	g, err := New(Options{Dir: b.TempDir(), AllowLocal: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	tree := os.Getenv("LINUX_TREE")
	if tree == "" {
		tree = makeTree(b)
	}
	out, err := exec.CommandContext(b.Context(), "git", "-C", tree, "rev-parse", "--absolute-git-dir", "HEAD").Output()
	if err != nil {
		b.Fatal(err)
	}
	dir, id, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return &Snapshot{mirror: &mirror{git: g, dir: dir, want: Commit{ID: id}}}
}

// makeTree commits a copy of the Go standard library's sources: real text, some
// ten thousand files.
func makeTree(b *testing.B) string {
	b.Helper()
	root, err := exec.CommandContext(b.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		b.Fatal(err)
	}
	dir := filepath.Join(b.TempDir(), "tree")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(strings.TrimSpace(string(root)), "src"))); err != nil {
		b.Fatal(err)
	}
	const identity = "-c user.name=A -c user.email=a@example.org"
	line := "cd " + dir + " && git init --quiet && git add --all --force && git " + identity + " commit --quiet --message=all && git repack -adq"
	if err := shell(b.Context(), line); err != nil {
		b.Fatal(err)
	}
	return dir
}
