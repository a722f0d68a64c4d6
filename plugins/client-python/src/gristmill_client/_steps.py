"""Everything that clients do, without doing it: what is sent, what becomes of the answers, and when to try again.

A call is a generator: it yields what is to be done, a request to send or a time to wait, and is given the answer. What runs it is all that the two clients
have of their own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Required, TypeAlias, TypedDict, TypeVar
from urllib.parse import quote

import httpx

from . import _frames
from ._answers import (
    DeadLetter,
    Features,
    Replayed,
    Service,
    Transform,
    View,
    read_dead_letter,
    read_features,
    read_replayed,
    read_service,
    read_transform,
    read_view,
)
from ._errors import GristmillError, TooLargeError, error_of, not_understood
from ._values import Moment, Rows, encode, is_frame, moment, records

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

T = TypeVar("T")

EVENTS_MAX = 10_000
"""Events that are sent at once, and about how many bytes of them: what a host takes that was told nothing else. Of one that takes less they are halved."""
EVENT_BYTES_MAX = 4 << 20


@dataclass(frozen=True)
class Request:
    """What is to be sent."""

    method: str
    path: str
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    timeout: float | None = None
    """Another one than the client's."""


Steps: TypeAlias = Generator[Request | float, httpx.Response | None, T]
"""A call: yields a request and is given its answer, or seconds and is given nothing."""


class Binding(TypedDict, total=False):
    """How a component is bound; see `Client.push`."""

    stream: str
    group: str
    start: str
    at: Literal["stream", "request"]
    settings: Mapping[str, Any]
    max_age_secs: int
    expire_secs: int
    history_secs: int
    aggregations: Sequence[Mapping[str, Any]]
    exact: bool
    ahead_max_secs: int
    entity_bytes_max: int
    inputs: Mapping[str, Mapping[str, Any]]
    fallback: Literal["error", "last", "values"]
    fallback_values: Mapping[str, Any]


class Query(TypedDict, total=False):
    """What a query takes by name; see `Client.features`."""

    view: str | None
    service: str | None
    entities: Required[Rows]
    as_of: Moment | None
    request: Mapping[str, Any] | Rows | None
    deadline_ms: int | None
    provenance: bool


@dataclass(frozen=True)
class Policy:
    """How calls behave."""

    timeout: float
    retries: int
    known_keys: dict[str, str] = field(default_factory=dict)
    """The join key of each view that was asked for by a bare id."""


def _sent(request: Request) -> Steps[httpx.Response]:
    response = yield request
    assert response is not None, "a request is given its answer"
    return response


def _answer(request: Request) -> Steps[httpx.Response]:
    """The answer to a request that changes something: it is sent once, and what is no success is an error."""
    response = yield from _sent(request)
    if not response.is_success:
        raise error_of(response)
    return response


def _read(policy: Policy, request: Request) -> Steps[httpx.Response]:
    """The answer to a request that changes nothing. A host that is busy is asked again when it says, while all waiting together stays within the timeout."""
    waited = 0.0
    for retry in range(policy.retries + 1):
        response = yield from _sent(request)
        if response.is_success:
            return response
        error = error_of(response)
        wait = error.retry_after if error.retry_after is not None else 1.0
        waited += wait
        if response.status_code not in (429, 503) or retry == policy.retries or waited > policy.timeout:
            raise error
        yield wait
    raise AssertionError("a call ends with an answer or an error")


def _parsed(response: httpx.Response, read: Callable[[Any], T]) -> T:
    try:
        return read(response.json())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise not_understood(response, error) from error


def _path(*parts: str) -> str:
    return "/" + "/".join(quote(part, safe="") for part in parts)


@dataclass(frozen=True)
class Asked:
    """A query as it is sent, and the frame's index if its entities came in one."""

    body: dict[str, Any]
    index: pd.Index[Any] | None

    def request(self, accept: str) -> Request:
        headers = {"content-type": "application/json", "accept": accept}
        return Request("POST", "/v1/features", encode(self.body), headers)


def ask(
    features: Sequence[str] | None = None,
    *,
    view: str | None = None,
    service: str | None = None,
    entities: Rows,
    as_of: Moment | None = None,
    request: Mapping[str, Any] | Rows | None = None,
    deadline_ms: int | None = None,
    provenance: bool = False,
) -> Asked:
    """A query out of what `Client.features` takes."""
    wanted = {"features": features, "view": view, "service": service}
    wanted = {name: value for name, value in wanted.items() if value is not None}
    if len(wanted) != 1:
        raise ValueError("say what is wanted by one of `features`, `view` and `service`")
    if isinstance(features, str):
        raise ValueError("`features` is a list of `view:feature`; a whole view is asked for by `view`")
    if isinstance(entities, Mapping):
        raise ValueError("`entities` is a list of objects, or a frame; put the one object into a list")
    body: dict[str, Any] = {**wanted, "entities": list(records(entities)), "kinds": True, "provenance": provenance}
    if features is not None:
        body["features"] = list(features)
    if as_of is not None:
        body["as_of"] = moment(as_of)
    if request is not None:
        body["request"] = request if isinstance(request, Mapping) else list(records(request))
    if deadline_ms is not None:
        body["deadline_ms"] = deadline_ms
    return Asked(body, entities.index if is_frame(entities) else None)


def features(policy: Policy, asked: Asked) -> Steps[Features]:
    response = yield from _read(policy, asked.request("application/json"))
    return _parsed(response, lambda answer: read_features(answer, asked.index))


def features_arrow(policy: Policy, asked: Asked, details: bool, short: bool) -> Steps[pa.Table]:
    _frames.imported("pyarrow", "arrow")
    response = yield from _read(policy, asked.request(_frames.MEDIA_TYPE))
    return _table(response, details, short)


def features_pandas(policy: Policy, asked: Asked, details: bool, short: bool) -> Steps[pd.DataFrame]:
    _frames.imported("pandas", "pandas")
    if _frames.has_arrow():
        table = yield from features_arrow(policy, asked, details, short)
        return _frames.frame_of(table, asked.body["entities"], asked.index)
    found = yield from features(policy, asked)
    return found.to_pandas(details=details, short=short)


def _table(response: httpx.Response, details: bool, short: bool) -> pa.Table:
    if response.headers.get("content-type") != _frames.MEDIA_TYPE:
        raise not_understood(response, ValueError(f"an Arrow stream was asked for, not {response.headers.get('content-type')}"))
    return _frames.read_arrow(response.content, details, short)


def get_features(policy: Policy, entity_id: Any, timestamp: Moment | None, view: str) -> Steps[dict[str, Any]]:
    named = isinstance(entity_id, Mapping)
    for attempt in ("with what is known", "after another look"):
        entity = entity_id if named else {(yield from _join_key(policy, view)): entity_id}
        try:
            found = yield from features(policy, ask(view=view, entities=[entity], as_of=timestamp))
        except GristmillError as error:
            # Another component may be in force by now, whose join key has another name.
            if named or error.code != "unusable" or attempt == "after another look":
                raise
            policy.known_keys.pop(view, None)
            continue
        return dict(zip((name.partition(":")[2] for name in found.names), found.rows[0].values))
    raise AssertionError("a call ends with an answer or an error")


def _join_key(policy: Policy, view: str) -> Steps[str]:
    if view not in policy.known_keys:
        response = yield from _read(policy, Request("GET", _path("v1", "views", view)))
        keys = [join_key.name for join_key in _parsed(response, read_view).entity]
        if len(keys) != 1:
            raise ValueError(f"entities of view {view} have the join keys {', '.join(keys)}; give an object with all of them")
        policy.known_keys[view] = keys[0]
    return policy.known_keys[view]


def ingest(stream: str, events: Rows) -> Steps[list[str]]:
    ids: list[str] = []
    try:
        for some in _chunks(events):
            yield from _append(stream, some, ids)
    except GristmillError as error:
        error.appended = ids
        raise
    return ids


def _chunks(events: Rows) -> Iterable[list[bytes]]:
    some: list[bytes] = []
    size = 0
    for event in records(events):
        text = encode(event)
        if some and (len(some) >= EVENTS_MAX or size + len(text) >= EVENT_BYTES_MAX):
            yield some
            some, size = [], 0
        some.append(text)
        size += len(text) + 1
    if some:
        yield some


def _append(stream: str, events: list[bytes], ids: list[str]) -> Steps[None]:
    """Appends them, in halves if the host takes fewer at once. They are sent once: what failed without an answer may have been done."""
    headers = {"content-type": "application/x-ndjson"}
    request = Request("POST", _path("v1", "streams", stream, "events"), b"\n".join(events), headers)
    try:
        response = yield from _answer(request)
    except TooLargeError:
        if len(events) == 1:
            raise
        half = len(events) // 2
        yield from _append(stream, events[:half], ids)
        yield from _append(stream, events[half:], ids)
        return
    ids.extend(_parsed(response, lambda answer: [str(one) for one in answer["ids"]]))


def views(policy: Policy) -> Steps[list[View]]:
    response = yield from _read(policy, Request("GET", "/v1/views"))
    return _parsed(response, lambda answer: [read_view(view) for view in answer["views"]])


def services(policy: Policy) -> Steps[list[Service]]:
    response = yield from _read(policy, Request("GET", "/v1/services"))
    return _parsed(response, lambda answer: [read_service(service) for service in answer["services"]])


def put_service(name: str, features: Sequence[str]) -> Steps[Service]:
    content = encode({"features": list(features)})
    response = yield from _answer(Request("PUT", _path("v1", "services", name), content, {"content-type": "application/json"}))
    return _parsed(response, read_service)


def transforms(policy: Policy) -> Steps[list[Transform]]:
    response = yield from _read(policy, Request("GET", "/v1/transforms"))
    return _parsed(response, lambda answer: [read_transform(transform) for transform in answer["transforms"]])


def push(name: str, component: bytes | str | os.PathLike[str], binding: Binding, timeout: float) -> Steps[Transform]:
    content = component if isinstance(component, bytes) else Path(component).read_bytes()
    params = {key: _parameter(value) for key, value in binding.items()}
    headers = {"content-type": "application/wasm"}
    response = yield from _answer(Request("PUT", _path("v1", "transforms", name), content, headers, params, timeout))
    return _parsed(response, read_transform)


def _parameter(value: Any) -> str:
    """A text as it is, anything else as JSON."""
    return value if isinstance(value, str) else encode(value).decode()


def dead_letters(policy: Policy, transform: str | None, stream: str | None, limit: int) -> Steps[list[DeadLetter]]:
    params = {"transform": transform, "stream": stream, "limit": str(limit)}
    request = Request("GET", "/v1/dead-letters", params={name: value for name, value in params.items() if value is not None})
    response = yield from _read(policy, request)
    return _parsed(response, lambda answer: [read_dead_letter(letter) for letter in answer["dead_letters"]])


def replay(letters: Iterable[DeadLetter | str] | None, transform: str | None, stream: str | None, limit: int | None) -> Steps[Replayed]:
    ids = None if letters is None else [letter if isinstance(letter, str) else letter.id for letter in letters]
    wanted = {"ids": ids, "transform": transform, "stream": stream, "limit": limit}
    content = encode({name: value for name, value in wanted.items() if value is not None})
    response = yield from _answer(Request("POST", "/v1/dead-letters/replay", content, {"content-type": "application/json"}))
    return _parsed(response, read_replayed)
