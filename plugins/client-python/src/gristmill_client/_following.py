"""Following changes: what is asked for, what comes, and how to go on when a connection ends. The reading itself is done by the clients."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence

import httpx

from ._answers import Change, Missed, read_change, read_missed
from ._errors import GristmillError, UnreachableError, error_of, not_understood
from ._steps import Request

QUIET_SECS = 45.0
"""A connection that brings nothing for so long is dead: a host sends a comment every 15 seconds."""
_WAIT_MAX_SECS = 10.0


class Following:
    """One reader of changes, over any number of connections."""

    def __init__(self, view: str | Sequence[str], last_event_id: str | None, patience: float) -> None:
        self._views = [view] if isinstance(view, str) else list(view)
        self._last_event_id = last_event_id
        self._patience = patience
        self._wait = 1.0
        self._lost_at: float | None = None
        self._has_begun = False

    def request(self) -> Request:
        """What the next connection asks for: to go on after what came last."""
        headers = {"accept": "text/event-stream"}
        if self._last_event_id is not None:
            headers["last-event-id"] = self._last_event_id
        return Request("GET", "/v1/changes", None, headers, {"view": ",".join(self._views), "kinds": "true"})

    def opened(self, response: httpx.Response) -> Events:
        """Takes the head of an answer; an error's body has been read."""
        if not response.is_success:
            raise error_of(response)
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            raise not_understood(response, ValueError("server-sent events were asked for"))
        self._has_begun, self._lost_at, self._wait = True, None, 1.0
        return Events(self)

    def lost(self, error: GristmillError | None) -> float:
        """How long to wait before the next connection; raises what is no use trying again."""
        if error is not None and not isinstance(error, UnreachableError) and error.status not in (429, 503):
            raise error
        now = time.monotonic()
        self._lost_at = self._lost_at if self._lost_at is not None else now
        wait = self._wait if error is None or error.retry_after is None else error.retry_after
        # Who has never been connected is told at once that it cannot be.
        if error is not None and (not self._has_begun or now + wait - self._lost_at > self._patience):
            raise error
        self._wait = min(self._wait * 2, _WAIT_MAX_SECS)
        return wait

    def came(self, event_id: str) -> None:
        """Remembers where to go on."""
        self._last_event_id = event_id


class Events:
    """The events of one connection, out of its bytes."""

    def __init__(self, following: Following) -> None:
        self._following = following
        self._rest = b""
        self._event, self._id = "", ""
        self._data: list[bytes] = []

    def take(self, piece: bytes) -> Iterator[Change | Missed]:
        """The events that are complete with this piece. Lines end with LF or CRLF, and with nothing else that a text may contain."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            found = self._line(line.removesuffix(b"\r"))
            if found is not None:
                yield found

    def _line(self, line: bytes) -> Change | Missed | None:
        if not line:
            return self._end()
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"event":
            self._event = value.decode()
        elif name == b"id":
            self._id = value.decode()
        elif name == b"data":
            self._data.append(value)
        return None

    def _end(self) -> Change | Missed | None:
        event, event_id, data = self._event, self._id, b"\n".join(self._data)
        self._event, self._id = "", ""
        self._data.clear()
        if event_id:
            # Without data it is no event, and says where to go on all the same.
            self._following.came(event_id)
        try:
            if event == "change":
                return read_change(event_id, json.loads(data))
            if event == "missed":
                return read_missed(json.loads(data))
        except (ValueError, KeyError, TypeError) as error:
            raise GristmillError("not_understood", f"an event `{event}` of another shape than changes have: {error!r}") from error
        return None
