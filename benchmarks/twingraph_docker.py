"""Measures a call on platform 'docker' beside `docker run` of the same image doing the same work.

    python benchmarks/twingraph_docker.py [--image python:3.13-slim] [--calls 15]

Calls and commands take turns, so that a busy machine slows both; what is shown is the median, and of the ratio the
median of the pairs. A warm call is one that finds a container of earlier calls. Needs a Docker engine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable

sys.path.remove(os.path.dirname(os.path.abspath(__file__)))  # where another `twingraph` is

from twingraph.placed import Placed
from twingraph.placement import Placement
from twingraph.platforms.base import run
from twingraph.platforms.docker import Docker

MOST_TIMES = 1.3
MOST_WARM = 0.030


def work(n: int) -> int:
    return sum(each * each for each in range(n))


SAME = "print(sum(each * each for each in range(1000)))"


def main() -> None:
    arguments = _arguments()
    docker = Docker()

    def command() -> None:
        line = ["docker", "run", "--rm", arguments.image, "python3", "-c", SAME]
        subprocess.run(line, check=True, capture_output=True)

    cold, warm = (Placement("docker", arguments.image, config) for config in ({}, {"warm": True}))
    for each in (command, _call(docker, cold), _call(docker, warm)):
        each()  # once, for what is only done once
    pairs = [(_seconds(command), _seconds(_call(docker, cold))) for _ in range(arguments.calls)]
    warms = [_seconds(_call(docker, warm)) for _ in range(arguments.calls * 10)]
    docker.close()
    run_seconds, call_seconds = (statistics.median(each) for each in zip(*pairs, strict=True))
    times = statistics.median(call / ran for ran, call in pairs)
    print("| what | bar | here | beside | ratio | |")
    print("| --- | --- | --- | --- | --- | --- |")
    print(
        f"| a call in a container | ≤ {MOST_TIMES} x `docker run` | {call_seconds:.3f} s | {run_seconds:.3f} s "
        f"| {times:.2f} | {'holds' if times <= MOST_TIMES else '**missed**'} |"
    )
    seconds = statistics.median(warms)
    print(
        f"| a call in a warm container | ≤ {MOST_WARM * 1000:.0f} ms | {seconds * 1000:.1f} ms | - | - "
        f"| {'holds' if seconds <= MOST_WARM else '**missed**'} |"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", default="python:3.13-slim")
    parser.add_argument("--calls", type=int, default=15)
    return parser.parse_args()


def _call(docker: Docker, place: Placement) -> Callable[[], object]:
    def call() -> object:
        name = f"tg-bench-{uuid.uuid4().hex[:12]}"
        return run(
            docker, Placed(name, "bench", "work", "work", 0, work, (1000,), {}, place, _hear, _use, threading.Event())
        )

    return call


def _hear(level: str, line: str) -> None:
    print(f"{level}: {line}")


def _use(usage: object) -> None:
    pass


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
