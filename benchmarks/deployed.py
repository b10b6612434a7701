"""Counts what a fan-out takes in AWS, and what it costs there.

    python benchmarks/deployed.py [--simulate] [--write]

The flows are in `fanout.py`: a list of numbers, a map whose step returns its item, a step that gathers the results. The
figures are those of the cost model that `build` uses too. With `--simulate`, what is built of the flows is executed for
1,000 items in the simulation, and what that counts stands beside the model. No account is needed for either.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fanout import FLOWS
from lokki.builder.costs import ASSUMED, RESULT_WRITER_PUTS, Bill, Load, Usage, bill, dollars, estimate, longest_calls
from lokki.builder.resources import LAMBDA_SECONDS, Deployment, describe
from lokki.settings import LambdaConfig, LokkiConfig

HERE = os.path.dirname(os.path.abspath(__file__))
KNOWN = os.path.join(HERE, "figures.json")
PAGE = os.path.join(os.path.dirname(HERE), "docs", "benchmarks.md")
BEGIN, END = "<!-- figures: benchmarks/deployed.py --write -->", "<!-- end of figures -->"
SIZES = (1_000, 100_000, 1_000_000)
MILLION = 1_000_000
CONFIG = LokkiConfig(lambda_=LambdaConfig(timeout=60))  # 300 seconds or less: children are EXPRESS
MOST_DOLLARS = 0.15
MOST_MORE = 8  # requests of a fan-out, besides two for each child
PARTS = 64  # requests that values over 8 MiB take more, at most
MISSED = " **missed**"
FIRST = "Where it is missed, processes whose first items lie beyond the first MiB of all items read that MiB too."
STARTS = "cost if starts are billed"
COUNTED = ("states entered", "Lambda calls", "GET", "PUT")

# Per item, by what their compilers write and their runtimes do for a body of one step; a call of 50 ms and 512 MB.
UPSTREAM = {"transitions": 1, "child_executions_standard": 1, "s3_put": 2, "s3_get": 2, "lambda_requests": 1}
METAFLOW = {"transitions": 1, "child_executions_standard": 1, "s3_put": 9, "s3_get": 70}


def main() -> None:
    arguments = _arguments()
    counted = {size: _simulated(size) for size in FLOWS} if arguments.simulate else {}
    known = _known()
    known["deployed"] = {str(size): figures for size, figures in counted.items()} or known.get("deployed", {})
    page = list(_page(known["deployed"]))
    for line in page:
        print(line)
    if arguments.write:
        _write(known, page)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulate", action="store_true", help="also count in the simulation, for 1,000 items")
    parser.add_argument("--write", action="store_true", help="keep the figures, and renew docs/benchmarks.md with them")
    return parser.parse_args()


def _page(counted: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """The lines of the page."""
    sizes = list(_sizes())
    yield ASSUMED
    yield ""
    yield from sizes
    yield ""
    if any(MISSED in line for line in sizes):
        yield from (FIRST, "")
    yield from _others()
    if counted:
        yield ""
        yield from _beside_the_simulation(counted)


def _sizes() -> Iterator[str]:
    """What each number of items takes, by the model."""
    yield _cells(
        ("items", "`batch_size`", "children", "S3 requests", "fan-out alone", "gathering takes", "cost", STARTS)
    )
    yield _cells(["---"] * 8)
    for items in SIZES:
        for size in FLOWS:
            yield _cells(_size(items, size))


def _size(items: int, size: int) -> Iterator[str]:
    deployment = _deployment(size)
    told = _bill(items, size)
    used = told.usage
    requests = used.s3_get + used.s3_put
    # what the first step leaves, and of the last one the result, the manifest and a part of each child
    fan_out = requests - 2 - 1 - used.children
    yield f"{items:,}"
    yield f"{size}"
    yield f"{used.children:,}"
    yield f"{requests:,}"
    more = fan_out - 2 * used.children
    yield f"{2 * used.children:,} {'-' if more < 0 else '+'} {abs(more):,}{MISSED if more > MOST_MORE + PARTS else ''}"
    yield _duration(longest_calls(deployment, items)["how_many"])
    yield dollars(told.cost.total)
    yield dollars(told.more.total)


def _others() -> Iterator[str]:
    """A million items beside others that compile to Step Functions."""
    ours = {f"lokki, `batch_size={size}`": _bill(MILLION, size) for size in FLOWS}
    seconds = {"lambda_gb_seconds": MILLION * Load().seconds_per_call * CONFIG.lambda_.memory / 1024}
    usages = {
        "upstream lokki": Usage(**{name: MILLION * number for name, number in UPSTREAM.items()}, **seconds),
        "Metaflow, besides its Batch jobs": Usage(**{name: MILLION * number for name, number in METAFLOW.items()}),
    }
    theirs = {name: bill(name, usage, _deployment(1)) for name, usage in usages.items()}
    yield _cells(("a million items", "state transitions", "EXPRESS runs", "S3 requests", "cost", STARTS))
    yield _cells(["---"] * 6)
    for name, told in {**ours, **theirs}.items():
        used = told.usage
        numbers = (used.transitions, used.express_executions, used.s3_get + used.s3_put)
        yield _cells((name, *(f"{number:,}" for number in numbers), dollars(told.cost.total), dollars(told.more.total)))
    cheapest = ours[f"lokki, `batch_size={max(FLOWS)}`"].cost.total
    yield ""
    yield f"The bar for a million items in children of {max(FLOWS)} is {dollars(MOST_DOLLARS)}: {_verdict(cheapest)}."


def _verdict(cost: float) -> str:
    return "it holds" if cost <= MOST_DOLLARS else "**missed**"


def _beside_the_simulation(counted: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """What was counted for 1,000 items, and what the model says of it."""
    yield _cells((f"{SIZES[0]:,} items, counted (by the model)", *COUNTED))
    yield _cells(["---"] * (1 + len(COUNTED)))
    for size, figures in counted.items():
        told = _modelled(int(size), figures["processes"])
        yield _cells((f"`batch_size={size}`", *(f"{figures[each]:,} ({told[each]:,})" for each in COUNTED)))


def _modelled(size: int, processes: int) -> dict[str, int]:
    """The model of a simulation: with its number of processes, and map runs that write their manifest only."""
    used = estimate(_deployment(size), SIZES[0], Load(processes=processes))
    puts = used.s3_put - used.map_runs * (RESULT_WRITER_PUTS - 1)
    return dict(zip(COUNTED, (used.transitions + used.children, used.lambda_requests, used.s3_get, puts), strict=True))


def _simulated(size: int) -> dict[str, int]:
    """What an execution for 1,000 items is counted to take."""
    from lokki.builder.costs import measured
    from lokki.simulate import simulation

    with simulation(FLOWS[size](SIZES[0]), CONFIG) as simulated:
        outcome = simulated.execute()
    if outcome.value != SIZES[0]:
        sys.exit(f"The simulation failed: {outcome.execution.error}: {outcome.execution.cause}")
    counts = outcome.execution.counts
    used = measured(_deployment(size), counts).usage
    numbers = (sum(counts.states.values()), used.lambda_requests, used.s3_get, used.s3_put)
    processes = max(2, 2 * (os.cpu_count() or 1))  # as many as the simulation keeps of a function
    return {**dict(zip(COUNTED, numbers, strict=True)), "processes": processes}


def _bill(items: int, size: int) -> Bill:
    deployment = _deployment(size)
    return bill(f"{items:,} items", estimate(deployment, items), deployment)


def _deployment(size: int) -> Deployment:
    return describe(FLOWS[size](), CONFIG)


def _duration(seconds: float) -> str:
    told = f"{seconds:,.1f} s" if seconds < 100 else f"{seconds / 60:,.0f} min"
    return told if seconds <= LAMBDA_SECONDS else f"{told}: too long"


def _cells(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _known() -> dict[str, Any]:
    with open(KNOWN, encoding="utf-8") as file:
        known: dict[str, Any] = json.load(file)
    return known


def _write(known: Mapping[str, Any], lines: Iterable[str]) -> None:
    """Keep the figures, and show them on the page."""
    with open(KNOWN, "w", encoding="utf-8") as file:
        file.write(json.dumps(known, indent=2, sort_keys=True) + "\n")
    with open(PAGE, encoding="utf-8") as file:
        before, _, rest = file.read().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        sys.exit(f"docs/benchmarks.md has no place for the figures: it needs the lines {BEGIN} and {END}.")
    with open(PAGE, "w", encoding="utf-8") as file:
        file.write("\n".join([before + BEGIN, "", *lines, "", END]) + after)


if __name__ == "__main__":
    main()
