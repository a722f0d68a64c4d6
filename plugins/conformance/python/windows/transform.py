"""Declares every function of windows once: each language must say the same of itself as this does."""

from typing import TypedDict

from gristmill import transform
from gristmill.aggregate import count, distinct, first, last, last_values, max, mean, min, quantile, sum, top, variance


class Features(TypedDict):
    amount: float | None
    quantity: int
    item: str


@transform(
    version="1.0.0",
    entity="id",
    stream="windows",
    aggregate={
        "amounts_90s": count("amount", "90s"),
        "amount_sum_5m": sum("amount", "5m"),
        "amount_mean_1h": mean("amount", "1h"),
        "quantity_min_24h": min("quantity", "24h"),
        "quantity_max_7d": max("quantity", "7d"),
        "amount_variance_30d": variance("amount", "30d"),
        "item_first": first("item"),
        "item_last": last("item"),
        "items_365d": distinct("item", "365d"),
        "amount_p90_1h": quantile("amount", 0.9, "1h"),
        "items_last_5": last_values("item", 5),
        "items_top_3_1h": top("item", 3, "1h"),
        "quantity_sum": sum("quantity"),
    },
)
def windows(id: str, amount: float | None, item: str, quantity: int = 1) -> Features:
    """Hands events on to windows of every function."""
    return {"amount": amount, "quantity": quantity, "item": item}
