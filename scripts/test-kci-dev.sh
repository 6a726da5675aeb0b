#!/usr/bin/env bash
# Runs kci-dev, unmodified and from the Python package index, against Kernelflow on
# the sample tree: checkout, watch, testretry, patchset, maestro results and
# storage, each with the exit code that kci-dev documents (0 pass, 1 fail, 2 the
# infrastructure, 64 not submitted).
#
#   scripts/test-kci-dev.sh [DATA]    keeps everything in DATA (default: data/kci-dev, made anew)
#
# Needs python3 with venv, git, make and a C compiler. kci-dev looks every 30
# seconds, so what can wait at once does.
set -euo pipefail
cd "$(dirname "$0")/.."

version=0.1.12
data=${1:-data/kci-dev}
venv=data/venv-kci-dev-$version
kci=$PWD/$venv/bin/kci-dev

say() { printf '\n== %s (%ss)\n' "$*" "$SECONDS"; }

fail() {
	printf '%s\n' "$*" >&2
	exit 1
}

say "install kci-dev $version"
if [ "$("$kci" --version 2>/dev/null)" != "kci-dev, version $version" ]; then
	rm -rf "$venv"
	python3 -m venv "$venv"
	"$venv/bin/pip" --quiet --disable-pip-version-check install "kci-dev==$version"
fi
"$kci" --version

say "start the sample"
[ $# -gt 0 ] || rm -rf "$data"
mkdir -p "$data/out" "$data/www" bin
data=$(cd "$data" && pwd)
go build -o bin/ ./local
# Patches come from this machine here.
PATCH_HOSTS=127.0.0.1 PATCH_ALLOW_PRIVATE=true HOLDOFF=10s LOG_LEVEL=${LOG_LEVEL:-warn} \
	bin/local -data "$data" -addr 127.0.0.1:0 -speed 120 >"$data/out/local" 2>&1 &
server=$!
python3 -u -m http.server --bind 127.0.0.1 --directory "$data/www" 0 >"$data/out/www" 2>&1 &
www=$!
stop() {
	kill "$server" "$www" 2>/dev/null || true
	wait 2>/dev/null || true
}
trap stop EXIT
trap 'exit 1' INT TERM

# until_true WHAT COMMAND...: waits until the command succeeds.
until_true() {
	local what=$1
	shift
	for _ in $(seq 600); do
		"$@" >/dev/null 2>&1 && return 0
		kill -0 "$server" || fail "Kernelflow has stopped: $(cat "$data/out/local")"
		sleep 0.1
	done
	fail "still waiting for $what: $(tail -n 20 "$data/out/local")"
}

ready() { curl -fs "http://127.0.0.1:$(cat "$data/port")/readyz"; }
until_true "Kernelflow" ready
until_true "the admin's token" test -s "$data/admin.token"
until_true "the patch server" grep -q 'Serving HTTP' "$data/out/www"
url=http://127.0.0.1:$(cat "$data/port")
patches=http://127.0.0.1:$(sed -n 's/.* port \([0-9]*\) .*/\1/p' "$data/out/www" | head -n 1)
tree=$data/sample-tree
tree_url=$(sed -n 's/^ *url: "\(file:.*\)"$/\1/p' "$data/config/pipeline.yaml")

# json FIELD: one field of the JSON object on standard input.
json() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }

# personal SCOPES: a personal token.
personal() {
	curl -fsS -H "Authorization: Bearer $(cat "$data/admin.token")" -H "Content-Type: application/json" \
		-d "{\"name\":\"kci-dev\",\"scopes\":$1}" "$url/latest/user/tokens" | json token
}

# settings FILE TOKEN STORAGE-TOKEN: kci-dev's settings.
settings() {
	cat >"$1" <<END
default_instance="local"

[local]
pipeline="$url/"
api="$url"
token="$2"
storage_url="$url/storage"
storage_token="$3"
END
}
settings "$data/kci-dev.toml" "$(personal '["checkout","testretry","patchset"]')" "$(personal '["storage"]')"
settings "$data/no-rights.toml" "$(personal '["node:read"]')" nonsense
settings "$data/admin.toml" "$(cat "$data/admin.token")" "$(cat "$data/admin.token")"

declare -A pid want

# begin NAME CODE ARGUMENTS...: runs kci-dev, which is to end with that code.
begin() {
	local name=$1
	want[$name]=$2
	shift 2
	"$kci" --settings "${settings:-$data/kci-dev.toml}" "$@" >"$data/out/$name" 2>&1 &
	pid[$name]=$!
}

# end NAME...: waits for what was begun, in any order, and checks the codes.
end() {
	local name code
	for name in "$@"; do
		code=0
		wait "${pid[$name]}" || code=$?
		if [ "$code" != "${want[$name]}" ]; then
			cat "$data/out/$name" >&2
			tail -n 40 "$data/out/local" >&2
			fail "$name: exit code $code, want ${want[$name]}"
		fi
		printf '%-40s exit %s (%ss)\n' "$name" "$code" "$SECONDS"
	done
}

# expect NAME CODE ARGUMENTS...: runs kci-dev to its end.
expect() {
	begin "$@"
	end "$1"
}

# said NAME TEXT: what was printed must hold the text.
said() {
	grep -qF -- "$2" "$data/out/$1" || fail "$1 does not say \"$2\": $(cat "$data/out/$1")"
}

# node NAME FIELD: an id that a submission has printed.
node() { sed -n "s/^$2: //p" "$data/out/$1"; }

good=$(git -C "$tree" rev-parse HEAD)
unwatched() { # a commit on a branch that no build config watches
	(
		cd "$tree"
		git checkout --quiet -b broken
		sed -i "s/return c == ' ' || c == '.t';/return c == ' ';/" text.c
		git commit --quiet --all --message="text: only spaces are blank"
		git checkout --quiet main
	)
}
git -C "$tree" rev-parse --quiet --verify broken >/dev/null || unwatched
broken=$(git -C "$tree" rev-parse broken)
git -C "$tree" format-patch --quiet -1 --stdout broken >"$data/out/break.patch"
git -C "$tree" diff broken main >"$data/www/mend.patch"
sed 's/^-/-x/; s/^-x-- /--- /' "$data/out/break.patch" >"$data/out/unfit.patch"
sed 's,text\.c,../text.c,g' "$data/out/break.patch" >"$data/out/escape.patch"

filters=(--job-filter kbuild-gcc-native --job-filter ktest-sample)
watching=("${filters[@]}" --watch --test trims_tabs)
from=(checkout --giturl "$tree_url" --branch)

say "what is refused"
expect checkout-unknown-tree 64 "${from[@]}" main --commit "$good" --giturl "$tree_url/none"
said checkout-unknown-tree "404: {'message': 'Tree not found'}"
expect checkout-bad-commit 64 "${from[@]}" main --commit main
said checkout-bad-commit "400: {'message': 'Invalid commit format'}"
expect checkout-unknown-job 64 "${from[@]}" main --commit "$good" --job-filter none
said checkout-unknown-job "404: {'message': 'Job none not found'}"
expect checkout-unknown-platform 64 "${from[@]}" main --commit "$good" --platform-filter none
said checkout-unknown-platform "404: {'message': 'Platform none not found'}"
settings=$data/no-rights.toml expect checkout-no-rights 64 "${from[@]}" main --commit "$good"
said checkout-no-rights "401: {'message': 'Unauthorized'}"
expect testretry-unknown-node 1 testretry --nodeid 0123456789abcdef01234567
said testretry-unknown-node "404: {'message': 'Node not found'}"
expect patchset-unknown-node 64 patchset --nodeid 0123456789abcdef01234567 --patch "$data/out/break.patch"
said patchset-unknown-node "404: {'message': 'Node not found'}"
expect watch-unknown-node 1 watch --nodeid 0123456789abcdef01234567 --job-filter x
said watch-unknown-node "not found"
expect watch-bad-node 2 watch --nodeid xyz --job-filter x

say "checkouts to put patches on"
expect base-good 0 "${from[@]}" main --tipoftree --platform-filter shell
expect base-broken 0 "${from[@]}" broken --commit "${broken:0:12}" "${filters[@]}"
expect patchset-escape 64 patchset --nodeid "$(node base-good checkout_nodeid)" --patch "$data/out/escape.patch"
said patchset-escape "leads out of the tree"
expect patchset-url-not-allowed 64 patchset --nodeid "$(node base-good checkout_nodeid)" --patchurl "http://localhost:${patches##*:}/mend.patch"
said patchset-url-not-allowed "400: {'message': 'Invalid patch URL'}"
expect patchset-url-gone 64 patchset --nodeid "$(node base-good checkout_nodeid)" --patchurl "$patches/none.patch"
said patchset-url-gone "400: {'message': 'Invalid patch URL'}"

say "checkouts and patchsets, watched"
begin checkout-passes 0 "${from[@]}" main --commit "$good" "${watching[@]}"
settings=$data/admin.toml begin checkout-fails 1 "${from[@]}" broken --commit "$broken" "${watching[@]}"
begin checkout-of-nothing 2 "${from[@]}" main --commit 0123456789abcdef0123456789abcdef01234567 "${watching[@]}"
begin patchset-breaks 1 patchset --nodeid "$(node base-good checkout_nodeid)" --patch "$data/out/break.patch" "${watching[@]}"
begin patchset-by-url-mends 0 patchset --nodeid "$(node base-broken checkout_nodeid)" --patchurl "$patches/mend.patch" "${watching[@]}"
begin patchset-does-not-fit 2 patchset --nodeid "$(node base-good checkout_nodeid)" --patch "$data/out/unfit.patch" "${watching[@]}"
end checkout-of-nothing patchset-does-not-fit checkout-passes checkout-fails patchset-breaks patchset-by-url-mends

id=$(node checkout-passes checkout_nodeid)
treeid=$(node checkout-passes treeid)

# count NUMBER FILTER...: how many nodes of the tree pass the filters.
count() {
	local number=$1 filter arguments=()
	shift
	for filter in "$@"; do arguments+=(--filter "$filter"); done
	expect count 0 maestro results --nodes --count --limit 1000 --filter "treeid=$treeid" "${arguments[@]}"
	[ "$(cat "$data/out/count")" = "$number" ] || fail "$* gives $(cat "$data/out/count"), want $number"
	printf '    %s: %s\n' "$*" "$number"
}

say "another attempt"
expect job 0 maestro results --nodes --filter "treeid=$treeid" --filter name=ktest-sample --field id
job=$(grep -o '[0-9a-f]\{24\}' "$data/out/job")
expect testretry 0 testretry --nodeid "$job"
said testretry OK
another() { [ "$(curl -fs "$url/latest/count?treeid=$treeid&name=ktest-sample&retry_counter=1&state=done")" = 1 ]; }
until_true "the other attempt" another
expect watch 0 watch --nodeid "$id" "${filters[@]}" --test trims_tabs
expect kver 0 maestro results --nodes --filter "name=kver" --limit 1 --field id
expect testretry-no-build 1 testretry --nodeid "$(grep -o '[0-9a-f]\{24\}' "$data/out/kver")"
said testretry-no-build "404: {'message': 'Kernel build not found'}"

say "maestro results"
expect one 0 maestro results --nodeid "$id"
said one "$treeid"
expect patched 0 maestro results --nodeid "$(node patchset-breaks patchset_nodeid)"
said patched '"patchset": "'
expect unfit 0 maestro results --nodeid "$(node patchset-does-not-fit patchset_nodeid)"
said unfit "git apply: error: patch failed: text.c"
expect fields 0 maestro results --nodes --filter "treeid=$treeid" --filter kind=checkout --field id --field state
said fields "$id"
count 1 kind=checkout
count 1 kind=kbuild state=done result=pass
count 2 kind=job
count 2 "parent=$(curl -fs "$url/latest/nodes/fast?treeid=$treeid&kind=kbuild" | python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["id"])')" kind=job
count 1 data.arch=native kind=kbuild
count 1 kind=checkout data.kernel_revision.tree=sample "data.kernel_revision.url=$tree_url" data.kernel_revision.branch=main "data.kernel_revision.commit=$good"
count 1 retry_counter=1
count 1 retry_counter__gt=0 kind=job
count 2 retry_counter__gte=0 kind=job
count 1 retry_counter__lt=1 kind=job
count 2 retry_counter__lte=1 kind=job
count 1 kind=job retry_counter__ne=1
count 0 state__ne=done
count 2 data.error_code__ne=node_timeout kind=job
count 2 name__re=^ktest kind=job
count 0 name__re=^ktest\$
count 2 kind__in=checkout,kbuild
count 2 kind__nin=checkout,kbuild,test,regression,process
count 1 kind=checkout parent=null
count 2 kind=job data.error_code=null
count 2 kind=job processed_by_kcidb_bridge=false
count 1 kind=checkout created__gt=2020-01-01 created__lt=2100-01-01T00:00:00
count 0 kind=checkout created__gte=2100-01-01
count 0 kind=checkout created__lte=2020-01-01
expect dates 0 maestro results --nodes --count --start-date 2020-01-01 --end-date 2100-01-01 --tree sample --filter "treeid=$treeid" --filter kind=checkout
[ "$(cat "$data/out/dates")" = 1 ] || fail "dates: $(cat "$data/out/dates")"
expect page 0 maestro results --nodes --count --limit 2 --offset 1
[ "$(cat "$data/out/page")" = 2 ] || fail "page: $(cat "$data/out/page")"
expect all 0 maestro results --nodes --count --no-paginate --filter "treeid=$treeid" --filter kind=job
[ "$(cat "$data/out/all")" = 2 ] || fail "all: $(cat "$data/out/all")"
expect bad-operator 2 maestro results --nodes --filter name__like=x
expect unknown-node 1 maestro results --nodeid 0123456789abcdef01234567

say "storage"
printf 'a log\n' | tee "$data/out/log.txt" | gzip -n >"$data/out/log.txt.gz"
expect checkauth 0 storage checkauth
said checkauth "Authorized: admin@localhost"
expect upload 0 storage upload --path admin/build-1 "$data/out/log.txt" "$data/out/log.txt.gz"
for file in log.txt log.txt.gz; do
	curl -fsS "$url/storage/admin/build-1/$file" | cmp - "$data/out/$file"
done
expect upload-elsewhere 1 storage upload --path somebody/build-1 "$data/out/log.txt"
said upload-elsewhere "HTTP 403"
settings=$data/no-rights.toml expect checkauth-bad-token 1 storage checkauth
said checkauth-bad-token "Authentication failed"
settings=$data/no-rights.toml expect upload-bad-token 1 storage upload --path admin/build-1 "$data/out/log.txt"
said upload-bad-token "Authentication failed"

say "done"
