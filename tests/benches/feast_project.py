"""The project that the bench of serving asks for, as `feast apply` makes it, in the folder that it is run in. The argument is Redis' address."""

import sys
from datetime import timedelta
from pathlib import Path

from feast import Entity, FeatureStore, FeatureView, Field, FileSource
from feast.types import Float64, String
from feast.value_type import ValueType

Path("feature_store.yaml").write_text(
    f"""project: bench
provider: local
registry: registry.db
online_store: {{type: redis, connection_string: "{sys.argv[1]}"}}
entity_key_serialization_version: 3
"""
)
entity = Entity(name="id", join_keys=["id"], value_type=ValueType.STRING)
view = FeatureView(
    name="bench_wide",
    entities=[entity],
    ttl=timedelta(0),
    schema=[Field(name="id", dtype=String), *(Field(name=f"f{number:02}", dtype=Float64) for number in range(50))],
    source=FileSource(name="measurements", path="measurements.parquet", timestamp_field="event_timestamp"),
)
FeatureStore(".").apply([entity, view])
