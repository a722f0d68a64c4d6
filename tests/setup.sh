#!/bin/sh
# Installs what tests and examples need beside Rust: redis-server, faketime for tests of clocks that jump, curl, python3 with the means to make virtual environments in target/, and there Feast,
# which this host is held against, and what the clients are tested with. With the argument `bench` wrk instead of the latter, which loads the query bench.
# Nothing goes into the home folder. Safe to run again; does nothing where everything is there.
set -eu
cd "$(dirname "$0")/.."
say() { printf 'setup: %s\n' "$*"; }

# A virtual environment in target/tools: its name, the requirement that is met once it is complete, what for, and all that it has.
python_with() {
    python=target/tools/$1/bin/python distribution=${2%%==*} version=${2##*==} what=$3
    "$python" -c 'import importlib.metadata as m, sys; sys.exit(m.version(sys.argv[1]) != sys.argv[2])' "$distribution" "$version" 2>/dev/null && return 0
    say "installing $what, from PyPI into target/tools/$1"
    mkdir -p target/tools
    [ -x "$python" ] || python3 -m venv "target/tools/$1"
    shift 3
    "$python" -m pip install -q --no-cache-dir --no-compile --disable-pip-version-check "$@" || {
        say "pip could not install $*; is PyPI, or a mirror of it, within reach?" >&2
        exit 1
    }
}

python_packages() {
    # 590 MB, which take a minute.
    python_with feast feast==0.67.0 "Feast, which a suite reads and writes with" 'feast[redis]==0.67.0'
    [ "${1:-}" = bench ] || python_with clients schemathesis==4.32.5 "what clients need and are tested with" \
        httpx==0.28.1 pandas==2.3.3 pyarrow==26.0.1 mypy==2.4.1 schemathesis==4.32.5
}

missing=
command -v redis-server >/dev/null 2>&1 || missing="$missing redis-server"
command -v curl >/dev/null 2>&1 || missing="$missing curl"
if [ "${1:-}" != bench ]; then
    command -v faketime >/dev/null 2>&1 || missing="$missing faketime"
    command -v prlimit >/dev/null 2>&1 || missing="$missing util-linux"
fi
python3 -c 'import ensurepip' >/dev/null 2>&1 || missing="$missing python3 python3-venv"
if [ "${1:-}" = bench ]; then command -v wrk >/dev/null 2>&1 || missing="$missing wrk"; fi
if [ -z "$missing" ]; then
    python_packages "$@"
    say "everything that is needed is here"
    exit 0
fi
if ! command -v apt-get >/dev/null 2>&1; then
    say "install$missing with this system's package manager, then run this again" >&2
    exit 1
fi
sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
say "installing$missing"
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -q >/dev/null || say "apt-get update failed; trying with the lists that are here"
# shellcheck disable=SC2086
$sudo apt-get install -y -q --no-install-recommends $missing >/dev/null || {
    say "apt-get could not install$missing; install it by hand, then run this again" >&2
    exit 1
}
# Debian starts a server of its own, which tests do not use and which would stay behind.
if command -v systemctl >/dev/null 2>&1; then $sudo systemctl stop redis-server >/dev/null 2>&1 || true; fi
python_packages "$@"
