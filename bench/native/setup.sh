#!/bin/sh
# setup.sh: get what `hakmem compare` measures hakmem against.
#
#   setup.sh                installs Debian's mimalloc, jemalloc, gperftools and strace
#                           where it can, then builds build/driver
#   setup.sh --build DIR    only builds DIR/driver
#
# What cannot be had is named, and does not make the script fail: compare then
# lists it as absent. Exit status 1 means that the driver was not built.
set -u

here=$(cd "$(dirname "$0")" && pwd)
packages='libmimalloc2.0 libjemalloc2 libtcmalloc-minimal4 strace'

install_peers() {
	missing=
	for p in $packages; do
		dpkg -s "$p" >/dev/null 2>&1 || missing="$missing $p"
	done
	[ -n "$missing" ] || return 0
	if ! command -v apt-get >/dev/null 2>&1; then
		echo "setup.sh: no apt-get here; install by hand what compares to:$missing" >&2
		return 0
	fi
	if [ "$(id -u)" != 0 ]; then
		echo "setup.sh: not root; run: sudo apt-get install$missing" >&2
		return 0
	fi
	apt-get update -q || echo "setup.sh: apt-get update failed; trying with the lists at hand" >&2
	for p in $missing; do
		DEBIAN_FRONTEND=noninteractive apt-get install -y -q "$p" ||
			echo "setup.sh: could not install $p" >&2
	done
}

# -fno-builtin-*: the compiler must not know malloc and free, or it may drop or
# merge them.
build_driver() {
	cc=${CC:-}
	for c in gcc cc clang; do
		[ -n "$cc" ] || ! command -v "$c" >/dev/null 2>&1 || cc=$c
	done
	if [ -z "$cc" ]; then
		echo "setup.sh: no C compiler; install gcc" >&2
		return 1
	fi
	mkdir -p "$1" &&
		"$cc" -std=c11 -O2 -Wall -Wextra -pthread \
			-fno-builtin-malloc -fno-builtin-free -fno-builtin-calloc -fno-builtin-realloc \
			-o "$1/driver.$$" "$here/driver.c" -ldl &&
		mv "$1/driver.$$" "$1/driver" # in one step: another build may run
}

if [ "${1:-}" = --build ]; then
	build_driver "${2:?setup.sh: --build needs a directory}"
else
	install_peers
	build_driver "$here/build" && echo "setup.sh: built $here/build/driver"
fi
