"""What can go wrong: one family of exceptions."""

from __future__ import annotations

import email.utils
import time
from typing import Any

import httpx


class GristmillError(Exception):
    """Something went wrong between this program and a host. Everything that this package raises about it is one of these."""

    code: str
    """What went wrong, for programs: the host's own word (`not_found`, `unusable`, `busy`, …), `unreachable`, `timed_out` or `not_understood`."""
    message: str
    """What went wrong with which thing, and what to change; for people."""
    request_id: str | None
    """The request's id, which stands in the host's log too."""
    status: int | None
    """The status of the answer; None where none came."""
    retry_after: float | None
    """Seconds after which to try again, where the host says so."""
    appended: list[str]
    """Ids of the entries that a call of `ingest` had appended before it failed."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        request_id: str | None = None,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}" if request_id is None else f"{code}: {message} (request {request_id})")
        self.code, self.message, self.request_id, self.status, self.retry_after = code, message, request_id, status, retry_after
        self.appended = []

    def __reduce__(self) -> tuple[Any, ...]:
        # What has arguments by name is not made anew from `args`, as unpickling would.
        return _remade, (type(self), self.__dict__)


class UnreachableError(GristmillError):
    """No answer came: no connection, or one that broke. Whether the host did what it was asked is not known."""


class TimedOutError(UnreachableError):
    """No answer came within the timeout."""


class RequestError(GristmillError):
    """The host says what to change in the request."""


class NotFoundError(RequestError):
    """What is named does not exist."""


class TooLargeError(RequestError):
    """It is larger, or more at once, than the host takes."""


class AccessError(GristmillError):
    """The host knows no such token, or the token does not allow this."""


class BusyError(GristmillError):
    """This client, or all together, ask more than the host answers: try again later. Nothing was done."""


class UnavailableError(GristmillError):
    """Not now: the store or the stream does not answer, or the host is shutting down."""


class HostError(GristmillError):
    """The host failed, or what answered is none."""


_BY_STATUS: dict[int, type[GristmillError]] = {
    401: AccessError,
    403: AccessError,
    404: NotFoundError,
    413: TooLargeError,
    429: BusyError,
    503: UnavailableError,
}


def error_of(response: httpx.Response) -> GristmillError:
    """The error that an answer is; its body has been read."""
    status = response.status_code
    kind = _BY_STATUS.get(status, RequestError if 400 <= status < 500 else HostError)
    code, message, request_id = "not_understood", f"status {status}: {response.text[:200]}", response.headers.get("x-request-id")
    try:
        error = response.json()["error"]
        code, message, request_id = str(error["code"]), str(error["message"]), str(error["request_id"])
    except (ValueError, KeyError, TypeError):
        # Something on the way has answered, and not the host.
        pass
    return kind(code, message, request_id=request_id, status=status, retry_after=_retry_after(response))


def unreachable(error: httpx.RequestError, url: httpx.URL) -> UnreachableError:
    """The error that no answer is."""
    if isinstance(error, httpx.TimeoutException):
        return TimedOutError("timed_out", f"no answer from {url} in time: {type(error).__name__}")
    return UnreachableError("unreachable", f"no answer from {url}: {error or type(error).__name__}")


def not_understood(response: httpx.Response, error: Exception) -> HostError:
    """The error that an answer of an unknown shape is."""
    message = f"what {response.url} answers is not what a host answers: {error!r}"
    return HostError("not_understood", message, status=response.status_code, request_id=response.headers.get("x-request-id"))


def _retry_after(response: httpx.Response) -> float | None:
    text = response.headers.get("retry-after")
    if text is None:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        # Proxies may give a date.
        moment = email.utils.parsedate_tz(text)
        return max(0.0, email.utils.mktime_tz(moment) - time.time()) if moment is not None else None


def _remade(kind: type[GristmillError], members: dict[str, Any]) -> GristmillError:
    error = kind(members["code"], members["message"], request_id=members["request_id"])
    error.__dict__.update(members)
    return error
