"""What a host answers, as objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, overload

from ._values import Value, read_moment, reader

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Status = Literal["present", "null", "not_found", "outside_max_age", "outside_history", "fallback", "error"]
"""Whether a feature has a value, and if not, why. `fallback` and `error` are of features that could not be computed for the request."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a value comes from."""

    component: str
    """SHA-256 of the component that wrote it."""
    entry_id: str | None
    """The newest event in it; None where no event made it but the request."""
    event_time: datetime


@dataclass(frozen=True, slots=True)
class Row:
    """What was found for one entity; each list has an item for each feature."""

    entity: Mapping[str, Any]
    """Its join keys, as they were asked for."""
    values: list[Value]
    statuses: list[Status]
    event_times: list[datetime | None]
    """Event times of the rows that the values are from."""
    provenance: list[Provenance | None] | None
    """Where the values come from; None unless asked for."""


@dataclass(frozen=True, slots=True)
class Features(Sequence[Row]):
    """An answer: a row for each entity, in the order asked."""

    names: list[str]
    """What was asked for, as `view:feature`, in order."""
    kinds: list[str]
    """What the values of each are: `float`, `text`, `list<integer>`, …"""
    rows: list[Row]
    service: str | None = None
    """The service and the version that answered, as `name@version`, where one was asked."""
    frame_index: pd.Index[Any] | None = field(default=None, repr=False, compare=False)
    """The index of the frame that the entities came in."""

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | Sequence[Row]:
        return self.rows[index]

    def to_dicts(self, *, short: bool = False) -> list[dict[str, Any]]:
        """A dict for each entity: its join keys, and its values by `view:feature`; with `short` by the feature's name alone."""
        names = short_names(self.names) if short else self.names
        return [{**row.entity, **dict(zip(names, row.values))} for row in self.rows]

    def to_pandas(self, *, details: bool = False, short: bool = False) -> pd.DataFrame:
        """A frame with a row for each entity, under the index that the entities came with: join keys as they were asked for, and features.

        Integers and booleans are nullable (`Int64`, `boolean`), so that nothing becomes a float where a value is missing; vectors and lists are
        arrays. `details` adds `view:feature__status` beside each feature and `view__event_time` for each view; if provenance was asked for,
        `view__component` and `view__entry_id` come along. `short` names features without their views.
        """
        from . import _frames

        return _frames.to_pandas(self, details, short)

    def to_arrow(self, *, details: bool = False, short: bool = False) -> pa.Table:
        """A table of the same columns. `features_arrow` asks the host for one, which is faster for many entities."""
        from . import _frames

        return _frames.to_arrow(self, details, short)


def short_names(names: list[str]) -> list[str]:
    """Features without their views; each must stay a name of its own."""
    short = [name.partition(":")[2] for name in names]
    doubled = sorted({name for name in short if short.count(name) > 1})
    if doubled:
        raise ValueError(f"{', '.join(doubled)} would be the name of more than one feature; leave `short` out")
    return short


def read_features(answer: Any, index: pd.Index[Any] | None) -> Features:
    """An answer to a query that asked for kinds."""
    names, kinds = list(answer["features"]), list(answer["kinds"])
    readers = [reader(kind) for kind in kinds]
    times = Times()
    rows = [_read_row(result, readers, times) for result in answer["results"]]
    return Features(names, kinds, rows, answer.get("service"), index)


class Times:
    """Moments by their texts: one entity's features have the same nearly always."""

    def __init__(self) -> None:
        self._known: dict[str, datetime | None] = {}

    def read(self, text: str | None) -> datetime | None:
        """A moment; None too where it is one that Python has no word for."""
        if text is None:
            return None
        if text not in self._known:
            moment = read_moment(text)
            self._known[text] = moment if isinstance(moment, datetime) else None
        return self._known[text]


def _read_row(result: Any, readers: list[Callable[[Any], Value]], times: Times) -> Row:
    values = [read(value) for read, value in zip(readers, result["values"], strict=True)]
    provenance = result.get("provenance")
    return Row(
        entity=result["entity"],
        values=values,
        statuses=result["statuses"],
        event_times=[times.read(text) for text in result["event_times"]],
        provenance=None if provenance is None else [_read_provenance(made_by) for made_by in provenance],
    )


def _read_provenance(made_by: Any) -> Provenance | None:
    if made_by is None:
        return None
    return Provenance(made_by["component"], made_by["entry_id"], datetime.fromisoformat(made_by["event_time"]))


@dataclass(frozen=True, slots=True)
class Change:
    """A row that a commit brought."""

    id: str
    """Its place: what `changes(last_event_id=…)` goes on after."""
    view: str
    entity: Mapping[str, Any]
    features: Mapping[str, Value]
    """Values by the features' names."""
    event_time: datetime
    entry_id: str


@dataclass(frozen=True, slots=True)
class Missed:
    """Changes that are gone. Whoever needs every entity's present value reads it now."""

    count: int | None
    """How many; None where nobody knows."""
    reason: str
    """`slow`: they came faster than they were read. `not_kept`: what came since the last event is kept no longer. `failed`: the host could not read it."""


def read_change(event_id: str, data: Any) -> Change:
    """The data of an event `change`, asked for with kinds."""
    features = {name: reader(data["kinds"][name])(value) for name, value in data["features"].items()}
    return Change(event_id, data["view"], data["entity"], features, datetime.fromisoformat(data["event_time"]), data["entry_id"])


def read_missed(data: Any) -> Missed:
    """The data of an event `missed`."""
    return Missed(data["count"], data["reason"])


@dataclass(frozen=True, slots=True)
class Field:
    """A join key, a feature, an input or an output."""

    name: str
    kind: str
    nullable: bool
    doc: str = ""
    default: str | None = None
    width: int | None = None
    """Numbers in a vector."""


@dataclass(frozen=True, slots=True)
class View:
    """A feature view as it is served now."""

    name: str
    doc: str
    version: str
    component: str
    stream: str | None
    """None for a view that is computed when it is asked for, or written over HTTP."""
    entity: list[Field]
    """The join keys."""
    features: list[Field]
    windows: list[Field]
    """The features that are computed over windows; they come after the others."""
    max_age_secs: int | None
    history_secs: int
    """How far back reads as of a moment are answered."""
    request: list[Field]
    """Of a view that is computed when it is asked for: what the request has to bring."""
    uses: list[str]
    """Of such a view: the features that it is computed from."""

    @property
    def references(self) -> list[str]:
        """All of its features as `view:feature`, as a service would list them."""
        return [f"{self.name}:{feature.name}" for feature in (*self.features, *self.windows)]


def _fields(fields: Any) -> list[Field]:
    known = Field.__dataclass_fields__
    return [Field(**{name: value for name, value in one.items() if name in known}) for one in fields or ()]


def read_view(view: Any) -> View:
    """One of `GET /v1/views`."""
    return View(
        name=view["name"],
        doc=view["doc"],
        version=view["version"],
        component=view["component"],
        stream=view.get("stream"),
        entity=_fields(view["entity"]),
        features=_fields(view["features"]),
        windows=_fields(view.get("windows")),
        max_age_secs=view["max_age_secs"],
        history_secs=view.get("kept", {}).get("history_secs", 0),
        request=_fields(view.get("request")),
        uses=list(view.get("uses", ())),
    )


@dataclass(frozen=True, slots=True)
class Service:
    """A named, versioned list of features."""

    name: str
    version: int
    features: list[str]


def read_service(service: Any) -> Service:
    """One of `GET /v1/services`."""
    return Service(service["name"], service["version"], list(service["features"]))


@dataclass(frozen=True, slots=True)
class Transform:
    """A component that is in force, or was refused."""

    name: str
    state: str
    """`starting`, `running`, `standing_by`, `waiting`, `stopped`, `paused` or `refused`."""
    reason: str | None
    """Why it is not running."""
    refused: str | None
    """Why the component that was offered last was refused, while the one before it is still in force."""
    stream: str | None
    group: str | None
    """The consumer group that it reads with."""
    current: bool
    """Whether the view's name without a version means this one."""
    component: str | None
    origin: str | None
    spec: Mapping[str, Any] | None
    """What the component says about itself."""


def read_transform(transform: Any) -> Transform:
    """One of `GET /v1/transforms`."""
    members = ("name", "state", "reason", "refused", "stream", "group", "current", "component", "origin", "spec")
    return Transform(*(transform.get(member) for member in members))


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that a transform could not use."""

    stream: str
    entry_id: str
    transform: str
    reason: str
    """The kind of failure: `decode`, `rejected`, `trap`, `too_late`, …"""
    message: str
    component: str
    at: datetime
    """When it was given up."""
    event: list[tuple[str | bytes, str | bytes]]
    """The entry's fields as they stood in the stream: name and value; bytes where they are no text."""

    @property
    def id(self) -> str:
        """What `replay` names it by."""
        return f"{self.stream}/{self.entry_id}/{self.transform}"


def read_dead_letter(letter: Any) -> DeadLetter:
    """One of `GET /v1/dead-letters`."""

    def raw(part: Any) -> str | bytes:
        return part if isinstance(part, str) else bytes.fromhex(part["hex"])

    return DeadLetter(
        stream=letter["stream"],
        entry_id=letter["entry_id"],
        transform=letter["transform"],
        reason=letter["reason"],
        message=letter["message"],
        component=letter["component"],
        at=datetime.fromisoformat(letter["at"]),
        event=[(raw(name), raw(value)) for name, value in letter["event"]],
    )


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of dead letters that were tried again."""

    replayed: int
    settled: int
    """Used this time: dead letters no more."""
    still_dead: int
    waiting: int = 0
    """Left to the hosts that hold their partitions, which have not come to them yet."""


def read_replayed(answer: Any) -> Replayed:
    """The answer to `POST /v1/dead-letters/replay`."""
    return Replayed(answer["replayed"], answer["settled"], answer["still_dead"], answer.get("waiting", 0))
