"""Steps and flows that the tests of running share; at module level, so that worker processes can import them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lokki import flow, step


def tick(item: Any = "") -> None:
    """Write down that a step really ran; it counts across processes."""
    fd = os.open(os.environ["TICKS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{item}\n".encode())
    os.close(fd)


@step
def numbers(n: Any) -> Any:
    return list(range(n))


@step
def ticked(x: Any) -> Any:
    tick(x)
    if os.environ.get("FAIL_AT") == str(x):
        raise ValueError(f"no {x}")
    return x * 10


@step
def total(xs: Iterable[int]) -> int:
    tick("total")
    return sum(xs)


@step
def double(x: int) -> int:
    return 2 * x


@step
def where(x: int) -> tuple[int, int, str]:
    return x, os.getpid(), threading.current_thread().name


@step
def collected(xs: Any) -> Any:
    return xs


@flow
def counted_flow(n: int = 5) -> Any:
    return numbers(n).map(ticked).agg(total)


@flow
def whereabouts(n: int = 8) -> Any:
    return numbers(n).map(where)


@step
def crash(x: Any) -> Any:
    if x == 3:
        os._exit(9)
    return x


@flow
def crashing_flow() -> Any:
    return numbers(6).map(crash)


@step
def stubborn(x: Any) -> Any:
    tick(x)
    if len(Path(os.environ["TICKS"]).read_text().split()) < 3:
        raise ConnectionError("try again")
    return x


@step(retry={"retries": 3, "delay": 0})
def patient(x: Any) -> Any:
    return stubborn.fn(x)


@flow
def patient_flow() -> Any:
    return numbers(1).map(patient)


class Refusal(Exception):
    """An exception that no pickle takes."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first)
        self.second = second
        self.lock = threading.Lock()


@step
def refuse(x: Any) -> Any:
    raise Refusal("not", "that")


@flow
def refusing_flow() -> Any:
    return numbers(2).map(refuse)
