"""Run with: PYTHONPATH=sdk/plugins/sdk-python/src python3 -m unittest"""

import unittest

from gristmill import Reject, testing
from transform import order


class OrderTest(unittest.TestCase):
    def test_a_total_is_the_price_of_all_pieces(self):
        self.assertEqual(order("ann", 12.5, 2, None), {"total": 25.0, "discounted": False})

    def test_an_order_of_nothing_is_refused(self):
        with self.assertRaises(Reject):
            order("eve", 1.0, 0, None)

    def test_a_batch_goes_through_as_in_the_host(self):
        outcome = testing.run(order, [{"customer": "ann", "price": 2.0, "quantity": 3, "coupon": "MAY"}, {"customer": "eve", "price": 1.0, "quantity": 0}])
        self.assertEqual(outcome.rows, [{"total": 6.0, "discounted": True}])
        self.assertEqual(outcome.rejected, {1: "quantity is 0; at least 1 is right"})
