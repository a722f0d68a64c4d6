"""The project of the captured exchanges, as Feast's Python has it. Run in an empty folder it writes `registry.db`."""

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource
from feast.types import Array, Bool, Bytes, Float32, Float64, Int32, Int64, Map, String, UnixTimestamp
from feast.value_type import ValueType


def source(name):
    return FileSource(name=f"{name}_batch", path=f"{name}.parquet", timestamp_field="event_timestamp", created_timestamp_column="created")


driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
merchant = Entity(name="merchant", join_keys=["merchant_code"], value_type=ValueType.STRING)
item = Entity(name="item", join_keys=["id"], value_type=ValueType.STRING)
zone = Entity(name="zone", join_keys=["zone_id"], value_type=ValueType.INT32)

driver_push = PushSource(name="driver_push", batch_source=source("driver"))
driver_stats = FeatureView(
    name="driver_stats",
    entities=[driver],
    ttl=timedelta(hours=2),
    schema=[
        Field(name="driver_id", dtype=Int64),
        Field(name="conv_rate", dtype=Float32),
        Field(name="avg_amount", dtype=Float64),
        Field(name="trips_today", dtype=Int64),
        Field(name="tier", dtype=String),
        Field(name="is_active", dtype=Bool),
        Field(name="recent_amounts", dtype=Array(Float64)),
        Field(name="last_login", dtype=UnixTimestamp),
    ],
    source=driver_push,
)
merchant_stats = FeatureView(
    name="merchant_stats",
    entities=[merchant],
    ttl=timedelta(days=1),
    schema=[Field(name="merchant_code", dtype=String), Field(name="risk_score", dtype=Float64), Field(name="category", dtype=String)],
    source=PushSource(name="merchant_push", batch_source=source("merchant")),
)
pairs = FeatureView(
    name="driver_merchant_stats",
    entities=[driver, merchant],
    ttl=timedelta(0),
    schema=[
        Field(name="driver_id", dtype=Int64),
        Field(name="merchant_code", dtype=String),
        Field(name="pair_count", dtype=Int64),
        Field(name="pair_amount", dtype=Float64),
    ],
    source=PushSource(name="dm_push", batch_source=source("dm")),
)
zones = FeatureView(
    name="zone_stats",
    entities=[zone],
    ttl=timedelta(days=1),
    schema=[Field(name="zone_id", dtype=Int32), Field(name="load", dtype=Int32), Field(name="blob", dtype=Bytes), Field(name="odd", dtype=Map)],
    source=source("zone"),
)
tutorial = FeatureView(
    name="tutorial",
    entities=[item],
    ttl=timedelta(days=1),
    schema=[Field(name="id", dtype=String), Field(name="feature1", dtype=Float32), Field(name="feature2", dtype=Float64)],
    source=source("tutorial"),
)
offline = FeatureView(
    name="offline_stats",
    entities=[driver],
    ttl=timedelta(days=1),
    online=False,
    schema=[Field(name="driver_id", dtype=Int64), Field(name="x", dtype=Int64)],
    source=source("offline"),
)
everyone = FeatureView(name="everyone", entities=[], ttl=timedelta(days=1), schema=[Field(name="total", dtype=Int64)], source=source("everyone"))
fraud = FeatureService(name="fraud_svc", features=[driver_stats[["conv_rate", "tier"]], merchant_stats[["risk_score"]], pairs])
renaming = FeatureService(name="renaming_svc", features=[driver_stats.with_name("other")])
odd = FeatureService(name="odd_svc", features=[zones])

if __name__ == "__main__":
    from feast import FeatureStore, RepoConfig

    everything = [value for value in list(globals().values()) if isinstance(value, (Entity, FeatureView, FeatureService))]
    config = RepoConfig(project="labfraud", provider="local", registry="registry.db", online_store=None, entity_key_serialization_version=3)
    FeatureStore(config=config).apply(everything)
