"""Windows that the host keeps over a transform's outputs: a feature each, finished when it is read.

    from gristmill import aggregate, transform

    @transform(
        entity="customer",
        stream="orders",
        aggregate={
            "orders_1h": aggregate.count("total", "1h"),
            "spent_30d": aggregate.sum("total", "30d"),
            "median_ever": aggregate.quantile("total", 0.5),
        },
    )

The first argument is the output; the window is a number and `s`, `m`, `h` or `d`, without one since the first event. `doc` is for people. What the functions
give, and what where there are no events, stands in the contract (`wit/transform.wit`).
"""

import re
from dataclasses import dataclass

from . import _wire as wire

__all__ = ["Aggregation", "count", "distinct", "first", "last", "last_values", "max", "mean", "min", "quantile", "sum", "top", "variance"]

_UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_WINDOW_MS_MAX = 2**64 - 1


@dataclass(frozen=True)
class Aggregation:
    """A function over the values of one output; the functions of this module make them."""

    function: str
    """As the contract calls it, in CamelCase."""
    column: str
    window: str | None = None
    argument: float | int | None = None
    """The rank of a quantile, the length of a list."""
    doc: str = ""


def count(column: str, window: str | None = None, *, doc: str = "") -> Aggregation:
    """How many values are not null."""
    return Aggregation("Count", column, window, doc=doc)


def sum(column: str, window: str | None = None, *, doc: str = "") -> Aggregation:
    """The sum of integers or floats."""
    return Aggregation("Sum", column, window, doc=doc)


def mean(column: str, window: str | None = None, *, doc: str = "") -> Aggregation:
    """The arithmetic mean."""
    return Aggregation("Mean", column, window, doc=doc)


def min(column: str, window: str | None = None, *, doc: str = "") -> Aggregation:
    """The smallest integer, float or timestamp."""
    return Aggregation("Min", column, window, doc=doc)


def max(column: str, window: str | None = None, *, doc: str = "") -> Aggregation:
    """The largest integer, float or timestamp."""
    return Aggregation("Max", column, window, doc=doc)


def variance(column: str, window: str | None = None, *, doc: str = "") -> Aggregation:
    """The variance of the population."""
    return Aggregation("Variance", column, window, doc=doc)


def first(column: str, window: str | None = None, *, doc: str = "") -> Aggregation:
    """The earliest value by event time."""
    return Aggregation("First", column, window, doc=doc)


def last(column: str, window: str | None = None, *, doc: str = "") -> Aggregation:
    """The latest value by event time."""
    return Aggregation("Last", column, window, doc=doc)


def distinct(column: str, window: str | None = None, *, doc: str = "") -> Aggregation:
    """How many different values there are, estimated."""
    return Aggregation("Distinct", column, window, doc=doc)


def quantile(column: str, rank: float, window: str | None = None, *, doc: str = "") -> Aggregation:
    """The value at a rank from 0 to 1, estimated."""
    return Aggregation("Quantile", column, window, rank, doc)


def last_values(column: str, many: int, window: str | None = None, *, doc: str = "") -> Aggregation:
    """The latest values, at most so many, newest first."""
    return Aggregation("LastValues", column, window, many, doc)


def top(column: str, many: int, window: str | None = None, *, doc: str = "") -> Aggregation:
    """The most frequent values, at most so many, most frequent first."""
    return Aggregation("Top", column, window, many, doc)


_KNOWN = ", ".join(name for name in __all__ if name != "Aggregation")


def _records(declared: dict[str, Aggregation], outputs: list[str]) -> list[wire.Aggregation]:
    """What the spec says of these aggregations; a TypeError names the feature that is wrong."""
    if not isinstance(declared, dict):
        raise TypeError('`aggregate` is a dictionary from features to aggregations: {"orders_1h": aggregate.count("total", "1h")}')
    return [_record(feature, aggregation, outputs) for feature, aggregation in declared.items()]


def _record(feature: str, aggregation: Aggregation, outputs: list[str]) -> wire.Aggregation:
    wrong = lambda what: TypeError(f"aggregation `{feature}`: {what}")
    if not isinstance(aggregation, Aggregation):
        raise wrong(f"{aggregation!r} is no aggregation; the functions of gristmill.aggregate make them: {_KNOWN}")
    if feature in outputs:
        raise wrong("there is an output of this name too")
    if aggregation.column not in outputs:
        raise wrong(f"there is no output {aggregation.column!r} to compute it over; the outputs are: {', '.join(outputs)}")
    function = getattr(wire, f"Aggregate_{aggregation.function}", None)
    if function is None:
        raise wrong(f"there is no function {aggregation.function!r}; there are: {_KNOWN}")
    return wire.Aggregation(feature, aggregation.column, function(*_argument(aggregation, wrong)), _milliseconds(aggregation.window, wrong), aggregation.doc)


def _argument(aggregation: Aggregation, wrong) -> list:
    value, is_number = aggregation.argument, not isinstance(aggregation.argument, bool)
    if aggregation.function == "Quantile":
        if not (is_number and isinstance(value, (int, float)) and 0 <= value <= 1):
            raise wrong(f"a quantile at {value!r}; 0 to 1 is right")
        return [float(value)]
    if aggregation.function in ("LastValues", "Top"):
        if not (is_number and isinstance(value, int) and 1 <= value <= 1_000):
            raise wrong(f"a list of {value!r} values; 1 to 1000 are allowed")
        return [value]
    return []


def _milliseconds(window: str | None, wrong) -> int | None:
    if window is None:
        return None
    found = re.fullmatch("([0-9]+)([smhd])", window) if isinstance(window, str) else None
    milliseconds = int(found[1]) * _UNITS_MS[found[2]] if found else 0
    if not 0 < milliseconds <= _WINDOW_MS_MAX:
        raise wrong(f'a window of {window!r}; a window is a number and s, m, h or d, as in "24h", and None is since the first event')
    return milliseconds
