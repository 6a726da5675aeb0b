package api_test

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/functions/api"
	"github.com/kernelflow/kernelflow/shared/bus/redis"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/relay"
	"github.com/kernelflow/kernelflow/shared/store"
	"github.com/kernelflow/kernelflow/shared/store/mongo"
	"github.com/kernelflow/kernelflow/shared/store/mongo/mongotest"
	"github.com/kernelflow/kernelflow/shared/store/sqlite"
)

// latencies are how long requests took.
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
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
	slices.Sort(l.list)
	for _, p := range []int{50, 99} {
		b.ReportMetric(float64(l.list[len(l.list)*p/100].Microseconds())/1000, fmt.Sprintf("p%d-ms", p))
	}
}

// benchNodes is how many nodes are there: KERNELFLOW_BENCH_NODES, or otherwise.
func benchNodes(b *testing.B, otherwise int) int {
	b.Helper()
	n, err := strconv.Atoi(cmp.Or(os.Getenv("KERNELFLOW_BENCH_NODES"), strconv.Itoa(otherwise)))
	check(b, err)
	return n
}

// backends are what the API can stand on: nothing but its own process, or a
// MongoDB (FerretDB, which is slow; MONGO_TEST_URL for a real one) and a Redis
// (TEST_REDIS_URL for a real one).
var backends = []struct {
	name  string
	nodes int // where a benchmark does not say
	site  func(b testing.TB) *site
}{
	{"embedded", 20_000, func(b testing.TB) *site {
		return benchSite(b, func(ctx context.Context) (store.Store, error) {
			return sqlite.Open(ctx, sqlite.Options{Path: filepath.Join(b.TempDir(), "bench.db"), Now: time.Now})
		})
	}},
	{"mongo", 200, func(b testing.TB) *site {
		uri := os.Getenv("MONGO_TEST_URL")
		if uri == "" {
			uri = mongotest.Start(b)
		}
		return benchSite(b, func(ctx context.Context) (store.Store, error) {
			return mongo.Open(ctx, mongo.Options{URI: uri, Database: "bench_" + strings.ToLower(rand.Text()), Now: time.Now})
		})
	}},
}

func benchSite(b testing.TB, open func(context.Context) (store.Store, error)) *site {
	b.Helper()
	log := slog.New(slog.DiscardHandler)
	st, err := open(b.Context())
	check(b, err)
	channel, err := redis.Embedded(log)
	if addr := os.Getenv("TEST_REDIS_URL"); addr != "" && err == nil {
		check(b, channel.Close())
		channel, err = redis.Open(redis.Options{Addr: addr, Prefix: rand.Text() + ":", Log: log})
	}
	check(b, err)
	r := relay.New(st, channel, log)
	w := relay.NewWatch(r, channel, time.Second, log)
	b.Cleanup(func() {
		for _, c := range []io.Closer{w, r, channel} {
			check(b, c.Close())
		}
	})
	s := newSite(b, func(o *api.Options) { o.Store, o.Watch, o.Bus, o.Patience = r, w, channel, time.Hour })
	// The accounts are where the nodes are.
	return (&site{t: b, url: s.url, store: r, auth: s.auth}).withAccounts()
}

func (s *site) withAccounts() *site {
	s.admin = s.account("65f0000000000000000000a1", "admin", true)
	s.bob = s.account("65f0000000000000000000b0", "bob", false)
	return s
}

// fillUp stores count nodes below a hundred checkouts.
func (s *site) fillUp(b *testing.B, count int) (ids []node.ID) {
	b.Helper()
	const checkouts = 100
	for i := range checkouts {
		body := strings.Replace(checkoutBody, `"t1"`, fmt.Sprintf(`"tree-%d"`, i), 1)
		root := s.create(s.bob, body)
		ids = append(ids, root.ID)
		nodes, err := s.store.PutHierarchy(b.Context(), root.ID, "fill", func(root *node.Node) ([]node.Node, error) {
			var h node.Hierarchy
			for j := range count/checkouts - 1 {
				n := node.Node{Kind: node.KindTest, Name: fmt.Sprintf("case-%d", j%500), State: node.Done, Result: node.Results[j%3], Data: map[string]any{"arch": "arm64"}}
				h.Children = append(h.Children, node.Hierarchy{Node: n})
			}
			return h.Descendants(*root, "fill")
		}, store.Silent)
		check(b, err)
		ids = append(ids, nodes[len(nodes)/2].ID)
	}
	return ids
}

// many clients show how many requests a second can be answered, few how long
// one takes.
const many, few = 32, 2

// run sends requests from so many clients until there were b.N.
func (s *site) run(b *testing.B, clients int, request func(i int) (method, path, body string)) {
	b.Helper()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	var l latencies
	var next atomic.Int64
	b.SetParallelism(max(clients/runtime.GOMAXPROCS(0), 1))
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			method, path, body := request(int(next.Add(1)))
			began := time.Now()
			r, err := http.NewRequest(method, s.url+path, strings.NewReader(body))
			if err != nil {
				b.Error(err)
				return
			}
			r.Header.Set("Authorization", "Bearer "+s.bob)
			response, err := client.Do(r)
			if err != nil {
				b.Error(err)
				return
			}
			text, err := io.ReadAll(response.Body)
			_ = response.Body.Close()
			if err != nil || response.StatusCode != 200 {
				b.Errorf("%s %s: %d %.200s, %v", method, path, response.StatusCode, text, err)
				return
			}
			l.add(time.Since(began))
		}
	})
	l.report(b)
}

func BenchmarkPostNode(b *testing.B) {
	for _, backend := range backends {
		b.Run(backend.name, func(b *testing.B) {
			backend.site(b).run(b, many, func(int) (string, string, string) { return "POST", "/latest/node", checkoutBody })
		})
	}
}

func BenchmarkGetNode(b *testing.B) {
	for _, backend := range backends {
		b.Run(backend.name, func(b *testing.B) {
			s := backend.site(b)
			ids := s.fillUp(b, 200)
			s.run(b, many, func(i int) (string, string, string) { return "GET", "/latest/node/" + string(ids[i%len(ids)]), "" })
		})
	}
}

// BenchmarkGetNodes asks for pages as clients do.
func BenchmarkGetNodes(b *testing.B) {
	for _, backend := range backends {
		b.Run(backend.name, func(b *testing.B) {
			count := benchNodes(b, backend.nodes)
			s := backend.site(b)
			s.fillUp(b, count)
			for _, query := range []string{"treeid=tree-%d", "kind=checkout&treeid=tree-%d", "name=case-%d", "name__re=^case-%d$", "state=done&result=fail&limit=1000&offset=%d"} {
				b.Run(fmt.Sprintf("nodes=%d/%s", count, query), func(b *testing.B) {
					s.run(b, few, func(i int) (string, string, string) { return "GET", "/latest/nodes?" + fmt.Sprintf(query, i%100), "" })
				})
			}
		})
	}
}

// BenchmarkPutNodes1000 is a job's report with a thousand test cases.
func BenchmarkPutNodes1000(b *testing.B) {
	for _, backend := range backends {
		b.Run(backend.name, func(b *testing.B) {
			s := backend.site(b)
			var roots []node.ID
			for range b.N {
				var n node.Node
				check(b, json.Unmarshal([]byte(s.want(s.bob, "POST", "/latest/node", `{"kind":"job","name":"job","path":["job"]}`, 200, "")), &n))
				roots = append(roots, n.ID)
			}
			body := cases(1000, "last")
			s.run(b, few, func(i int) (string, string, string) { return "PUT", "/latest/nodes/" + string(roots[i-1]), body })
		})
	}
}
