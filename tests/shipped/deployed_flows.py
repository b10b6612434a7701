"""Flows that are deployed and invoked. Functions import this file from their package: it needs lokki and Python."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from lokki import RetryConfig, flow, step


@step(timeout_seconds=60)
def numbers(n: int, gate: str = "") -> list[int]:
    """It waits until the file `gate` is there."""
    while gate and not Path(gate).exists():
        time.sleep(0.02)
    return list(range(n))


@step
def square(x: int, bad: int = -1, cut: int = -1, **_: Any) -> int:
    if x == bad:
        raise ValueError(f"I do not square {x}")
    if x == cut:
        time.sleep(60)
    return x * x


@step(retry=RetryConfig(retries=1, delay=0.1, exceptions=(OSError,)))
def total(squares: Sequence[int], day: date | None = None, how: str = "", **_: Any) -> str:
    """The sum, unless it is told to end otherwise."""
    match how:
        case "raise":
            raise OverflowError("too much")
        case "flaky":
            raise OSError("no luck")
        case "cut":
            time.sleep(60)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hog":
            bytearray(1 << 62)
    return f"{sum(squares)} on {day!r}"


@flow
def squares_flow(
    n: int, day: date | None = None, bad: int = -1, cut: int = -1, how: str = "", gate: str = "", wide: Any = None
) -> Any:
    """Squares in batches of two."""
    return numbers().map(square, batch_size=2).agg(total)


@flow
def open_squares_flow(n: int = 3) -> Any:
    """The result is that of a map."""
    return numbers().map(square)


@step(job_type="batch")
def study(x: int, how: str = "", **_: Any) -> int:
    match how:
        case "raise":
            raise ValueError("I do not study")
        case "exit":
            os._exit(137)
    return x + 1


@step
def first(n: int = 1) -> int:
    return n


@flow
def study_flow(n: int = 1, how: str = "") -> Any:
    """A Batch job."""
    return first().next(study)


@step
def moult(x: int, spoil: str = "", **_: Any) -> int:
    """The last one cuts off what an earlier one has left at the key `spoil`."""
    if spoil and x == 2:
        from lokki.store import S3Store

        store = S3Store()
        store.put_blob(spoil, store.blob(spoil)[:-20])
    return x


@step
def feathers(xs: Sequence[int]) -> int:
    return sum(xs)


@flow
def moult_flow(spoil: str = "", n: int = 3) -> Any:
    """A part that is damaged before it is read."""
    return numbers().map(moult, concurrency_limit=1).agg(feathers)
