"""What Schemathesis cannot know of a host: which views it has, and how bodies that are not JSON are written."""

import json
import os

import schemathesis
from hypothesis import strategies as st

READABLE = {"card": {"card": "c1"}, "risk": {"card": "c1"}, "tutorial": {"id": "a"}}
FEATURES = ["card:mean_30d", "card:count_30d", "risk:times_usual", "risk:is_unusual", "tutorial:feature1"]
with open(os.environ["COMPONENT"], "rb") as file:
    COMPONENT = file.read()


@schemathesis.serializer("application/x-ndjson")
def ndjson(context, value):
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else json.dumps(value).encode()


@schemathesis.serializer("application/wasm")
def wasm(context, value):
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


schemathesis.openapi.media_type(
    "application/wasm",
    st.one_of(st.just(COMPONENT), st.just(b""), st.binary(max_size=64), st.integers(1, len(COMPONENT) - 1).map(lambda size: COMPONENT[:size])),
)


@schemathesis.hook.apply_to(method="POST", path="/v1/features")
def map_body(context, body):
    """Three in four queries ask for something that is there, so that answers are described and not only refusals."""
    if not isinstance(body, dict) or not isinstance(body.get("entities"), list):
        return body
    choice = len(json.dumps(body, default=str)) % 4
    if choice == 0:
        return body
    body = {name: value for name, value in body.items() if name not in ("features", "view", "service")}
    entity = {"card": "c1", "id": "a"}
    entities = [entity for _ in body["entities"]]
    if choice == 1:
        view = ["card", "risk", "tutorial"][len(entities) % 3]
        return body | {"view": view, "entities": [READABLE[view] for _ in entities]}
    if choice == 2:
        return body | {"service": "judge", "entities": [{"card": "c1"} for _ in entities]}
    return body | {"features": FEATURES[: 1 + len(entities) % 4], "entities": [{"card": "c1"} for _ in entities]}


@schemathesis.hook
def filter_case(context, case):
    """What the run lives on is not deleted in its course, and lines are text: what is none has no form in which it could be sent."""
    if case.media_type == "application/x-ndjson" and not isinstance(case.body, str):
        return False
    names = (case.path_parameters or {}).values()
    return not (case.method.upper() == "DELETE" and any(name in (*READABLE, "judge") for name in names))
