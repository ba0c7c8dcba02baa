#!/bin/sh
# setup.sh DIR         makes DIR/wine, a command that runs a program for windows/amd64, as
#                      in "GOOS=windows go test -exec DIR/wine". Installs Debian's
#                      wine64 where it can.
# setup.sh --stop DIR  ends what still runs there; then DIR can be removed.
#
# DIR gets a Wine prefix of its own. Wine 8, which is Debian 12's, lacks a library
# that Go programs need; DIR gets one that is built from bcryptprimitives.c.
# What cannot be had is named in the last line of output. Exit status 1: no program
# can be run.
set -u

here=$(cd "$(dirname "$0")" && pwd)
stop=
[ "${1:-}" != --stop ] || { stop=yes && shift; }
dir=${1:?setup.sh: name a directory}
mkdir -p "$dir" && dir=$(cd "$dir" && pwd) || exit 1
packages='wine wine64 gcc-mingw-w64-x86-64'
cc=x86_64-w64-mingw32-gcc

find_wine() { # prints the path of wine64
	command -v wine64 || command -v wine64-stable || command -v wine-stable || command -v wine
}

install_wine() {
	find_wine >/dev/null && command -v $cc >/dev/null && return
	if ! command -v apt-get >/dev/null 2>&1; then
		echo "setup.sh: no apt-get here; install by hand: $packages" >&2
		return
	fi
	if [ "$(id -u)" != 0 ]; then
		echo "setup.sh: not root; run: sudo apt-get install $packages" >&2
		return
	fi
	apt-get update -q || echo "setup.sh: apt-get update failed; trying with the lists at hand" >&2
	for p in $packages; do
		DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$p" ||
			echo "setup.sh: could not install $p" >&2
	done
}

if [ -n "$stop" ]; then
	server=$(command -v wineserver || command -v wineserver-stable || echo /usr/lib/wine/wineserver)
	WINEPREFIX=$dir/prefix "$server" -k -w >/dev/null 2>&1
	exit 0
fi
install_wine
wine=$(find_wine) || {
	echo "setup.sh: no wine64" >&2
	exit 1
}
# No window, no sound and no messages; no downloads of .NET and a browser. The output
# goes through a file, because Wine's services inherit it from the first program that
# runs, outlive it, and would keep a pipe open.
cat >"$dir/wine" <<END
#!/bin/sh
export WINEPREFIX='$dir/prefix' WINEARCH=win64 WINEDEBUG=-all WINEDLLOVERRIDES='mscoree=;mshtml=;winemenubuilder.exe='
unset DISPLAY
out=\$(mktemp '$dir/out.XXXXXX') || exit 1
'$wine' "\$@" >"\$out" 2>&1 </dev/null
status=\$?
cat "\$out"
rm -f "\$out"
exit \$status
END
chmod +x "$dir/wine"

system=$dir/prefix/drive_c/windows/system32
[ -d "$system" ] || timeout 120 "$dir/wine" wineboot -i || {
	echo "setup.sh: $wine makes no prefix" >&2
	exit 1
}
if [ ! -e "$system/bcryptprimitives.dll" ]; then
	$cc -shared -O2 -Wall -o "$system/bcryptprimitives.dll" "$here/bcryptprimitives.c" -ladvapi32 || {
		echo "setup.sh: no bcryptprimitives.dll: $cc is missing or failed" >&2
		exit 1
	}
fi
timeout 60 "$dir/wine" cmd /c ver >/dev/null || {
	echo "setup.sh: $wine does not run a program" >&2
	exit 1
}
