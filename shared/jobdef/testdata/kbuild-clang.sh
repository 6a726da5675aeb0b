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
arch='arm64'
compiler='clang-17'
cross_compile='aarch64-linux-gnu-'
keep_tree=''
modules=yes
image='arch/arm64/boot/Image'
# kernel_make TARGET...
kernel_make() {
	set -- ARCH='arm64' "$@"
	[ -z "$cross_compile" ] || set -- CROSS_COMPILE="$cross_compile" "$@"
	case $compiler in
	clang) set -- LLVM=1 "$@" ;;
	clang-*) set -- LLVM="-${compiler##*-}" "$@" ;;
	gcc) ;;
	*) set -- CC="$cross_compile$compiler" "$@" ;;
	esac
	make -j"$(processors)" "$@" 'V=1' 'W=$(reboot)'
}

configure() {
	kernel_make 'defconfig'
	kernel_make 'hardening.config'
	kernel_make 'tinyconfig'
	kernel_make 'virt.config'
	[ -e "$TMPDIR/wanted" ] || return 0
	cat "$TMPDIR/wanted" >>.config
	kernel_make olddefconfig
	# An option whose dependencies are missing is dropped without a word.
	while read -r option; do
		case $option in
		CONFIG_*=[ym]) grep -qxF "$option" .config || say "not in the configuration: $option" ;;
		esac
	done <"$TMPDIR/wanted"
}

build() {
	configure
	cp .config "$artifacts/_config"
	kernel_make "${image##*/}"
	cp "$image" "$artifacts/kernel"
	[ -n "$modules" ] || return 0
	kernel_make modules
	kernel_make INSTALL_MOD_PATH="$TMPDIR/modules" modules_install
	tar -C "$TMPDIR/modules" -czf "$artifacts/modules" .
}

need make flex bison bc
case $compiler in
clang*) need "$compiler" ;;
*) need "$cross_compile$compiler" ;;
esac
export KBUILD_BUILD_USER=kernelflow KBUILD_BUILD_HOST=kernelflow
fetch_tree "$tarball" source
cd source
say "building ${image##*/} for $arch with $compiler"
logged "$TMPDIR/build.log" build

printf '%s\n' '{"arch": "arm64", "compiler": "clang-17", "config_full": "defconfig+hardening.config+tiny+virt.config", "defconfig": ["defconfig", "hardening.config"], "kernel_type": "Image"}' >"$KCI_RESULTS/data.json"
cp "$KCI_RESULTS/data.json" "$artifacts/metadata"
if [ "$status" -ne 0 ]; then
	[ -e "$KCI_RESULTS/error" ] || {
		why=$(first_error "$TMPDIR/build.log")
		note_error "${why:-the build ended with exit status $status}"
	}
	exit 1
fi
if [ -n "$keep_tree" ]; then
	cd ..
	tar -czf "$artifacts/build" source || infrastructure "keeping the built tree failed"
fi
