"""Flows for the tests of deployed functions; at module level, because a package imports them by name.

`TROUBLES` says what goes wrong: for an item, the errors that the next calls with it raise, one each.
"""

from __future__ import annotations

import datetime as dt
import itertools
import os
from collections.abc import Iterable
from typing import Any

from ticking_flows import tick

from lokki import RetryConfig, flow, step

TROUBLES: dict[Any, list[BaseException]] = {}
RETRIED = RetryConfig(retries=2, delay=0.001, exceptions=(ConnectionError,))

_calls = itertools.count()


def meet_trouble(item: Any) -> None:
    if TROUBLES.get(item):
        raise TROUBLES[item].pop(0)


class LostError(ConnectionError):
    """One of the errors that are worth a retry, by way of its base."""


class MuteError(Exception):
    """An error that cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


class UnsendableError(Exception):
    """An error that no pickle takes."""

    def __init__(self) -> None:
        super().__init__("cannot be sent")
        self.items = iter(())


class Mislaid:
    """A value that is stored and cannot be read back."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _not_read, ()


def _not_read() -> None:
    raise ValueError("moulted")


# Steps


@step
def numbers(n: int = 4) -> list[int]:
    tick("numbers")
    meet_trouble("numbers")
    return list(range(n))


@step(retry=RETRIED)
def stubborn(n: int = 4) -> list[int]:
    tick("stubborn")
    meet_trouble("stubborn")
    return list(range(n))


@step
def flap(x: int, times: int = 10) -> int:
    tick(f"flap:{x}")
    meet_trouble(x)
    return x * times


@step(retry=RETRIED)
def glide(x: int) -> int:
    tick(f"glide:{x}")
    meet_trouble(x)
    return x * 10


@step(job_type="batch", retry=RETRIED)
def soar(x: int) -> int:
    tick(f"soar:{x}")
    meet_trouble(x)
    return x * 10


@step
def eggs(x: int) -> list[int]:
    tick(f"eggs:{x}")
    return list(range(x, 2 * x))


@step
def total(xs: Iterable[int]) -> int:
    tick("total")
    meet_trouble("total")
    return sum(xs)


@step
def echo(value: Any) -> Any:
    return value


@step
def moulted(value: Any) -> Any:
    return Mislaid()


@step
def locked(x: int) -> Any:
    from threading import Lock

    return Lock() if x == 2 else x


@step
def nothing(value: Any) -> None:
    return None


@step
def text(value: Any) -> Any:
    return "owl"


@step
def stamped(xs: Any, at: dt.date, call: int) -> Any:
    return xs, at, call


@step
def given(value: Any, by: int = 1, **rest: Any) -> dict[str, Any]:
    return {"value": value, "by": by, **rest}


@step
def first(count: int, kind: str = "owl") -> list[str]:
    return [kind] * count


@step(retry=RETRIED)
def alone(n: int = 1) -> int:
    meet_trouble("alone")
    return n


# Flows


@flow
def chain_flow(n: int = 4) -> Any:
    return numbers(n).next(total)


@flow
def map_flow(n: int = 4) -> Any:
    return numbers(n).map(flap).agg(total)


@flow
def times_flow(n: int = 4, times: int = 10) -> Any:
    return numbers(n).map(flap, times=times + 0).agg(total)


@flow
def sized_flow(n: int = 7, size: int = 3) -> Any:
    return numbers(n).map(flap, batch_size=size).agg(total)


@flow
def glide_flow(n: int = 7, size: int = 3) -> Any:
    return numbers(n).map(glide, batch_size=size).agg(total)


@flow
def direct_flow(n: int = 4, times: int = 10) -> Any:
    return numbers(n).map([glide, flap(times=times + 0)], direct_pass=True).agg(total)


@flow
def soar_flow(n: int = 4, size: int = 2) -> Any:
    return numbers(n).map(soar, batch_size=size).agg(total)


@flow
def nested_flow(n: int = 4, outer: int = 1, inner: int = 1) -> Any:
    inside = eggs.map(flap, batch_size=inner).agg(total)
    return numbers(n).map(inside, batch_size=outer).agg(echo)


@flow
def computed_flow(n: int = 2, since: dt.date = dt.date(2026, 1, 1)) -> Any:
    return numbers(n).next(stamped, at=since + dt.timedelta(days=1), call=next(_calls))


@flow
def fixed_flow() -> Any:
    return numbers(3).next(total)


@flow
def stubborn_flow() -> Any:
    return stubborn(next(_calls)).next(echo)


@flow
def shifty_flow(twice: bool = False) -> Any:
    return numbers(2).next(echo).next(echo) if twice else numbers(2).next(echo)


@flow
def moulted_flow(size: int = 1) -> Any:
    return numbers(2).map(moulted, batch_size=size).agg(echo)


@flow
def locked_flow(size: int = 3) -> Any:
    return numbers(3).map(locked, batch_size=size).agg(echo)


@flow
def mute_map_flow() -> Any:
    return numbers(2).next(text).map(echo).agg(echo)


@flow
def nothing_flow() -> Any:
    return numbers(2).next(nothing).next(given)


@flow
def alone_flow(n: int = 1) -> Any:
    return alone(n)


@flow
def soar_first_flow(x: int = 3) -> Any:
    return soar(x).next(echo)


@flow
def needy_flow(n: int) -> Any:
    return numbers(n).next(total)


@flow
def locked_in_flow(lock: bool = False) -> Any:
    from threading import Lock

    return numbers(2).next(given, by=Lock() if lock else 1)


@flow
def divided_flow(parts: int = 2) -> Any:
    return numbers(12 // parts).next(total)


@step(retry=RETRIED)
def gathered(xs: Iterable[int]) -> int:
    tick("gathered")
    meet_trouble("gathered")
    return sum(xs)


@flow
def glide_gathered_flow(n: int = 3) -> Any:
    return numbers(n).map(glide).agg(gathered)


@flow
def glide_chain_flow(n: int = 3) -> Any:
    return alone(n).next(glide)


@flow
def nested_glide_flow(outer: int = 2, inner: int = 2) -> Any:
    return numbers(4).map(eggs.map(glide, batch_size=inner).agg(total), batch_size=outer).agg(echo)


@step
def wide(count: int = 6) -> list[str]:
    return ["x" * (300_000 + at) for at in range(count)]


@step
def length(value: str) -> int:
    return len(value)


@step
def listed(birds: list[Any]) -> list[Any]:
    return birds


@flow
def wide_flow() -> Any:
    return wide(6).map(length).agg(total)


@flow
def listed_flow(birds: list[str] = ["owl"]) -> Any:  # noqa: B006 - it is copied for each execution
    return listed(birds).map(echo).agg(echo)


@flow
def open_nested_flow() -> Any:
    return numbers(4).map(eggs.map(flap))


@flow
def deep_flow() -> Any:
    return numbers(3).map(eggs.map(eggs.map(flap)))


@step
def parity(n: int) -> int:
    tick("parity")
    return n % 2


@step
def named(odd: int) -> str:
    tick("named")
    return "odd" if odd else "even"


@flow
def parity_flow(n: int = 3) -> Any:
    return parity(n).next(named)


@flow
def picked_flow(items: list[int] = [1]) -> Any:  # noqa: B006 - it is copied for each execution
    return listed(items).map(flap, batch_size=4).agg(total)


@step
def secret() -> int:
    return len(os.environ["NEST_TOKEN"])


@flow
def secret_flow() -> Any:
    return secret()


@step(job_type="batch")
def perched() -> str:
    return os.environ["PERCH"]


@flow
def perch_flow() -> Any:
    return perched()


class Nest:
    """A value whose pickle is another one each time, as that of a set may be in another process."""

    def __init__(self, x: int, _written: int = 0) -> None:
        self.x = x

    def __reduce__(self) -> tuple[Any, ...]:
        return Nest, (self.x, next(_calls))


@step
def nests(xs: list[int]) -> list[Any]:
    tick("nests")
    return [Nest(x) for x in xs]


@step
def woven(x: int) -> Any:
    tick(f"woven:{x}")
    return Nest(x)


@step
def weighed(nest: Any) -> int:
    tick(f"weighed:{nest.x}")
    return int(nest.x)


@flow
def nests_flow(xs: list[int] = [1, 2, 3], size: int = 2) -> Any:  # noqa: B006 - it is copied for each execution
    return nests(xs).map(weighed, batch_size=size).agg(total)


@flow
def woven_flow(xs: list[int] = [1, 2, 3], size: int = 2) -> Any:  # noqa: B006 - it is copied for each execution
    return listed(xs).map([woven, weighed], batch_size=size).agg(total)
