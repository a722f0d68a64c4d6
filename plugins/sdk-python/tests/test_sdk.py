import datetime
import unittest
from typing import NamedTuple, TypedDict

from gristmill import Reject, Timestamp, Vector, aggregate, fold, testing, transform
from gristmill import _wire as wire
from gristmill._kinds import Kind
from gristmill._values import read, write
from reference import reference

UTC = datetime.timezone.utc


class Rows(unittest.TestCase):
    def test_every_kind_of_value_goes_through(self):
        moment = datetime.datetime(2013, 1, 1, 5, 15, 0, 1, tzinfo=UTC)
        event = {"id": "a", "truth": True, "whole": -(2**63) + 1, "real": 1.5, "text": "grüße 🦀", "blob": b"\x00\x01", "moment": moment, "embedding": [1, 2.5, -3]}
        outcome = testing.run(reference, [event, {"id": "b"}])
        one, nothing = outcome.rows
        self.assertEqual(one, {"truth": False, "whole": 2**63 - 1, "real": 3.1, "text": "<grüße 🦀>", "blob": b"\x01\x00", "moment": moment + datetime.timedelta(seconds=1), "embedding": [2.0, 5.0, -6.0]})
        self.assertEqual(set(nothing.values()), {None})

    def test_rows_are_filtered_repeated_and_rejected_one_by_one(self):
        outcome = testing.run(reference, [{"id": name, "action": action} for name, action in zip("abcd", ["", "skip", "twice", "reject"])])
        self.assertEqual(outcome.origins, [0, 2, 2])
        self.assertEqual(outcome.rejected, {3: "d asks for it"})

    def test_an_error_rejects_its_row_only(self):
        outcome = testing.run(reference, [{"id": "a", "whole": 1}, {"id": "b", "moment": datetime.datetime.max.replace(tzinfo=UTC)}])
        self.assertEqual(outcome.origins, [0])
        self.assertIn("OverflowError", outcome.rejected[1])

    def test_settings_and_logs_reach(self):
        outcome = testing.run(reference, [{"id": "a", "action": "log", "real": 1.0}], settings='{"factor": 10}')
        self.assertEqual(outcome.rows[0]["real"], 10.1)
        self.assertEqual(outcome.logged, [("warn", "a line about a")])
        with self.assertRaisesRegex(Exception, "factor"):
            testing.run(reference, [], settings='{"faktor": 10}')
        for settings in ['{"factor": "ten"}', '{"factor": true}', "[1]", "{"]:
            with self.assertRaisesRegex(Exception, "cannot use the settings"):
                testing.run(reference, [], settings=settings)

    def test_an_empty_batch_is_fine(self):
        self.assertEqual(testing.run(reference, []).rows, [])


class Columns(unittest.TestCase):
    def test_whole_columns(self):
        class Features(NamedTuple):
            total: list[float]

        @transform(entity="id", columns=True)
        def columnar(id: list[str], price: list[float], count: list[int]) -> Features:
            return Features([one * many for one, many in zip(price, count)])

        del globals()["Transform"]
        outcome = testing.run(columnar, [{"id": "a", "price": 1.5, "count": 2}, {"id": "b", "price": 0.1, "count": 3}])
        self.assertEqual([row["total"] for row in outcome.rows], [3.0, 0.1 * 3])


class Neighbours(unittest.TestCase):
    """What one event does has no effect on another."""

    def setUp(self):
        globals().pop("Transform", None)
        globals().pop("Fold", None)

    def test_an_iterator_that_is_used_up_refuses_its_event_alone(self):
        class Features(TypedDict):
            total: float

        @transform(entity="id")
        def searching(id: str) -> Features | None:
            if id == "skip":
                return None
            if id == "stop":
                next(x for x in [] if x)
            return {"total": 1.0}

        outcome = testing.run(searching, [{"id": id} for id in ["ann", "skip", "stop", "dan", "eve"]])
        self.assertEqual(outcome.origins, [0, 3, 4])
        self.assertEqual(list(outcome.rejected), [2])

    def test_an_object_that_is_used_again_holds_what_it_held(self):
        class Features(TypedDict):
            total: float

        row: Features = {"total": 0.0}

        @transform(entity="id")
        def reusing(id: str, price: float) -> Features:
            if id == "bad":
                raise Reject("bad")
            row["total"] = price
            return row

        events = [{"id": "a", "price": 1.0}, {"id": "bad", "price": 2.0}, {"id": "c", "price": 3.0}, {"id": "d", "price": 4.0}]
        outcome = testing.run(reusing, events)
        self.assertEqual([row["total"] for row in outcome.rows], [1.0, 3.0, 4.0])
        self.assertEqual(outcome.rejected, {1: "bad"})

    def test_values_that_can_be_changed_hold_what_they_held(self):
        class Features(TypedDict):
            point: Vector[2]
            blob: bytes

        point, blob = [0.0, 0.0], bytearray(1)

        @transform(entity="id")
        def reusing(id: str, price: float) -> Features:
            point[0], blob[0] = price, int(price)
            return {"point": point, "blob": blob}

        outcome = testing.run(reusing, [{"id": "a", "price": 1.0}, {"id": "b", "price": 2.0}])
        self.assertEqual(outcome.rows, [{"point": [1.0, 0.0], "blob": b"\1"}, {"point": [2.0, 0.0], "blob": b"\2"}])

    def test_texts_are_cut_where_they_end_whatever_is_in_them(self):
        class Features(TypedDict):
            one: str
            other: str | None

        def echo(one: str, other: str | None, at: float) -> Features | None:
            if at == 3:
                raise Reject("three")
            return None if at == 4 else {"one": one, "other": other}

        def echo_each(one: str, other: str, at: float) -> Features:
            if at == 3:
                raise Reject("three")
            return {"one": one, "other": other}

        def twice(one: str, other: str, at: float) -> list[Features]:
            return [{"one": one, "other": None}] * int(at)

        plain = [{"one": "x" * (at % 5), "other": f"{at}", "at": float(at)} for at in range(12)]
        wide = [{**event, "one": event["one"] + "ü🦀"} if event["at"] == 7 else event for event in plain]
        nulls = [{**event, "other": None} if event["at"] % 3 == 2 else event for event in plain]
        pick = lambda event: {"one": event["one"], "other": event["other"]}
        for events in (plain, wide, nulls):
            globals().pop("Transform", None)
            outcome = testing.run(transform(entity="one")(echo), events)
            self.assertEqual(outcome.rows, [pick(event) for event in events if event["at"] not in (3, 4)])
            self.assertEqual((outcome.origins[:4], outcome.rejected), ([0, 1, 2, 5], {3: "three"}))
        for events in (plain, wide):
            globals().pop("Transform", None)
            outcome = testing.run(transform(entity="one")(echo_each), events)
            self.assertEqual(outcome.rows, [pick(event) for event in events if event["at"] != 3])
            self.assertEqual((outcome.origins[:4], outcome.rejected), ([0, 1, 2, 4], {3: "three"}))
            globals().pop("Transform", None)
            outcome = testing.run(transform(entity="one")(twice), events)
            self.assertEqual(outcome.rows, [{"one": event["one"], "other": None} for event in events for _ in range(int(event["at"]))])
            self.assertEqual(outcome.origins, [at for at in range(12) for _ in range(at)])

    def test_an_event_beyond_the_calendar_is_refused_and_its_neighbours_keep_their_places(self):
        class Features(TypedDict):
            label: str

        @transform(entity="id")
        def labelled(id: str, moment: datetime.datetime) -> Features:
            if id == "bad":
                raise Reject("bad")
            return {"label": f"{id} {moment.year}"}

        made = labelled.gristmill
        moments = [0, 2**62, 1, 2, 2**62, 3]
        ids = ["a", "b", "bad", "d", "e", "f"]
        columns = [write("id", Kind("text"), ids), write("moment", Kind("timestamp"), moments)]
        output = made.apply(wire.Batch(6, columns))
        self.assertEqual(output.origins, [0, 3, 5])
        self.assertEqual([each.row for each in output.rejected], [1, 2, 4])
        self.assertEqual(read(output.batch.columns[0], Kind("text"), 3, None), ["a 1970", "d 1970", "f 1970"])

    def test_a_wrong_text_refuses_its_event_alone_and_is_named(self):
        class Features(TypedDict):
            label: str

        @transform(entity="id")
        def wrong(id: str) -> Features:
            return {"label": None if id == "b" else 5 if id == "c" else id}

        outcome = testing.run(wrong, [{"id": id} for id in "abcd"])
        self.assertEqual([row["label"] for row in outcome.rows], ["a", "d"])
        self.assertEqual(outcome.rejected, {1: "TypeError: `label` is None; expected a str", 2: "TypeError: `label` is 5; expected a str"})

    def test_a_forgotten_return_is_told(self):
        class Features(TypedDict):
            total: float

        @transform(entity="id")
        def forgetting(id: str) -> Features:
            {"total": 1.0}

        outcome = testing.run(forgetting, [{"id": "a"}])
        self.assertIn("hint `| None` where None means no row", outcome.rejected[0])

    def test_a_refused_event_leaves_the_state_as_it_was(self):
        class Features(TypedDict):
            total: float

        @fold(entity="id")
        def counting(state: dict | None, id: str, price: float) -> tuple[dict, Features]:
            state = state or {"seen": 0}
            state["seen"] += 1
            if price == -1:
                raise Reject("minus one")
            if price == -2:
                return {"seen": 100}, {"totl": 1.0}
            if price == -3:
                return {"seen": {1, 2}}, {"total": 0.0}
            return state, {"total": float(state["seen"])}

        prices = [1, -1, -2, -3, 1, 1]
        outcome = testing.run(counting, [{"id": "a", "price": price} for price in prices])
        self.assertEqual([row["total"] for row in outcome.rows], [1.0, 2.0, 3.0])
        self.assertEqual(list(outcome.rejected), [1, 2, 3])
        self.assertIn("not JSON serializable", outcome.rejected[3])

    def test_what_a_fold_returns_wrongly_is_told(self):
        class Features(TypedDict):
            total: float

        returned = {"none": None, "row": {"total": 1.0}, "three": (1, 2, 3), "nothing": (1, None), "misspelt": (1, {"totl": 1.0}), "fine": (1, {"total": 2.0})}

        @fold(entity="id")
        def folded(state: int | None, id: str) -> tuple[int, Features]:
            return returned[id]

        outcome = testing.run(folded, [{"id": id} for id in returned])
        self.assertEqual(outcome.rows, [{"total": 2.0}])
        words = ["a fold returns `state, features`"] * 3 + ["hint the result with `| None`", "no Features (KeyError: 'total')"]
        for (event, reason), word in zip(outcome.rejected.items(), words, strict=True):
            self.assertIn(word, reason, event)

    def test_a_misspelt_keyword_is_refused(self):
        class Features(TypedDict):
            total: float

        with self.assertRaisesRegex(TypeError, "`setings` is keyword-only"):

            @transform(entity="id")
            def misspelt(id: str, *, setings: int = 1) -> Features:
                return {"total": 1.0}


class Folds(unittest.TestCase):
    def test_states_follow_their_entities(self):
        class Features(TypedDict):
            seen: int

        @fold(entity="id")
        def count(state: int | None, id: str) -> tuple[int | None, Features]:
            seen = (state or 0) + 1
            return (None if seen == 3 else seen), {"seen": seen}

        outcome = testing.run(count, [{"id": name} for name in "abaab"], states={("b",): 10})
        self.assertEqual([(row, origin) for row, origin in zip([row["seen"] for row in outcome.rows], outcome.origins)], [(1, 0), (2, 2), (3, 3), (11, 1), (12, 4)])
        self.assertEqual(outcome.states, {("a",): None, ("b",): 12})


class Windows(unittest.TestCase):
    def declared(self, windows):
        class Features(TypedDict):
            total: float
            item: str

        def windowed(id: str, total: float) -> Features: ...

        globals().pop("Transform", None)
        try:
            return transform(entity="id", aggregate=windows)(windowed).gristmill.describe("").aggregations
        finally:
            globals().pop("Transform", None)

    def test_each_function_is_described(self):
        shapes = {"sum": ["total"], "quantile": ["total", 0.5], "last_values": ["item", 5], "top": ["item", 3]}
        functions = [name for name in aggregate.__all__ if name != "Aggregation"]
        found = self.declared({f"of_{name}": getattr(aggregate, name)(*shapes.get(name, ["item"]), "90s") for name in functions})
        self.assertEqual([type(each.function).__name__ for each in found], ["Aggregate_" + name.title().replace("_", "") for name in functions])
        self.assertEqual({each.window_ms for each in found}, {90_000})
        self.assertEqual([getattr(each.function, "value", None) for each in found if each.feature in ("of_quantile", "of_last_values", "of_top")], [5, 0.5, 3])
        (ever,) = self.declared({"ever": aggregate.count("total", doc="Orders.")})
        self.assertEqual((ever.feature, ever.column, ever.window_ms, ever.doc), ("ever", "total", None, "Orders."))
        windows = {"5m": 300_000, "24h": 86_400_000, "30d": 2_592_000_000}
        self.assertEqual([self.declared({"x": aggregate.last("item", window)})[0].window_ms for window in windows], list(windows.values()))

    def test_what_is_wrong_names_its_feature(self):
        for words, wrong in [
            ("there is no output 'totl' .* the outputs are: total, item", aggregate.count("totl")),
            ("a window of '1 hour'; .* as in \"24h\"", aggregate.count("total", "1 hour")),
            ("a window of 'h'", aggregate.count("total", "h")),
            ("a window of 3600", aggregate.count("total", 3600)),
            ("'count' is no aggregation; .* count, distinct", "count"),
            ("there is no function 'Median'", aggregate.Aggregation("Median", "total")),
            ("a quantile at 90; 0 to 1 is right", aggregate.quantile("total", 90)),
            ("a list of 0 values", aggregate.top("item", 0)),
            ("a list of 2.5 values", aggregate.last_values("item", 2.5)),
        ]:
            with self.assertRaisesRegex(TypeError, "aggregation `windowed_1h`: " + words):
                self.declared({"windowed_1h": wrong})
        with self.assertRaisesRegex(TypeError, "`total`: there is an output"):
            self.declared({"total": aggregate.count("total")})
        with self.assertRaisesRegex(TypeError, "is a dictionary"):
            self.declared([aggregate.count("total")])


class Migrations(unittest.TestCase):
    def folded(self, migrate):
        class Features(TypedDict):
            seen: int

        def count(state: dict | None, id: str) -> tuple[dict | None, Features]:
            return {"seen": (state or {"seen": 0})["seen"] + 1}, {"seen": (state or {"seen": 0})["seen"] + 1}

        globals().pop("Fold", None)
        try:
            return fold(entity="id", version="2.0.0", migrate=migrate)(count)
        finally:
            globals().pop("Fold", None)
            globals().pop("Migration", None)

    def test_states_are_taken_over(self):
        def from_before(version: str, state: int):
            if version != "1.0.0":
                raise Reject(f"version {version} is not known here")
            return {"seen": state}

        count = self.folded(from_before)
        states = testing.migrate(count, "1.0.0", {("a",): 7, ("b",): 1})
        self.assertEqual(states, {("a",): {"seen": 7}, ("b",): {"seen": 1}})
        self.assertEqual(testing.run(count, [{"id": "a"}], states=states).rows, [{"seen": 8}])
        self.assertEqual(testing.migrate(count, "1.0.0", {}), {})
        with self.assertRaisesRegex(Exception, "version 0.9.0 is not known here"):
            testing.migrate(count, "0.9.0", {("a",): 7})

    def test_bytes_come_as_they_are(self):
        def from_before(version: str, state: bytes):
            return {"seen": state[0]}

        self.assertEqual(testing.migrate(self.folded(from_before), "1.0.0", {("a",): b"\xff"}), {("a",): {"seen": 255}})

    def test_what_is_no_migration_is_told(self):
        with self.assertRaisesRegex(Exception, "state 0 was migrated to None"):
            testing.migrate(self.folded(lambda version, state: None), "1.0.0", {("a",): 1})
        for wrong in (lambda state: state, 7):
            with self.assertRaisesRegex(TypeError, "`migrate` is a function of the version"):
                self.folded(wrong)
        with self.assertRaisesRegex(TypeError, "no `migrate`"):
            testing.migrate(self.folded(None), "1.0.0", {})


class Mistakes(unittest.TestCase):
    def fails(self, words, make):
        with self.assertRaisesRegex(TypeError, words):
            make()

    def test_hints_that_mean_nothing_are_named(self):
        class Features(TypedDict):
            out: float

        def no_hint(id) -> Features: ...
        def odd_hint(id: complex) -> Features: ...
        def two_kinds(id: int | str) -> Features: ...
        def no_outputs(id: str) -> float: ...

        self.fails("`id` has no hint", lambda: transform(entity="id")(no_hint))
        self.fails("`id`: complex is not a kind", lambda: transform(entity="id")(odd_hint))
        self.fails("several kinds", lambda: transform(entity="id")(two_kinds))
        self.fails("TypedDict", lambda: transform(entity="id")(no_outputs))

    def test_what_is_returned_is_checked(self):
        class Features(TypedDict):
            out: float

        @transform(entity="id")
        def wrong(id: str, value: Timestamp) -> Features:
            return {"out": id}

        del globals()["Transform"]
        with self.assertRaisesRegex(Exception, "`out` is 'a'; expected a float"):
            testing.run(wrong, [{"id": "a", "value": 1}])


if __name__ == "__main__":
    unittest.main()
