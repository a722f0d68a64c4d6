"""The client that waits. What it does stands in `_steps` and `_following`; here it is done."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
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

class Client:
    """A host, for programs that wait for its answers. Threads may share one; it keeps connections open until `close`, or the end of a `with`.

    `token` is what `gristmill token new` showed. `timeout` is in seconds, for each step of a request: connecting, sending, the next bytes of the answer.
    `verify` is the file of a private authority, or an `ssl.SSLContext`. A read that a busy host turns away (429, 503) is sent again when the host says, up
    to `retries` times, as long as all waiting stays within the timeout; what changes something is sent once. Whatever goes wrong is a `GristmillError`.
    """

    def __init__(
        self,
        url: str = URL,
        token: str | None = None,
        *,
        timeout: float = 10.0,
        verify: bool | str | ssl.SSLContext = True,
        retries: int = 2,
    ) -> None:
        self._connections = httpx.Client(**_http.options(url, token, timeout, verify))
        self._policy = Policy(timeout, retries)

    def close(self) -> None:
        """Closes its connections."""
        self._connections.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._connections.base_url)!r})"

    def _run(self, call: Steps[T]) -> T:
        try:
            due = next(call)
            while True:
                try:
                    done = self._do(due)
                except GristmillError as error:
                    due = call.throw(error)
                else:
                    due = call.send(done)
        except StopIteration as ended:
            answer: T = ended.value
            return answer

    def _do(self, due: Request | float) -> httpx.Response | None:
        if isinstance(due, float):
            time.sleep(due)
            return None
        try:
            return self._connections.send(_http.built(self._connections, due))
        except httpx.RequestError as error:
            raise unreachable(error, self._connections.base_url) from error

    def features(
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
        """The features of some entities, in one read of the store.

        What is wanted is said by one of `features` (a list of `view:feature`), `view` (all of its features) and `service` (`name`, or `name@version`).
        `entities` are objects of join keys, or a frame with a column for each. `as_of` asks for the features of a moment in the past. `request` is what
        goes with the entities for views that are computed when they are asked for: one object for all, or objects or a frame with one for each;
        `deadline_ms` is the time to compute in. `provenance` asks where each value comes from.
        """
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
        return self._run(steps.features(self._policy, asked))

    def features_arrow(
        self, features: Sequence[str] | None = None, *, details: bool = False, short: bool = False, **query: Unpack[Query]
    ) -> pa.Table:
        """The same question, answered with a `pyarrow.Table` out of the host's own Arrow stream: join keys in the view's kinds, and features.

        Beside what `features` takes, `details` keeps `view:feature__status` and `view__event_time`, and with `provenance` `view__component` and
        `view__entry_id`; `short` names features without their views.
        """
        return self._run(steps.features_arrow(self._policy, ask(features, **query), details, short))

    def features_pandas(
        self, features: Sequence[str] | None = None, *, details: bool = False, short: bool = False, **query: Unpack[Query]
    ) -> pd.DataFrame:
        """The same question, answered with a frame as of `Features.to_pandas`; by way of Arrow, if pyarrow is installed."""
        return self._run(steps.features_pandas(self._policy, ask(features, **query), details, short))

    def get_features(self, entity_id: Any, timestamp: Moment | None = None, *, view: str) -> dict[str, Any]:
        """The view's features of one entity by their names, now or as of a moment; None for those without a value.

        `entity_id` is the view's join key, or an object with all of them.
        """
        return self._run(steps.get_features(self._policy, entity_id, timestamp, view))

    def ingest(self, stream: str, events: Rows) -> list[str]:
        """Appends events, objects or the rows of a frame, and gives the ids of the entries that they became, in order.

        They are sent in as many requests as it takes, each of which is appended whole or not at all; if one fails, the error's `appended` has the ids of
        those before it.
        """
        return self._run(steps.ingest(stream, events))

    def changes(
        self, view: str | Sequence[str], *, last_event_id: str | None = None, patience: float = PATIENCE
    ) -> Generator[Change | Missed, None, None]:
        """The rows of some views as they are committed, for as long as they are asked for; close what it gives, or leave the loop, to end.

        It begins with what comes from now on, or after the change of this id. A connection that ends is made again, and goes on where it was; if that
        does not succeed within `patience` seconds, its error is raised. `Missed` says that changes are gone.
        """
        following = Following(view, last_event_id, patience)
        while True:
            lost: GristmillError | None = None
            response: httpx.Response | None = None
            try:
                response = self._connections.send(_http.followed(self._connections, following), stream=True)
                if not response.is_success:
                    response.read()
                events = following.opened(response)
                for piece in response.iter_bytes():
                    yield from events.take(piece)
            except httpx.RequestError as error:
                lost = unreachable(error, self._connections.base_url)
            except GristmillError as error:
                lost = error
            finally:
                if response is not None:
                    response.close()
            time.sleep(following.lost(lost))

    def views(self) -> list[View]:
        """The feature views that are served now, as far as the token reaches."""
        return self._run(steps.views(self._policy))

    def services(self) -> list[Service]:
        """All versions of all feature services."""
        return self._run(steps.services(self._policy))

    def put_service(self, name: str, features: Sequence[str]) -> Service:
        """Makes a list of `view:feature` the newest version of a service."""
        return self._run(steps.put_service(name, features))

    def push(
        self, name: str, component: bytes | str | os.PathLike[str], *, timeout: float = PUSH_TIMEOUT, **binding: Unpack[Binding]
    ) -> Transform:
        """Puts a component, its bytes or its file, into force under a name, while the host runs.

        How it is bound is said by `stream`, `group` and `start`, or `at="request"` with `inputs`, `fallback` and `fallback_values`; `settings`, `max_age_secs`,
        `expire_secs`, `history_secs`, `aggregations`, `exact`, `ahead_max_secs` and `entity_bytes_max` are as in a host's configuration. What is left out stays
        as it is.
        """
        return self._run(steps.push(name, component, binding, timeout))

    def transforms(self) -> list[Transform]:
        """The components in force, and those that were refused."""
        return self._run(steps.transforms(self._policy))

    def dead_letters(self, *, transform: str | None = None, stream: str | None = None, limit: int = 100) -> list[DeadLetter]:
        """Events that a transform could not use, newest first."""
        return self._run(steps.dead_letters(self._policy, transform, stream, limit))

    def replay(
        self,
        letters: Iterable[DeadLetter | str] | None = None,
        *,
        transform: str | None = None,
        stream: str | None = None,
        limit: int | None = None,
    ) -> Replayed:
        """Tries dead letters again with the components in force now: these, or those of a transform or a stream, or all."""
        return self._run(steps.replay(letters, transform, stream, limit))
