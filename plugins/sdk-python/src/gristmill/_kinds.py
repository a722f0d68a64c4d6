"""Type hints to the kinds of the contract."""

import datetime
import types
import typing
from dataclasses import dataclass

Timestamp = typing.NewType("Timestamp", int)
Timestamp.__doc__ = "A moment: whole microseconds since 1970-01-01T00:00:00Z."


class Vector:
    """`Vector[N]`: N 32-bit floats, as a list of N numbers."""

    def __init__(self, width: int) -> None:
        self.width = width

    def __class_getitem__(cls, width: int) -> "Vector":
        if not isinstance(width, int) or not 1 <= width <= 65_536:
            raise TypeError(f"Vector[{width!r}]: the width is a whole number from 1 to 65536")
        return cls(width)

    def __or__(self, other: object) -> object:
        if other is None:
            return typing.Optional[typing.Annotated[list[float], self]]
        return NotImplemented


@dataclass(frozen=True)
class Kind:
    """What a column holds, and how its values look to the author."""

    name: str
    nullable: bool = False
    width: int | None = None
    as_datetime: bool = False


_PLAIN = {bool: "boolean", int: "integer", float: "float", str: "text", bytes: "bytes", Timestamp: "timestamp"}


def kind_of(hint: object, what: str) -> Kind:
    """The kind that a hint stands for; `what` names it in errors."""
    nullable = False
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        members = [member for member in typing.get_args(hint) if member is not type(None)]
        nullable = len(members) < len(typing.get_args(hint))
        if len(members) != 1:
            raise TypeError(f"{what}: {hint} is several kinds at once; a column has one, with `| None` where null is legal")
        hint = members[0]
    if typing.get_origin(hint) is typing.Annotated:
        hint = next((note for note in typing.get_args(hint)[1:] if isinstance(note, Vector)), hint)
    if isinstance(hint, Vector):
        return Kind("vector", nullable, width=hint.width)
    if hint is datetime.datetime:
        return Kind("timestamp", nullable, as_datetime=True)
    try:
        return Kind(_PLAIN[hint], nullable)
    except (KeyError, TypeError):
        known = "bool, int, float, str, bytes, datetime.datetime, Timestamp, Vector[N], each with `| None`"
        shown = getattr(hint, "__name__", hint)
        raise TypeError(f"{what}: {shown} is not a kind of column; write one of {known}") from None
