#!/usr/bin/env bash
# Carries jobs through a real LAVA lab, from nodes made through the API to the
# results: one boots and its callback makes the result tree, one is canceled in
# the lab, one cannot run, and the callback of one is dropped and made up for by
# asking the lab.
#
#   scripts/test-lava.sh [DATA]    keeps everything in DATA (default: data/lava, made anew)
#
# Needs root, python3, curl and ../shared/lava-lab.sh, which installs and starts
# Debian's LAVA on this machine with a device in QEMU.
set -euo pipefail
cd "$(dirname "$0")/.."

lab=${LAVA_LAB:-../shared/lava-lab.sh}
if [ ! -e "$lab" ]; then
	echo "SKIPPED: there is no $lab, so no LAVA lab: nothing of LAVA was tested against a real one" >&2
	exit 0
fi

say() { printf '\n== %s (%ss)\n' "$*" "$SECONDS"; }

fail() {
	printf '%s\n' "$*" >&2
	[ -z "${data:-}" ] || tail -n 40 "$data/out/local" >&2
	exit 1
}

data=${1:-data/lava}
[ $# -gt 0 ] || rm -rf "$data"
mkdir -p "$data/out" "$data/config" bin
data=$(cd "$data" && pwd)

server=
stop() {
	[ -z "$server" ] || kill "$server" 2>/dev/null || true
	wait 2>/dev/null || true
	bash "$lab" down >/dev/null 2>&1 || true
}
trap stop EXIT
trap 'exit 1' INT TERM

say "start a LAVA lab"
bash "$lab" up >"$data/out/lab"
value() { sed -n "s/^$1=//p" "$data/out/lab"; }
lava=$(value LAVA_URL)
token=$(value LAVA_TOKEN)
description=kernelflow-$$-$RANDOM
callback=$(bash "$lab" manage tokens add --user "$(value LAVA_USER)" --description "$description" | tail -n 1)
[ -n "$callback" ] || fail "LAVA gave no token"

say "start Kernelflow"
go build -o bin/ ./local
cat >"$data/config/pipeline.yaml" <<END
runtimes:
  lava-lab: {lab_type: lava, url: "$lava/", notify: &notify {callback: {token: $description}}}
  # Nobody listens where this one reports.
  lava-deaf: {lab_type: lava, url: "$lava/", notify: {callback: {token: $description, url: "http://127.0.0.1:9"}}}
platforms:
  qemu-x86: {arch: x86_64, base_name: qemu, boot_method: qemu, context: {arch: amd64}}
jobs:
  lava-boot: {template: lava/boot.jinja2, kind: job, priority: high, params: &boot {device_type: qemu, tests: {uname: "uname -a", always-fails: "false"}}}
  lava-cancel: {template: lava/boot.jinja2, kind: job, params: *boot}
  lava-broken: {template: lava/boot.jinja2, kind: job, params: {device_type: qemu, kernel: "$(value LAVA_KERNEL_URL)-gone"}}
  lava-dropped: {template: lava/boot.jinja2, kind: job, params: *boot}
  lava-refused: {template: lava/boot.jinja2, kind: job, params: {device_type: no-such-type}}
scheduler:
  - {job: lava-boot, event: &build {channel: node, kind: kbuild, state: available}, runtime: &lab {name: lava-lab}, platforms: &on [qemu-x86]}
  - {job: lava-cancel, event: *build, runtime: *lab, platforms: *on}
  - {job: lava-broken, event: *build, runtime: *lab, platforms: *on}
  - {job: lava-refused, event: *build, runtime: *lab, platforms: *on}
  - {job: lava-dropped, event: *build, runtime: {name: lava-deaf}, platforms: *on}
END
umask 077
cat >"$data/kernelci.toml" <<END
[runtime.lava-lab]
runtime_token = "$token"
callback_token = "$callback"

[runtime.lava-deaf]
runtime_token = "$token"
callback_token = "$callback"
END
# A job is asked for 45 seconds after it was made: the callbacks come before.
KCI_SETTINGS=$data/kernelci.toml POLL_AFTER=45m LOG_LEVEL=${LOG_LEVEL:-info} \
	bin/local -config "$data/config" -data "$data" -addr 127.0.0.1:0 -speed 60 >"$data/out/local" 2>&1 &
server=$!

# until_true WHAT COMMAND...: waits until the command succeeds.
until_true() {
	local what=$1
	shift
	for _ in $(seq 900); do
		"$@" >/dev/null 2>&1 && return 0
		kill -0 "$server" || fail "Kernelflow has stopped"
		sleep 0.2
	done
	fail "still waiting for $what"
}

ready() { curl -fs "http://127.0.0.1:$(cat "$data/port")/readyz"; }
until_true "Kernelflow" ready
until_true "the admin's token" test -s "$data/admin.token"
url=http://127.0.0.1:$(cat "$data/port")

# create JSON: makes a node through the API and prints its id.
create() {
	curl -fsS -H "Authorization: Bearer $(cat "$data/admin.token")" -H "Content-Type: application/json" -d "$1" "$url/latest/node" |
		python3 -c 'import json, sys; print(json.load(sys.stdin)["id"])'
}

say "make a checkout and a kernel build"
revision='{"tree": "mainline", "url": "https://git.example.org/linux.git", "branch": "master", "commit": "1111111111111111111111111111111111111111", "version": {"version": 6, "patchlevel": 1}}'
checkout=$(create '{"kind": "checkout", "name": "checkout", "path": ["checkout"], "state": "available", "result": "pass", "treeid": "lava", "data": {"kernel_revision": '"$revision"'}}')
kbuild=$(create '{"kind": "kbuild", "name": "kbuild", "path": ["checkout", "kbuild"], "parent": "'"$checkout"'", "state": "available", "result": "pass", "treeid": "lava",
	"artifacts": {"kernel": "'"$(value LAVA_KERNEL_URL)"'", "ramdisk": "'"$(value LAVA_INITRD_URL)"'"}, "data": {"arch": "x86_64", "kernel_revision": '"$revision"'}}')

# field NAME PATH: what a job's first attempt has there, such as data.job_id.
field() {
	curl -fsS "$url/latest/nodes/fast?parent=$kbuild&name=$1&retry_counter=0" | python3 -c '
import json, sys
value = json.load(sys.stdin)[0]
for key in sys.argv[1].split("."):
    value = (value or {}).get(key)
print("" if value is None else value)' "$2"
}
has() { [ -n "$(field "$@")" ]; }
in_state() { [ "$(field "$1" state)" = "$2" ]; }

# expect NAME PATH VALUE: the node must have a value there that begins so.
expect() {
	local got
	got=$(field "$1" "$2")
	case $got in
	"$3"*) ;;
	*) fail "$1: $2 is \"$got\", want \"$3\"" ;;
	esac
	printf '%-14s %s: %s\n' "$1" "$2" "$got"
}

say "the jobs are in the lab, each once"
for job in lava-boot lava-cancel lava-broken lava-dropped; do
	until_true "a job of $job" has "$job" data.job_id
	number=$(curl -fsS -H "Authorization: Token $token" "$lava/api/v0.2/jobs/?definition__contains=$(field "$job" id)" |
		python3 -c 'import json, sys; print(json.load(sys.stdin)["count"])')
	[ "$number" = 1 ] || fail "$job was submitted $number times"
	printf '%-14s job %s\n' "$job" "$(field "$job" data.job_id)"
done
curl -fsS -H "Authorization: Token $token" "$lava/api/v0.2/jobs/$(field lava-cancel data.job_id)/cancel/" >/dev/null

say "a job that the lab does not take"
until_true "the refusal" in_state lava-refused done
expect lava-refused result incomplete
expect lava-refused data.error_code submit_error
field lava-refused data.error_msg | grep "Device type 'no-such-type' is unavailable" >/dev/null || fail "not LAVA's words: $(field lava-refused data.error_msg)"

say "a job that boots, and whose callback comes"
until_true "the job that boots" in_state lava-boot done
expect lava-boot result fail
expect lava-boot data.device qemu01
for artifact in lava_log lava_logs callback_data job_definition; do
	expect lava-boot "artifacts.$artifact" "$url/storage/"
done
curl -fsS "$(field lava-boot artifacts.lava_log)" | gunzip | tee "$data/out/log.txt" | grep "lab guest .* is up" >/dev/null || fail "the log is not readable: $data/out/log.txt"
curl -fsS "$(field lava-boot artifacts.lava_logs)" | grep '"lvl": "target"' >/dev/null || fail "the structured log is not LAVA's"
curl -fsS "$(field lava-boot artifacts.callback_data)" | gunzip | python3 -c 'import json, sys; c = json.load(sys.stdin); assert c["status"] == 2 and "token" not in c, c'
curl -fsS "$(field lava-boot artifacts.job_definition)" | grep "token: $description" >/dev/null || fail "the definition does not name the token"

# tree NODE: the names and results below a node.
tree() {
	curl -fsS "$url/latest/nodes/fast?parent=$1" | python3 -c '
import json, sys
for n in json.load(sys.stdin):
    print(n["id"], n["kind"], n["name"], n["result"], sep="\t")' | while IFS=$'\t' read -r id kind name result; do
		printf '%s%s %s %s\n' "$2" "$kind" "$name" "$result"
		tree "$id" "$2  "
	done
}
want='job setup pass
  test login pass
  test kernelmsg pass
job smoke fail
  test uname pass
  test always-fails fail'
for job in lava-boot lava-dropped; do
	[ $job = lava-boot ] || until_true "the job whose callback was dropped" in_state $job done
	got=$(tree "$(field $job id)" "")
	[ "$got" = "$want" ] || fail "$job has the tree
$got"
	printf '%s\n%s\n' "$job" "$got"
done

say "a job that was canceled, and one that cannot run"
until_true "the canceled job" in_state lava-cancel done
expect lava-cancel result incomplete
expect lava-cancel data.error_code Canceled
until_true "the broken job" in_state lava-broken done
expect lava-broken result incomplete
expect lava-broken data.error_code ""
has lava-broken data.error_msg || fail "the broken job does not say why"

say "a job whose callback was dropped"
expect lava-dropped result fail
expect lava-dropped data.device qemu01
expect lava-dropped artifacts.lava_log "$url/storage/"
if has lava-dropped artifacts.callback_data; then fail "the dropped callback came"; fi

say "no secret shows"
curl -fsS "$url/metrics" | tee "$data/out/metrics" | grep kernelflow_runtime || fail "the runtimes are not measured"
for secret in "$token" "$callback"; do
	if grep -rF -- "$secret" "$data/out/local" "$data/out/metrics" "$data/storage" >/dev/null; then fail "a token shows"; fi
	if curl -fsS "$url/latest/nodes/fast" | grep -F -- "$secret" >/dev/null; then fail "a token is in a node"; fi
	if find "$data/storage" -name '*.gz' -exec gunzip -c {} + | grep -F -- "$secret" >/dev/null; then fail "a token is in a packed artifact"; fi
done

say "done"
