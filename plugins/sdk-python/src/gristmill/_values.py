"""Columns of the contract to lists of Python values, and back."""

import array
import datetime
import itertools
import operator
import struct

from . import _wire as wire
from ._kinds import Kind

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
_MICROSECOND = datetime.timedelta(microseconds=1)
_INTEGERS = range(-(2**63), 2**63)
_PLACEHOLDERS = {"boolean": False, "integer": 0, "float": 0.0, "text": "", "bytes": b"", "timestamp": 0}


class Reject(Exception):
    """Raised for an event that is no use: it becomes a dead letter with this reason, and its neighbours are unharmed."""


def read(column: wire.Column, kind: Kind, rows: int, refuse) -> list:
    """The values of a column, `None` for null. `refuse(row, reason)` is told of what Python cannot hold."""
    values = column.values.value
    match kind.name:
        case "boolean":
            found = [value == 1 for value in values]
        case "text":
            found = _texts(values)
        case "bytes":
            found = [values.bytes[start:end] for start, end in itertools.pairwise(values.offsets)]
        case "vector":
            found = [values.values[start : start + values.width] for start in range(0, rows * values.width, values.width)]
        case _:
            found = values
    if column.validity is not None:
        valid = column.validity
        found = [value if valid[row >> 3] >> (row & 7) & 1 else None for row, value in enumerate(found)]
    return _moments(found, refuse) if kind.as_datetime else found


def _texts(packed: wire.Packed) -> list[str]:
    whole = packed.bytes.decode()
    pairs = itertools.pairwise(packed.offsets)
    if len(whole) == len(packed.bytes):
        # One byte a character: offsets of bytes are offsets of characters.
        return [whole[start:end] for start, end in pairs]
    return [packed.bytes[start:end].decode() for start, end in pairs]


def _moments(values: list, refuse) -> list:
    found = []
    for row, value in enumerate(values):
        try:
            found.append(None if value is None else _EPOCH + value * _MICROSECOND)
        except OverflowError:
            refuse(row, f"{value} microseconds since 1970 are beyond the years that datetime knows; take a Timestamp")
            found.append(None)
    return found


_TYPES = {"boolean": bool, "integer": int, "float": float, "text": str, "bytes": bytes, "timestamp": int}


def write(name: str, kind: Kind, values: list) -> wire.Column:
    """A column of these values; fails with a TypeError or ValueError that names the output, not the row: its index says nothing once a host has halved the batch."""
    rows = len(values)
    validity = None
    # The types of a column say, all at once, whether each value has to be looked at. Nearly always there is one, and counting it is the cheapest look.
    expected = _TYPES.get(kind.name)
    found = {expected} if operator.countOf(map(type, values), expected) == rows else set(map(type, values))
    if type(None) in found:
        if not kind.nullable:
            raise ValueError(f"`{name}` is None; hint it with `| None` if null is legal")
        bits = bytearray((rows + 7) // 8)
        for row, value in enumerate(values):
            if value is not None:
                bits[row >> 3] |= 1 << (row & 7)
        validity = bytes(bits)
        placeholder = [0.0] * kind.width if kind.name == "vector" else _PLACEHOLDERS[kind.name]
        if kind.as_datetime:
            placeholder = _EPOCH
        values = [placeholder if value is None else value for value in values]
        found.discard(type(None))
    plain = found <= {expected} and not kind.as_datetime
    if not plain or (kind.name in ("integer", "timestamp") and not _are_64_bit(values)):
        for value in values:
            problem = _problem(kind, value)
            if problem:
                raise TypeError(f"`{name}` is {_shown(value)}; {problem}")
        plain = False
    return wire.Column(_pack(kind, values, plain), validity)


def _are_64_bit(values: list[int]) -> bool:
    try:
        array.array("q", values)
    except OverflowError:
        return False
    return True


def _problem(kind: Kind, value: object) -> str | None:
    match kind.name:
        case "boolean":
            return None if isinstance(value, bool) else "expected a bool"
        case "integer":
            return None if isinstance(value, int) and not isinstance(value, bool) and value in _INTEGERS else "expected an int of 64 bits"
        case "float":
            return None if isinstance(value, (float, int)) and not isinstance(value, bool) else "expected a float"
        case "text":
            return None if isinstance(value, str) else "expected a str"
        case "bytes":
            return None if isinstance(value, (bytes, bytearray)) else "expected bytes"
        case "timestamp" if kind.as_datetime:
            aware = isinstance(value, datetime.datetime) and value.tzinfo is not None
            return None if aware else "expected a datetime with a time zone"
        case "timestamp":
            return None if isinstance(value, int) and not isinstance(value, bool) and value in _INTEGERS else "expected a Timestamp, whole microseconds"
        case _:
            return None if len(value) == kind.width else f"expected {kind.width} numbers"


def _pack(kind: Kind, values: list, plain: bool):
    match kind.name:
        case "boolean":
            return wire.Values_Booleans(bytes(values))
        case "integer":
            return wire.Values_Integers(values)
        case "float":
            return wire.Values_Floats(values if plain else [float(value) for value in values])
        case "text":
            return wire.Values_Texts(_packed_texts(values))
        case "bytes":
            return wire.Values_Blobs(_packed(values))
        case "timestamp":
            return wire.Values_Timestamps([(value - _EPOCH) // _MICROSECOND for value in values] if kind.as_datetime else values)
        case _:
            numbers = list(itertools.chain.from_iterable(values))
            # Rounded to 32 bits here, so that unit tests see what the store gets.
            return wire.Values_Vectors(wire.Vectors(kind.width, list(struct.unpack(f"<{len(numbers)}f", struct.pack(f"<{len(numbers)}f", *numbers)))))


def _packed_texts(values: list[str]) -> wire.Packed:
    whole = "".join(values)
    if whole.isascii():
        # One byte a character: lengths of texts are lengths of bytes.
        return wire.Packed([0, *itertools.accumulate(map(len, values))], whole.encode())
    return _packed([value.encode() for value in values])


def _packed(values: list[bytes]) -> wire.Packed:
    return wire.Packed([0, *itertools.accumulate(map(len, values))], b"".join(values))


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:79] + "…"
