"""Write Gristmill transforms in Python: a typed function over rows or over columns, and nothing else.

    from typing import TypedDict
    from gristmill import transform

    class Features(TypedDict):
        feature1: float
        feature2: float

    @transform(entity="id", stream="mystream")
    def tutorial(id: str, value: float) -> Features:
        "Doubles a reading, and shifts it."
        return {"feature1": value * 2, "feature2": value + 10}

The function stays an ordinary function, so its unit tests are ordinary tests; `gristmill.testing` runs the whole batch path without a host.

Parameters are the fields that the transform reads, by name. Their hints say what they hold: `bool`, `int`, `float`, `str`, `bytes`,
`datetime.datetime` (aware, UTC), `Timestamp` (whole microseconds since the Unix epoch, faster), `Vector[N]` (N 32-bit floats), each
with `| None` where null is a legal value. A parameter's default stands in where an event lacks the field. A keyword-only parameter
`settings`, hinted with a dataclass, gets what the host's configuration gives to the transform.

A row function returns a mapping with one item for each output; `None` filters the row out; a list of mappings makes several rows of
one event; `raise Reject("why")` makes a dead letter of it. With `columns=True` the function gets a list for each parameter and returns a
list for each output, as long. `aggregate={…}` declares windows that the host keeps over the outputs: see `gristmill.aggregate`.
"""

from . import aggregate
from ._api import fold, transform
from ._kinds import Timestamp, Vector
from ._log import log
from ._values import Reject

__all__ = ["Reject", "Timestamp", "Vector", "aggregate", "fold", "log", "transform"]
