#!/bin/sh
# A job for the shell runtime. It holds no secret; what it needs of the job's
# token is in its environment.
set -eu
umask 022
artifacts=$KCI_RESULTS/artifacts
cd "$KCI_WORK"

say() { printf '== %s\n' "$*"; }

# note_error TEXT: says why the job does not pass.
note_error() {
	printf '%s\n' "$*" >"$KCI_RESULTS/error"
	printf '== error: %s\n' "$*"
}

# fail TEXT: the job's own fault.
fail() {
	note_error "$@"
	exit 1
}

# infrastructure TEXT: the fault of the machine or the network.
infrastructure() {
	note_error "$@"
	exit 75
}

# need COMMAND...: the machine must have them.
need() {
	for command_name; do
		command -v "$command_name" >/dev/null || infrastructure "this machine has no $command_name"
	done
}

# fetch URL FILE: a server that is away or breaks off is given two minutes to
# come back.
fetch() {
	say "downloading $1"
	for pause in 1 2 4 8 16 32 64 0; do
		status=0
		curl --fail --silent --show-error --globoff --location --proto '=http,https' --proto-redir '=http,https' \
			--retry 5 --connect-timeout 30 --speed-limit 1 --speed-time 120 \
			--output "$2" --url "$1" || status=$?
		case $status in
		0) return ;;
		7 | 18 | 28 | 52 | 55 | 56) sleep "$pause" ;;
		*) break ;;
		esac
	done
	infrastructure "downloading $1 failed: curl ended with exit status $status"
}

# fetch_tree URL DIR: downloads an archive and unpacks it without its top folder.
fetch_tree() {
	need curl tar gzip
	fetch "$1" "$TMPDIR/tree.tar.gz"
	mkdir "$2"
	gzip -dc "$TMPDIR/tree.tar.gz" | tar -xf - -C "$2" --strip-components=1 ||
		infrastructure "unpacking $1 failed"
	rm "$TMPDIR/tree.tar.gz"
}

# logged FILE COMMAND...: runs it with its output in the log and in FILE; status
# is its exit status. Never to be called in a condition: set -e would have no
# effect in the command.
logged() {
	logged_file=$1
	shift
	{
		set +e
		(set -e; "$@")
		echo $? >"$TMPDIR/status"
	} 2>&1 | tee "$logged_file"
	status=$(cat "$TMPDIR/status")
}

# first_error FILE: the line of a build's output that says what went wrong.
first_error() {
	line=$(grep -E '(^|[^a-z])error: ' "$1" | sed 1q)
	[ -n "$line" ] || line=$(grep -E 'undefined reference|\*\*\* ' "$1" | sed 1q)
	printf '%.500s' "$line"
}

# processors: how many jobs make may run.
processors() { getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1; }


tarball='http://127.0.0.1:8001/storage/linux-sample'\''s-main-v1.0.tar.gz'
arch='x86_64'
boot_timeout='300'

run() {
	set -- --arch="$arch" --build_dir=.kunit --jobs="$(processors)" --timeout="$boot_timeout" --raw_output=kunit
	set -- "$@" --kunitconfig='lib/kunit'
	set -- "$@" --kconfig_add='CONFIG_KASAN=y'
	set -- "$@" '--alltests'
	set -- "$@" '--qemu_args=-smp'
	set -- "$@" 'list*'
	python3 tools/testing/kunit/kunit.py run "$@"
}

fetch_tree "$tarball" source
cd source
[ -e tools/testing/kunit/kunit.py ] || fail "this source has no tools/testing/kunit/kunit.py"
need python3 make gcc flex bison bc
say "kunit.py run on $arch"
logged "$TMPDIR/kunit.log" run
for file in .config:_config test.log:test_log; do
	[ ! -e ".kunit/${file%%:*}" ] || cp ".kunit/${file%%:*}" "$artifacts/${file##*:}"
done
printf '%s\n' '{"arch": "x86_64"}' >"$KCI_RESULTS/data.json"
sed -n '/TAP version/,$p' "$TMPDIR/kunit.log" >"$TMPDIR/kunit.ktap"
if [ ! -s "$TMPDIR/kunit.ktap" ]; then
	why=$(first_error "$TMPDIR/kunit.log")
	fail "${why:-kunit.py ended with exit status $status and printed no results}"
fi
cp "$TMPDIR/kunit.ktap" "$KCI_RESULTS/kunit.ktap"
