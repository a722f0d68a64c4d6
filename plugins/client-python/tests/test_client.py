"""The package against running hosts, which `tests/tests/clients.rs` starts and names in HOSTS; and against answers that no host gives."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import http.server
import json
import math
import os
import pickle
import socket
import sys
import threading
import time
import unittest
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar
from unittest import mock

import pandas as pd
import pyarrow as pa

import gristmill_client as gristmill
from gristmill_client import AsyncClient, Change, Client, Missed

T = TypeVar("T")

HOSTS: dict[str, str] = json.loads(os.environ["HOSTS"])
"""The host with the token `token`, and its `component`; `paced`, which answers two requests a second; `encrypted`, with its authority's file `ca`."""
DEADLINE_SECS = 60.0


def client(token: str | None = "token", **more: Any) -> Client:
    return Client(HOSTS["host"], HOSTS[token] if token else None, **more)


def wait_for(what: str, condition: Callable[[], T | None]) -> T:
    started = time.monotonic()
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() - started > DEADLINE_SECS:
            raise AssertionError(f"waited in vain for {what}")


def ingested(host: Client, stream: str, view: str, key: str, events: list[dict[str, Any]]) -> list[str]:
    """Ingests, and waits until the last event's row can be read."""
    ids = host.ingest(stream, events)

    def is_there() -> bool:
        found = host.features(view=view, entities=[{key: events[-1][key]}], provenance=True)
        made_by = (found[0].provenance or [None])[0]
        return made_by is not None and made_by.entry_id == ids[-1]

    wait_for(f"the row of {events[-1]}", is_there)
    return ids


MOMENT = datetime(2013, 1, 1, 5, 15, 0, 1, tzinfo=timezone.utc)


def all_kinds(prefix: str) -> list[dict[str, Any]]:
    """Events with values of every kind, of entities that only one test has."""
    everything = {"truth": True, "whole": 2**63 - 2, "real": 1.5, "text": "NaN", "blob": b"AP8", "moment": MOMENT, "embedding": [1, 2.5, -3]}
    return [
        {"id": f"{prefix}-all", **everything},
        {"id": f"{prefix}-none"},
        {"id": f"{prefix}-nan", "real": math.nan},
        {"id": f"{prefix}-inf", "real": -math.inf, "text": "grüße\u2028🦀\n\x85"},
    ]


NAMES = [f"reference:{name}" for name in ("truth", "whole", "real", "text", "blob", "moment", "embedding", "reals", "moments", "texts", "seen")]


class Reading(unittest.TestCase):
    host: Client
    component: str

    @classmethod
    def setUpClass(cls) -> None:
        cls.host = client()
        cls.addClassCleanup(cls.host.close)
        ingested(cls.host, "reference", "reference", "id", all_kinds("read"))
        (cls.component,) = [transform.component or "" for transform in cls.host.transforms() if transform.name == "reference"]

    def test_values_of_every_kind_are_pythons(self) -> None:
        found = self.host.features(view="reference", entities=[{"id": event["id"]} for event in all_kinds("read")] + [{"id": "unknown"}])
        self.assertEqual(found.names, NAMES)
        kinds = ["boolean", "integer", "float", "text", "bytes", "timestamp", "vector", "list<float>", "list<timestamp>", "list<text>", "integer"]
        self.assertEqual(found.kinds, kinds)
        later = MOMENT + timedelta(seconds=1)
        everything = [False, -(2**63) + 1, 3.1, "<NaN>", b"8PA", later, [2.0, 5.0, -6.0], [3.1], [later], ["<NaN>"], 1]
        self.assertEqual(found[0].values, everything)
        self.assertEqual(found[0].statuses, ["present"] * 11)
        self.assertEqual(found[1].values, [None] * 7 + [[], [], [], 0])
        self.assertEqual(found[1].statuses, ["null"] * 7 + ["present"] * 4)
        self.assertTrue(isinstance(found[2].values[2], float) and math.isnan(found[2].values[2]))
        self.assertEqual(found[3].values[2:4], [-math.inf, "<grüße\u2028🦀\n\x85>"])
        self.assertEqual((found[4].values[:7], found[4].statuses[:7]), ([None] * 7, ["not_found"] * 7))
        self.assertEqual((found[4].event_times, found[4].entity, len(found)), ([None] * 11, {"id": "unknown"}, 5))
        event_time = found[0].event_times[0]
        assert event_time is not None
        self.assertLess(abs(datetime.now(timezone.utc) - event_time), timedelta(minutes=10))
        self.assertIsNone(found[0].provenance)
        self.assertEqual([row.entity["id"] for row in found[1:3]], ["read-none", "read-nan"])

    def test_dicts_are_named_in_full_or_shortly(self) -> None:
        found = self.host.features(["reference:whole", "card:mean_30d"], entities=[{"id": "read-all", "card": "nobody"}])
        whole = {"id": "read-all", "card": "nobody"}
        self.assertEqual(found.to_dicts(), [whole | {"reference:whole": -(2**63) + 1, "card:mean_30d": None}])
        self.assertEqual(found.to_dicts(short=True), [whole | {"whole": -(2**63) + 1, "mean_30d": None}])
        with self.assertRaisesRegex(ValueError, "amount would be the name of more than one"):
            self.host.features(["card:amount", "risk:amount"], entities=[{"card": "nobody"}], request={"amount": 1}).to_dicts(short=True)

    def test_services_are_put_listed_and_asked_by_version(self) -> None:
        first = self.host.put_service("numbers", ["reference:whole"])
        second = self.host.put_service("numbers", ["reference:real", "reference:whole"])
        self.assertEqual((first.version, second.version, second.features), (1, 2, ["reference:real", "reference:whole"]))
        self.assertEqual([one for one in self.host.services() if one.name == "numbers"], [first, second])
        newest = self.host.features(service="numbers", entities=[{"id": "read-all"}])
        self.assertEqual((newest.service, newest[0].values), ("numbers@2", [3.1, -(2**63) + 1]))
        self.assertEqual(self.host.features(service="numbers@1", entities=[{"id": "read-all"}]).service, "numbers@1")

    def test_views_say_what_they_have_and_need(self) -> None:
        views = {view.name: view for view in self.host.views()}
        reference = views["reference"]
        self.assertEqual(reference.references, NAMES)
        self.assertEqual([(key.name, key.kind, key.nullable) for key in reference.entity], [("id", "text", False)])
        self.assertEqual((reference.features[6].width, reference.windows[0].kind), (3, "list"))
        self.assertEqual((reference.stream, reference.history_secs, reference.component), ("reference", 86400, self.component))
        risk = views["risk"]
        self.assertEqual(([one.name for one in risk.request], risk.uses, risk.stream), (["amount"], ["card:mean_30d", "card:count_30d"], None))

    def test_provenance_names_component_entry_and_moment(self) -> None:
        (entry,) = ingested(self.host, "reference", "reference", "id", [{"id": "made", "whole": 1}])
        row = self.host.features(["reference:whole", "reference:real", "reference:seen"], entities=[{"id": "made"}], provenance=True)[0]
        assert row.provenance is not None and row.event_times[0] is not None
        made_by = gristmill.Provenance(self.component, entry, row.event_times[0])
        self.assertEqual(row.provenance, [made_by, made_by, made_by])

    def test_the_past_is_asked_for_by_any_kind_of_moment(self) -> None:
        first = ingested(self.host, "mystream", "tutorial", "id", [{"id": "past", "value": 1}])
        then = self.host.features(view="tutorial", entities=[{"id": "past"}])[0].event_times[0]
        assert then is not None
        second = ingested(self.host, "mystream", "tutorial", "id", [{"id": "past", "value": 2}])
        self.assertNotEqual(first, second)
        self.assertEqual(self.host.get_features("past", view="tutorial"), {"feature1": 4.0, "feature2": 12.0})
        for moment in (then, then.isoformat(), then.timestamp(), then.astimezone(timezone(timedelta(hours=-5))), pd.Timestamp(then)):
            self.assertEqual(self.host.get_features("past", moment, view="tutorial"), {"feature1": 2.0, "feature2": 11.0})
        self.assertEqual(self.host.get_features({"id": "past"}, then, view="tutorial")["feature1"], 2.0)
        before = self.host.features(view="tutorial", entities=[{"id": "past"}], as_of=then - timedelta(days=2))
        self.assertEqual((before[0].values, before[0].statuses), ([None, None], ["not_found"] * 2))
        with self.assertRaisesRegex(ValueError, "names no moment"):
            self.host.get_features("past", datetime(2026, 1, 1), view="tutorial")

    def test_features_of_a_request_are_computed_for_it(self) -> None:
        ingested(self.host, "payments", "card", "card", [{"card": "c1", "amount": 10}, {"card": "c1", "amount": 12}])
        wanted, entities = ["risk:times_usual", "card:count_30d"], [{"card": "c1"}, {"card": "c1"}]
        for request in ([{"amount": 22}, {"amount": 44}], pd.DataFrame({"amount": [22.0, 44.0]})):
            found = self.host.features(wanted, entities=entities, request=request)
            self.assertEqual([row.values for row in found], [[2.0, 2], [4.0, 2]])
        one = self.host.features(wanted, entities=entities, request={"amount": 22}, deadline_ms=1000, provenance=True)
        self.assertEqual([row.values[0] for row in one], [2.0, 2.0])
        assert one[0].provenance is not None and one[0].provenance[0] is not None
        self.assertIsNone(one[0].provenance[0].entry_id)
        late = self.host.features(["risk:is_unusual"], entities=entities, request={"amount": 22}, deadline_ms=0)
        self.assertEqual([(row.values, row.statuses) for row in late], [([True], ["fallback"])] * 2)
        with self.assertRaisesRegex(gristmill.RequestError, "amount"):
            self.host.features(["risk:is_unusual"], entities=entities)

    def test_a_query_says_one_thing(self) -> None:
        wrongs: list[Any] = [{}, {"view": "a", "service": "b"}]
        for wrong in wrongs:
            with self.assertRaisesRegex(ValueError, "by one of"):
                self.host.features(entities=[], **wrong)
        with self.assertRaisesRegex(ValueError, "put the one object into a list"):
            self.host.features(view="tutorial", entities={"id": "a"})
        with self.assertRaisesRegex(ValueError, "`features` is a list"):
            self.host.features("tutorial:feature1", entities=[])
        with self.assertRaisesRegex(TypeError, "of type set"):
            self.host.features(view="tutorial", entities=[{"id": {1}}])
        with self.assertRaises(TypeError):
            self.host.features_arrow(view="tutorial", entities=[], layout="rows")  # type: ignore[call-arg]

    def test_an_id_finds_the_join_key_of_its_view_even_after_it_has_changed(self) -> None:
        with client() as host:
            host._policy.known_keys["tutorial"] = "key"
            ingested(host, "mystream", "tutorial", "id", [{"id": 7, "value": 1}])
            self.assertEqual(host.get_features(7, view="tutorial"), {"feature1": 2.0, "feature2": 11.0})
            self.assertEqual(host._policy.known_keys, {"tutorial": "id"})
            with self.assertRaisesRegex(gristmill.RequestError, "expected text"):
                host.get_features(None, view="tutorial")
            with self.assertRaisesRegex(ValueError, "join keys shop, user; give an object"):
                host.get_features(7, view="carts")
            with self.assertRaises(gristmill.NotFoundError):
                host.get_features(7, view="tutorail")


class Frames(unittest.TestCase):
    host: Client

    @classmethod
    def setUpClass(cls) -> None:
        cls.host = client()
        cls.addClassCleanup(cls.host.close)
        ingested(cls.host, "reference", "reference", "id", all_kinds("frame"))

    entities = pd.DataFrame({"id": [event["id"] for event in all_kinds("frame")] + ["unknown"]}, index=[10, 11, 12, 13, 14])

    def both(self, **more: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
        """By way of Arrow, and by way of JSON."""
        how = {name: more.pop(name) for name in ("details", "short") if name in more}
        query: Any = {"entities": self.entities, **more}
        return self.host.features_pandas(**how, **query), self.host.features(**query).to_pandas(**how)

    def test_both_ways_lead_to_the_same_frame(self) -> None:
        for more in ({}, {"details": True}, {"provenance": True}, {"details": True, "provenance": True}, {"short": True, "details": True}):
            arrow, plain = self.both(view="reference", **more)
            pd.testing.assert_frame_equal(arrow, plain)
        self.assertEqual(list(plain.columns[:4]), ["id", "truth", "truth__status", "whole"])
        self.assertEqual(plain.columns[-1], "reference__event_time")

    def test_a_frame_keeps_index_kinds_and_what_is_missing(self) -> None:
        frame, _ = self.both(view="reference")
        self.assertEqual((list(frame.index), list(frame.columns)), ([10, 11, 12, 13, 14], ["id", *NAMES]))
        dtypes = [str(dtype) for dtype in frame.dtypes[1:9]]
        self.assertEqual(dtypes, ["boolean", "Int64", "float64", "string", "object", "datetime64[us, UTC]", "object", "object"])
        self.assertEqual(frame["reference:whole"][10], -(2**63) + 1)
        self.assertEqual(list(frame["reference:whole"].isna()), [False, True, True, True, True])
        self.assertEqual((frame["reference:embedding"][10].tolist(), frame["reference:embedding"][10].dtype), ([2.0, 5.0, -6.0], "float32"))
        self.assertEqual(frame["reference:reals"][10].tolist(), [3.1])
        self.assertEqual(list(frame["id"]), list(self.entities["id"]))

    def test_tables_are_the_hosts_own(self) -> None:
        query: Any = {"view": "reference", "entities": self.entities, "provenance": True}
        for details in (False, True):
            table = self.host.features_arrow(details=details, **query)
            ours = self.host.features(**query).to_arrow(details=details)
            self.assertEqual(table.schema, ours.schema)
            self.assertEqual(repr(table.to_pylist()), repr(ours.to_pylist()))
        self.assertEqual(table.schema.field("reference:embedding").type, pa.list_(pa.float32(), 3))
        self.assertEqual(table.column_names[-3:], ["reference__event_time", "reference__component", "reference__entry_id"])

    def test_views_that_are_written_have_event_times_in_tables_too(self) -> None:
        entities = [{"user": 1, "shop": "s"}]
        arrow = wait_for("the row", lambda: self.host.features_arrow(view="carts", entities=entities, details=True).to_pylist())
        self.assertEqual(arrow[0]["carts:items"], 3)
        self.assertEqual(arrow[0]["carts__event_time"], datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc))
        self.assertEqual(arrow, self.host.features(view="carts", entities=entities).to_arrow(details=True).to_pylist())

    def test_what_stands_in_has_its_event_time_in_tables_too(self) -> None:
        query: Any = {"features": ["last:times_usual"], "entities": [{"card": "c2"}]}
        ingested(self.host, "payments", "card", "card", [{"card": "c2", "amount": 10}])
        computed = self.host.features(**query, request={"amount": 20})[0]
        stands_in: Any = {**query, "request": {"amount": 90}, "deadline_ms": 0}
        fallback = self.host.features(**stands_in)
        self.assertEqual((fallback[0].values, fallback[0].statuses, fallback[0].event_times), (computed.values, ["fallback"], computed.event_times))
        table = self.host.features_arrow(details=True, **stands_in)
        self.assertEqual(table.to_pylist(), fallback.to_arrow(details=True).to_pylist())
        self.assertEqual(table["last__event_time"].to_pylist(), computed.event_times)

    def test_nothing_and_the_same_twice(self) -> None:
        empty = pd.DataFrame({"id": pd.Series([], dtype=str)})
        for frame in (
            self.host.features_pandas(view="reference", entities=empty, details=True),
            self.host.features_pandas(view="reference", entities=[]),
            self.host.features(view="reference", entities=[]).to_pandas(details=True),
        ):
            self.assertEqual(len(frame), 0)
        self.assertEqual(self.host.features_arrow(view="reference", entities=[]).num_rows, 0)
        twice = ["reference:whole", "tutorial:feature1", "reference:whole"]
        arrow, plain = self.both(features=twice, entities=self.entities, details=True)
        pd.testing.assert_frame_equal(arrow, plain)
        self.assertEqual(list(plain.columns[[1, 3, 5]]), twice)
        with self.assertRaisesRegex(ValueError, "two columns of the same name"):
            self.host.features(view="reference", entities=pd.DataFrame([["a", "b"]], columns=["id", "id"]))

    def test_without_them_it_is_said_what_to_install(self) -> None:
        found = self.host.features(view="tutorial", entities=[{"id": "a"}])
        with mock.patch.dict(sys.modules, {"pyarrow": None}):
            frame = self.host.features_pandas(view="reference", entities=self.entities)
            with self.assertRaisesRegex(ImportError, r"pip install 'gristmill-client\[arrow\]'"):
                found.to_arrow()
            with self.assertRaisesRegex(ImportError, r"gristmill-client\[arrow\]"):
                self.host.features_arrow(view="tutorial", entities=[])
        pd.testing.assert_frame_equal(frame, self.both(view="reference")[0])
        with mock.patch.dict(sys.modules, {"pandas": None}):
            with self.assertRaisesRegex(ImportError, r"pip install 'gristmill-client\[pandas\]'"):
                found.to_pandas()
            self.assertEqual(self.host.features(view="tutorial", entities=[{"id": "unknown"}])[0].statuses, ["not_found"] * 2)


class Writing(unittest.TestCase):
    def test_more_events_than_a_host_takes_at_once_are_sent_in_parts(self) -> None:
        with client() as host:
            ids = ingested(host, "mystream", "tutorial", "id", [{"id": f"many-{number}", "value": number} for number in range(333)])
            self.assertEqual((len(ids), len(set(ids)), sorted(ids, key=_entry)), (333, 333, ids))
            found = host.features(view="tutorial", entities=[{"id": f"many-{number}"} for number in range(100)])
            self.assertEqual([row.values[0] for row in found], [number * 2.0 for number in range(100)])
            with self.assertRaises(gristmill.TooLargeError) as caught:
                host.ingest("mystream", [{"id": "fits", "value": 1}, {"id": "x" * 300_000, "value": 1}, {"id": "after", "value": 1}])
            self.assertEqual((len(caught.exception.appended), caught.exception.status), (1, 413))
            self.assertEqual(host.ingest("mystream", []), [])

    def test_frames_are_events_with_nulls_where_something_is_missing(self) -> None:
        frame = pd.DataFrame(
            {
                "id": ["frame-0", "frame-1"],
                "whole": pd.array([2**60, None], dtype="Int64"),
                "real": [math.nan, 1.5],
                "moment": pd.to_datetime([MOMENT, None]),
                "truth": [True, None],
            }
        )
        with client() as host:
            ids = host.ingest("reference", frame)
            found = wait_for("the rows", lambda: _complete(host.features(NAMES[:6], entities=frame[["id"]], provenance=True), ids[-1:]))
            self.assertEqual(found[0].values, [False, -(2**60) - 1, None, None, None, MOMENT + timedelta(seconds=1)])
            self.assertEqual(found[1].values, [None, None, 3.1, None, None, None])
            with self.assertRaisesRegex(ValueError, "names no moment"):
                host.ingest("reference", pd.DataFrame({"id": ["a"], "moment": [datetime(2026, 1, 1)]}))

    def test_a_component_is_pushed_and_its_dead_letters_are_replayed(self) -> None:
        with client() as host:
            pushed = host.push("pushed", HOSTS["component"], stream="readings", history_secs=60, aggregations=[COUNT])
            self.assertEqual((pushed.name, pushed.stream, pushed.origin), ("pushed", "readings", "pushed"))
            assert pushed.spec is not None
            self.assertEqual(pushed.spec["entity"], ["id"])
            self.assertIn(pushed.component, {transform.component for transform in host.transforms()})
            host.ingest("readings", [{"id": "dead", "value": "x"}])
            (letter,) = wait_for("the dead letter", lambda: host.dead_letters(transform="pushed"))
            self.assertEqual((letter.stream, letter.reason), ("readings", "decode"))
            self.assertEqual([(name, json.loads(value)) for name, value in letter.event], [("data", {"id": "dead", "value": "x"})])
            self.assertEqual(dataclasses.astuple(host.replay([])), (0, 0, 0, 0))
            self.assertEqual(dataclasses.astuple(host.replay([letter])), (1, 0, 1, 0))
            self.assertEqual(dataclasses.astuple(host.replay(transform="pushed")), (1, 0, 1, 0))
            ingested(host, "readings", "pushed", "id", [{"id": "a", "value": 1}])
            self.assertEqual(host.get_features("a", view="pushed"), {"feature1": 2.0, "feature2": 11.0, "seen": 1})
            with self.assertRaises(gristmill.RequestError) as caught:
                host.push("pushed", b"no component")
            self.assertEqual((caught.exception.code, caught.exception.status), ("refused", 422))


COUNT = {"feature": "seen", "column": "feature1", "function": "count"}


def _entry(entry_id: str) -> tuple[int, int]:
    ms, _, number = entry_id.partition("-")
    return int(ms), int(number)


def _complete(found: gristmill.Features, newest: list[str]) -> gristmill.Features | None:
    made_by = (found[-1].provenance or [None])[0]
    return found if made_by is not None and made_by.entry_id in newest else None


class Changes(unittest.TestCase):
    def follow(self, events: Iterator[Change | Missed], host: Client, stream: str, event: dict[str, Any]) -> Change:
        """The first change, once the host has begun to tell: events are sent until then."""
        has_come = threading.Event()

        def send() -> None:
            while not has_come.is_set():
                host.ingest(stream, [event])

        sender = threading.Thread(target=send)
        sender.start()
        try:
            first = next(events)
        finally:
            has_come.set()
            sender.join()
        assert isinstance(first, Change), first
        return first

    def test_changes_have_values_of_their_kinds(self) -> None:
        with client() as host, contextlib.closing(host.changes("reference")) as events:
            self.follow(events, host, "reference", {"id": "first"})
            ids = host.ingest("reference", all_kinds("told"))
            told = {change.entry_id: change for change in _until(events, ids[-1])}
            change = told[ids[0]]
            found = host.features(view="reference", entities=[{"id": "told-all"}])[0]
            self.assertEqual((change.view, change.entity), ("reference", {"id": "told-all"}))
            self.assertEqual(change.features, dict(zip((name.partition(":")[2] for name in NAMES), found.values)))
            self.assertEqual(told[ids[3]].features["text"], "<grüße\u2028🦀\n\x85>")
            self.assertLess(datetime.now(timezone.utc) - change.event_time, timedelta(minutes=10))

    def test_a_lost_connection_is_made_again_and_nothing_is_missed(self) -> None:
        with Cutting(HOSTS["host"]) as cutting, client() as host:
            through = Client(cutting.url, HOSTS["token"])
            with through, contextlib.closing(through.changes(["tutorial", "card"])) as events:
                last = self.follow(events, host, "mystream", {"id": "cut", "value": 0})
                sent = [f"cut-{number}" for number in range(30)]
                told: list[Any] = []
                for number, name in enumerate(sent):
                    host.ingest("mystream", [{"id": name, "value": 1}])
                    if number % 10 == 5:
                        cutting.cut()
                while len(told) < len(sent):
                    change = next(events)
                    assert isinstance(change, Change), change
                    self.assertNotEqual(change.id, last.id)
                    last = change
                    if change.entity["id"] != "cut":
                        told.append(change.entity["id"])
                self.assertEqual(told, sent)
                self.assertGreater(cutting.connections, 1)
            with contextlib.closing(host.changes("tutorial", last_event_id="1-1")) as late:
                self.assertEqual(next(late), Missed(None, "not_kept"))

    def test_what_cannot_be_followed_is_told(self) -> None:
        with client() as host:
            for view, kind in (("tutorail", gristmill.NotFoundError), ([], gristmill.NotFoundError)):
                with self.assertRaises(kind):
                    next(host.changes(view))
            with self.assertRaises(gristmill.RequestError):
                next(host.changes("tutorial", last_event_id="x"))
        with client("limited") as host, self.assertRaises(gristmill.AccessError):
            next(host.changes("card"))
        with Client("http://127.0.0.1:1") as nobody, self.assertRaises(gristmill.UnreachableError):
            next(nobody.changes("tutorial"))

    def test_patience_ends(self) -> None:
        with Cutting(HOSTS["host"]) as cutting, client() as host:
            through = Client(cutting.url, HOSTS["token"])
            events = through.changes("tutorial", patience=0.0)
            self.follow(events, host, "mystream", {"id": "gone", "value": 0})
            cutting.close()
            with through, self.assertRaises(gristmill.UnreachableError):
                for _ in events:
                    pass


def _until(events: Iterator[Change | Missed], entry_id: str) -> Iterator[Change]:
    for change in events:
        assert isinstance(change, Change), change
        yield change
        if change.entry_id == entry_id:
            return


class Errors(unittest.TestCase):
    def test_the_host_says_what_is_wrong(self) -> None:
        with client() as host:
            with self.assertRaises(gristmill.NotFoundError) as caught:
                host.features(view="tutorail", entities=[{"id": "a"}])
            error = caught.exception
            self.assertEqual((error.code, error.status), ("not_found", 404))
            self.assertIn("did you mean `tutorial`?", error.message)
            self.assertTrue(error.request_id and error.request_id in str(error))
            self.assertIsInstance(error, gristmill.RequestError)
            copy = pickle.loads(pickle.dumps(error))
            self.assertEqual((type(copy), str(copy), copy.__dict__), (type(error), str(error), error.__dict__))
            with self.assertRaisesRegex(gristmill.RequestError, "unusable: entities\\[0\\]: `key` is a join key of no view"):
                host.features(view="tutorial", entities=[{"key": "a"}])
            with self.assertRaises(gristmill.NotFoundError):
                host.ingest("a/../b?c#d%20", [{"id": "a"}])
            with self.assertRaisesRegex(gristmill.TooLargeError, "101 entities"):
                host.features(view="tutorial", entities=[{"id": "a"}] * 101)

    def test_tokens_count_and_are_not_shown(self) -> None:
        with client(None) as nobody, self.assertRaises(gristmill.AccessError) as caught:
            nobody.views()
        self.assertEqual((caught.exception.status, caught.exception.code), (401, "unauthorized"))
        with client("limited") as limited:
            self.assertEqual([view.name for view in limited.views()], ["tutorial"])
            self.assertNotIn(HOSTS["limited"], repr(limited) + repr(limited.__dict__))
            for refused in (
                lambda: limited.features(view="card", entities=[{"card": "c1"}]),
                lambda: limited.ingest("mystream", [{"id": "a", "value": 1}]),
                lambda: limited.dead_letters(),
            ):
                with self.assertRaises(gristmill.AccessError) as caught:
                    refused()
                self.assertEqual((caught.exception.status, caught.exception.code), (403, "forbidden"))

    def test_a_private_authority_is_trusted_where_it_is_named(self) -> None:
        with Client(HOSTS["encrypted"], HOSTS["token"], verify=HOSTS["ca"]) as host:
            self.assertEqual([view.name for view in host.views()], ["tutorial"])
        with Client(HOSTS["encrypted"], HOSTS["token"]) as host, self.assertRaisesRegex(gristmill.UnreachableError, "(?i)certificate"):
            host.views()

    def test_reads_wait_for_their_turn_and_writes_do_not(self) -> None:
        def asked() -> list[int]:
            return [len(host.views()) for _ in range(4)]

        with Client(HOSTS["paced"], retries=5) as host:
            self.assertEqual(asked(), [1] * 4)
        with Client(HOSTS["paced"], retries=0) as host:
            with self.assertRaises(gristmill.BusyError) as caught:
                asked()
            self.assertEqual((caught.exception.code, caught.exception.status, caught.exception.retry_after), ("busy", 429, 1.0))
            with self.assertRaises(gristmill.BusyError):
                for _ in range(4):
                    host.ingest("mystream", [{"id": "a", "value": 1}])

    def test_nobody_there_and_nobody_answering(self) -> None:
        with Client("http://127.0.0.1:1") as host, self.assertRaises(gristmill.UnreachableError) as caught:
            host.views()
        self.assertEqual((caught.exception.code, caught.exception.status), ("unreachable", None))
        with socket.create_server(("127.0.0.1", 0)) as silent:
            with Client(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.05) as host:
                with self.assertRaises(gristmill.TimedOutError):
                    host.views()


class Odd(unittest.TestCase):
    """Answers that a host does not give, but what stands between may."""

    def test_unavailable_is_tried_again_within_bounds(self) -> None:
        busy: Answer = (503, {"retry-after": "0"}, json.dumps({"error": {"code": "unavailable", "message": "not now", "request_id": "7"}}))
        views: Answer = (200, {}, json.dumps({"as_of": True, "views": []}))
        with Saying([busy, busy, views]) as said, Client(said.url) as host:
            self.assertEqual(host.views(), [])
        with Saying([busy, busy, busy, views]) as said, Client(said.url) as host, self.assertRaises(gristmill.UnavailableError) as caught:
            host.views()
        self.assertEqual((said.asked, caught.exception.request_id), (3, "7"))
        with Saying([busy, views]) as said, Client(said.url) as host, self.assertRaises(gristmill.UnavailableError):
            host.put_service("a", ["b:c"])
        self.assertEqual(said.asked, 1)
        for wait in ("3600", "Fri, 31 Dec 2999 23:59:59 GMT"):
            with Saying([(429, {"retry-after": wait}, ""), views]) as said, Client(said.url) as host:
                with self.assertRaises(gristmill.BusyError) as refused:
                    host.views()
                self.assertGreater(refused.exception.retry_after or 0, 3599)
            self.assertEqual(said.asked, 1)

    def test_what_is_no_answer_of_a_host_is_an_error_that_says_so(self) -> None:
        page = "<html>Bad gateway"
        for answer, kind, status in (
            ((502, {}, page), gristmill.HostError, 502),
            ((404, {"x-request-id": "abc"}, page), gristmill.NotFoundError, 404),
            ((200, {}, page), gristmill.HostError, 200),
            ((200, {}, "[]"), gristmill.HostError, 200),
            ((200, {}, '{"views": [{"name": 1}]}'), gristmill.HostError, 200),
            ((302, {"location": "http://127.0.0.1:1/"}, ""), gristmill.HostError, 302),
        ):
            with Saying([answer]) as said, Client(said.url) as host, self.assertRaises(kind) as caught:
                host.views()
            self.assertEqual((caught.exception.status, caught.exception.code), (status, "not_understood"))
        with Saying([(200, {"content-type": "application/json"}, "{}")]) as said, Client(said.url) as host:
            with self.assertRaises(gristmill.HostError):
                host.features_arrow(view="a", entities=[])
        with Saying([(200, {"content-type": "text/html"}, page)]) as said, Client(said.url) as host:
            with self.assertRaises(gristmill.HostError):
                next(host.changes("a"))

    def test_events_are_read_however_they_are_cut(self) -> None:
        data = {"view": "v", "entity": {"id": 1}, "features": {"f": "NaN"}, "kinds": {"f": "float"}}
        data |= {"event_time": "2026-01-02T03:04:05.006Z", "entry_id": "1-0"}
        missed = 'event: missed\ndata: {"count":3,"reason":"slow"}\n\n'
        text = f"retry: 1000\n\n: quiet\n\nid: 1-2\r\nevent: change\r\ndata: {json.dumps(data)[:9]}\r\ndata: {json.dumps(data)[9:]}\r\n\r\nevent: other\ndata: x\n\n{missed}"
        for size in (1, 7, 10_000):
            pieces = [text[start : start + size].encode() for start in range(0, len(text), size)]
            with Saying([(200, {"content-type": "text/event-stream"}, pieces)]) as said, Client(said.url) as host:
                with contextlib.closing(host.changes("v")) as events:
                    change, gap = next(events), next(events)
            assert isinstance(change, Change) and isinstance(change.features["f"], float)
            self.assertEqual((change.id, change.entity, math.isnan(change.features["f"])), ("1-2", {"id": 1}, True))
            self.assertEqual(gap, Missed(3, "slow"))


class Async(unittest.IsolatedAsyncioTestCase):
    async def test_everything_is_there_and_awaited(self) -> None:
        own = {name for name in dir(Client) if not name.startswith("_")} - {"close"}
        self.assertEqual({name for name in dir(AsyncClient) if not name.startswith("_")} - {"aclose"}, own)
        async with AsyncClient(HOSTS["host"], HOSTS["token"]) as host:
            events = host.changes("tutorial")
            first = asyncio.ensure_future(anext(events))
            while not first.done():
                await host.ingest("mystream", [{"id": "awaited", "value": 0}])
            ids = await host.ingest("mystream", [{"id": f"async-{number}", "value": number} for number in range(150)])
            told = [first.result()]
            while not (isinstance(told[-1], Change) and told[-1].entry_id == ids[-1]):
                told.append(await anext(events))
            await events.aclose()
            self.assertTrue(all(isinstance(change, Change) for change in told))
            self.assertEqual(await host.get_features("async-7", view="tutorial"), {"feature1": 14.0, "feature2": 17.0})
            entities = [{"id": f"async-{number}"} for number in range(20)]
            answers = await asyncio.gather(*(host.features(view="tutorial", entities=[entity]) for entity in entities))
            self.assertEqual([answer[0].values[0] for answer in answers], [number * 2.0 for number in range(20)])
            frame = await host.features_pandas(view="tutorial", entities=entities, short=True)
            self.assertEqual(list(frame["feature1"]), [number * 2.0 for number in range(20)])
            table = await host.features_arrow(["tutorial:feature1"], entities=entities)
            self.assertEqual(table.column_names, ["id", "tutorial:feature1"])
            service = await host.put_service("awaited", ["tutorial:feature1"])
            self.assertIn(service, await host.services())
            pushed = await host.push("awaited", HOSTS["component"], stream="awaited")
            self.assertIn("awaited", [transform.name for transform in await host.transforms()])
            self.assertIn("awaited", [view.name for view in await host.views()])
            await host.ingest("awaited", [{"id": "a", "value": "x"}])
            while not (letters := await host.dead_letters(transform=pushed.name)):
                pass
            self.assertEqual(dataclasses.astuple(await host.replay(letters)), (1, 0, 1, 0))
            with self.assertRaises(gristmill.NotFoundError):
                await host.features(view="tutorail", entities=[])
            with self.assertRaises(gristmill.NotFoundError):
                await anext(host.changes("tutorail"))

    async def test_it_waits_without_holding_up_others(self) -> None:
        async with AsyncClient(HOSTS["paced"], retries=8, timeout=30) as host:
            answers = await asyncio.gather(*(host.views() for _ in range(5)))
        self.assertEqual([len(views) for views in answers], [1] * 5)

    async def test_a_lost_connection_is_made_again(self) -> None:
        with Cutting(HOSTS["host"]) as cutting:
            async with AsyncClient(cutting.url, HOSTS["token"]) as through, AsyncClient(HOSTS["host"], HOSTS["token"]) as host:
                events = through.changes("tutorial")
                first = asyncio.ensure_future(anext(events))
                while not first.done():
                    await host.ingest("mystream", [{"id": "cut", "value": 0}])
                cutting.cut()
                (entry,) = await host.ingest("mystream", [{"id": "after", "value": 0}])
                async for change in events:
                    assert isinstance(change, Change), change
                    if change.entry_id == entry:
                        break
                await events.aclose()
        self.assertGreater(cutting.connections, 1)


Answer = tuple[int, dict[str, str], Any]


class Saying:
    """A server that says what it was told to, one answer after the other; a list is a body in pieces."""

    def __init__(self, answers: list[Answer]) -> None:
        self.asked = 0
        saying, left = self, iter(answers)

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                saying.asked += 1
                status, headers, body = next(left)
                pieces = [body.encode()] if isinstance(body, str) else body
                self.rfile.read(int(self.headers.get("content-length", 0)))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(sum(map(len, pieces))))
                self.end_headers()
                for piece in pieces:
                    self.wfile.write(piece)
                    self.wfile.flush()

            do_GET = do_POST = do_PUT = answer

            def log_message(self, format: str, *parts: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Saying:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Cutting:
    """What stands between a client and a host, and cuts their connections."""

    def __init__(self, url: str) -> None:
        host, _, port = url.removeprefix("http://").partition(":")
        self._to = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.connections = 0
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Cutting:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def cut(self) -> None:
        while self._open:
            with contextlib.suppress(OSError):
                self._open.pop().shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(self._to)
            self.connections += 1
            self._open += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._relay, args=(one, other), daemon=True).start()

    @staticmethod
    def _relay(one: socket.socket, other: socket.socket) -> None:
        with one:
            with contextlib.suppress(OSError):
                while piece := one.recv(65_536):
                    other.sendall(piece)
            with contextlib.suppress(OSError):
                other.shutdown(socket.SHUT_RDWR)


if __name__ == "__main__":
    unittest.main()
