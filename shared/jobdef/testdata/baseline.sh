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


kernel='http://127.0.0.1:8001/storage/kernel'
arch='x86_64'
qemu='qemu-system-x86_64'
machine='pc'
cpu='max'
console='ttyS0'
accel='tcg'
memory='256M'
boot_timeout='60'
busybox='/bin/busybox'
cmdline='quiet'

# cpio_entry NAME MODE MAJOR MINOR [FILE]: one entry of an initrd. The cpio
# command cannot make a device's entry without the device, which takes root.
cpio_number=1
cpio_entry() {
	size=0
	[ $# -lt 5 ] || size=$(wc -c <"$5")
	length=$(printf '%s' "$1" | wc -c)
	cpio_number=$((cpio_number + 1))
	printf 070701
	printf %08X "$cpio_number" "0$2" 0 0 1 0 "$size" 0 0 "$3" "$4" $((length + 1)) 0
	printf '%s\0' "$1"
	cpio_pad $((110 + length + 1))
	[ $# -lt 5 ] || cat "$5"
	cpio_pad "$size"
}

# cpio_pad LENGTH: fills up to a multiple of four.
cpio_pad() {
	case $(($1 % 4)) in
	1) printf '\0\0\0' ;;
	2) printf '\0\0' ;;
	3) printf '\0' ;;
	esac
}

make_initrd() {
	cpio_entry dev 040755 0 0
	cpio_entry dev/console 020600 5 1
	cpio_entry proc 040755 0 0
	cpio_entry bin 040755 0 0
	cpio_entry bin/busybox 0100755 0 0 "$busybox"
	cpio_entry init 0100755 0 0 "$TMPDIR/init"
	cpio_entry 'TRAILER!!!' 0 0 0
}

boot() {
	timeout -k 5 "$boot_timeout" "$qemu" -machine "$machine" -cpu "$cpu" -accel "$accel" -m "$memory" \
		-kernel "$TMPDIR/kernel" -initrd "$TMPDIR/initrd" \
		-append "console=$console panic=-1 ignore_loglevel rdinit=/init $cmdline" \
		-display none -monitor none -serial stdio -net none -no-reboot </dev/null
}

need curl timeout "$qemu"
[ -x "$busybox" ] || infrastructure "this machine has no $busybox (param busybox: a static one for $arch)"
cat >"$TMPDIR/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
echo "kernelflow: userspace reached"
/bin/busybox uname -a
/bin/busybox cat /proc/version /proc/cmdline
/bin/busybox reboot -f
INIT
make_initrd >"$TMPDIR/initrd"
fetch "$kernel" "$TMPDIR/kernel"
say "booting on $qemu"
logged "$TMPDIR/output" boot
tr -d '\r' <"$TMPDIR/output" >"$artifacts/console"
say "$qemu ended with exit status $status"

login="not ok" why=
if grep -q '^kernelflow: userspace reached' "$artifacts/console"; then
	login=ok
elif [ "$status" -eq 124 ] || [ "$status" -eq 137 ]; then
	why="the kernel did not reach userspace within $boot_timeout s"
elif [ ! -s "$artifacts/console" ] || grep -q '^qemu-system' "$artifacts/console"; then
	why="$(grep -m 1 '^qemu-system' "$artifacts/console" || echo "$qemu printed nothing")"
else
	why="the kernel did not reach userspace"
fi
grep -E 'WARNING: |BUG: |BUG at |Oops|Kernel panic|Internal error: |Unable to handle kernel|general protection fault|rcu.*(stall|detected stalls)|INFO: task .* blocked for more than' \
	"$artifacts/console" >"$TMPDIR/messages" || true
kernelmsg="ok 2 kernelmsg"
if [ -s "$TMPDIR/messages" ]; then
	kernelmsg="not ok 2 kernelmsg"
elif [ "$login" != ok ]; then
	kernelmsg="ok 2 kernelmsg # SKIP the kernel did not come up"
fi
{
	echo "KTAP version 1"
	echo "1..2"
	[ -z "$why" ] || printf '# %s\n' "$why"
	echo "$login 1 login"
	sed -n '1,20s/^/# /p' "$TMPDIR/messages"
	echo "$kernelmsg"
} | tee "$KCI_RESULTS/baseline.ktap"
if [ -n "$why" ]; then
	note_error "$why"
elif [ -s "$TMPDIR/messages" ]; then
	note_error "$(sed -n 1p "$TMPDIR/messages")"
fi
