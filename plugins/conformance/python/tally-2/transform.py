"""The next version of `tally`: it keeps the largest amount too, and takes over the states of the first."""

from typing import TypedDict

from gristmill import fold


class Tally(TypedDict):
    count: int
    sum: float
    largest: float


class Features(TypedDict):
    seen: int
    total: float
    largest: float


def from_before(version: str, state: dict) -> Tally:
    if not version.startswith("1."):
        raise ValueError(f"version {version} is not known here")
    # The largest amount so far is at least the mean.
    mean = state["total"] / state["seen"] if state["seen"] else 0.0
    return {"count": state["seen"], "sum": state["total"], "largest": mean}


@fold(entity="id", stream="tally", version="2.0.0", migrate=from_before)
def tally(state: Tally | None, id: str, amount: float | None) -> tuple[Tally | None, Features]:
    """Counts, sums and compares the events of an entity."""
    before = state or {"count": 0, "sum": 0.0, "largest": 0.0}
    amount = amount or 0.0
    after: Tally = {"count": before["count"] + 1, "sum": before["sum"] + amount, "largest": max(before["largest"], amount)}
    return after, {"seen": after["count"], "total": after["sum"], "largest": after["largest"]}
