"""The same with the package: `pip install ../../plugins/client-python`, or PYTHONPATH=../../plugins/client-python/src where httpx is installed."""
import json, os, sys
from gristmill_client import Client

with Client(os.environ.get("GRISTMILL_HOST", "http://127.0.0.1:7171")) as host:
    print(json.dumps(host.get_features(sys.argv[1], float(sys.argv[2]), view="tutorial")))
