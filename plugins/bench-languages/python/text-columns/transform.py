"""Five whole columns, three of them text: what the bench of languages runs in each of them."""

from typing import TypedDict

from gristmill import transform


class Features(TypedDict):
    label: list[str]
    total: list[float]


@transform(entity="customer", stream="orders", columns=True)
def text_columns(customer: list[str], country: list[str], price: list[float]) -> Features:
    return {"label": [f"{who}/{where}" for who, where in zip(customer, country)], "total": [one * 2.0 for one in price]}
