"""What Schemathesis cannot know of a host: which views it has, and how bodies that are not JSON are written."""

import json
import os

import schemathesis
from hypothesis import strategies as st

READABLE = {"card": {"card": "c1"}, "risk": {"card": "c1"}, "tutorial": {"id": "a"}, "profiles": {"id": "a"}, "scored": {"id": "a"}}
SERVICES = {"judge": {"card": "c1"}, "scores": {"id": "a"}}
ROW = {"id": "a", "score": 0.5, "visits": 3, "event_timestamp": "2026-01-02T03:04:05Z"}
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
        view = list(READABLE)[len(entities) % len(READABLE)]
        return body | {"view": view, "entities": [READABLE[view] for _ in entities]}
    if choice == 2:
        service = list(SERVICES)[len(entities) % len(SERVICES)]
        return body | {"service": service, "entities": [SERVICES[service] for _ in entities]}
    return body | {"features": FEATURES[: 1 + len(entities) % 4], "entities": [{"card": "c1"} for _ in entities]}


def is_frame(frame):
    return isinstance(frame, dict) and all(isinstance(column, list) for column in frame.values())


def writing(body, name):
    """Three in four writes name a view that is there: with rows as they should be, with one column of theirs as it was made up, or with all of them."""
    if not isinstance(body, dict) or not isinstance(body.get(name), str) or not is_frame(body.get("df")) or body.get("to", "online") != "online":
        return body
    choice = len(json.dumps(body, default=str)) % 4
    if choice == 0:
        return body
    columns = list(body["df"].values())
    frame = {column: [value] for column, value in ROW.items()}
    if choice == 2 and columns:
        column = list(ROW)[len(columns) % len(ROW)]
        frame = {name: values * max(1, len(columns[0])) for name, values in frame.items()} | {column: columns[0]}
    return body | {name: "profiles", "df": body["df"] if choice == 3 else frame}


@schemathesis.hook("map_body").apply_to(method="POST", path="/push")
def map_push(context, body):
    return writing(body, "push_source_name")


@schemathesis.hook("map_body").apply_to(method="POST", path="/write-to-online-store")
def map_write(context, body):
    return writing(body, "feature_view_name")


@schemathesis.hook("map_body").apply_to(method="POST", path="/get-online-features")
def map_feast(context, body):
    """Two in three of Feast's queries ask for features, or a service, that are there."""
    if not isinstance(body, dict) or not is_frame(body.get("entities")):
        return body
    is_service = isinstance(body.get("feature_service"), str)
    is_list = isinstance(body.get("features"), list) and all(isinstance(feature, str) for feature in body["features"])
    choice = len(json.dumps(body, default=str)) % 3
    if choice == 0 or not (is_service or is_list):
        return body
    wanted = {"feature_service": "scores"} if is_service else {"features": ["profiles:score", "scored:feature1"]}
    return body | wanted | {"entities": {"id": ["a", "b"]}}


@schemathesis.hook
def filter_case(context, case):
    """What the run lives on is not deleted in its course, and lines are text: what is none has no form in which it could be sent."""
    if case.media_type == "application/x-ndjson" and not isinstance(case.body, str):
        return False
    names = (case.path_parameters or {}).values()
    return not (case.method.upper() == "DELETE" and any(name in (*READABLE, *SERVICES) for name in names))
