"""Features from a Gristmill host: now or as of a moment, as objects, pandas or Arrow, for threads and for asyncio."""

from ._answers import (
    Change,
    DeadLetter,
    Features,
    Field,
    Missed,
    Provenance,
    Replayed,
    Row,
    Service,
    Status,
    Transform,
    View,
)
from ._async_client import AsyncClient
from ._client import Client
from ._errors import (
    AccessError,
    BusyError,
    GristmillError,
    HostError,
    NotFoundError,
    RequestError,
    TimedOutError,
    TooLargeError,
    UnavailableError,
    UnreachableError,
)
from ._values import Moment, Value

__all__ = [
    "AccessError",
    "AsyncClient",
    "BusyError",
    "Change",
    "Client",
    "DeadLetter",
    "Features",
    "Field",
    "GristmillError",
    "HostError",
    "Missed",
    "Moment",
    "NotFoundError",
    "Provenance",
    "Replayed",
    "RequestError",
    "Row",
    "Service",
    "Status",
    "TimedOutError",
    "TooLargeError",
    "Transform",
    "UnavailableError",
    "UnreachableError",
    "Value",
    "View",
]
