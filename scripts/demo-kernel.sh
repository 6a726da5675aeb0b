#!/bin/sh
# One commit of a Linux tree becomes a report: its version, a kernel built from
# tinyconfig, that kernel booted in QEMU, and some of the kernel's unit tests.
#
#   scripts/demo-kernel.sh DIR       the branch that is checked out in a git tree here
#   scripts/demo-kernel.sh URL       the default branch of a git tree elsewhere
#   scripts/demo-kernel.sh debian    the source in Debian's package linux-source-6.1
#
# LINUX_BRANCH names another branch. Everything is kept in data/demo-kernel; the
# mirror of the tree there makes a second run quick. DEMO_ADDR and DEMO_SPEED are
# the emulator's -addr and -speed.
set -eu
here=$PWD
cd "$(dirname "$0")/.."

data=data/demo-kernel
addr=${DEMO_ADDR:-127.0.0.1:0}
speed=${DEMO_SPEED:-120}

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }

fail() {
	printf '%s\n' "$*" >&2
	exit 1
}

usage() {
	[ -z "$1" ] || printf '%s\n\n' "$1" >&2
	sed -n '/^#   /s/^#   /  /p' scripts/demo-kernel.sh >&2
	echo "or: make demo-kernel LINUX=DIR, LINUX=URL, LINUX=debian" >&2
	exit 2
}

# debian_tree DIR: makes a git tree of Debian's kernel source, once.
debian_tree() {
	archive=/usr/src/linux-source-6.1.tar.xz
	[ ! -d "$1" ] || return 0
	[ -e "$archive" ] || fail "there is no $archive: install linux-source-6.1 (scripts/ci-install.sh does, as root)"
	say "unpacking $archive into $1"
	mkdir -p "$(dirname "$1")"
	rm -rf "$1.new"
	mkdir "$1.new"
	tar -xJf "$archive" -C "$1.new" --strip-components=1
	version=v$(make --silent --no-print-directory -C "$1.new" kernelversion)
	(
		cd "$1.new"
		git init --quiet --initial-branch=main
		git config gc.auto 0
		git config user.name "Debian Kernel Team"
		git config user.email debian-kernel@lists.debian.org
		git add --all --force
		git commit --quiet --message="Linux ${version#v}, as in Debian's linux-source-6.1"
		git tag --annotate --message="Linux ${version#v}" "$version"
	)
	mv "$1.new" "$1"
}

# read_mail FILE: the plain text of a mail.
read_mail() {
	python3 -c '
import email, email.policy, sys
with open(sys.argv[1], "rb") as f:
    mail = email.message_from_binary_file(f, policy=email.policy.default)
print(mail.get_body(("plain",)).get_content())
' "$1"
}

[ $# -eq 1 ] || usage ""
case $1 in
"") usage "which tree?" ;;
-*) usage "$1: is no tree" ;;
debian)
	debian_tree "$PWD/data/linux-6.1"
	url=file://$PWD/data/linux-6.1
	;;
file:///* | git://* | http://* | https://* | ssh://*) url=$1 ;;
*)
	tree=$(cd "$here" && cd "$1" 2>/dev/null && pwd) || usage "$1: is neither a folder nor an address"
	git -C "$tree" rev-parse --git-dir >/dev/null 2>&1 || usage "$tree: is no git tree"
	url=file://$tree
	;;
esac
[ "$(uname -m)" = x86_64 ] || fail "the demonstration builds for x86_64, this machine is $(uname -m)"
for tool in curl make gcc flex bison bc python3 qemu-system-x86_64 busybox go git; do
	command -v "$tool" >/dev/null || fail "this machine has no $tool (scripts/ci-install.sh installs what it takes, as root)"
done

head=$(git ls-remote --symref "$url" HEAD) || fail "$url: cannot be read as a git tree"
branch=${LINUX_BRANCH:-$(printf '%s\n' "$head" | sed -n 's#^ref: refs/heads/\(.*\)	HEAD$#\1#p')}
[ -n "$branch" ] || fail "$url: no branch is checked out, name one by LINUX_BRANCH"
case $url$branch in
*[!A-Za-z0-9._~:/@%+,=-]*) fail "$url, $branch: only letters, digits and ._~:/@%+,=- may be in an address and a branch" ;;
esac

mkdir -p "$data/config" "$data/mail" bin
sed -e "s|@URL@|$url|" -e "s|@BRANCH@|$branch|" scripts/demo-kernel.yaml.in >"$data/config/pipeline.yaml"
go build -o bin/ ./local

say "$url, branch $branch"
started=$(mktemp)
trap 'rm -f "$started"' EXIT
bin/local -once -force -config "$data/config" -data "$data" -addr "$addr" -speed "$speed"

mail=$(find "$data/mail" -name '*.eml' -newer "$started" | sort | tail -n 1)
[ -n "$mail" ] || fail "there is no new report in $data/mail"
read_mail "$mail" >"$data/report.txt"
grep -Eq 'kunit.*[1-9]' "$data/report.txt" || fail "the report, $mail, has no cases of kunit"
grep -Eq 'baseline-x86-qemu.*pass' "$data/report.txt" || fail "the report, $mail, does not say that the kernel was booted"
say "The kernel was built, booted and unit-tested: $mail"
