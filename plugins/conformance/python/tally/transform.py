"""Counts and sums: what the conformance cases of state run in every language."""

from typing import TypedDict

from gristmill import Reject, fold


class State(TypedDict):
    seen: int
    total: float


class Features(TypedDict):
    seen: int
    total: float


@fold(entity="id", stream="tally", version="1.0.0")
def tally(state: State | None, id: str, action: str = "", amount: float | None = None) -> tuple[State | None, Features | None]:
    """Counts and sums the events of an entity."""
    if action == "reject":
        raise Reject(f"{id} asks for it")
    if action == "reset":
        return None, None
    before = state or {"seen": 0, "total": 0.0}
    after: State = {"seen": before["seen"] + 1, "total": before["total"] + (amount or 0.0)}
    return after, {"seen": after["seen"], "total": after["total"]}
