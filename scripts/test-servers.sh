#!/bin/sh
# Runs the tests that want a real server, with servers started here on loopback
# ports and stopped at the end. A test that would skip fails instead.
set -eu
cd "$(dirname "$0")/.."

for tool in go python3 openssl curl redis-server redis-cli; do
	command -v "$tool" >/dev/null || { echo "this machine has no $tool (scripts/ci-install.sh installs what it takes, as root)" >&2; exit 1; }
done
mailpit_version=v1.27.11
dir=$(mktemp -d)
redis=
mailpit=
stop() {
	[ -z "$redis" ] || kill "$redis" 2>/dev/null || true
	[ -z "$mailpit" ] || kill "$mailpit" 2>/dev/null || true
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

# A mail server that wants STARTTLS and an account.
tools=${XDG_CACHE_HOME:-$HOME/.cache}/kernelflow/mailpit-$mailpit_version
[ -x "$tools/mailpit" ] || GOBIN=$tools go install "github.com/axllent/mailpit@$mailpit_version"
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
	-keyout "$dir/key.pem" -out "$dir/cert.pem" 2>"$dir/openssl.log" || { cat "$dir/openssl.log" >&2; exit 1; }
echo "bot:right" >"$dir/accounts"
smtp=$(free_port)
mails=$(free_port)
"$tools/mailpit" --smtp "127.0.0.1:$smtp" --listen "127.0.0.1:$mails" --disable-version-check --smtp-auth-file "$dir/accounts" \
	--smtp-tls-cert "$dir/cert.pem" --smtp-tls-key "$dir/key.pem" --smtp-require-starttls >"$dir/mailpit.log" 2>&1 &
mailpit=$!
for _ in $(seq 100); do
	curl -sf "http://127.0.0.1:$mails/readyz" >/dev/null && break
	kill -0 "$mailpit" || { cat "$dir/mailpit.log" >&2; exit 1; }
	sleep 0.1
done
TEST_SMTP_ADDR="127.0.0.1:$smtp" TEST_SMTP_API="http://127.0.0.1:$mails" SSL_CERT_FILE="$dir/cert.pem" CI_REQUIRE_SERVERS=1 \
	go test -race -count=1 -run RealServer ./shared/mail

export TEST_REDIS_URL="redis://127.0.0.1:$port" CI_REQUIRE_SERVERS=1
go test -race -count=1 ./shared/bus/...
go test -count=1 -timeout 15m -v -run 'TwoInstances|TenThousandDescendants' ./functions/api
# The size that matters, without the race detector; go test alone takes fewer.
# A process that is killed leaves what it has written to its files whole: they
# may be in memory.
memory=/dev/shm
[ -w "$memory" ] || memory=$dir
TMPDIR=$memory TEST_EVENTS=${TEST_EVENTS:-100000} go test -count=1 -timeout 15m -v -run 'Killed|SIGTERM' ./infra/cloudrun
go test -race -count=1 -run 'RealServers' ./local/...
