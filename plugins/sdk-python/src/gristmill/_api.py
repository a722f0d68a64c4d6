"""The decorators: from an ordinary function to what the contract asks for."""

import collections.abc
import dataclasses
import inspect
import itertools
import json
import operator
import sys
import types
import typing

from . import _rows
from . import _wire as wire
from ._kinds import Kind, kind_of
from ._steady import forbid_randomness
from ._values import Reject, problem, read, whole, write
from .aggregate import Aggregation, _records

_PARAMETERS = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def transform(
    *,
    entity: str | list[str],
    stream: str | list[str] = (),
    name: str | None = None,
    version: str = "0.1.0",
    event_time: str | None = None,
    columns: bool = False,
    aggregate: dict[str, Aggregation] | None = None,
):
    """Makes a transform of a function; see the package's documentation for what its hints mean.

    `entity`: the parameters that together are the key. `stream`: the streams that it reads unless the host's configuration says otherwise.
    `name`: of the transform and its feature view; the function's name without one. `event_time`: the parameter, a time, that says when the
    event happened; without one it is the time of the stream's entry. `columns`: the function works on whole columns. `aggregate`: windows that the host keeps over the
    outputs, by feature; `gristmill.aggregate` has their functions.
    """

    def decorate(function):
        made = Transform(function, entity, stream, name, version, event_time, columns, aggregate)
        _export(function, "Transform", made)
        return function

    return decorate


def fold(
    *,
    entity: str | list[str],
    stream: str | list[str] = (),
    name: str | None = None,
    version: str = "0.1.0",
    event_time: str | None = None,
    aggregate: dict[str, Aggregation] | None = None,
    migrate: collections.abc.Callable[[str, typing.Any], typing.Any] | None = None,
):
    """Makes a stateful transform of `def function(state, …) -> tuple[new_state, features]`.

    It is called for one event after the other of an entity, in order, with the state that the host keeps for that entity: `None` at first,
    then what was returned last. Hint `state` with `bytes` for bytes as they are; any other state is kept as JSON. Returning `None` as the new
    state ends it. In place of the features `None` writes no row, a list of them several. `aggregate` is that of `transform`.

    `migrate`: `def from_before(version: str, state) -> new_state` takes over a state that another version wrote, which `version` names: decoded from
    JSON, or as it is where the parameter `state` is hinted with `bytes`. What it raises refuses the new version.
    """

    def decorate(function):
        made = Fold(function, entity, stream, name, version, event_time, aggregate, migrate)
        _export(function, "Fold", made)
        return function

    return decorate


class Transform:
    """What the contract's interface `transform` asks for."""

    migrate = None

    def __init__(self, function, entity, stream, name, version, event_time, columns, aggregate):
        self.function = function
        self.columns = columns
        hints = typing.get_type_hints(function, include_extras=True)
        parameters = inspect.signature(function).parameters.values()
        self.inputs = [(p.name, kind_of(self._element(hints, p.name), f"parameter `{p.name}`")) for p in parameters if self._is_input(p)]
        self.defaults = {p.name: p.default for p in parameters if self._is_input(p) and p.default is not p.empty}
        self.settings = hints.get("settings") if any(p.name == "settings" and p.kind is p.KEYWORD_ONLY for p in parameters) else None
        if self.settings is not None and not dataclasses.is_dataclass(self.settings):
            raise TypeError("`settings` is hinted with a dataclass, whose fields have defaults")
        for p in parameters:
            if p.kind is p.KEYWORD_ONLY and p.name != "settings":
                raise TypeError(f"`{p.name}` is keyword-only; the one such parameter is `settings`, and inputs stand before the `*`")
        self.given = {} if self.settings is None else {"settings": self.settings()}
        outputs = self._outputs(hints)
        self.outputs = [(output, kind_of(self._element(fields, output), f"output `{output}`")) for fields in [outputs] for output in outputs]
        names = [output for output, _ in self.outputs]
        self.by_name = typing.is_typeddict(self.returned)
        self.take = _rows.taker(self.outputs, self.by_name)
        self.loops = [_rows.loop(self.inputs, self.outputs, self.by_name, bool(self.given), self.one_each, is_plain) for is_plain in (False, True)]
        listed = lambda value: [value] if isinstance(value, str) else list(value)
        self.spec = wire.Spec(
            name=name or function.__name__,
            version=version,
            doc=inspect.cleandoc(function.__doc__ or ""),
            streams=listed(stream),
            entity=listed(entity),
            event_time=event_time,
            inputs=[_field(p.name, dict(self.inputs)[p.name], p.default, _doc(hints.get(p.name))) for p in parameters if self._is_input(p)],
            outputs=[_field(output, kind, inspect.Parameter.empty, _doc(outputs[output])) for output, kind in self.outputs],
            aggregations=_records(aggregate or {}, names),
        )

    def _is_input(self, parameter) -> bool:
        return parameter.kind in _PARAMETERS

    def _element(self, hints: dict, name: str):
        if name not in hints:
            raise TypeError(f"`{name}` has no hint; write what it holds, for instance `{name}: float`")
        hint = hints[name]
        if self.columns:
            hint, notes = (typing.get_args(hint)[0], typing.get_args(hint)[1:]) if typing.get_origin(hint) is typing.Annotated else (hint, ())
            if typing.get_origin(hint) is not list:
                raise TypeError(f"`{name}` is a whole column; write `{name}: list[…]`")
            hint = typing.get_args(hint)[0]
            hint = typing.Annotated[(hint, *notes)] if notes else hint
        return _without_doc(hint)

    def _outputs(self, hints: dict) -> dict:
        """The hints of what the function returns, by output."""
        returned = hints.get("return")
        members = typing.get_args(returned) if typing.get_origin(returned) in (typing.Union, types.UnionType) else [returned]
        classes = [typing.get_args(member)[0] if typing.get_origin(member) is list else member for member in members if member is not type(None)]
        self.one_each = type(None) not in members and not any(typing.get_origin(member) is list for member in members)
        self.returned = next((found for found in dict.fromkeys(classes)), None)
        fields = typing.get_type_hints(self.returned, include_extras=True) if isinstance(self.returned, type) else {}
        if not fields or len(set(classes)) != 1:
            raise TypeError("hint what is returned with a TypedDict, NamedTuple or dataclass whose fields are the outputs")
        return fields

    def describe(self, settings: str) -> wire.Spec:
        """Says what the transform is."""
        if self.settings is not None:
            self.given = {"settings": _settings(self.settings, settings)}
        elif settings.strip():
            raise wire.Err("this transform takes no settings")
        return self.spec

    def apply(self, input: wire.Batch) -> wire.Output:
        """Computes the rows for a batch of events."""
        try:
            return self._apply_columns(input) if self.columns else self._apply_rows(input)
        except Exception as error:
            raise wire.Err(_reason(error)) from error

    def _read(self, input: wire.Batch, rejected: dict[int, str]) -> list[list]:
        return [read(column, kind, input.rows, rejected.setdefault) for column, (_, kind) in zip(input.columns, self.inputs)]

    def _apply_columns(self, input: wire.Batch) -> wire.Output:
        rejected: dict[int, str] = {}
        columns = self._read(input, rejected)
        for reason in rejected.values():
            raise ValueError(reason)  # the host halves the batch until the event stands alone
        returned = self.function(*columns, **self.given)
        get = operator.getitem if self.by_name else getattr
        found = [get(returned, name) for name, _ in self.outputs]
        found = [column if isinstance(column, list) else list(column) for column in found]
        for (name, _), column in zip(self.outputs, found):
            if len(column) != input.rows:
                raise ValueError(f"`{name}` has {len(column)} values for {input.rows} rows")
        return wire.Output(self._batch(found, [None] * len(found)), None, [])

    def _apply_rows(self, input: wire.Batch) -> wire.Output:
        rejected: dict[int, str] = {}
        columns = self._plain(input)
        if columns is not None:
            outputs, ends, origins = self.loops[True](self.function, self.given.get("settings"), self._refusing(rejected), *columns)
            events = range(input.rows)
        else:
            columns = self._read(input, rejected)
            # Events that Python cannot hold never reach the function.
            events = [event for event in range(input.rows) if event not in rejected] if rejected else range(input.rows)
            if rejected:
                columns = [[column[event] for event in events] for column in columns]
            refused: dict[int, str] = {}
            outputs, ends, origins = self.loops[False](self.function, self.given.get("settings"), self._refusing(refused), *columns)
            rejected.update((events[event], reason) for event, reason in refused.items())
        if self.one_each:
            origins = [event for event in range(input.rows) if event not in rejected] if rejected else None
        elif len(events) < input.rows:
            origins = [events[event] for event in origins]
        return wire.Output(self._batch(outputs, ends), origins, _rejections(rejected))

    def _plain(self, input: wire.Batch) -> list | None:
        """The columns of a batch whose texts can be cut out when their turn comes; nothing if there are none, or not all can."""
        columns = []
        for column, (_, kind) in zip(input.columns, self.inputs):
            found = whole(column) if kind.name == "text" else None if kind.as_datetime else read(column, kind, input.rows, None)
            if found is None:
                return None
            columns.append(found)
        return columns

    def _refusing(self, rejected: dict[int, str]):
        """What a loop tells of events that failed."""

        def refuse(event: int, error: Exception, made) -> None:
            rejected[event + len(rejected) if self.one_each else event] = self._refused(error, made)

        return refuse

    def _refused(self, error: Exception, made) -> str:
        if isinstance(error, StopIteration):
            return f"StopIteration: {error or 'it was raised where nobody caught it'}"
        frame = error.__traceback__
        while frame is not None and frame.tb_frame.f_code.co_filename in (_rows.SOURCE, __file__):
            frame = frame.tb_next
        if frame is not None or isinstance(error, _Unusable):
            return _reason(error)
        # It was taking the outputs that failed: nothing of the author's is on the stack.
        wrong = None if isinstance(made, list) else self._problem(made)
        if wrong is not None:
            return f"TypeError: {wrong}"
        return f"what was returned is no {self.returned.__name__} ({_reason(error)}); hint `| None` where None means no row, `list[…]` where there may be several"

    def _problem(self, made) -> str | None:
        """What is wrong with a value of a returned row, if it has all of them."""
        try:
            found = zip(self.outputs, [made[name] if self.by_name else getattr(made, name) for name, _ in self.outputs])
        except Exception:
            return None
        return next((wrong for (name, kind), value in found if (wrong := problem(name, kind, value)) is not None), None)

    def _batch(self, columns: list[list], ends: list[list[int] | None]) -> wire.Batch:
        written = [write(name, kind, column, end) for (name, kind), column, end in zip(self.outputs, columns, ends)]
        return wire.Batch(len(columns[0]), written)


class Fold(Transform):
    """What the contract's interface `fold` asks for."""

    def __init__(self, function, entity, stream, name, version, event_time, aggregate, migrate):
        super().__init__(function, entity, stream, name, version, event_time, False, aggregate)
        self.raw = typing.get_type_hints(function).get("state") in (bytes, bytes | None, typing.Optional[bytes])
        if migrate is not None:
            parameters = list(inspect.signature(migrate).parameters) if callable(migrate) else []
            if len(parameters) != 2:
                raise TypeError("`migrate` is a function of the version that wrote a state, and the state: def from_before(version: str, state)")
            self.from_raw = typing.get_type_hints(migrate).get(parameters[1]) is bytes
            self.from_before = migrate
            self.migrate = self._migrate

    def _migrate(self, version: str, states: wire.Column) -> wire.Column:
        """Takes over states of another version, one after the other."""
        kept = read(states, Kind("bytes", False), len(states.values.value.offsets) - 1, lambda *_: None)
        try:
            after = [self._stored(self.from_before(version, state if self.from_raw else json.loads(state))) for state in kept]
            if None in after:
                raise TypeError(f"state {after.index(None)} was migrated to None; a state that is there stays one")
            return write("state", Kind("bytes", False), after)
        except Exception as error:
            raise wire.Err(_reason(error)) from error

    def _is_input(self, parameter) -> bool:
        return parameter.kind in _PARAMETERS and parameter.name != "state"

    def _outputs(self, hints: dict) -> dict:
        returned = hints.get("return")
        if typing.get_origin(returned) is not tuple or len(typing.get_args(returned)) != 2:
            raise TypeError("a fold returns `tuple[State | None, Features]`")
        return super()._outputs({"return": typing.get_args(returned)[1]})

    def apply(self, input: wire.Batch, groups: list[int], states: wire.Column) -> wire.Folded:
        """Folds a batch into the states of its entities."""
        try:
            return self._fold(input, groups, states)
        except Exception as error:
            raise wire.Err(_reason(error)) from error

    def _fold(self, input: wire.Batch, groups: list[int], states: wire.Column) -> wire.Folded:
        rejected: dict[int, str] = {}
        columns = self._read(input, rejected)
        kept = read(states, Kind("bytes", True), len(groups) - 1, rejected.setdefault)
        rows = list(zip(*columns))
        picked, origins, after = [], [], []
        # What is kept is what the next event is given, in the same batch too: so no row depends on where a batch ends, and what a refused event has
        # done to the state is forgotten.
        for group, state in enumerate(kept):
            for row in range(groups[group], groups[group + 1]):
                if row in rejected:
                    continue
                returned = None
                try:
                    pair = self.function(self._loaded(state), *rows[row], **self.given)
                    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
                        raise _Unusable("what was returned is no pair; a fold returns `state, features`, and a state of None ends it")
                    changed, returned = pair
                    made = self._picked(returned)
                    state = self._stored(changed)
                except Exception as error:
                    rejected[row] = self._refused(error, returned)
                    continue
                picked += made
                origins += [row] * len(made)
            after.append(state)
        columns = [list(column) for column in zip(*picked)] if picked else [[] for _ in self.outputs]
        lengths = iter(columns[len(self.outputs) :])
        ends = [[0, *itertools.accumulate(next(lengths))] if picked and kind.name == "text" else None for _, kind in self.outputs]
        output = wire.Output(self._batch(columns[: len(self.outputs)], ends), origins, _rejections(rejected))
        return wire.Folded(output, write("state", Kind("bytes", True), after))

    def _picked(self, returned) -> list[tuple]:
        """The rows in what was returned for one event."""
        if returned is None:
            if self.one_each:
                raise _Unusable("None was returned; hint the result with `| None` where None means no row")
            return []
        return [self.take(each) for each in returned] if isinstance(returned, list) else [self.take(returned)]

    def _loaded(self, state: bytes | None):
        return state if state is None or self.raw else json.loads(state)

    def _stored(self, state) -> bytes | None:
        return state if state is None or self.raw else json.dumps(state, separators=(",", ":")).encode()


def _export(function, name: str, made: Transform) -> None:
    """Puts what the contract asks for where componentize-py looks for it: a class in the module of the function."""
    exported = type(name, (), {"describe": lambda _, *given: made.describe(*given), "apply": lambda _, *given: made.apply(*given)})
    module = sys.modules[function.__module__]
    if hasattr(module, name):
        raise TypeError(f"{function.__module__} has two transforms; a component is one, so give each a file of its own")
    asked = wire.exports is not None and hasattr(wire.exports, "Migration")
    if wire.exports is not None and name == "Fold" and asked != (made.migrate is not None):
        world, what = ("stateful-transform", "no migration") if asked else ("migrating-transform", "a migration")
        raise TypeError(f'the fold has {what}; write in plugin.toml: world = "{world}"')
    if wire.exports is not None:
        forbid_randomness(module)
    setattr(module, name, exported)
    if made.migrate is not None:
        setattr(module, "Migration", type("Migration", (), {"migrate": lambda _, *given: made.migrate(*given)}))
    function.gristmill = made


class _Unusable(TypeError):
    """Something was returned that says by itself what is wrong with it."""


def _rejections(rejected: dict[int, str]) -> list[wire.Rejection]:
    return [wire.Rejection(event, reason) for event, reason in sorted(rejected.items())]


def _settings(shape: type, text: str):
    try:
        given = json.loads(text) if text.strip() else {}
        hints = typing.get_type_hints(shape)
        for name, value in given.items():
            if name in hints and not _is_a(value, hints[name]):
                raise TypeError(f"`{name}` is {value!r}; expected {getattr(hints[name], '__name__', hints[name])}")
        return shape(**given)
    except (AttributeError, TypeError, ValueError) as error:
        known = ", ".join(field.name for field in dataclasses.fields(shape))
        raise wire.Err(f"cannot use the settings ({error}); known are: {known}") from error


def _is_a(value: object, hint: object) -> bool:
    """Whether a value out of JSON is what a plain hint asks for; other hints are the dataclass' own affair."""
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint) if hint in (bool, str) else True


def _field(name: str, kind: Kind, default: object, doc: str) -> wire.Field:
    text = None if default is inspect.Parameter.empty or default is None else _default_text(default)
    return wire.Field(name, wire.Kind[kind.name.upper()], kind.nullable, text, kind.width, doc)


def _default_text(default: object) -> str:
    if isinstance(default, bool):
        return "true" if default else "false"
    return default.decode() if isinstance(default, bytes) else str(default)


def _doc(hint: object) -> str:
    notes = typing.get_args(hint)[1:] if typing.get_origin(hint) is typing.Annotated else ()
    return next((note for note in notes if isinstance(note, str)), "")


def _without_doc(hint: object):
    if typing.get_origin(hint) is typing.Annotated and not any(not isinstance(note, str) for note in typing.get_args(hint)[1:]):
        return typing.get_args(hint)[0]
    return hint


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, Reject) else f"{'TypeError' if isinstance(error, _Unusable) else type(error).__name__}: {error}"
