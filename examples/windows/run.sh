#!/bin/sh
# Sends two weeks of flights to a host and compares its windows, as of several moments, with what pandas computes. Needs python3 with pandas.
set -eu
cd "$(dirname "$0")"
. ../lib.sh
python3 -c 'import pandas' 2>/dev/null || fail "python3 has no pandas: python3 -m venv .venv && .venv/bin/pip install pandas, and put .venv/bin into PATH"
start_host gristmill.toml ../../plugins/prebuilt/flights-airport.wasm ../../plugins/prebuilt/flights-carrier.wasm ../../plugins/prebuilt/flights-aircraft.wasm
"$GRISTMILL" ingest flights ../flights/flights-2013-01.ndjson.gz --host "$HOST" >/dev/null
settled() { curl -sf "$HOST/metrics" | grep -q '^gristmill_entries_settled_total.* 12208'; }
wait_until settled
export GRISTMILL_HOST="$HOST"
python3 check.py ../flights/flights-2013-01.ndjson.gz
