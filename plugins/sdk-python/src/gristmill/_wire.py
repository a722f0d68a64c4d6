"""The types that cross the boundary: componentize-py's inside a component, stand-ins of the same shape in unit tests."""

import gc

try:
    from componentize_py_types import Err
    from wit_world.imports.types import (
        Aggregate_Count,
        Aggregate_Distinct,
        Aggregate_First,
        Aggregate_Last,
        Aggregate_LastValues,
        Aggregate_Max,
        Aggregate_Mean,
        Aggregate_Min,
        Aggregate_Quantile,
        Aggregate_Sum,
        Aggregate_Top,
        Aggregate_Variance,
        Aggregation,
        Batch,
        Column,
        Field,
        Folded,
        Kind,
        Output,
        Packed,
        Rejection,
        Spec,
        Values_Blobs,
        Values_Booleans,
        Values_Floats,
        Values_Integers,
        Values_Texts,
        Values_Timestamps,
        Values_Vectors,
        Vectors,
    )

    # The interfaces that the component's world asks for.
    from wit_world import exports

    # Rows of a batch are thousands of small objects without cycles; looking for cycles among them at the default pace costs 5 % of a call.
    gc.set_threshold(50_000)
except ImportError:
    from dataclasses import dataclass, make_dataclass
    from enum import Enum

    exports = None
    Kind = Enum("Kind", ["BOOLEAN", "INTEGER", "FLOAT", "TEXT", "BYTES", "TIMESTAMP", "VECTOR"], start=0)

    @dataclass
    class Err(Exception):
        """What a function of the contract fails with."""

        value: object

    def _record(name: str, fields: str) -> type:
        return make_dataclass(name, fields.split())

    for _function in ["Count", "Distinct", "First", "Last", "Max", "Mean", "Min", "Sum", "Variance"]:
        globals()[f"Aggregate_{_function}"] = _record(f"Aggregate_{_function}", "")
    Aggregate_LastValues = _record("Aggregate_LastValues", "value")
    Aggregate_Quantile = _record("Aggregate_Quantile", "value")
    Aggregate_Top = _record("Aggregate_Top", "value")
    Aggregation = _record("Aggregation", "feature column function window_ms doc")
    Batch = _record("Batch", "rows columns")
    Column = _record("Column", "values validity")
    Field = _record("Field", "name kind nullable default width doc")
    Folded = _record("Folded", "output states")
    Output = _record("Output", "batch origins rejected")
    Packed = _record("Packed", "offsets bytes")
    Rejection = _record("Rejection", "row reason")
    Spec = _record("Spec", "name version doc streams entity event_time inputs outputs aggregations")
    Vectors = _record("Vectors", "width values")
    Values_Blobs = _record("Values_Blobs", "value")
    Values_Booleans = _record("Values_Booleans", "value")
    Values_Floats = _record("Values_Floats", "value")
    Values_Integers = _record("Values_Integers", "value")
    Values_Texts = _record("Values_Texts", "value")
    Values_Timestamps = _record("Values_Timestamps", "value")
    Values_Vectors = _record("Values_Vectors", "value")
