"""joblib: maps in its processes; what is kept is kept by `joblib.Memory`, one file per call."""

from __future__ import annotations

from joblib import Memory, Parallel, delayed
from joblib.externals.loky import get_reusable_executor
from work import BIRDS, CORES, beyond_ideal, consume, cpu, each, flaky, in_order, main, payload, ran_again, same, spin

_held = []


def flap(bird: str) -> str:
    return f"flappy {bird}"


def give():
    return _held.pop()


def run_all(step, count: int, *more) -> None:
    in_order(Parallel(n_jobs=CORES)(delayed(step)(item, *more) for item in range(count)))


def over(step, count: int, *more) -> None:
    run_all(step, count, *more)
    get_reusable_executor().shutdown(wait=True)  # so that what its processes took is counted


def birds() -> None:
    print(", ".join(Parallel(n_jobs=CORES)(delayed(flap)(bird) for bird in BIRDS)))


def map_memory(count: int) -> dict[str, float]:
    return {"figure": each(count, lambda size: over(same, size))[0]}


def map_durable(count: int) -> dict[str, float]:
    def run(size: int) -> None:
        memory = Memory("kept", verbose=0)
        over(memory.cache(same), size)
        memory.clear(warn=False)

    return {"figure": each(count, run, times=3)[0]}


def spins(count: int) -> dict[str, float]:
    return {"figure": beyond_ideal(count, lambda size: run_all(spin, size))}


def value(kind: str) -> dict[str, float]:
    _held.append(payload(kind))
    giving = Memory("kept", verbose=0).cache(give)

    def run() -> None:
        giving()
        consume(giving())

    return {"figure": cpu(run)}


def resume(count: int) -> dict[str, float]:
    run_all(Memory("kept", verbose=0).cache(flaky), count, count * 9 // 10)
    return {"figure": ran_again()}


if __name__ == "__main__":
    main(birds, map_memory, map_durable, spins, value, resume)
