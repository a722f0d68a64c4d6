"""One of everything: what the conformance cases run in every language."""

from dataclasses import dataclass
from typing import Annotated, TypedDict

from gristmill import Reject, Timestamp, Vector, log, transform


@dataclass
class Settings:
    factor: float = 2.0


class Features(TypedDict):
    truth: bool | None
    whole: int | None
    real: Annotated[float | None, "The number, scaled."]
    text: str | None
    blob: bytes | None
    moment: Timestamp | None
    embedding: Vector[3] | None


@transform(entity="id", stream="reference", version="1.0.0")
def reference(
    id: str,
    action: str = "",
    truth: bool | None = None,
    whole: int | None = None,
    real: float | None = None,
    text: str | None = None,
    blob: bytes | None = None,
    moment: Timestamp | None = None,
    embedding: Vector[3] | None = None,
    *,
    settings: Settings,
) -> list[Features]:
    """One of everything."""
    if action == "reject":
        raise Reject(f"{id} asks for it")
    if action == "log":
        log.warn(f"a line about {id}")
    row: Features = {
        "truth": None if truth is None else not truth,
        "whole": None if whole is None else ~whole,
        "real": None if real is None else real * settings.factor + 0.1,
        "text": None if text is None else f"<{text}>",
        "blob": None if blob is None else blob[::-1],
        "moment": None if moment is None else moment + 1_000_000,
        "embedding": None if embedding is None else [number * settings.factor for number in embedding],
    }
    return [row] * {"skip": 0, "twice": 2}.get(action, 1)
