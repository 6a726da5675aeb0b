#!/bin/sh
# Runs the tests that want a real server, with servers started here on loopback
# ports and stopped at the end. A test that would skip fails instead.
set -eu
cd "$(dirname "$0")/.."

for tool in go python3 redis-server redis-cli; do
	command -v "$tool" >/dev/null || { echo "this machine has no $tool (scripts/ci-install.sh installs what it takes, as root)" >&2; exit 1; }
done
dir=$(mktemp -d)
redis=
stop() {
	[ -z "$redis" ] || kill "$redis" 2>/dev/null || true
	rm -rf "$dir"
}
trap stop EXIT
trap 'exit 1' INT TERM

free_port() {
	python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

port=$(free_port)
redis-server --port "$port" --bind 127.0.0.1 --save "" --appendonly no --dir "$dir" >"$dir/redis.log" &
redis=$!
for _ in $(seq 100); do
	redis-cli -p "$port" ping >/dev/null 2>&1 && break
	kill -0 "$redis"
	sleep 0.1
done

export TEST_REDIS_URL="redis://127.0.0.1:$port" CI_REQUIRE_SERVERS=1
go test -race -count=1 ./shared/bus/...
# The size that matters, without the race detector; go test alone takes fewer.
TEST_EVENTS=${TEST_EVENTS:-100000} go test -count=1 -timeout 60m -v -run 'TwoInstances' ./functions/api
go test -race -count=1 -run 'RealServers' ./local/...
