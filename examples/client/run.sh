#!/bin/sh
# Starts a host with everything embedded, sends two events, and asks with the Python client for the features now and as they were in between; with the
# package as well, if PYTHON has httpx.
set -eu
cd "$(dirname "$0")"
. ../lib.sh
start_host gristmill.toml ../../plugins/prebuilt/tutorial.wasm
export GRISTMILL_HOST="$HOST"
now() { python3 -c 'import time; print(time.time())'; }
send() { curl -sf "$HOST/v1/streams/mystream/events" -d "{\"id\":123,\"value\":$1}" >/dev/null; }
answers() { python3 client.py 123 "$1" | grep -q "$2"; }
send 5
first() { answers "$(now)" '{"feature1": 10.0, "feature2": 15.0}'; }
wait_until first
between=$(now)
send 7
second() { answers "$(now)" '{"feature1": 14.0, "feature2": 17.0}'; }
wait_until second
answers "$between" '{"feature1": 10.0, "feature2": 15.0}' || fail "the features as of $between are not those of then: $(python3 client.py 123 "$between")"
echo "client: as of $between get_features gives $(python3 client.py 123 "$between"), and now $(python3 client.py 123 "$(now)")"
if "${PYTHON:=python3}" -c 'import httpx' 2>/dev/null; then
    export PYTHONPATH=../../plugins/client-python/src PYTHONDONTWRITEBYTECODE=1
    same=$("$PYTHON" package.py 123 "$between")
    [ "$same" = "$(python3 client.py 123 "$between")" ] || fail "the package gives $same"
    echo "client: the package gives the same"
fi
