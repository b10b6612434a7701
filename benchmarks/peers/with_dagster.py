"""Dagster: jobs in one process, values kept by its file system I/O manager, events in its SQLite instance."""

from __future__ import annotations

import os
import sys

from dagster import (
    DagsterInstance,
    DynamicOut,
    DynamicOutput,
    ReexecutionOptions,
    execute_job,
    fs_io_manager,
    in_process_executor,
    job,
    op,
    reconstructable,
)
from work import BIRDS, consume, cpu, each, flaky, in_order, main, payload, ran_again

COUNT = 1_000
_size = {"items": COUNT}
_held = []


@op(out=DynamicOut())
def names():
    for at, bird in enumerate(BIRDS):
        yield DynamicOutput(bird, mapping_key=str(at))


@op
def flap(bird):
    return f"flappy {bird}"


@op
def joined(parts):
    return ", ".join(parts)


@op(out=DynamicOut())
def numbers():
    for item in range(_size["items"]):
        yield DynamicOutput(item, mapping_key=str(item))


@op
def same(item):
    return item


@op
def at_risk(item):
    return flaky(item, COUNT * 9 // 10)


@op
def counted(items):
    return in_order(items)


@op
def zero():
    return 0


@op
def more(number):
    return number + 1


@op
def give():
    return _held.pop()


@op
def take(value):
    return consume(value)


QUIET = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
HOW = {"executor_def": in_process_executor, "resource_defs": {"io_manager": fs_io_manager}}


@job(**HOW)
def flapped():
    joined(names().map(flap).collect())


@job(**HOW)
def mapped():
    counted(numbers().map(same).collect())


@job(**HOW)
def retaken():
    counted(numbers().map(at_risk).collect())


@job(**HOW)
def handed():
    take(give())


def chained(count: int):
    @job(**HOW)
    def chain():
        number = zero()
        for _ in range(count):
            number = more(number)

    return chain


def instance() -> DagsterInstance:
    os.environ["DAGSTER_HOME"] = os.path.abspath("home")
    os.makedirs("home", exist_ok=True)
    return DagsterInstance.get()


def run(wanted, kept: DagsterInstance) -> None:
    if not wanted.execute_in_process(run_config=QUIET, instance=kept).success:
        sys.exit("a job failed")


def birds() -> None:
    with instance() as kept:
        print(flapped.execute_in_process(run_config=QUIET, instance=kept).output_for_node("joined"))


def map_durable(count: int) -> dict[str, float]:
    def over(size: int) -> None:
        _size["items"] = size
        run(mapped, kept)

    with instance() as kept:
        return {"figure": each(count, over, times=1)[0]}


def chain_durable(count: int) -> dict[str, float]:
    with instance() as kept:
        return {"figure": each(count, lambda size: run(chained(size), kept), times=1)[0]}


def value(kind: str) -> dict[str, float]:
    _held.append(payload(kind))
    with instance() as kept:
        return {"figure": cpu(lambda: run(handed, kept))}


def resume(_: int) -> dict[str, float]:
    with instance() as kept:
        earlier = kept.get_runs()
        again = ReexecutionOptions.from_failure(earlier[0].run_id, kept) if earlier else None
        with execute_job(reconstructable(retaken), kept, run_config=QUIET, reexecution_options=again) as result:
            if not result.success:
                sys.exit("the job failed")
    return {"figure": ran_again()}


if __name__ == "__main__":
    main(birds, map_durable, chain_durable, value, resume)
