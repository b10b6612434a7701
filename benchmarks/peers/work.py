"""The work that every peer is given, and how a process says what it cost.

A peer is a script beside this one: `with_<peer>.py WORKLOAD [SIZE]` does one workload in the current folder, which is
its own, and ends with a line of JSON. In it `figure` is the cost of the peer and `beside`, where there is one, that of
the bare thing in the same process. Only cheap modules are imported here: the start of the process is measured too.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
BIRDS = ["goose", "duck", "seagull"]

_SPINS = 900_000  # about 50 ms of pure Python


def main(*workloads: Callable[..., dict[str, float] | None]) -> None:
    """Do what the command line asks for, and say what it cost."""
    name, *sizes = sys.argv[1:]
    known = {each.__name__: each for each in workloads}
    said = known[name](*(int(size) if size.isdecimal() else size for size in sizes))
    if said is not None:
        import json

        print(json.dumps(said))


def cpu(run: Callable[..., Any], *arguments: Any) -> float:
    """CPU seconds of this process, and of those it started and waited for, during run(*arguments)."""
    before = _spent()
    run(*arguments)
    return _spent() - before


def each(count: int, *runs: Callable[[int], Any], times: int = 5) -> list[float]:
    """CPU seconds per item: what run(count) takes beyond run(1). All runs take turns; the median of `times` turns."""
    for run in runs:
        run(1)
    turns = [[(cpu(run, count) - cpu(run, 1)) / (count - 1) for run in runs] for _ in range(times)]
    return [sorted(column)[times // 2] for column in zip(*turns, strict=True)]


def wall(run: Callable[..., Any], *arguments: Any) -> float:
    """Seconds that run(*arguments) takes."""
    before = time.perf_counter()
    run(*arguments)
    return time.perf_counter() - before


def beyond_ideal(count: int, run: Callable[[int], Any]) -> float:
    """How many times longer run(count) takes than `count` spins spread evenly over the cores would."""
    alone = [cpu(spin, one) for one in range(count // 2)]
    seconds = wall(run, count)
    alone += [cpu(spin, one) for one in range(count // 2)]
    return seconds / (sorted(alone)[len(alone) // 2] * count / CORES)


def same(value: Any) -> Any:
    """A step that does nothing."""
    return value


def more(value: int) -> int:
    """A step of a chain."""
    return value + 1


def spin(value: Any) -> Any:
    """A step that keeps a core busy."""
    total = 0
    for i in range(_SPINS):
        total += i * i & 7
    return value


def flaky(item: int, fails: int) -> int:
    """A step that writes down each item it runs, and fails at one of them the first time."""
    with open("ran", "a") as ran:
        ran.write(f"{item}\n")
    if item == fails:
        try:
            os.mkdir("failed")
        except FileExistsError:
            return item
        raise RuntimeError(f"item {item} fails the first time")
    return item


def ran_again() -> float:
    """How many items `flaky` ran more than once."""
    with open("ran") as file:
        ran = file.read().split()
    return len(ran) - len(set(ran))


def in_order(values: list[int]) -> int:
    """The join of a map: its results must be those of `same`, in order."""
    if list(values) != list(range(len(values))):
        raise SystemExit("the results are not in order")
    return len(values)


def payload(kind: str) -> Any:
    """A large value: "array", "frame" or "dicts"."""
    return {"array": _array, "frame": _frame, "dicts": _dicts}[kind]()


def consume(value: Any) -> float:
    """A step that looks at a large value."""
    match type(value).__name__:
        case "ndarray":
            return float(value[::4096].sum())
        case "DataFrame":
            return float(value["value"].sum())
    return float(sum(one["id"] for one in value))


def _spent() -> float:
    import resource

    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _array() -> Any:
    """256 MB of floats that do not compress."""
    import numpy as np

    return np.random.default_rng(0).standard_normal(32 * 1024 * 1024)


def _frame() -> Any:
    """5 million rows of mixed columns."""
    import numpy as np
    import pandas as pd

    count = 5_000_000
    random = np.random.default_rng(0)
    passed = pd.to_timedelta(np.arange(count) * 250 + random.integers(0, 200, count), "ms")
    columns = {
        "id": np.arange(count),
        "at": pd.Timestamp("2024-01-01") + passed,
        "value": np.round(random.standard_normal(count) * 100, 2),
        "pieces": random.integers(0, 100, count).astype("int32"),
        "city": pd.Categorical.from_codes(random.integers(0, 50, count), [f"city-{i:02}" for i in range(50)]),
    }
    return pd.DataFrame(columns)


def _dicts() -> Any:
    """200,000 records as an API returns them."""
    return [
        {
            "id": i,
            "name": f"user-{i}",
            "email": f"user-{i}@example.com",
            "score": (i * 7919 % 100_003) / 7,
            "active": i % 3 == 0,
            "tags": [f"t{i % 17}", f"g{i % 5}"],
            "address": {"street": f"{i % 9973} Main St", "zip": f"{i % 99_991:05}", "at": [i % 180 / 1, i % 90 / 1]},
        }
        for i in range(200_000)
    ]
