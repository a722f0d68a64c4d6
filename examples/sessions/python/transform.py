"""Session windows: what a customer has done since they were last away for half an hour."""

from dataclasses import dataclass
from typing import Annotated, TypedDict

from gristmill import Reject, Timestamp, fold

MINUTE = 60_000_000  # microseconds


@dataclass
class Settings:
    gap_minutes: int = 30  # a session ends when nothing has happened for this long


class Session(TypedDict):
    """The session that goes on; times in microseconds."""

    number: int
    started: int
    last: int
    events: int
    spent: float


class Features(TypedDict):
    session: Annotated[int, "How many sessions there were, this one included."]
    started: Annotated[Timestamp, "When it began."]
    minutes: Annotated[float, "How long it has lasted, minutes."]
    events: Annotated[int, "Events in it."]
    spent: Annotated[float, "What was paid in it."]


@fold(entity="customer", event_time="at", stream="visits", version="1.0.0")
def sessions(state: Session | None, customer: str, at: Timestamp, paid: float | None, *, settings: Settings) -> tuple[Session, Features]:
    """What a customer has done since they were last away."""
    gap = settings.gap_minutes * MINUTE
    if state is None or at > state["last"] + gap:
        number = 1 if state is None else state["number"] + 1
        state = {"number": number, "started": at, "last": at, "events": 0, "spent": 0.0}
    elif at < state["started"] - gap:
        raise Reject("it belongs to a session that has ended")
    session: Session = {
        "number": state["number"],
        "started": min(state["started"], at),
        "last": max(state["last"], at),
        "events": state["events"] + 1,
        "spent": state["spent"] + (paid or 0.0),
    }
    return session, {
        "session": session["number"],
        "started": session["started"],
        "minutes": (session["last"] - session["started"]) / MINUTE,
        "events": session["events"],
        "spent": session["spent"],
    }
