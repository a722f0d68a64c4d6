"""Compares the windowed features of a host with what pandas makes of the same flights, as of several moments. Needs pandas."""
import gzip, json, os, sys, urllib.request

import pandas

HOST = os.environ["GRISTMILL_HOST"]
HOUR = 3_600_000_000  # event times are in microseconds
DAY = 24 * HOUR


def ask(view, key, entities, moment):
    """The view's features of each entity, by name."""
    body = {"view": view, "entities": [{key: entity} for entity in entities], "as_of": pandas.Timestamp(moment, unit="us", tz="UTC").isoformat()}
    request = urllib.request.Request(f"{HOST}/v1/features", json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        answer = json.load(response)
    names = [name.split(":")[1] for name in answer["features"]]
    return [dict(zip(names, result["values"])) for result in answer["results"]]


def covered(flights, length, moment):
    """The flights that a window covers at a moment: up to it, and back to the beginning of a tile, a sixtieth of the window."""
    tile = length // 60
    first = (moment - length + 1) // tile * tile
    return flights[(flights.time >= first) & (flights.time <= moment)]


def airport(flights, moment):
    features = {}
    for hours in (1, 3, 24):
        delays = covered(flights, hours * HOUR, moment).dep_delay.dropna()
        features |= {f"departures_{hours}h": len(delays), f"mean_delay_{hours}h": delays.mean() if len(delays) else None}
    return features


def carrier(flights, moment):
    delays = covered(flights, 7 * DAY, moment).dep_delay.dropna()
    return {"delay_variance_7d": delays.var(ddof=0) if len(delays) else None}


def aircraft(flights, moment):
    legs = flights[flights.time <= moment].sort_values("time", kind="stable")
    legs = (legs.origin + "-" + legs.dest).tolist()
    return {"destinations_30d": covered(flights, 30 * DAY, moment).dest.nunique(), "last_five_legs": legs[:-6:-1]}


def same(one, other):
    return abs(one - other) <= 1e-9 * max(1.0, abs(other)) if isinstance(one, float) and isinstance(other, float) else one == other


def main():
    with gzip.open(sys.argv[1], "rt") as lines:
        flights = pandas.DataFrame([json.loads(line) for line in lines])
    flights["time"] = pandas.to_datetime(flights.sched_dep).astype("datetime64[us, UTC]").astype("int64")
    newest = int(flights.time.max())
    compared = 0
    for moment in [newest, newest - 1, newest - 600_000_000, newest - 5 * HOUR - 123_456_789, newest - 23 * HOUR]:
        for view, key, expected in [("airport", "origin", airport), ("carrier", "carrier", carrier), ("aircraft", "tailnum", aircraft)]:
            # All entities at the newest moment, and of many some hundreds at the others.
            groups = dict(list(flights.dropna(subset=[key]).groupby(key))[: None if moment == newest else 400])
            asked = [list(groups)[start : start + 500] for start in range(0, len(groups), 500)]
            for entity, found in zip(groups, [answer for some in asked for answer in ask(view, key, some, moment)]):
                for name, value in expected(groups[entity], moment).items():
                    if not same(found[name], value):
                        sys.exit(f"{view}:{name} of {entity} as of {moment} is {found[name]}; pandas says {value}")
                    compared += 1
    print(f"windows: {compared} values equal those of pandas")


main()
