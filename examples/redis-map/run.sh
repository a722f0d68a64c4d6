#!/bin/sh
# Real Redis on both sides; compares the rows' keys and the served features with what is expected.
set -eu
cd "$(dirname "$0")"
. ../lib.sh
need_redis
start_host gristmill.toml ../../plugins/prebuilt/tutorial.wasm
redis XADD orders '*' event '{"customer":{"id":"ada"},"order":{"total":12.5}}' >/dev/null
redis XADD orders '*' event '{"customer":{"id":"bob"},"order":{}}' >/dev/null
redis XADD orders '*' event '{"customer":{"id":"ada"},"order":{"total":20}}' >/dev/null
wait_settled orders features
# Keys that begin with ~ are the host's own.
redis --raw KEYS 'shop:row:[^~]*' | sort > "$WORK/rows"
same expected-rows.txt "$WORK/rows"
curl -sf "$HOST/v1/features" -d '{"view":"order","entities":[{"id":"ada"},{"id":"bob"}]}' | without event_times > "$WORK/served.json"
same expected.json "$WORK/served.json"
echo "redis-map: rows and features as expected"
