"""redun: every call is recorded in SQLite, so everything it does is durable and resumable."""

from __future__ import annotations

import itertools
import logging
import sys

from redun import Scheduler, task
from redun.config import Config
from work import BIRDS, CORES, consume, cpu, each, flaky, in_order, main, payload, ran_again

redun_namespace = "bench"
_databases = itertools.count()
_held = []


@task()
def flap(bird: str) -> str:
    return f"flappy {bird}"


@task()
def joined(parts: list) -> str:
    return ", ".join(parts)


@task()
def flapped() -> str:
    return joined([flap(bird) for bird in BIRDS])


@task()
def same(item: int) -> int:
    return item


@task()
def counted(items: list) -> int:
    return in_order(items)


@task()
def mapped(count: int) -> int:
    return counted([same(item) for item in range(count)])


@task()
def at_risk(item: int, fails: int) -> int:
    return flaky(item, fails)


@task()
def retaken(count: int) -> int:
    return counted([at_risk(item, count * 9 // 10) for item in range(count)])


@task()
def more(number: int) -> int:
    return number + 1


@task()
def chained(count: int) -> int:
    number = 0
    for _ in range(count):
        number = more(number)
    return number


@task()
def give():
    return _held.pop()


@task()
def take(value) -> float:
    return consume(value)


def run(expression, database: str = ""):
    name = database or f"kept-{next(_databases)}.db"
    workers = {"type": "local", "max_workers": str(CORES)}
    scheduler = Scheduler(config=Config({"backend": {"db_uri": f"sqlite:///{name}"}, "executors.default": workers}))
    scheduler.load()
    logging.getLogger("redun").setLevel(logging.ERROR)
    return scheduler.run(expression)


def birds() -> None:
    print(run(flapped()))


def map_durable(count: int) -> dict[str, float]:
    return {"figure": each(count, lambda size: run(mapped(size)), times=1)[0]}


def chain_durable(count: int) -> dict[str, float]:
    sys.setrecursionlimit(50_000)
    return {"figure": each(count, lambda size: run(chained(size)), times=1)[0]}


def value(kind: str) -> dict[str, float]:
    _held.append(payload(kind))
    return {"figure": cpu(lambda: run(take(give())))}


def resume(count: int) -> dict[str, float]:
    run(retaken(count), "kept.db")
    return {"figure": ran_again()}


if __name__ == "__main__":
    main(birds, map_durable, chain_durable, value, resume)
