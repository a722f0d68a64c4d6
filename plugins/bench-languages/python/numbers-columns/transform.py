"""Five whole columns of numbers: what the bench of languages runs in each of them."""

from typing import TypedDict

from gristmill import transform


class Features(TypedDict):
    total: list[float]
    pieces: list[int]


@transform(entity="customer", stream="orders", columns=True)
def numbers_columns(customer: list[int], price: list[float], quantity: list[int]) -> Features:
    return {"total": [one * many for one, many in zip(price, quantity)], "pieces": [many + 1 for many in quantity]}
