#!/bin/sh
# Runs every conformance case in every language and prints the table of plugins/README.md. Needs the tools of `make setup` on the PATH and `make plugins`.
set -eu
cd "$(dirname "$0")"
gristmill="${GRISTMILL:-../../target/release/gristmill}"
languages="rust c zig go typescript python"
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT

# Prints `yes`, `no`, or `-` where the set is not the language's.
outcome() {
    case "$1/$2" in typescript/reference-64-bit | */reference-53-bit) [ "$1/$2" = typescript/reference-53-bit ] || { echo "–"; return; } ;; esac
    plugin=${2%%-*}
    component="$temp/$1-$plugin.wasm"
    if [ "$1" = rust ]; then
        component="../../target/components/conformance-$plugin.wasm"
    elif [ ! -f "$component" ]; then
        "$gristmill" build "$1/$plugin" --out "$component" >"$temp/log" 2>&1 || { cat "$temp/log" >&2; exit 1; }
    fi
    if "$gristmill" test --component "$component" --cases "$3" >"$temp/log" 2>&1; then echo "yes"; else echo "**no**"; fi
}

printf '| case | what it shows |'
for language in $languages; do printf ' %s |' "$language"; done
printf '\n|---|---|'
for language in $languages; do printf -- '---|'; done
printf '\n'
for case in cases/*/*.json; do
    set=$(basename "$(dirname "$case")")
    about=$(sed -n 's/^ *"about": "\(.*\)",*$/\1/p' "$case" | head -n 1)
    printf '| [%s](conformance/%s) | %s |' "$set/$(basename "$case" .json)" "$case" "$about"
    for language in $languages; do printf ' %s |' "$(outcome "$language" "$set" "$case")"; done
    printf '\n'
done
