#!/bin/sh
# Installs what the tests with real servers and the kernel demonstration need,
# on Debian, as root: Redis, and the tools that build and boot a kernel.
set -eu

packages="curl openssl git make gcc libc6-dev redis-server linux-source-6.1 flex bison bc libelf-dev libssl-dev qemu-system-x86 busybox-static cpio xz-utils python3 python3-venv"

missing=
for package in $packages; do
	dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
done
if [ -z "$missing" ]; then
	echo "everything is installed"
	exit 0
fi
command -v apt-get >/dev/null || { echo "this is no Debian: install what these packages hold:$missing" >&2; exit 1; }
[ "$(id -u)" -eq 0 ] || { echo "only root can install:$missing" >&2; exit 1; }
echo "installing$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
# A package's own service must not start: the tests start their servers.
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod +x /usr/sbin/policy-rc.d
trap 'rm -f /usr/sbin/policy-rc.d' EXIT
# shellcheck disable=SC2086
apt-get -qq install --yes --no-install-recommends $missing >/dev/null
