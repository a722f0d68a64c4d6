#!/bin/sh
# Installs what tests and examples need beside Rust: redis-server, curl, and python3 with the means to make a virtual environment in target/, and
# Feast, which one suite tests this host against; with the argument `bench` wrk instead of Feast, which loads the query bench.
# Nothing goes into the home folder. Safe to run again; does nothing where everything is there.
set -eu
cd "$(dirname "$0")/.."
say() { printf 'setup: %s\n' "$*"; }

# Feast and what it needs are 590 MB of Python, and take a minute.
install_feast() {
    [ "${1:-}" != bench ] || return 0
    python=target/tools/feast/bin/python
    "$python" -c 'import importlib.metadata as m, sys; sys.exit(m.version("feast") != "0.67.0")' 2>/dev/null && return 0
    say "installing Feast, which a suite reads and writes with, from PyPI into target/tools/feast"
    mkdir -p target/tools
    [ -x "$python" ] || python3 -m venv target/tools/feast
    "$python" -m pip install -q --no-cache-dir --no-compile --disable-pip-version-check 'feast[redis]==0.67.0' || {
        say "pip could not install Feast; is PyPI, or a mirror of it, within reach?" >&2
        exit 1
    }
}

missing=
command -v redis-server >/dev/null 2>&1 || missing="$missing redis-server"
command -v curl >/dev/null 2>&1 || missing="$missing curl"
python3 -c 'import ensurepip' >/dev/null 2>&1 || missing="$missing python3 python3-venv"
if [ "${1:-}" = bench ]; then command -v wrk >/dev/null 2>&1 || missing="$missing wrk"; fi
if [ -z "$missing" ]; then
    install_feast "$@"
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
install_feast "$@"
