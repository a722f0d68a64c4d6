"""The client that is awaited. What it does stands in `_steps` and `_following`; here it is done."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

import httpx

from . import _http
from . import _steps as steps
from ._answers import Change, DeadLetter, Features, Missed, Replayed, Service, Transform, View
from ._errors import GristmillError, unreachable
from ._following import Following
from ._http import PATIENCE, PUSH_TIMEOUT, URL
from ._steps import Binding, Policy, Query, Request, Steps, ask
from ._values import Moment, Rows

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

T = TypeVar("T")


class AsyncClient:
    """A host, for programs on asyncio. All is as with `Client`, and awaited."""

    def __init__(
        self,
        url: str = URL,
        token: str | None = None,
        *,
        timeout: float = 10.0,
        verify: bool | str | ssl.SSLContext = True,
        retries: int = 2,
    ) -> None:
        self._connections = httpx.AsyncClient(**_http.options(url, token, timeout, verify))
        self._policy = Policy(timeout, retries)

    async def aclose(self) -> None:
        """Closes its connections."""
        await self._connections.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._connections.base_url)!r})"

    async def _run(self, call: Steps[T]) -> T:
        try:
            due = next(call)
            while True:
                try:
                    done = await self._do(due)
                except GristmillError as error:
                    due = call.throw(error)
                else:
                    due = call.send(done)
        except StopIteration as ended:
            answer: T = ended.value
            return answer

    async def _do(self, due: Request | float) -> httpx.Response | None:
        if isinstance(due, float):
            await asyncio.sleep(due)
            return None
        try:
            return await self._connections.send(_http.built(self._connections, due))
        except httpx.RequestError as error:
            raise unreachable(error, self._connections.base_url) from error

    async def features(
        self,
        features: Sequence[str] | None = None,
        *,
        view: str | None = None,
        service: str | None = None,
        entities: Rows,
        as_of: Moment | None = None,
        request: Mapping[str, Any] | Rows | None = None,
        deadline_ms: int | None = None,
        provenance: bool = False,
    ) -> Features:
        """See `Client.features`."""
        asked = ask(
            features,
            view=view,
            service=service,
            entities=entities,
            as_of=as_of,
            request=request,
            deadline_ms=deadline_ms,
            provenance=provenance,
        )
        return await self._run(steps.features(self._policy, asked))

    async def features_arrow(
        self, features: Sequence[str] | None = None, *, details: bool = False, short: bool = False, **query: Unpack[Query]
    ) -> pa.Table:
        """See `Client.features_arrow`."""
        return await self._run(steps.features_arrow(self._policy, ask(features, **query), details, short))

    async def features_pandas(
        self, features: Sequence[str] | None = None, *, details: bool = False, short: bool = False, **query: Unpack[Query]
    ) -> pd.DataFrame:
        """See `Client.features_pandas`."""
        return await self._run(steps.features_pandas(self._policy, ask(features, **query), details, short))

    async def get_features(self, entity_id: Any, timestamp: Moment | None = None, *, view: str) -> dict[str, Any]:
        """See `Client.get_features`."""
        return await self._run(steps.get_features(self._policy, entity_id, timestamp, view))

    async def ingest(self, stream: str, events: Rows) -> list[str]:
        """See `Client.ingest`."""
        return await self._run(steps.ingest(stream, events))

    async def changes(
        self, view: str | Sequence[str], *, last_event_id: str | None = None, patience: float = PATIENCE
    ) -> AsyncGenerator[Change | Missed, None]:
        """See `Client.changes`."""
        following = Following(view, last_event_id, patience)
        while True:
            lost: GristmillError | None = None
            response: httpx.Response | None = None
            try:
                response = await self._connections.send(_http.followed(self._connections, following), stream=True)
                if not response.is_success:
                    await response.aread()
                events = following.opened(response)
                async for piece in response.aiter_bytes():
                    for event in events.take(piece):
                        yield event
            except httpx.RequestError as error:
                lost = unreachable(error, self._connections.base_url)
            except GristmillError as error:
                lost = error
            finally:
                if response is not None:
                    await response.aclose()
            await asyncio.sleep(following.lost(lost))

    async def views(self) -> list[View]:
        """See `Client.views`."""
        return await self._run(steps.views(self._policy))

    async def services(self) -> list[Service]:
        """See `Client.services`."""
        return await self._run(steps.services(self._policy))

    async def put_service(self, name: str, features: Sequence[str]) -> Service:
        """See `Client.put_service`."""
        return await self._run(steps.put_service(name, features))

    async def push(
        self, name: str, component: bytes | str | os.PathLike[str], *, timeout: float = PUSH_TIMEOUT, **binding: Unpack[Binding]
    ) -> Transform:
        """See `Client.push`."""
        return await self._run(steps.push(name, component, binding, timeout))

    async def transforms(self) -> list[Transform]:
        """See `Client.transforms`."""
        return await self._run(steps.transforms(self._policy))

    async def dead_letters(self, *, transform: str | None = None, stream: str | None = None, limit: int = 100) -> list[DeadLetter]:
        """See `Client.dead_letters`."""
        return await self._run(steps.dead_letters(self._policy, transform, stream, limit))

    async def replay(
        self,
        letters: Iterable[DeadLetter | str] | None = None,
        *,
        transform: str | None = None,
        stream: str | None = None,
        limit: int | None = None,
    ) -> Replayed:
        """See `Client.replay`."""
        return await self._run(steps.replay(letters, transform, stream, limit))
