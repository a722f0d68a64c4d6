"""Features for a model, from a Gristmill host. Standard library only."""
import json, os, sys, urllib.request

HOST = os.environ.get("GRISTMILL_HOST", "http://127.0.0.1:7171")


def call(path, body=None):
    request = urllib.request.Request(HOST + path, body and json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=5) as response:
        return json.load(response)


def get_features(entity_id, timestamp, view="tutorial", key="id"):
    """The view's features of one entity as they were at a Unix timestamp; None for those without a value, or of which that is no longer known."""
    answer = call("/v1/features", {"view": view, "entities": [{key: str(entity_id)}], "as_of": timestamp})
    return dict(zip((name.split(":")[1] for name in answer["features"]), answer["results"][0]["values"]))


if __name__ == "__main__":
    print(json.dumps(get_features(entity_id=int(sys.argv[1]), timestamp=float(sys.argv[2]))))
