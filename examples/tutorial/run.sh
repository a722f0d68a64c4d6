#!/bin/sh
# Runs the tutorial against a real Redis and compares what is served with expected.json.
set -eu
cd "$(dirname "$0")"
. ../lib.sh
need_redis
start_host gristmill.toml ../../plugins/prebuilt/tutorial.wasm
redis XADD mystream '*' id 1 value 1 >/dev/null
redis XADD mystream '*' id 2 value 2.5 >/dev/null
redis XADD mystream '*' id 3 value -20 >/dev/null
redis XADD mystream '*' id 4 value many >/dev/null
redis XADD mystream '*' id 5 value 0 >/dev/null
wait_settled mystream group
curl -sf "$HOST/v1/features" -d '{"view":"tutorial","entities":[{"id":"1"},{"id":"2"},{"id":"3"},{"id":"4"},{"id":"5"}]}' |
    without event_times > "$WORK/served.json"
same expected.json "$WORK/served.json"
curl -sf "$HOST/v1/dead-letters" | grep -q 'field `value` is \\"many\\"; expected float' || fail "the entry that is no number is not among the dead letters"
echo "tutorial: features served as expected, one dead letter"
