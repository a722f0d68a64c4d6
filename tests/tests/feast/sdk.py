"""Feast's own Python SDK against a host: over HTTP (`online_store: {type: remote}`), and over the Redis that the host keeps its rows in.

Run by `sdk.rs` in a folder with `registry.db`, with the host's URL and Redis' address as arguments. What is not as it should be ends it.
"""

import sys
from datetime import datetime, timedelta, timezone

import pandas as pd
from feast import FeatureStore, RepoConfig
from feast.errors import FeatureViewNotFoundException, PushSourceNotFoundException

url, redis = sys.argv[1:3]


def store(**online):
    return FeatureStore(
        config=RepoConfig(project="labfraud", provider="local", registry="registry.db", online_store=online, entity_key_serialization_version=3)
    )


remote = store(type="remote", path=url)
direct = store(type="redis", connection_string=redis)
now = datetime.now(timezone.utc).replace(microsecond=678901)


def get(store, features, rows, **more):
    return store.get_online_features(features=features, entity_rows=rows, **more).to_dict()


def same(found, expected):
    assert found == expected, f"{found}\n is not\n{expected}"


def drivers(ids, times, rates):
    count = len(ids)
    return pd.DataFrame(
        {
            "driver_id": ids,
            "event_timestamp": times,
            "created": [now] * count,
            "conv_rate": pd.array(rates, dtype="float32"),
            "avg_amount": [12.25] * count,
            "trips_today": [7] * count,
            "tier": ["gold"] * count,
            "is_active": [True] * count,
            "recent_amounts": [[1.5, 2.0]] * count,
            "last_login": [pd.Timestamp(now).floor("s")] * count,
        }
    )


driver_features = [f"driver_stats:{name}" for name in ("conv_rate", "avg_amount", "trips_today", "tier", "is_active", "recent_amounts", "last_login")]
a_driver = {
    "driver_id": [1001, 9999],
    "conv_rate": [0.5, None],
    "avg_amount": [12.25, None],
    "trips_today": [7, None],
    "tier": ["gold", None],
    "is_active": [True, None],
    "recent_amounts": [[1.5, 2.0], None],
}

# What a stream computed, read by both: the registry says how wide its numbers are.
for reader in (remote, direct):
    same(get(reader, ["tutorial:feature1", "tutorial:feature2"], [{"id": "a"}]), {"id": ["a"], "feature1": [10.0], "feature2": [15.0]})

# Written over HTTP, read by both.
remote.push("driver_push", drivers([1001], [now], [0.5]))
for reader in (remote, direct):
    answer = get(reader, driver_features, [{"driver_id": 1001}, {"driver_id": 9999}])
    assert answer.pop("last_login")[1] is None
    same(answer, a_driver)
answer = direct.get_online_features(features=["driver_stats:tier"], entity_rows=[{"driver_id": 1001}]).to_dict(include_event_timestamps=True)
same(answer["tier__ts"], [int(now.timestamp())])

merchants = pd.DataFrame(
    {"merchant_code": ["R-1", "é"], "event_timestamp": [now, now], "created": [now, now], "risk_score": [0.5, 1.0], "category": ["a", None]}
)
remote.write_to_online_store("merchant_stats", merchants)
for reader in (remote, direct):
    answer = get(reader, ["merchant_stats:risk_score", "merchant_stats:category"], [{"merchant_code": "R-1"}, {"merchant_code": "é"}])
    same(answer, {"merchant_code": ["R-1", "é"], "risk_score": [0.5, 1.0], "category": ["a", None]})

pairs = pd.DataFrame(
    {"driver_id": [1001], "merchant_code": ["R-1"], "event_timestamp": [now], "created": [now], "pair_count": [3], "pair_amount": [30.5]}
)
remote.push("dm_push", pairs)
row = [{"driver_id": 1001, "merchant_code": "R-1"}]
of_service = {"driver_id": [1001], "merchant_code": ["R-1"], "conv_rate": [0.5], "tier": ["gold"], "risk_score": [0.5]}
of_service |= {"pair_count": [3], "pair_amount": [30.5]}
for reader in (remote, direct):
    same(get(reader, reader.get_feature_service("fraud_svc"), row), of_service)
full = {"driver_id": [1001], "merchant_code": ["R-1"], "driver_stats__tier": ["gold"], "driver_merchant_stats__pair_count": [3]}
same(get(remote, ["driver_stats:tier", "driver_merchant_stats:pair_count"], row, full_feature_names=True), full)

# Keys of four bytes; a feature that the host does not keep is left aside.
zones = pd.DataFrame({"zone_id": [-7], "event_timestamp": [now], "load": [3], "blob": [b"\x00\xff"], "odd": [{}], "created": [now]})
zones["zone_id"] = zones["zone_id"].astype("int32")
zones["load"] = zones["load"].astype("int32")
remote.write_to_online_store("zone_stats", zones.drop(columns=["blob", "odd"]).assign(blob=[None], odd=[None]))
for reader in (remote, direct):
    same(get(reader, ["zone_stats:load"], [{"zone_id": -7}]), {"zone_id": [-7], "load": [3]})

# Written into Redis by Feast itself: the newer row counts, whoever wrote it.
direct.push("driver_push", drivers([1001, 1002], [now + timedelta(microseconds=1), now], [0.75, 0.25]))
for reader in (remote, direct):
    same(get(reader, ["driver_stats:conv_rate"], [{"driver_id": 1001}, {"driver_id": 1002}])["conv_rate"], [0.75, 0.25])
remote.push("driver_push", drivers([1001, 1002], [now, now - timedelta(microseconds=1)], [0.1, 0.1]))
direct.push("driver_push", drivers([1002], [now - timedelta(seconds=1)], [0.1]))
same(get(remote, ["driver_stats:conv_rate"], [{"driver_id": 1001}, {"driver_id": 1002}])["conv_rate"], [0.75, 0.25])

# A body of thousands of rows; Feast's client sends them at once.
many = 5_000
codes = [f"B-{number}" for number in range(many)]
bulk = pd.DataFrame({"merchant_code": codes, "event_timestamp": [now] * many, "created": [now] * many})
bulk["risk_score"], bulk["category"] = [float(number) for number in range(many)], codes
remote.push("merchant_push", bulk)
for reader in (remote, direct):
    answer = get(reader, ["merchant_stats:risk_score"], [{"merchant_code": code} for code in codes[::50]])
    same(answer["risk_score"], [float(number) for number in range(0, many, 50)])

# Errors are Feast's own.
try:
    get(remote, ["nope:x"], [{"driver_id": 1}])
    raise SystemExit("an unknown view was answered")
except FeatureViewNotFoundException as error:
    assert "nope" in str(error) and "labfraud" in str(error), error
try:
    get(remote, ["driver_stats:nope"], [{"driver_id": 1}])
    raise SystemExit("an unknown feature was answered")
except RuntimeError as error:
    assert "nope" in str(error), error
try:
    remote.push("nope", merchants)
    raise SystemExit("an unknown push source was answered")
except PushSourceNotFoundException:
    pass
print("all right")
