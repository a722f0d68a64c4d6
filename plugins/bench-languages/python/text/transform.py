"""Five columns, three of them text, row by row: what the bench of languages runs in each of them."""

from typing import TypedDict

from gristmill import transform


class Features(TypedDict):
    label: str
    total: float


@transform(entity="customer", stream="orders")
def text(customer: str, country: str, price: float) -> Features:
    return {"label": f"{customer}/{country}", "total": price * 2.0}
