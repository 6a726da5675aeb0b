package sqlite_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
	"github.com/kernelflow/kernelflow/shared/store/sqlite"
	"github.com/kernelflow/kernelflow/shared/store/storetest"
)

// latencies reports the median and the 99th percentile of what it was told.
type latencies struct {
	mu   sync.Mutex
	list []time.Duration
}

func (l *latencies) add(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, d)
}

func (l *latencies) report(b *testing.B) {
	slices.Sort(l.list)
	for _, p := range []int{50, 99} {
		b.ReportMetric(float64(l.list[len(l.list)*p/100].Microseconds()), fmt.Sprintf("p%d-µs", p))
	}
}

// BenchmarkCreate is a node with its event, durable.
func BenchmarkCreate(b *testing.B) {
	for _, writers := range []int{1, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s := open(b, filepath.Join(b.TempDir(), "bench.db"), time.Now)
			var next atomic.Int64
			var l latencies
			var group sync.WaitGroup
			b.ResetTimer()
			for range writers {
				group.Go(func() {
					for i := int(next.Add(1)); i <= b.N; i = int(next.Add(1)) {
						began := time.Now()
						if _, err := s.Create(context.Background(), storetest.Job(i+1, storetest.ID(i))); err != nil {
							b.Error(err)
							return
						}
						l.add(time.Since(began))
					}
				})
			}
			group.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
			l.report(b)
		})
	}
}

// BenchmarkPutHierarchy1000 is a job's report with a thousand test cases.
func BenchmarkPutHierarchy1000(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "bench.db"), time.Now)
	for i := range b.N {
		root := storetest.Job(i+1, "")
		root.RetryCounter = i
		if _, err := s.Create(b.Context(), root); err != nil {
			b.Fatal(err)
		}
	}
	b.ResetTimer()
	for i := range b.N {
		putCases(b, s, storetest.ID(i+1), 1000)
	}
}

func putCases(b testing.TB, s *sqlite.Store, root node.ID, count int) {
	b.Helper()
	_, err := s.PutHierarchy(b.Context(), root, "r", func(root *node.Node) ([]node.Node, error) {
		var h node.Hierarchy
		for i := range count {
			h.Children = append(h.Children, node.Hierarchy{Node: node.Node{Name: fmt.Sprintf("case-%d", i), Kind: node.KindTest, State: node.Done, Result: node.Pass}})
		}
		return h.Descendants(*root, "r")
	})
	if err != nil {
		b.Fatal(err)
	}
}

// size is how many nodes the queries are asked of: KERNELFLOW_BENCH_NODES.
func size(b *testing.B) int {
	b.Helper()
	text := os.Getenv("KERNELFLOW_BENCH_NODES")
	if text == "" {
		return 20_000
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		b.Fatalf("KERNELFLOW_BENCH_NODES: %v", err)
	}
	return n
}

// BenchmarkFindIndexed asks for one page of 50, as clients do.
func BenchmarkFindIndexed(b *testing.B) {
	count := size(b)
	path := filepath.Join(b.TempDir(), "bench.db")
	s := open(b, path, time.Now)
	fill(b, s, count)
	for _, question := range questionsInUse {
		name := strings.NewReplacer("/", "_", " ", "_").Replace(question)
		b.Run(name, func(b *testing.B) {
			var l latencies
			for i := range b.N {
				q := parse(b, fillIn(question, i*7919%count)).Page(50, 0)
				began := time.Now()
				if _, err := s.Find(b.Context(), q); err != nil {
					b.Fatal(err)
				}
				l.add(time.Since(began))
			}
			l.report(b)
		})
	}
}

// fill stores checkouts of eight trees with their builds, jobs and tests,
// until there are count nodes.
func fill(b testing.TB, s *sqlite.Store, count int) {
	b.Helper()
	began := time.Now()
	for made := 0; made < count; made += treeSize {
		fillTree(b, s, made)
	}
	b.Logf("%d nodes in %s", count, time.Since(began).Round(time.Millisecond))
}

// treeSize is the number of nodes of one checkout: itself, 40 builds, 160 jobs
// and their test cases.
const treeSize = 1 + 40 + 160 + 800

// fillTree makes one checkout, with ids from first+1 on, as one hierarchy.
func fillTree(b testing.TB, s *sqlite.Store, first int) {
	b.Helper()
	root := storetest.Checkout(first + 1)
	root.TreeID = treeID(first)
	revision(&root)["tree"], revision(&root)["commit"] = fmt.Sprintf("tree-%d", first/treeSize%8), commit(first)
	root.Created = benchStart.Add(time.Duration(first) * time.Second)
	if _, err := s.Create(b.Context(), root, store.Silent); err != nil {
		b.Fatal(err)
	}
	_, err := s.PutHierarchy(b.Context(), root.ID, "fill", func(root *node.Node) ([]node.Node, error) {
		root.State = node.Done
		return below(*root, first), nil
	}, store.Silent)
	if err != nil {
		b.Fatal(err)
	}
}

var benchStart = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

func treeID(n int) string { return fmt.Sprintf("%064x", n/treeSize) }

func commit(n int) string { return fmt.Sprintf("%040x", n/treeSize) }

func revision(n *node.Node) map[string]any { return n.Data["kernel_revision"].(map[string]any) }

func below(root node.Node, first int) []node.Node {
	var list []node.Node
	add := func(parent node.Node, kind node.Kind, name string) node.Node {
		n := parent.Clone()
		n.ID, n.Parent, n.Kind, n.Name = storetest.ID(first+2+len(list)), parent.ID, kind, name
		n.Path = append(n.Path, name)
		n.Created = root.Created.Add(time.Duration(len(list)) * time.Second)
		n.State, n.Result = node.Done, node.Results[len(list)%7%2]
		list = append(list, n)
		return n
	}
	for i := range 40 {
		build := add(root, node.KindKbuild, fmt.Sprintf("kbuild-gcc-12-%d", i))
		build.Set("arch", []string{"x86_64", "arm64", "arm", "riscv"}[i%4])
		build.Set("defconfig", []any{"defconfig", fmt.Sprintf("fragment-%d", i)})
		build.Set("compiler", "gcc-12")
		list[len(list)-1] = build
		for j := range 4 {
			job := add(build, node.KindJob, fmt.Sprintf("baseline-%d", j))
			job.Set("runtime", fmt.Sprintf("lava-%d", j))
			job.Set("platform", fmt.Sprintf("board-%d", i))
			job.Set("job_id", strconv.Itoa(first+len(list)))
			job.Group = job.Name
			list[len(list)-1] = job
			for k := range 5 {
				list[len(list)-1].Data["n"] = float64(k)
				test := add(job, node.KindTest, fmt.Sprintf("case-%d", (i*20+j*5+k)%500))
				delete(test.Data, "runtime")
			}
		}
	}
	return list
}
