#!/bin/sh
# Starts a host with everything embedded, sends one event, and asks for its features with the Python client.
set -eu
cd "$(dirname "$0")"
. ../lib.sh
start_host gristmill.toml ../../plugins/prebuilt/tutorial.wasm
curl -sf "$HOST/v1/streams/mystream/events" -d '{"id":123,"value":5}' >/dev/null
export GRISTMILL_HOST="$HOST"
answered() { python3 client.py 123 1678886400 | grep -q '{"feature1": 10.0, "feature2": 15.0}'; }
wait_until answered
echo "client: get_features(entity_id=123, timestamp=1678886400) = $(python3 client.py 123 1678886400)"
