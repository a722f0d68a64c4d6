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


def whole(column: wire.Column) -> tuple[str, list[int]] | None:
    """All of a column of text and where its values end, if that is ASCII and none is null: one byte a character, so offsets of bytes are offsets of characters."""
    packed = column.values.value
    found = packed.bytes.decode()
    return (found, packed.offsets[1:]) if column.validity is None and len(found) == len(packed.bytes) else None


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
        # A digit for each row, the last one first.
        digits = f"{int.from_bytes(column.validity, 'little'):0{rows}b}"
        found = [value if digit == "1" else None for value, digit in zip(found, reversed(digits))]
    return _moments(found, refuse) if kind.as_datetime else found


def _texts(packed: wire.Packed) -> list[str]:
    found = packed.bytes.decode()
    pairs = itertools.pairwise(packed.offsets)
    if len(found) == len(packed.bytes):
        return [found[start:end] for start, end in pairs]
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


def write(name: str, kind: Kind, values: list, ends: list[int] | None = None) -> wire.Column:
    """A column of these values; fails with a TypeError or ValueError that names the output, not the row: its index says nothing once a host has halved the batch.
    `ends` says of texts where each ends when they are put end to end, in characters, behind a zero; it is found out where it is not given."""
    if kind.name == "text":
        try:
            # Fails unless all are texts.
            return wire.Column(wire.Values_Texts(_packed_texts(values, ends)), None)
        except TypeError:
            pass
    rows = len(values)
    validity = None
    # The types of a column say, all at once, whether each value has to be looked at. Nearly always there is one, and counting it is the cheapest look.
    expected = _TYPES.get(kind.name)
    found = {expected} if operator.countOf(map(type, values), expected) == rows else set(map(type, values))
    if type(None) in found:
        if not kind.nullable:
            raise ValueError(f"`{name}` is None; hint it with `| None` if null is legal")
        digits = "".join(["0" if value is None else "1" for value in reversed(values)])
        validity = int(digits, 2).to_bytes((rows + 7) // 8, "little")
        placeholder = [0.0] * kind.width if kind.name == "vector" else _PLACEHOLDERS[kind.name]
        if kind.as_datetime:
            placeholder = _EPOCH
        values = [placeholder if value is None else value for value in values]
        found.discard(type(None))
    plain = found <= {expected} and not kind.as_datetime
    if not plain or (kind.name in ("integer", "timestamp") and not _are_64_bit(values)):
        for value in values:
            wrong = problem(name, kind, value)
            if wrong:
                raise TypeError(wrong)
        plain = False
    try:
        return wire.Column(_pack(kind, values, plain, ends), validity)
    except TypeError as error:
        if kind.name != "vector":
            raise
        raise TypeError(f"`{name}` is not {kind.width} numbers: {error}") from error


def _are_64_bit(values: list[int]) -> bool:
    try:
        struct.pack(f"{len(values)}q", *values)
    except struct.error:
        return False
    return True


def problem(name: str, kind: Kind, value: object) -> str | None:
    """What is wrong with a value of an output, if anything."""
    if value is None and kind.nullable:
        return None
    expected = _problem(kind, value)
    return expected and f"`{name}` is {_shown(value)}; {expected}"


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
            return None if hasattr(value, "__len__") and len(value) == kind.width else f"expected {kind.width} numbers"


def _pack(kind: Kind, values: list, plain: bool, ends: list[int] | None):
    match kind.name:
        case "boolean":
            return wire.Values_Booleans(bytes(values))
        case "integer":
            return wire.Values_Integers(values)
        case "float":
            return wire.Values_Floats(values if plain else [float(value) for value in values])
        case "text":
            return wire.Values_Texts(_packed_texts(values, ends))
        case "bytes":
            return wire.Values_Blobs(_packed(values))
        case "timestamp":
            return wire.Values_Timestamps([(value - _EPOCH) // _MICROSECOND for value in values] if kind.as_datetime else values)
        case _:
            numbers = list(itertools.chain.from_iterable(values))
            # Rounded to 32 bits here, so that unit tests see what the store gets; what is too large becomes infinite, as in other languages.
            return wire.Values_Vectors(wire.Vectors(kind.width, list(array.array("f", numbers))))


def _packed_texts(values: list[str], ends: list[int] | None) -> wire.Packed:
    found = "".join(values)
    if found.isascii():
        # One byte a character: lengths of texts are lengths of bytes.
        return wire.Packed(ends or [0, *itertools.accumulate(map(len, values))], found.encode())
    return _packed([value.encode() for value in values])


def _packed(values: list[bytes]) -> wire.Packed:
    return wire.Packed([0, *itertools.accumulate(map(len, values))], b"".join(values))


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:79] + "…"
