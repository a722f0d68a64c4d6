# What the examples' run.sh share. Sourced, with the example's folder as the working directory.

GRISTMILL=${GRISTMILL:-../../target/release/gristmill}
WORK=$(mktemp -d)
PIDS=
trap 'for pid in $PIDS; do kill "$pid" 2>/dev/null || true; done; wait 2>/dev/null || true; rm -rf "$WORK"' EXIT

fail() {
    echo "$(basename "$PWD"): $*" >&2
    [ ! -f "$WORK/log" ] || tail -n 20 "$WORK/log" >&2
    exit 1
}

[ -x "$GRISTMILL" ] || fail "build the host first: cargo build --release --workspace"

# Waits up to 30 seconds for a command to succeed.
wait_until() {
    tries=0
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ $tries -lt 600 ] || fail "waited in vain for: $*"
        sleep 0.05
    done
}

# Uses the Redis of REDIS_URL, or starts one on a free port that ends with the example.
need_redis() {
    if [ -z "${REDIS_URL:-}" ]; then
        command -v redis-server >/dev/null || fail "redis-server is not installed, and REDIS_URL names no other"
        port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
        redis-server --port "$port" --bind 127.0.0.1 --save '' --dir "$WORK" --loglevel warning >/dev/null &
        PIDS="$PIDS $!"
        REDIS_URL=redis://127.0.0.1:$port/0
    fi
    export REDIS_URL
    wait_until redis PING
}

redis() { redis-cli -u "$REDIS_URL" "$@"; }

# Starts the host in a temporary folder with a configuration and components beside it; HOST is then its address.
start_host() {
    cp "$@" "$WORK/"
    "$GRISTMILL" run --config "$WORK/$(basename "$1")" > "$WORK/out" 2> "$WORK/log" &
    PIDS="$PIDS $!"
    wait_until grep -q 'listening on' "$WORK/out"
    HOST=$(sed -n 's/^listening on //p' "$WORK/out")
    export HOST
}

# Waits until a group has read and acknowledged everything.
wait_settled() {
    settled() { redis XINFO GROUPS "$1" | tr '\n' ' ' | grep -q "name $2 .*pending 0 .*lag 0"; }
    wait_until settled "$1" "$2"
}

# Leaves a member out of JSON, wherever it stands; for what differs from run to run.
without() {
    python3 -c '
import json, sys
def strip(value):
    if isinstance(value, dict):
        return {key: strip(inner) for key, inner in value.items() if key != sys.argv[1]}
    return [strip(inner) for inner in value] if isinstance(value, list) else value
print(json.dumps(strip(json.load(sys.stdin)), separators=(",", ":")))' "$1"
}

same() { diff -u "$1" "$2" || fail "what came out is not what is expected"; }
