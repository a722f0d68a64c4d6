"""What both clients have of httpx: how it is set up, and how requests are made for it."""

from __future__ import annotations

import ssl
from typing import TypedDict

import httpx

from ._following import QUIET_SECS, Following
from ._steps import Request

URL = "http://127.0.0.1:7171"
"""Where a host listens that was told nothing else."""
PUSH_TIMEOUT = 300.0
"""Seconds in which a host compiles a component, if it must."""
PATIENCE = 60.0
"""Seconds in which a reader of changes tries to go on: the host keeps them for a minute."""


class Options(TypedDict):
    """What `httpx.Client` and `httpx.AsyncClient` take."""

    base_url: str
    headers: dict[str, str]
    timeout: httpx.Timeout
    verify: ssl.SSLContext | bool


def options(url: str, token: str | None, timeout: float, verify: bool | str | ssl.SSLContext) -> Options:
    """What httpx is set up with."""
    headers = {"user-agent": "gristmill-client"}
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    context = ssl.create_default_context(cafile=verify) if isinstance(verify, str) else verify
    return {"base_url": url, "headers": headers, "timeout": httpx.Timeout(timeout), "verify": context}


def built(http: httpx.Client | httpx.AsyncClient, request: Request) -> httpx.Request:
    """A request as httpx sends it."""
    timeout = http.timeout if request.timeout is None else httpx.Timeout(request.timeout)
    return http.build_request(
        request.method, request.path, content=request.content, params=request.params or None, headers=request.headers, timeout=timeout
    )


def followed(http: httpx.Client | httpx.AsyncClient, following: Following) -> httpx.Request:
    """The request for a connection of a reader of changes: it may be quiet for longer than others."""
    request = built(http, following.request())
    request.extensions = {"timeout": {**http.timeout.as_dict(), "read": QUIET_SECS}}
    return request
