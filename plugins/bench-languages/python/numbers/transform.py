"""Five columns of numbers, row by row: what the bench of languages runs in each of them."""

from typing import TypedDict

from gristmill import transform


class Features(TypedDict):
    total: float
    pieces: int


@transform(entity="customer", stream="orders")
def numbers(customer: int, price: float, quantity: int) -> Features:
    return {"total": price * quantity, "pieces": quantity + 1}
