"""Features of an order."""

from typing import Annotated, TypedDict

from gristmill import Reject, transform


class Features(TypedDict):
    total: Annotated[float, "Price of all pieces."]
    discounted: Annotated[bool, "Whether a coupon was used."]


@transform(entity="customer", stream="orders", name="NAME")
def order(customer: str, price: float, quantity: int, coupon: str | None) -> Features:
    """The latest order of a customer."""
    if quantity < 1:
        raise Reject(f"quantity is {quantity}; at least 1 is right")
    return {"total": price * quantity, "discounted": coupon is not None}
