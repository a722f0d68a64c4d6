"""Runs the whole batch path of a transform without a host: events in, rows of features out.

    from gristmill import testing
    from tutorial import tutorial

    def test_tutorial():
        outcome = testing.run(tutorial, [{"id": "a", "value": 5.0}])
        assert outcome.rows == [{"feature1": 10.0, "feature2": 15.0}]
"""

import json
from dataclasses import dataclass, field

from . import _log
from . import _wire as wire
from ._api import Fold
from ._kinds import Kind
from ._values import read, write


@dataclass
class Outcome:
    """What became of a batch."""

    rows: list[dict] = field(default_factory=list)
    """The rows of features, in order."""
    origins: list[int] = field(default_factory=list)
    """For each row the index of the event that it comes from."""
    rejected: dict[int, str] = field(default_factory=dict)
    """The reason of each event that was refused, by its index."""
    logged: list[tuple[str, str]] = field(default_factory=list)
    """Lines logged, as (level, message)."""
    states: dict[tuple, object] = field(default_factory=dict)
    """After a fold: the state of each entity, by its key."""


def run(function, events: list[dict], *, settings: str = "", states: dict[tuple, object] | None = None) -> Outcome:
    """Runs events through a decorated function as one batch. A field that an event lacks is its parameter's default, or null.

    Fails where the host would have made a dead letter of an event before the transform saw it: a null that is not declared, a value of the
    wrong kind. `states` are those of the entities before a fold.
    """
    made = function.gristmill
    spec = made.describe(settings)
    _log.lines.clear()
    columns = [_column(made, name, kind, events) for name, kind in made.inputs]
    if isinstance(made, Fold):
        return _fold(made, spec, events, columns, states or {})
    output = made.apply(wire.Batch(len(events), columns))
    return _outcome(made, output, len(events))


def migrate(function, version: str, states: dict[tuple, object]) -> dict[tuple, object]:
    """Takes over the states that another version wrote, by entity, as a host does before the first event. Bytes are handed over as they are, anything else as JSON."""
    before = [state if isinstance(state, bytes) else json.dumps(state).encode() for state in states.values()]
    made = function.gristmill
    if made.migrate is None:
        raise TypeError("the fold has no `migrate`")
    after = made.migrate(version, write("state", Kind("bytes", False), before))
    return dict(zip(states, [made._loaded(state) for state in read(after, Kind("bytes", False), len(before), lambda *_: None)]))


def _column(made, name: str, kind: Kind, events: list[dict]) -> wire.Column:
    default = made.defaults.get(name)
    values = [default if event.get(name) is None else event[name] for event in events]
    return write(name, kind, values)


def _outcome(made, output: wire.Output, events: int) -> Outcome:
    rows = output.batch.rows
    columns = [read(column, kind, rows, lambda *_: None) for column, (_, kind) in zip(output.batch.columns, made.outputs)]
    names = [name for name, _ in made.outputs]
    return Outcome(
        rows=[dict(zip(names, values)) for values in zip(*columns)],
        origins=list(range(events)) if output.origins is None else list(output.origins),
        rejected={rejection.row: rejection.reason for rejection in output.rejected},
        logged=list(_log.lines),
    )


def _fold(made, spec, events: list[dict], columns: list, states: dict) -> Outcome:
    keys = [tuple(event[name] for name in spec.entity) for event in events]
    order = sorted(range(len(events)), key=lambda row: list(dict.fromkeys(keys)).index(keys[row]))
    events = [events[row] for row in order]
    columns = [_column(made, name, kind, events) for name, kind in made.inputs]
    entities = list(dict.fromkeys(keys))
    groups = [0]
    for entity in entities:
        groups.append(groups[-1] + keys.count(entity))
    before = write("state", Kind("bytes", True), [made._stored(states.get(entity)) for entity in entities])
    folded = made.apply(wire.Batch(len(events), columns), groups, before)
    outcome = _outcome(made, folded.output, len(events))
    outcome.origins = [order[row] for row in outcome.origins]
    outcome.rejected = {order[row]: reason for row, reason in outcome.rejected.items()}
    after = read(folded.states, Kind("bytes", True), len(entities), lambda *_: None)
    outcome.states = {**states, **{entity: made._loaded(state) for entity, state in zip(entities, after)}}
    return outcome
