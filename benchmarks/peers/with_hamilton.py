"""Hamilton: maps as its parallel blocks, chains as functions that name each other; its cache is what resumes."""

from __future__ import annotations

import itertools
import sys

from hamilton import ad_hoc_utils, driver
from hamilton.execution import executors
from hamilton.htypes import Collect, Parallelizable
from work import BIRDS, each, flaky, in_order, main, ran_again, same

_modules = itertools.count()


def built(*functions, cached: bool = False, parallel: bool = True):
    module = ad_hoc_utils.create_temporary_module(*functions, module_name=f"made_{next(_modules)}")
    builder = driver.Builder().with_modules(module)
    if parallel:
        builder = builder.enable_dynamic_execution(allow_experimental_mode=True)
        builder = builder.with_remote_executor(executors.SynchronousLocalTaskExecutor())
    if cached:
        builder = builder.with_cache(path="kept")
    return builder.build()


def flapped(bird: str) -> str:
    return f"flappy {bird}"


def bird() -> Parallelizable[str]:
    yield from BIRDS


def joined(flapped: Collect[str]) -> str:
    return ", ".join(flapped)


def birds() -> None:
    print(built(bird, flapped, joined).execute(["joined"])["joined"])


def mapped(step, count: int, cached: bool = False) -> None:
    def item() -> Parallelizable[int]:
        yield from range(count)

    def done(item: int) -> int:
        return step(item)

    def counted(done: Collect[int]) -> int:
        return in_order(list(done))

    built(item, done, counted, cached=cached).execute(["counted"])


def map_memory(count: int) -> dict[str, float]:
    return {"figure": each(count, lambda size: mapped(same, size), times=3)[0]}


def chain_memory(count: int) -> dict[str, float]:
    sys.setrecursionlimit(50_000)

    def run(size: int) -> None:
        steps = [f"def s{at}(s{at - 1}: int) -> int:\n    return s{at - 1} + 1\n" for at in range(1, size + 1)]
        made: dict = {}
        exec("def s0() -> int:\n    return 0\n" + "".join(steps), made)
        functions = [made[f"s{at}"] for at in range(size + 1)]
        built(*functions, parallel=False).execute([f"s{size}"])

    return {"figure": each(count, run, times=3)[0]}


def resume(count: int) -> dict[str, float]:
    mapped(lambda item: flaky(item, count * 9 // 10), count, cached=True)
    return {"figure": ran_again()}


if __name__ == "__main__":
    main(birds, map_memory, chain_memory, resume)
