"""Flows whose builds are executed. Functions import this file from their package: it needs lokki and Python, no more.

Most steps leave a mark in the folder that their flow is given, so that a test sees what ran, and how often.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from uuid import uuid4

from lokki import RetryConfig, flow, step

QUICK = RetryConfig(retries=2, delay=0.01, exceptions=(ConnectionError,))
SECRETS = {name: os.environ.get(name, "") for name in ("SHAPES_TOKEN", "SHAPES_PASSWORD", "SHAPES_PLAIN")}


def tick(folder: str, name: str) -> int:
    """Leave a mark; returns how many of this name there are."""
    if not folder:
        return 0
    with open(os.path.join(folder, name), "a", encoding="utf-8") as file:
        file.write(".")
        return file.tell()


# --- steps that count


@step
def numbers(n: int = 4, folder: str = "") -> list[int]:
    tick(folder, "numbers")
    return list(range(n))


@step
def spread(x: int, folder: str = "") -> list[int]:
    """As many items as the number says: none for 0."""
    tick(folder, f"spread-{x}")
    return list(range(x))


@step
def double(x: int, bad: int = -1, folder: str = "") -> int:
    tick(folder, f"double-{x}")
    if x == bad:
        raise ValueError(f"{x} is bad")
    return 2 * x


@step
def add(x: int, by: int = 1, folder: str = "") -> int:
    tick(folder, f"add-{x}")
    return x + by


@step
def negate(x: int, folder: str = "") -> int:
    tick(folder, f"negate-{x}")
    return -x


@step
def total(xs: Iterable[int], worst: int = -1, folder: str = "") -> int:
    tick(folder, "total")
    made = sum(xs)
    if made == worst:
        raise OverflowError(f"{made} is the worst")
    return made


@step
def collected(xs: Any, folder: str = "") -> Any:
    tick(folder, "collected")
    return xs


@step
def counted(xs: Any, folder: str = "") -> tuple[int, Any]:
    return len(xs), xs


@step(job_type="batch")
def job_numbers(n: int = 3, folder: str = "") -> list[int]:
    tick(folder, "job_numbers")
    return list(range(n))


@step(job_type="batch", vcpu=1, memory_mb=2048)
def trained(x: Any, bad: int = -1, folder: str = "") -> Any:
    tick(folder, f"trained-{x}" if isinstance(x, int) else "trained")
    if x == bad:
        raise ValueError(f"{x} is bad")
    return x


# --- shapes


@flow
def chain_flow(bad: int = -1, folder: str = "") -> Any:
    return numbers(3).next(total).next(double).next(add, by=5).next(add, by=7).next(add)


@flow
def map_flow(n: int = 5, bad: int = -1, worst: int = -1, folder: str = "") -> Any:
    """A map, a chain after it, and a step that is used inside and outside of it."""
    return numbers().map([double, add(by=10)], concurrency_limit=2).agg(total).next(add, by=100).next(add)


@flow
def two_maps_flow() -> Any:
    return numbers(3).map(double).agg(total).next(spread).map(add, by=2).agg(collected).next(counted)


@flow
def nested_flow(n: int = 4, outer: int = 1, inner: int = 1, bad: int = -1, folder: str = "") -> Any:
    """The first inner list is empty."""
    return numbers().map(spread.map(double, batch_size=inner).agg(collected), 2, batch_size=outer).agg(collected)


@flow
def deep_flow(n: int = 4, a: int = 1, b: int = 1, c: int = 1, bad: int = -1, folder: str = "") -> Any:
    innermost = spread.map(double, batch_size=c).agg(collected)
    return numbers().map(spread.map(innermost, 2, batch_size=b).agg(collected), 1, batch_size=a).agg(collected)


@flow
def twice_nested_flow(outer: int = 1) -> Any:
    """Two maps, one after the other, and more steps, in the body of a map; the inner maps have two steps and one."""
    body = spread.map([double, negate], batch_size=2).agg(total).next(negate).next(spread).map(double).agg(counted)
    return numbers(4).map(body, 1, batch_size=outer).agg(collected)


@flow
def open_flow(size: int = 1, folder: str = "") -> Any:
    return numbers(4).map([double, add], batch_size=size)


@flow
def open_nested_flow(outer: int = 1, inner: int = 1) -> Any:
    return numbers(4).map(spread.map(double, batch_size=inner), 1, batch_size=outer)


@flow
def inner_open_flow(outer: int = 1) -> Any:
    """The inner map is not closed, so the aggregation receives lists."""
    return numbers(4).map([spread.map(double)], 1, batch_size=outer).agg(counted)


@flow
def body_flow(direct: bool = False, size: int = 1, bad: int = -1, folder: str = "") -> Any:
    return numbers(5).map([double, add, negate], 2, direct_pass=direct, batch_size=size).agg(collected)


@flow
def direct_nested_flow(size: int = 1, bad: int = -1, folder: str = "") -> Any:
    body = spread.map([double, add], batch_size=2).agg(collected).next(counted)
    return numbers(4).map(body, direct_pass=True, batch_size=size).agg(collected)


@flow
def many_flow(n: int = 400, size: int = 1) -> Any:
    return numbers().map(double, batch_size=size).agg(collected)


@flow
def arguments_flow(by: int = 2) -> Any:
    """Arguments of a use, of a body and of the flow: the nearest wins."""
    return numbers(3).map([add, add(by=10)], folder="").map(add, by=by * 100).agg(collected).next(given_all, extra="e")


@step
def given_all(value: Any, **kwargs: Any) -> Any:
    return value, dict(sorted(kwargs.items()))


# --- Batch


@flow
def job_first_flow(n: int = 3, by: int = 1) -> Any:
    return job_numbers().map(add).agg(collected)


@flow
def jobs_flow(n: int = 3, size: int = 1, folder: str = "") -> Any:
    """A job before a map, in it, and after it."""
    return numbers().next(trained).map([double, trained], batch_size=size).agg(collected).next(trained)


@flow
def job_nested_flow(bad: int = -1, folder: str = "") -> Any:
    return numbers(3).map(spread.map(trained).agg(trained), batch_size=3).agg(collected)


@flow
def job_direct_flow(bad: int = -1, folder: str = "") -> Any:
    return numbers(2).map([double, trained], direct_pass=True).agg(collected)


# --- values


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Point:
    x: int
    at: tuple[float, ...] = ()


class Named:
    """A class that is pickled as Python does by itself."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Named) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"<{self.name}>"


def _counting() -> Iterator[int]:
    yield from range(3)


def _array() -> list[Any]:
    import numpy as np

    return [np.arange(6, dtype="int16").reshape(2, 3), np.float32(1.5)] * 4


TEXTS = [
    "s3://lokki-artifacts/values-flow/runs/x/made/output.pkl.gz",
    "http://example.org/a?b=c",
    "",
    "${FlowName}",
    "$.run_id",
    "States.Format('{}', $)",
    "\u00fc \u2028 \U0001f986 \\ \0",
]
NOON = datetime(2024, 1, 31, 12, 0, tzinfo=UTC)
PLAIN = [(1, 2), {3, 4}, frozenset({5}), b"\0\xff", bytearray(b"6"), 1.5, True, 10**30, {"a": {1: None}}]
OF_MODULES = [NOON, NOON.date(), timedelta(days=1), Decimal("1.10"), Path("a/b"), PurePosixPath("/c")]

# Lists to map over, or what stands for one.
VALUES: dict[str, Callable[[], Any]] = {
    "empty": list,
    "items": lambda: [None, None, *TEXTS, *PLAIN, *OF_MODULES, Colour.BLUE, Point(1, (2.5,)), Named("n")],
    "tuple": lambda: (1, 2),
    "range": lambda: range(3),
    "set": lambda: {7},
    "generator": _counting,
    "array": _array,
}


@step
def made(kind: str = "empty", given: Any = None) -> Any:
    return VALUES[kind]() if given is None else given


@step
def seen(x: Any) -> Any:
    """What arrives, with its type as the function sees it."""
    return x, type(x).__name__, repr(x)


@flow
def values_flow(kind: str = "empty", given: Any = None, size: int = 1) -> Any:
    return made().map(seen, batch_size=size).agg(collected).next(seen)


@step
def nothing(x: Any = None) -> None:
    return None


@flow
def none_flow() -> Any:
    return nothing().next(nothing).next(seen).next(spread_three).map(nothing).agg(seen)


@step
def spread_three(x: Any) -> list[Any]:
    return [x, None, x]


@step
def whole(x: Any) -> Any:
    return lambda: x


@flow
def unsendable_flow() -> Any:
    """A result that cannot be pickled, in a map."""
    return numbers(2).map(whole).agg(counted)


@step
def plain_text() -> Any:
    return "goose"


@flow
def unmappable_flow() -> Any:
    """Text is no list of items."""
    return plain_text().map(seen).agg(counted)


@step
def secrets() -> dict[str, str]:
    return SECRETS


@step(job_type="batch")
def job_secrets(before: Any) -> Any:
    return [before, SECRETS]


@flow
def secrets_flow() -> Any:
    return secrets().next(job_secrets)


@flow
def prefixed_flow(n: int = 3, bad: int = -1, folder: str = "") -> Any:
    return numbers().map(spread.map(double).agg(trained), batch_size=2).agg(collected)


# --- parameters


@step
def told(**kwargs: Any) -> dict[str, str]:
    return {name: repr(each) for name, each in sorted(kwargs.items())}


@flow
def typed_flow(
    n: int,
    day: date,
    names: list[str],
    limit: int | None = None,
    rate: float = 0.5,
    mode: Literal["slow", "fast"] = "slow",
    colour: Colour = Colour.RED,
    text: str = "none",
    folder: str = "",
) -> Any:
    return told(computed=day + timedelta(days=n)).next(given_all, later=[n, *names])


@flow
def loose_flow(a: int = 1, **others: Any) -> Any:
    """Any other parameter is taken too."""
    return told().next(given_all)


@step(retry=QUICK)
def stamped(token: str, folder: str = "", n: int = 3) -> list[str]:
    """Fails once, having left the argument of each attempt behind."""
    tick(folder, f"stamp-{token}")
    if tick(folder, "stamped") == 1:
        raise ConnectionError
    return [token] * n


@step
def with_stamp(x: Any, token: str, at: datetime) -> Any:
    return x, token, at


@flow
def stamped_flow(folder: str = "") -> Any:
    token, now = str(uuid4()), datetime.now(UTC)
    inside = with_stamp(token=token, at=now)
    return (
        stamped(token).map([inside, inside]).agg(with_stamp, token=token, at=now).next(with_stamp, token=token, at=now)
    )


@flow
def shaped_flow(longer: bool = False, limit: int = 2, retries: int = 0) -> Any:
    chain = numbers(2).map(double(retry=RetryConfig(retries=retries)), concurrency_limit=limit).agg(total)
    return chain.next(double) if longer else chain


# --- retries


@step(retry=QUICK)
def shaky(x: Any = 3, name: str = "shaky", folder: str = "", times: int = 2) -> Any:
    """Fails so many times, with a subclass of what is retried."""
    if tick(folder, f"{name}-{x if isinstance(x, int) else 'all'}") <= times:
        raise ConnectionResetError(f"no answer for {x}")
    return x


@step(job_type="batch", retry=QUICK)
def shaky_job(x: Any, folder: str = "", times: int = 2) -> Any:
    if tick(folder, f"job-{x if isinstance(x, int) else 'all'}") <= times:
        raise ConnectionResetError(f"no answer for {x}")
    return x


@step(retry=QUICK)
def uneven(x: int, folder: str = "") -> int:
    """Fails as many times as the number says."""
    if tick(folder, f"uneven-{x}") <= x:
        raise ConnectionRefusedError(f"no answer for {x}")
    return x


@step
def brittle(x: Any, name: str = "brittle", folder: str = "", times: int = 1) -> Any:
    """Is not tried again unless its use says so."""
    if tick(folder, f"{name}-{x if isinstance(x, int) else 'all'}") <= times:
        raise TimeoutError("too late")
    return x


@step(retry=QUICK)
def refused(x: Any, folder: str = "", times: int = 0) -> Any:
    """Fails with what is not retried."""
    tick(folder, "refused")
    raise PermissionError(f"{x} may not")


@flow
def retried_flow(folder: str = "", times: int = 2) -> Any:
    """Retries of the first task, in a map, in an aggregation."""
    return shaky(3, name="task").next(spread).map(shaky, 2, name="item").agg(shaky, name="all")


@flow
def retried_batch_flow(folder: str = "", size: int = 3) -> Any:
    return numbers(3).map([uneven, add], batch_size=size).agg(collected)


@flow
def retried_nested_flow(folder: str = "", outer: int = 2, inner: int = 2) -> Any:
    return numbers(4).map(spread.map(shaky, name="item", times=1, batch_size=inner).agg(counted), batch_size=outer)


@flow
def retried_direct_flow(folder: str = "", size: int = 1) -> Any:
    return numbers(3).map([uneven, double], direct_pass=True, batch_size=size).agg(collected)


@flow
def retried_job_flow(folder: str = "", size: int = 1) -> Any:
    return numbers(2).map(shaky_job, batch_size=size).agg(shaky_job)


@flow
def retried_use_flow(folder: str = "") -> Any:
    """Two uses of a step, each with a policy of its own."""
    once = brittle(name="once", retry=RetryConfig(retries=1, delay=0.01))
    twice = brittle(name="twice", times=2, retry=RetryConfig(retries=2, delay=0.01))
    return numbers(2).map([once, twice]).agg(collected)


@flow
def refused_flow(folder: str = "") -> Any:
    return numbers(1).map(refused).agg(collected)


@flow
def exhausted_flow(folder: str = "") -> Any:
    return numbers(1).map(shaky, name="item", times=9).agg(collected)


# --- results of an earlier execution


@step
def drawn(n: int = 10, replaced: int = -1, folder: str = "") -> list[int]:
    tick(folder, "drawn")
    return [1000 if each == replaced else each for each in range(n)]


@flow
def cached_flow(replaced: int = -1, by: int = 1, size: int = 1, folder: str = "") -> Any:
    return drawn().map(double, 3, batch_size=size).agg(total).next(add)


@step
def gated(x: Any, folder: str = "") -> Any:
    """Fails for the items that the folder says, which is no argument of this step."""
    name = f"gated-{x}" if isinstance(x, int) else "gated-all"
    tick(folder, name)
    if os.path.exists(os.path.join(folder, f"closed-{name}")):
        raise RuntimeError("closed")
    return x


@flow
def gated_flow(size: int = 1, folder: str = "") -> Any:
    return drawn().map(gated, 3, batch_size=size).agg(gated).next(total)
