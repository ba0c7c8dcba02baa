#!/bin/sh
# setup.sh: get the browser in which the tests look at the page.
#
# Without one, they say so and check only what can be checked without.
set -u

for b in chromium chromium-browser google-chrome; do
	if command -v "$b" >/dev/null 2>&1; then
		echo "setup.sh: $(command -v "$b") is here"
		exit 0
	fi
done
if ! command -v apt-get >/dev/null 2>&1; then
	echo "setup.sh: no apt-get here; install chromium by hand" >&2
	exit 1
fi
if [ "$(id -u)" != 0 ]; then
	echo "setup.sh: not root; run: sudo apt-get install chromium" >&2
	exit 1
fi
apt-get update -q || echo "setup.sh: apt-get update failed; trying with the lists at hand" >&2
DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends chromium fonts-dejavu-core
