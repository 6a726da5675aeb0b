#!/usr/bin/env bash
# Tests the API against its own description with schemathesis, unmodified and
# from the Python package index: requests that the description allows and ones
# that it forbids, all checks. An answer of 5xx, one outside the description, a
# good request refused or a bad one taken is a failure, and so is a run of fewer
# requests than were asked for.
#
#   scripts/test-schemathesis.sh [DATA]    keeps everything in DATA (default: data/schemathesis, made anew)
#
# SCHEMATHESIS_CASES is how many requests there must be at least (default 20000),
# SCHEMATHESIS_SEED what they are made from (default 1), SCHEMATHESIS_PHASES how
# (default: all). The same seed makes the same requests, as far as the API's
# answers are the same, whose ids and times are not. Needs python3 with venv.
set -euo pipefail
cd "$(dirname "$0")/.."

version=4.32.5
cases=${SCHEMATHESIS_CASES:-20000}
seed=${SCHEMATHESIS_SEED:-1}
phases=${SCHEMATHESIS_PHASES:-examples,coverage,fuzzing,stateful}
data=${1:-data/schemathesis}
venv=data/venv-schemathesis-$version
schemathesis=$PWD/$venv/bin/schemathesis

say() { printf '\n== %s (%ss)\n' "$*" "$SECONDS"; }

fail() {
	printf '%s\n' "$*" >&2
	exit 1
}

say "install schemathesis $version"
if [ "$("$schemathesis" --version 2>/dev/null)" != "Schemathesis, version $version" ]; then
	rm -rf "$venv"
	python3 -m venv "$venv"
	"$venv/bin/pip" --quiet --disable-pip-version-check install "schemathesis==$version"
fi
"$schemathesis" --version

say "start an empty pipeline"
[ $# -gt 0 ] || rm -rf "$data"
mkdir -p "$data/config" bin
data=$(cd "$data" && pwd)
echo 'trees: {}' >"$data/config/pipeline.yaml"
go build -o bin/ ./local
# What waits for something to happen waits for a moment only; all requests come
# from one address, so that the limits on logins would soon end the test.
LISTEN_KEEPALIVE=20ms POP_WAIT=20ms LOG_LEVEL=${LOG_LEVEL:-warn} \
	bin/local -config "$data/config" -data "$data" -addr 127.0.0.1:0 >"$data/log" 2>&1 &
server=$!
stop() {
	kill "$server" 2>/dev/null || true
	wait 2>/dev/null || true
}
trap stop EXIT
trap 'exit 1' INT TERM
url=
for _ in $(seq 600); do
	url=$(sed -n 's/^Kernelflow answers on \([^ ]*\) .*/\1/p' "$data/log")
	[ -z "$url" ] || break
	kill -0 "$server" || fail "Kernelflow has stopped: $(cat "$data/log")"
	sleep 0.1
done
operations=$(python3 -c '
import json, sys, urllib.request
paths = json.load(urllib.request.urlopen(sys.argv[1] + "/openapi.json"))["paths"]
print(sum(method in ("get", "put", "post", "patch", "delete") for path in paths.values() for method in path))' "$url")

say "$operations operations, at least $cases requests"
# Many examples are the same one and not sent again.
PYTHONHASHSEED=0 SCHEMATHESIS_HOOKS=schemathesis_hooks PYTHONPATH=scripts "$schemathesis" --config-file scripts/schemathesis.toml run "$url/openapi.json" \
	--checks all --phases "$phases" --max-examples $((cases * 6 / 5 / operations + 1)) --seed "$seed" --workers 1 --continue-on-failure \
	--generation-allow-x00 false --generation-database none --request-timeout 30 --no-color \
	--header "Authorization: Bearer $(cat "$data/admin.token")" >"$data/report" 2>&1 && failed= || failed=yes
sed -n '/FAILURES =\|ERRORS =/,$p' "$data/report"
kill -0 "$server" || fail "Kernelflow has stopped: $(cat "$data/log")"
[ -z "$failed" ] || fail "the API and its description differ; all of the report is in $data/report"
made=$(sed -n 's/^ *\([0-9]*\) generated.*/\1/p' "$data/report")
[ "${made:-0}" -ge "$cases" ] || fail "only ${made:-no} requests were made, see $data/report"
say "$made requests, seed $seed: every answer is as described"
