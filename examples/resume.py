"""A run that fails half way and goes on where it was.

Twenty sensors are read, one after the other so that the numbers below are the same whenever you try. Sensor 13 gives
nothing until it is plugged in, which is what the file `plugged-in` stands for.

Try:
    python examples/resume.py run                 # sensor 13 fails: 13 readings are kept, `14 read this time`
    touch plugged-in
    python examples/resume.py run --resume        # goes on: `7 read this time`
    python examples/resume.py run --resume        # nothing is missing: `0 read this time`
    rm plugged-in
"""

from __future__ import annotations

import os

from lokki import flow, main, step

read_now: list[int] = []


@step
def sensors():
    return range(20)


@step
def read(sensor):
    read_now.append(sensor)
    if sensor == 13 and not os.path.exists("plugged-in"):
        raise ConnectionError("sensor 13 gives nothing; plug it in with: touch plugged-in")
    return 20 + sensor % 5


@step
def average(readings):
    return f"{sum(readings) / len(readings):.1f} degrees on average of {len(readings)} sensors"


@flow
def readings():
    return sensors().map(read, concurrency_limit=1).agg(average)


if __name__ == "__main__":
    try:
        main(readings)
    finally:
        print(f"{len(read_now)} read this time")
