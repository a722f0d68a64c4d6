#!/bin/sh
# Builds the plugin, loads it into a running host, and compares its features with what is expected.
set -eu
cd "$(dirname "$0")"
. ../lib.sh
"$GRISTMILL" build . --out "$WORK/basket.wasm"
start_host gristmill.toml
"$GRISTMILL" push "$WORK/basket.wasm" --host "$HOST"
"$GRISTMILL" ingest baskets events.ndjson --host "$HOST"
answered() { [ "$(curl -sf "$HOST/metrics" | sed -n 's/^gristmill_entries_settled_total{stream="baskets",.*} //p')" = "$(grep -c . events.ndjson)" ]; }
wait_until answered
curl -sf "$HOST/v1/features" -d '{"view":"basket","entities":[{"customer":"c1"},{"customer":"c2"},{"customer":"c3"}]}' > "$WORK/served.json"
echo >> "$WORK/served.json"
same expected.json "$WORK/served.json"
"$GRISTMILL" dead-letters list --host "$HOST" | grep -q 'c3 added 0 pieces' || fail "the refused addition is not among the dead letters"
echo "own-plugin: built, loaded, served as expected, one dead letter"
