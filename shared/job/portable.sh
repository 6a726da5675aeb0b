#!/bin/sh
# Runs the job in the folder $1 where the supervisor cannot: all it takes is a
# POSIX shell and curl, in a container or on somebody's machine. The folder
# holds the file script, and a file cancel when the job must not start. In the
# environment: KCI_NODE_ID, KCI_API_URL, KCI_STORAGE_URL, KCI_API_TOKEN,
# KCI_LIMIT and KCI_HOLDOFF in seconds. What the script gets and gives is said
# in the doc of package job. Ends with 0 when the job was reported.
set -u
umask 077
cd "$1" || exit 1
dir=$PWD
mkdir -p work results/artifacts tmp
export LANG=C.UTF-8 HOME="$dir/work" KCI_WORK="$dir/work" KCI_RESULTS="$dir/results" TMPDIR="$dir/tmp"
grace=10
max_log=67108864
cause=exited
child=

note() { printf '[kernelflow: %s]\n' "$*" >>log; }

# Nobody else on the machine can read the token off a command line.
api() {
	printf 'header = "Authorization: Bearer %s"\n' "$KCI_API_TOKEN" |
		curl --config - --silent --show-error --globoff --proto '=http,https' --connect-timeout 30 \
			--retry 12 --retry-max-time 900 --retry-connrefused "$@"
}

# in_group COMMAND...: in a process group of its own, where that is possible.
if command -v setsid >/dev/null; then
	in_group() { exec setsid "$@"; }
else
	in_group() { exec "$@"; }
fi

# strike SIGNAL PID: all of its group.
strike() { kill "-$1" "-$2" 2>/dev/null || kill "-$1" "$2" 2>/dev/null; }

# stop: ends the script, with force if need be.
stop() {
	strike TERM "$child"
	(in_group sh -c 'sleep "$1"; kill -KILL "-$2" 2>/dev/null || kill -KILL "$2"' sh "$grace" "$child") >/dev/null 2>&1 &
	killer=$!
}

canceled() {
	[ "$cause" = exited ] && cause=canceled
	[ -z "$child" ] || stop
}

limited() {
	[ "$cause" = exited ] && cause=limited
	[ -z "$child" ] || stop
}

run_script() {
	cd work || exit 126
	case $(head -c 2 ../script) in
	'#!') chmod 700 ../script && in_group ../script ;;
	*) in_group /bin/sh ../script ;;
	esac
}

execute() {
	mkfifo pipe
	tee -a log <pipe &
	logger=$!
	me=$$
	run_script <&- >pipe 2>&1 &
	child=$!
	(in_group sh -c 'sleep "$1"; kill -USR1 "$2"' sh "$KCI_LIMIT" "$me") >/dev/null 2>&1 &
	watch=$!
	[ ! -e cancel ] || canceled
	status=0
	while kill -0 "$child" 2>/dev/null; do
		wait "$child"
		status=$?
	done
	strike KILL "$child"
	strike TERM "$watch"
	[ -z "${killer-}" ] || strike TERM "$killer"
	# A process that escaped may hold the output open: it is not waited for.
	for _ in 1 2 3 4; do
		kill -0 "$logger" 2>/dev/null || break
		sleep 0.5 2>/dev/null || sleep 1
	done
	kill "$logger" 2>/dev/null
	if [ "$cause" = exited ] && [ "$status" -gt 128 ] && [ "$status" -le 192 ]; then cause=signaled; fi
}

# plain FILE: whether it is a regular file and no link to somewhere else.
plain() { [ -f "$1" ] && [ ! -L "$1" ]; }

# keep NAME FILE: uploads it and prints its URL.
keep() {
	api --fail --form "path=$KCI_NODE_ID" --form "file0=@$2;filename=$1" "${KCI_STORAGE_URL%/}/v1/file" 2>>log | head -n 1
}

keep_log() {
	note "job ended: $cause, exit status $status"
	printf 's/%s/********/g\n' "$(printf '%s' "$KCI_API_TOKEN" | sed 's/[./]/\\&/g')" >mask
	head -c "$max_log" log | sed -f mask | gzip -c >log.txt.gz
	rm -f mask
	keep log.txt.gz log.txt.gz
}

# collect: the fields of the report, as arguments of curl, one a line.
collect() {
	for file in results/artifacts/* results/artifacts/.[!.]*; do
		plain "$file" || continue
		name=${file##*/}
		case $name in
		*[!A-Za-z0-9._+-]* | log | log.txt.gz)
			note "artifact $name is left out: only letters, digits and . _ + - may be in its name"
			continue
			;;
		esac
		link=$(keep "$name" "$file")
		if [ -n "$link" ]; then printf 'artifact:%s=%s\n' "$name" "$link"; else note "artifact $name is not uploaded"; fi
	done
	for file in results/*.ktap; do
		name=${file##*/}
		case $name in *[!A-Za-z0-9._+-]*) continue ;; esac
		if plain "$file"; then printf 'results=@%s;filename=%s\n' "$file" "$name"; fi
	done
	if plain results/error; then
		head -c 4096 results/error >tmp.error
		echo 'error=<tmp.error'
	fi
	if plain results/data.json; then
		head -c 1048577 results/data.json >tmp.data
		echo 'data=<tmp.data'
	fi
}

report() {
	set -- --form "cause=$cause" --form "exit=$status" --form "limit=$KCI_LIMIT" --form "holdoff=${KCI_HOLDOFF:-0}"
	collect >fields
	while IFS= read -r field; do set -- "$@" --form "$field"; done <fields
	link=$(keep_log)
	[ -z "$link" ] || set -- "$@" --form "artifact:log=$link"
	code=$(api --output answer --write-out '%{http_code}' "$@" "${KCI_API_URL%/}/latest/node/$KCI_NODE_ID/results" 2>>log)
	case $code in
	# 409: somebody else has ended the job's node, and the log is with it.
	200 | 409) return 0 ;;
	esac
	note "the job cannot be reported: the API answers $code $(head -c 300 answer 2>/dev/null)"
	return 1
}

: >>log
command -v curl >/dev/null || {
	note "there is no curl here: the job cannot report, and is not run"
	cat log
	exit 1
}
trap canceled TERM INT HUP
trap limited USR1
status=0
if [ -e cancel ] || [ "$cause" = canceled ]; then cause=canceled; else execute; fi
trap '' TERM INT HUP USR1
report || { tail -n 1 log; exit 1; }
: >reported
