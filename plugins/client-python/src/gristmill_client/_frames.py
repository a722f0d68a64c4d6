"""Answers as frames and tables. pandas and pyarrow are imported here, when somebody asks."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timezone
from typing import TYPE_CHECKING, Any

from ._answers import Features, Provenance, short_names

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

MEDIA_TYPE = "application/vnd.apache.arrow.stream"
"""What an Arrow stream is called in `Accept` and `Content-Type`."""


def imported(name: str, extra: str) -> Any:
    """A package that not everybody needs."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ImportError(f"this needs {name}: pip install 'gristmill-client[{extra}]'", name=name) from error


def has_arrow() -> bool:
    """Whether pyarrow is there."""
    try:
        imported("pyarrow", "arrow")
    except ImportError:
        return False
    return True


@dataclass(frozen=True)
class _Column:
    name: str
    kind: str
    """None of the host's for join keys, which are as they were given."""
    values: list[Any]


def _keys(features: Features) -> Iterator[_Column]:
    names = dict.fromkeys(name for row in features.rows for name in row.entity)
    for name in names:
        yield _Column(name, "given", [row.entity.get(name) for row in features.rows])


def _columns(features: Features, details: bool, short: bool) -> Iterator[_Column]:
    """What comes after the join keys, in the order in which the host's own Arrow streams have it."""
    rows = features.rows
    views: dict[str, list[int]] = {}
    shown = short_names(features.names) if short else features.names
    for index, (name, called, kind) in enumerate(zip(features.names, shown, features.kinds)):
        views.setdefault(name.partition(":")[0], []).append(index)
        yield _Column(called, kind, [row.values[index] for row in rows])
        if details:
            yield _Column(f"{called}__status", "status", [row.statuses[index] for row in rows])
    if not details:
        return
    for view, indices in views.items():
        times = [next((row.event_times[index] for index in indices if row.event_times[index]), None) for row in rows]
        yield _Column(f"{view}__event_time", "timestamp", times)
        if all(row.provenance is None for row in rows):
            continue
        made_by = [_first(row.provenance, indices) for row in rows]
        yield _Column(f"{view}__component", "text", [made and made.component for made in made_by])
        yield _Column(f"{view}__entry_id", "text", [made and made.entry_id for made in made_by])


def _first(provenance: list[Provenance | None] | None, indices: list[int]) -> Provenance | None:
    return next((provenance[index] for index in indices if provenance[index]), None) if provenance else None


def to_arrow(features: Features, details: bool, short: bool) -> pa.Table:
    """A table of an answer in JSON, as the host would have sent it."""
    pa = imported("pyarrow", "arrow")
    keys, columns = list(_keys(features)), list(_columns(features, details, short))
    arrays = [pa.array(column.values) for column in keys]
    arrays += [pa.array(column.values, _arrow_type(pa, column)) for column in columns]
    fields = [pa.field(column.name, array.type, nullable=column.kind != "status") for column, array in zip((*keys, *columns), arrays)]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def _arrow_type(pa: Any, column: _Column) -> Any:
    if column.kind.startswith("list<"):
        return pa.list_(_arrow_type(pa, _Column(column.name, column.kind[len("list<") : -1], [])))
    types = {
        "boolean": pa.bool_(),
        "integer": pa.int64(),
        "float": pa.float64(),
        "text": pa.string(),
        "bytes": pa.binary(),
        "timestamp": pa.timestamp("us", "UTC"),
        "status": pa.dictionary(pa.int8(), pa.string()),
    }
    if column.kind == "vector":
        # An answer in JSON says how long vectors are where there is one.
        width = next((len(value) for value in column.values if value is not None), -1)
        return pa.list_(pa.float32(), width)
    return types[column.kind]


def read_arrow(content: bytes, details: bool, short: bool) -> pa.Table:
    """The host's Arrow stream: join keys, each feature and its status, and what is told once for each view. What is not asked for is left out."""
    pa = imported("pyarrow", "arrow")
    table = pa.ipc.open_stream(content).read_all()
    names: list[str] = table.column_names
    # Only references have a colon. They are told by their places, as a feature may be called `…__status` too.
    pairs = [place for place, name in enumerate(names) if ":" in name]
    features, statuses = pairs[::2], pairs[1::2]
    if short:
        for feature, status, name in zip(features, statuses, short_names([names[place] for place in features])):
            names[feature], names[status] = name, f"{name}__status"
        table = table.rename_columns(names)
    if details or not pairs:
        return table
    return table.select([*range(pairs[0]), *features])


def to_pandas(features: Features, details: bool, short: bool) -> pd.DataFrame:
    """A frame of an answer in JSON."""
    pd = imported("pandas", "pandas")
    index = features.frame_index if features.frame_index is not None else pd.RangeIndex(len(features))
    keys, columns = list(_keys(features)), list(_columns(features, details, short))
    series = [pd.Series(column.values, index=index) for column in keys]
    series += [_series(pd, column, index) for column in columns]
    return _frame([column.name for column in (*keys, *columns)], series, index)


def _series(pd: Any, column: _Column, index: Any) -> Any:
    plain = {"boolean": "boolean", "integer": "Int64", "float": "float64", "text": "string", "status": "string"}
    if column.kind in plain:
        return pd.Series(column.values, index=index, dtype=plain[column.kind])
    if column.kind == "timestamp":
        return pd.Series(pd.array(column.values, dtype="datetime64[us, UTC]"), index=index)
    import numpy as np

    # One by one, or numpy would make one array of arrays.
    filled = np.empty(len(column.values), dtype=np.object_)
    element = "vector" if column.kind == "vector" else column.kind[len("list<") : -1]
    dtypes: dict[str, Any] = {"vector": np.float32, "float": np.float64, "integer": np.int64, "boolean": np.bool_, "timestamp": "datetime64[us]"}
    for place, value in enumerate(column.values):
        if element == "timestamp" and value is not None:
            # numpy's moments have no time zone: they are UTC.
            value = [moment.astimezone(timezone.utc).replace(tzinfo=None) for moment in value]
        is_array = value is not None and column.kind != "bytes"
        filled[place] = np.asarray(value, dtype=dtypes.get(element, np.object_)) if is_array else value
    return pd.Series(filled, index=index)


def frame_of(table: pa.Table, entities: list[Mapping[str, Any]], index: Any) -> pd.DataFrame:
    """A frame of the host's Arrow stream; join keys are those that were asked for."""
    pd, pa = imported("pandas", "pandas"), imported("pyarrow", "arrow")
    keys = list(dict.fromkeys(name for entity in entities for name in entity))
    index = index if index is not None else pd.RangeIndex(table.num_rows)
    series = [pd.Series([entity.get(name) for entity in entities], index=index) for name in keys]
    names = [name for name in table.column_names if name not in keys]
    kinds = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype(), pa.string(): pd.StringDtype()}
    for place, name in enumerate(table.column_names):
        if name not in keys:
            column = table.column(place)
            column = column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column
            one = column.to_pandas(types_mapper=kinds.get)
            one.index = index
            series.append(one)
    return _frame([*keys, *names], series, index)


def _frame(names: list[str], series: list[Any], index: Any) -> pd.DataFrame:
    """Columns side by side; the same feature may have been asked for twice."""
    import pandas as pd

    frame = pd.concat(series, axis=1) if series else pd.DataFrame(index=index)
    frame.columns = pd.Index(names)
    return frame
