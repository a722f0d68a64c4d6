"""Whole columns: what the conformance cases of columns run in every language."""

from typing import NamedTuple

from gristmill import transform


class Features(NamedTuple):
    total: list[float | None]
    label: list[str]
    next: list[int | None]


@transform(version="1.0.0", entity="id", stream="orders", columns=True)
def columns(id: list[str], price: list[float], pieces: list[int | None], coupon: list[str | None]) -> Features:
    """Whole columns."""
    return Features(
        total=[None if many is None else one * many for one, many in zip(price, pieces)],
        label=[f"{name}/{'-' if code is None else code}" for name, code in zip(id, coupon)],
        next=[None if many is None else many + 1 for many in pieces],
    )
