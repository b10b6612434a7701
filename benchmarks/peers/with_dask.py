"""Dask's local schedulers, "threads" or "processes": maps as bags, chains as delayed calls; it keeps nothing."""

from __future__ import annotations

import sys

import dask  # noqa: TID253
import dask.bag  # noqa: TID253
from work import BIRDS, CORES, beyond_ideal, each, in_order, main, more, same, spin

_how = {"num_workers": CORES}


def flap(bird: str) -> str:
    return f"flappy {bird}"


def over(step, count: int) -> None:
    in_order(dask.bag.from_sequence(range(count)).map(step).compute(**_how))


def birds() -> None:
    print(", ".join(dask.bag.from_sequence(BIRDS).map(flap).compute(**_how)))


def map_memory(count: int) -> dict[str, float]:
    return {"figure": each(count, lambda size: over(same, size))[0]}


def spins(count: int) -> dict[str, float]:
    return {"figure": beyond_ideal(count, lambda size: over(spin, size))}


def chain_memory(count: int) -> dict[str, float]:
    adding = dask.delayed(more)

    def run(size: int) -> None:
        end = dask.delayed(0)
        for _ in range(size):
            end = adding(end)
        end.compute(**_how)

    return {"figure": each(count, run, times=3)[0]}


if __name__ == "__main__":
    _how["scheduler"] = sys.argv.pop(1)
    main(birds, map_memory, spins, chain_memory)
