#!/bin/sh
# Builds every first-party transform to target/components/*.wasm. With --prebuilt, also refreshes plugins/prebuilt/.
set -eu
cd "$(dirname "$0")/.."
plugins="tutorial flights-aircraft flights-carrier flights-airport flights-route payment sessions business-days
    bench-orders bench-wide conformance-reference conformance-columns conformance-tally conformance-tally-2 conformance-windows conformance-moments
    bench-languages-numbers bench-languages-numbers-columns bench-languages-text bench-languages-text-columns"
target=wasm32-unknown-unknown
say() { printf 'build.sh: %s\n' "$*"; }

# Guests want their own profile, small and fast; profiles in Cargo.toml belong to the whole workspace.
export CARGO_PROFILE_RELEASE_OPT_LEVEL=3 CARGO_PROFILE_RELEASE_LTO=fat CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1 \
    CARGO_PROFILE_RELEASE_PANIC=abort CARGO_PROFILE_RELEASE_STRIP=symbols CARGO_PROFILE_RELEASE_DEBUG=false \
    CARGO_PROFILE_RELEASE_INCREMENTAL=false

packages=
for plugin in $plugins; do packages="$packages -p $plugin"; done

has_target() { command -v rustup >/dev/null && rustup target list --installed | grep -qx "$target"; }
has_debian() { [ -x /usr/bin/rustc ] && [ -d /usr/lib/rustlib/src/rust/library ] && [ -x /usr/bin/cargo ]; }

if ! has_target && ! has_debian && command -v rustup >/dev/null; then
    say "adding the target $target with rustup"
    timeout 60 rustup target add "$target" || say "rustup could not add it"
fi
if ! has_target && ! has_debian && command -v apt-get >/dev/null; then
    say "installing Debian's rustc-web, cargo-web and rust-web-src, which bring the sources of std"
    sudo=; [ "$(id -u)" = 0 ] || sudo=sudo
    export DEBIAN_FRONTEND=noninteractive
    $sudo apt-get update -q >/dev/null || say "apt-get update failed; trying with the lists that are here"
    $sudo apt-get install -y --no-install-recommends rustc-web cargo-web rust-web-src || say "apt-get could not install them"
fi

if has_target; then
    say "building with rustup's target $target"
    # shellcheck disable=SC2086
    cargo build --release --locked --target "$target" --target-dir target/guests $packages
elif has_debian && command -v rustup >/dev/null; then
    tools=$(rustup run stable rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin
    say "building with Debian's Rust and its sources of std; the first time takes about two minutes"
    # RUSTC is set because cargo would otherwise pick rustup's compiler, which cannot build Debian's std.
    # shellcheck disable=SC2086
    RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 PATH="$tools/gcc-ld:$PATH" \
        CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER="$tools/wasm-component-ld" \
        /usr/bin/cargo build --release --locked -Zbuild-std=std,panic_abort --target "$target" --target-dir target/guests $packages
else
    say "no Rust for $target: install it with 'rustup target add $target', then run this again" >&2
    exit 1
fi

mkdir -p target/components
for plugin in $plugins; do
    cp "target/guests/$target/release/$(echo "$plugin" | tr - _).wasm" "target/components/$plugin.wasm"
done
if [ "${1:-}" = --prebuilt ]; then
    mkdir -p plugins/prebuilt
    for plugin in tutorial flights-aircraft flights-carrier flights-airport flights-route; do
        cp "target/components/$plugin.wasm" plugins/prebuilt/
    done
    say "refreshed plugins/prebuilt"
fi
ls -l target/components
