"""The loop of the tutorials: one entry at a time, one HSET, one XACK. Arguments: port, number of events. Prints events per second."""
import sys
import time
from datetime import datetime, timezone

import redis

port, events = int(sys.argv[1]), int(sys.argv[2])
client = redis.Redis(port=port, decode_responses=True)
done, started = 0, time.perf_counter()
while done < events:
    for _, entries in client.xreadgroup("group", "python", {"orders": ">"}, count=1, block=1000):
        for entry_id, event in entries:
            price, quantity, fee = float(event["price"]), int(event["qty"]), float(event["fee"])
            total = price * quantity + fee
            hour = datetime.fromtimestamp(int(event["ts"]) / 1e6, timezone.utc).hour
            features = {
                "total": total,
                "fee_share": fee / total if total else "",
                "country": event["country"].upper(),
                "hour": hour,
                "bulk_gift": int(event["flag"] == "true" and quantity > 1),
            }
            client.hset("features:" + event["id"], mapping=features)
            client.xack("orders", "group", entry_id)
            done += 1
print(done / (time.perf_counter() - started))
