from typing import TypedDict

from gristmill import transform


class Features(TypedDict):
    feature1: float
    feature2: float


@transform(entity="id", stream="mystream")
def tutorial(id: str, value: float) -> Features:
    """Doubles a reading, and shifts it."""
    return {"feature1": value * 2, "feature2": value + 10}
