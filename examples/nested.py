"""A map within a map: what runs for each item is a chain that itself maps over something and aggregates it.

Try:
    python examples/nested.py run
    python examples/nested.py run --ripe 3
    python examples/nested.py graph
"""

from __future__ import annotations

from lokki import flow, main, step

ORCHARDS = {"north": [4, 1, 5], "south": [3, 3], "west": []}


@step
def orchards():
    return list(ORCHARDS)


@step
def trees(orchard):
    return [(orchard, apples) for apples in ORCHARDS[orchard]]


@step
def pick(tree, ripe=1):
    _, apples = tree
    return apples if apples >= ripe else 0


@step
def fill_crate(apples):
    return sum(apples)


@step
def load_truck(crates):
    return f"{sum(crates)} apples in {len(crates)} crates: {crates}"


@flow
def harvest(ripe: int = 1):
    per_orchard = trees.map(pick, concurrency_limit=2, ripe=ripe).agg(fill_crate)
    return orchards().map(per_orchard).agg(load_truck)


if __name__ == "__main__":
    main(harvest)
