import datetime
import unittest
from typing import NamedTuple, TypedDict

from gristmill import Reject, Timestamp, fold, testing, transform
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

    def test_a_forgotten_return_is_told(self):
        class Features(TypedDict):
            total: float

        @transform(entity="id")
        def forgetting(id: str) -> Features:
            {"total": 1.0}

        outcome = testing.run(forgetting, [{"id": "a"}])
        self.assertIn("None was returned", outcome.rejected[0])

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
        with self.assertRaisesRegex(Exception, "^TypeError: `out` is 'a'; expected a float"):
            testing.run(wrong, [{"id": "a", "value": 1}])


if __name__ == "__main__":
    unittest.main()
