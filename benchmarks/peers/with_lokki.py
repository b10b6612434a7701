"""lokki's side of every workload, written as its users write flows."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from work import beyond_ideal, consume, cpu, each, flaky, in_order, main, more, payload, ran_again, same, spin, wall

from lokki import LocalRunner, flow, step
from lokki.events import silent

_runs = itertools.count()
_held: list[Any] = []

doing_nothing = step(same)
adding_one = step(more)
spinning = step(spin)
failing_once = step(flaky)
joined = step(in_order)
taking = step(consume)


@step
def numbers(count: int) -> list[int]:
    return list(range(count))


@step
def zero() -> int:
    return 0


@step
def giving() -> Any:
    return _held.pop()


@flow
def mapped(count: int):
    return numbers(count).map(doing_nothing).agg(joined)


@flow
def spun(count: int):
    return numbers(count).map(spinning).agg(joined)


@flow
def retaken(count: int, fails: int):
    return numbers(count).map(failing_once(fails=fails)).agg(joined)


@flow
def chained(count: int):
    end = zero()
    for _ in range(count):
        end = end.next(adding_one)
    return end


@flow
def handed():
    return giving().next(taking)


def in_memory(graph: Any) -> Any:
    return LocalRunner(listen=silent, store_type="memory").run(graph)


def kept(graph: Any) -> Any:
    return LocalRunner(listen=silent, store_type="local").run(graph, run_id=f"run-{next(_runs)}")


def map_memory(count: int) -> dict[str, float]:
    from bare import map_in_threads

    return _beside(count, lambda size: in_memory(mapped(size)), map_in_threads)


def map_durable(count: int) -> dict[str, float]:
    from bare import append_each

    return _beside(count, lambda size: kept(mapped(size)), append_each)


def chain_memory(count: int) -> dict[str, float]:
    from bare import chain_in_a_thread

    return _beside(count, lambda size: in_memory(chained(size)), chain_in_a_thread)


def chain_durable(count: int) -> dict[str, float]:
    from bare import file_each

    return _beside(count, lambda size: kept(chained(size)), file_each)


def spins(count: int) -> dict[str, float]:
    runner = LocalRunner(listen=silent, store_type="memory", executor="processes")
    return {"figure": beyond_ideal(count, lambda size: runner.run(spun(size)))}


def value(kind: str) -> dict[str, float]:
    held = payload(kind)
    _held.append(held)
    return {"figure": cpu(lambda: kept(handed()))}


def resume(count: int) -> dict[str, float]:
    LocalRunner(listen=silent, store_type="local").run(retaken(count, count * 9 // 10), run_id="nightly")
    return {"figure": ran_again()}


def million_memory(count: int) -> dict[str, float]:
    return {"seconds": wall(lambda: in_memory(mapped(count)))}


def million_durable(count: int) -> dict[str, float]:
    return {"seconds": wall(lambda: kept(mapped(count)))}


def log(count: int) -> dict[str, float]:
    """How much of a run the log to standard error is, in percent."""
    told = LocalRunner(store_type="memory")
    in_memory(mapped(count))
    turns = [(cpu(lambda: told.run(mapped(count))), cpu(lambda: in_memory(mapped(count)))) for _ in range(25)]
    with_log, without = (sorted(column)[len(turns) // 2] for column in zip(*turns, strict=True))
    return {"figure": with_log, "beside": without}


def _beside(count: int, run: Callable[[int], Any], bare: Callable[[int], Any]) -> dict[str, float]:
    figure, beside = each(count, run, bare)
    return {"figure": figure, "beside": beside}


if __name__ == "__main__":
    main(
        map_memory, map_durable, chain_memory, chain_durable, spins, value, resume, million_memory, million_durable, log
    )
