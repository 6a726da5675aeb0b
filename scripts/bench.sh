#!/bin/sh
# Prints the numbers of the design that exist by now, each with its goal beside
# it. BENCHTIME is how long each is measured (default 2s),
# KERNELFLOW_BENCH_NODES how many nodes are queried (default 1000000, which takes
# minutes to write).
#
# The Linux tarball is measured when LINUX_TREE names a git tree of it.
set -eu
cd "$(dirname "$0")/.."

time=${BENCHTIME:-2s}
export KERNELFLOW_BENCH_NODES=${KERNELFLOW_BENCH_NODES:-1000000}
command -v python3 >/dev/null || { echo "this machine has no python3, which measures the start" >&2; exit 1; }

fail() {
	printf '%s\n' "$*" >&2
	exit 1
}

bench() { # title, goal, package, pattern
	printf '\n== %s\n   goal: %s\n' "$1" "$2"
	# With -v also one that is skipped says so.
	said=$(go test -v -timeout 1h -run '^$' -bench "$4" -benchtime "$time" -benchmem "$3" 2>&1) || fail "$said"
	printf '%s\n' "$said" | grep -E '^Benchmark.* ns/op|SKIPPED' || fail "$3 has no benchmark $4"
}

bench "API write: POST /node with its event, durable" "20x kernelci-api's requests/s on the same machine" ./functions/api 'PostNode'
bench "API read: GET /node" "peer: kernelci-api, one find_one by _id" ./functions/api 'GetNode$'
bench "API pages: GET /nodes, 50 nodes by an index (KERNELFLOW_BENCH_NODES, 20000 here)" "p99 <= 5 ms in the store at 1,000,000 nodes" ./functions/api 'GetNodes$'
bench "a job's report: PUT /nodes with 1,000 descendants, one event" "peer: kernelci-api, 2,000 round trips to MongoDB" ./functions/api 'PutNodes1000'
bench "the store under it: node and event, one durable commit shared by writers" "feeds the row above" ./shared/store/sqlite 'Create|PutHierarchy'
bench "node query on an indexed field, embedded" "p99 <= 5 ms at 1,000,000 nodes; here $KERNELFLOW_BENCH_NODES" ./shared/store/sqlite 'FindIndexed'
bench "an event from POST /node to the answers of 1 and of 100 listeners, each place noted durably" "p50 <= 5 ms to 1; p99 <= 250 ms to all of 100" ./functions/api 'PublishToListen'
bench "1000 listeners wait: memory with both ends of their connections; POST /node that none of them wants" "<= 100 KB each; no read of the store for each" ./functions/api 'ThousandListenersWait'
bench "schedule decision, whole production configuration, one event" "<= 1 ms" ./shared/schedule 'Decide|Fires'
bench "a checkout's job nodes created" "several hundred in <= 1 s" ./functions/scheduler 'CreateJobNodes|CheckoutOfMainline'
bench "a checkout's and its kernels' jobs decided, created, rendered and handed to idle labs" "several hundred in <= 1 s" ./functions/scheduler 'CheckoutAndItsKernels'
bench "a configuration checked; and each scheduled job rendered on each platform" "<= 1 s; <= 5 s" ./local/validate 'Validate'
bench "node update -> function entered, emulator" "p50 <= 3 ms" ./local/emulator 'UpdateToFunction'
bench "source tarball, from mirror to storage" "<= 0.5x of git archive into pigz, <= 2.2x of git archive alone, <= 64 MB" ./shared/git 'Archive'

printf '\n== process start -> first request answered; memory when idle\n   goal: <= 50 ms; <= 100 MB\n'
dir=$(mktemp -d)
go build -o "$dir/local" ./local
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
python3 - "$dir" "$port" <<'PY'
import subprocess, sys, time, urllib.request
folder, port = sys.argv[1:]
def start():
    began = time.monotonic()
    process = subprocess.Popen([folder + "/local", "-data", folder + "/data", "-addr", "127.0.0.1:" + port], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while True:
        try:
            urllib.request.urlopen("http://127.0.0.1:%s/healthz" % port).read()
            return process, (time.monotonic() - began) * 1000
        except OSError:
            time.sleep(0.001)
process, first = start()   # makes the database and the sample tree
process.terminate(); process.wait()
times = []
for _ in range(10):
    process, ms = start()
    times.append(ms)
    if len(times) < 10:
        process.terminate(); process.wait()
time.sleep(10)
rss = [line for line in open("/proc/%d/status" % process.pid) if line.startswith("VmRSS")][0].split()[1]
process.terminate(); process.wait()
times.sort()
print("first start %.0f ms; later starts p50 %.0f ms, worst %.0f ms; resident %.0f MB" % (first, times[5], times[-1], int(rss) / 1024))
PY
rm -rf "$dir"
