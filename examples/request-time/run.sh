#!/bin/sh
# Sends payments, and asks about others that are about to be made.
set -eu
cd "$(dirname "$0")"
. ../lib.sh
start_host gristmill.toml ../../target/components/payment.wasm
for amount in 10 12 8; do echo "{\"card\":\"c1\",\"amount\":$amount}"; done > "$WORK/payments.ndjson"
"$GRISTMILL" ingest payments "$WORK/payments.ndjson" --host "$HOST" >/dev/null
counted() { curl -sf "$HOST/v1/features/card?card=c1&features=count_30d" | grep -q '"values":\[3\]'; }
wait_until counted
curl -sf "$HOST/v1/features" -d '{
    "features": ["risk:times_usual", "risk:is_unusual", "card:mean_30d"],
    "entities": [{"card": "c1"}, {"card": "c1"}, {"card": "c2"}, {"card": "c1"}],
    "request": [{"amount": 11}, {"amount": 80}, {"amount": 80}, {"amount": -1}]
}' | without event_times > "$WORK/served.json"
same expected.json "$WORK/served.json"
echo "request-time: four payments judged from what was stored and what was asked"
