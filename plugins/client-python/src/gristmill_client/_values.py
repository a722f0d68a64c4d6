"""From Python's values to JSON and back. What a value is in an answer follows from its feature's kind."""

from __future__ import annotations

import base64
import functools
import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard, Union

if TYPE_CHECKING:
    import pandas as pd

Value: TypeAlias = Union[bool, int, float, str, bytes, datetime, list["Value"], None]
"""A feature's value. Vectors and lists are lists; a moment outside the years 1 to 9999 stays the text that the host sent."""
Moment: TypeAlias = datetime | str | int | float
"""A moment: a datetime with a time zone, RFC 3339, or a number since the Unix epoch (seconds; milliseconds and finer are told by their size)."""
Rows: TypeAlias = "Iterable[Mapping[str, Any]] | pd.DataFrame"
"""Objects by name, one after the other, or the rows of a frame."""


def is_frame(rows: object) -> TypeGuard[pd.DataFrame]:
    """Whether it is a DataFrame; pandas need not be there to tell."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(rows, pandas.DataFrame)


def records(rows: Rows) -> Iterable[Mapping[str, Any]]:
    """The rows as objects. What a frame does not have (NaN, NaT, NA) is null."""
    frame: Any = rows
    if is_frame(rows):
        if not frame.columns.is_unique:
            raise ValueError("the frame has two columns of the same name")
        # Out of their arrays first, so that integers stay integers beside what is missing.
        frame = frame.astype(object).where(frame.notna(), None).to_dict("records")
    found: Iterable[Mapping[str, Any]] = frame
    return found


def moment(value: Moment) -> str | int | float:
    """A moment as the host reads it."""
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(f"{value.isoformat()} has no time zone, so it names no moment; say for example .replace(tzinfo=timezone.utc)")
        return value.isoformat()
    return value


def plain(value: Any) -> Any:
    """A value as JSON has it: NaN and infinities are texts, moments RFC 3339, bytes the text that they are."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else ("NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity")
    if isinstance(value, datetime):
        # NaT calls itself a datetime, and is not equal to itself.
        return moment(value) if value == value else None
    if isinstance(value, Mapping):
        return {str(name): plain(member) for name, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (bytes, bytearray)):
        return value.decode()
    if hasattr(value, "tolist"):
        # numpy's scalars and arrays.
        return plain(value.tolist())
    raise TypeError(f"{value!r} is of type {type(value).__name__}, which has no place in JSON; send a number, a text, a datetime, a list or an object")


def encode(value: Any) -> bytes:
    """JSON of what `plain` can make plain."""
    return json.dumps(plain(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def read_moment(text: str) -> Value:
    """A moment out of an answer."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return text


def reader(kind: str) -> Callable[[Any], Value]:
    """What turns a value of this kind, as it stands in JSON, into Python's."""
    if kind.startswith("list<") and kind.endswith(">"):
        return functools.partial(_read_list, reader(kind[len("list<") : -1]))
    return _READERS.get(kind, _as_it_is)


def _as_it_is(value: Any) -> Value:
    found: Value = value
    return found


def _read_list(read: Callable[[Any], Value], values: Any) -> Value:
    return None if values is None else [read(value) for value in values]


def _read_float(value: Any) -> Value:
    return None if value is None else float(value)


def _read_bytes(value: Any) -> Value:
    return None if value is None else base64.b64decode(value, validate=True)


def _read_timestamp(value: Any) -> Value:
    return None if value is None else read_moment(value)


_READERS: dict[str, Callable[[Any], Value]] = {
    "float": _read_float,
    "bytes": _read_bytes,
    "timestamp": _read_timestamp,
    "vector": functools.partial(_read_list, _read_float),
}
