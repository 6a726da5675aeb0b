#!/bin/sh
# Two commits of a small C tree become two reports. The second commit breaks a
# test; the second report names it as a new regression.
#
#   scripts/demo.sh [DATA]    keeps everything in DATA (default: data/demo, made anew)
set -eu
cd "$(dirname "$0")/.."

data=${1:-data/demo}
addr=${DEMO_ADDR:-127.0.0.1:0}
speed=${DEMO_SPEED:-120}
# What happens is shown as progress; the log would only repeat it.
export LOG_LEVEL=${LOG_LEVEL:-warn}

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }

for tool in go git make cc curl tar gzip; do
	command -v "$tool" >/dev/null || { echo "this machine has no $tool, which the demonstration needs" >&2; exit 1; }
done
if [ $# -eq 0 ]; then
	rm -rf "$data"
fi
mkdir -p "$data" bin
go build -o bin/ ./local

say "First commit: everything passes"
bin/local -once -data "$data" -addr "$addr" -speed "$speed"

say "Second commit: text_trim() forgets about tabs"
(
	cd "$data/sample-tree"
	# Nobody's own settings (signatures, hooks, a pager) belong here.
	export GIT_CONFIG_GLOBAL=/dev/null GIT_PAGER=cat
	sed -i "s/return c == ' ' || c == '.t';/return c == ' ';/" text.c
	git diff --stat
	git commit --quiet --all --message="text: only spaces are blank"
)
bin/local -once -data "$data" -addr "$addr" -speed "$speed"

say "What is left in $data"
ls "$data" "$data/mail"

last=$(ls -t "$data"/mail/*.eml | head -n 1)
if ! grep -q '^New regressions' "$last" || ! grep -q 'trims_tabs' "$last"; then
	echo "the last report, $last, does not list the broken test as a new regression" >&2
	exit 1
fi
say "The last report lists text.trims_tabs under new regressions: $last"
