"""What an execution of a flow costs in AWS: estimated before it is built, or measured in a simulation.

Both give a `Bill`: a `Usage` with its cost, which is also the lines that tell it to a person.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Protocol

from lokki.builder.estimates import (
    JOB_SECONDS,
    LOG_BYTES,
    RESULT_WRITER_PUTS,
    USUAL,
    Load,
    estimate,
    express_gb_seconds,
    gigabytes,
    longest_calls,
    of_jobs,
)
from lokki.builder.prices import ASSUMED, PRICES, Cost, Prices, Usage, dollars
from lokki.builder.resources import Deployment, Function, Job, is_express
from lokki.frozen import frozen
from lokki.graph import FlowGraph, Map

__all__ = [
    "ASSUMED",
    "PRICES",
    "RESULT_WRITER_PUTS",
    "USUAL",
    "Bill",
    "Cost",
    "Counted",
    "Load",
    "Prices",
    "Usage",
    "bill",
    "dollars",
    "estimate",
    "longest_calls",
    "measured",
    "per_thousand",
]


@frozen
class Bill:
    """A usage with its cost; `about` says whose, and `more` is the cost if AWS bills the starts of children.

    Iterating over it gives the lines that tell it.
    """

    about: str
    usage: Usage
    cost: Cost
    more: Cost

    def __iter__(self) -> Iterator[str]:
        used = self.usage
        yield f"{self.about}:"
        rows = {
            "state transitions": f"{used.transitions:,}{self._with_starts()}",
            "child executions": self._children(),
            "Lambda": f"{used.lambda_requests:,} invocations, {used.lambda_gb_seconds:,.1f} GB-s",
            "Batch jobs": f"{used.batch_jobs:,}, {used.fargate_vcpu_seconds / 60:,.1f} vCPU-minutes",
            "S3 requests": f"{used.s3_get:,} GET, {used.s3_put:,} PUT",
            "cost": f"{dollars(self.cost.total)} ({self.cost})",
            "": f"{dollars(self.more.total)} if AWS bills the start of a child as a transition",
        }
        empty = {"Batch jobs"} if not used.batch_jobs else set()
        empty |= {"child executions", ""} if not used.children else set()
        yield from (f"  {name:<18} {text}" for name, text in rows.items() if name not in empty)
        yield f"  {ASSUMED}"

    def _with_starts(self) -> str:
        more = self.usage.transitions + self.usage.children
        return f" ({more:,} if the start of a child execution is one)" if self.usage.children else ""

    def _children(self) -> str:
        kinds = {"EXPRESS": self.usage.express_executions, "STANDARD": self.usage.child_executions_standard}
        return ", ".join(f"{number:,} {kind}" for kind, number in kinds.items() if number)


def bill(about: str, usage: Usage, deployment: Deployment, prices: Prices = PRICES) -> Bill:
    """The usage of a flow with its cost."""
    architecture = deployment.config.lambda_.architecture
    batch = deployment.config.batch.architecture
    cost, more = (usage.cost(prices, architecture, each, batch_architecture=batch) for each in (False, True))
    return Bill(about, usage, cost, more)


def per_thousand(deployment: Deployment) -> Bill:
    """What the summary of a build says: an execution whose maps handle 1,000 items each."""
    has_maps = any(isinstance(node, Map) for node in deployment.graph.nodes)
    what = "1,000 items through each map" if has_maps else "one execution"
    return bill(f"Estimate for {what}, {USUAL.seconds_per_call * 1000:.0f} ms a call", estimate(deployment), deployment)


class Counted(Protocol):
    """What a simulation counts: see `lokki.simulate.machine.Counts`."""

    @property
    def states(self) -> Mapping[str, int]: ...
    @property
    def retries(self) -> int: ...
    @property
    def invocations(self) -> Mapping[str, int]: ...
    @property
    def billed_ms(self) -> Mapping[str, int]: ...
    @property
    def init_ms(self) -> Mapping[str, int]: ...
    @property
    def jobs(self) -> Mapping[str, int]: ...
    @property
    def job_ms(self) -> Mapping[str, int]: ...
    @property
    def requests(self) -> Mapping[str, Mapping[str, int]]: ...


def measured(deployment: Deployment, counts: Counted) -> Bill:
    """What a simulation counted, as AWS would bill it.

    Retries count as transitions wherever they happened. The requests are those that were made: the simulation's maps
    write less than those of AWS.
    """
    workers: tuple[Function | Job, ...] = (*deployment.functions, *deployment.jobs)
    kinds: Counter[str] = Counter()
    for each in counts.requests.values():
        kinds.update(each)
    used = Usage(
        transitions=sum(counts.states.values()) + counts.retries,
        s3_get=sum(kinds[each] for each in ("GET", "GET range", "HEAD")),
        s3_put=sum(kinds[each] for each in ("PUT", "COPY", "LIST", "multipart")),
        log_bytes=LOG_BYTES * (sum(counts.invocations.values()) + sum(counts.jobs.values())),
    )
    used += sum((_work(each, _name(each, deployment), counts) for each in workers), Usage())
    used += sum((_children(each, deployment, counts) for each in _maps(deployment.graph)), Usage())
    return bill("As AWS would bill this execution", used, deployment)


def _work(worker: Function | Job, name: str, counts: Counted) -> Usage:
    """What was measured of a function or a job definition."""
    if isinstance(worker, Function):
        seconds = (counts.billed_ms.get(name, 0) + counts.init_ms.get(name, 0)) / 1000
        return Usage(lambda_requests=counts.invocations.get(name, 0), lambda_gb_seconds=seconds * gigabytes(worker))
    jobs = counts.jobs.get(name, 0)
    return of_jobs(worker, jobs, max(counts.job_ms.get(name, 0) / 1000, jobs * JOB_SECONDS))


def _children(node: Map, deployment: Deployment, counts: Counted) -> Usage:
    """What was measured of a map: its children, which are no STANDARD executions when they are EXPRESS ones."""
    name = deployment.states[node.id]
    inside = [f"{name}Items"] if node.direct_pass else [deployment.states[each.id] for each in node.body.nodes]
    entered = [counts.states.get(each, 0) for each in inside]
    runs = counts.states.get(name, 0)
    if not is_express(node, deployment.config):
        return Usage(map_runs=runs, child_executions_standard=entered[0])
    workers = [deployment.workers[each.id] for each in ([node] if node.direct_pass else node.body.nodes)]
    seconds = sum(_mean_seconds(_name(each, deployment), counts) for each in workers)
    return Usage(
        transitions=-sum(entered),
        map_runs=runs,
        express_executions=entered[0],
        express_gb_seconds=entered[0] * express_gb_seconds(seconds),
    )


def _maps(graph: FlowGraph) -> Iterator[Map]:
    """The maps that are states."""
    for node in graph.nodes:
        if isinstance(node, Map):
            yield node
            yield from () if node.direct_pass else _maps(node.body)


def _name(worker: Function | Job, deployment: Deployment) -> str:
    return worker.name.replace("${FlowName}", deployment.graph.name)


def _mean_seconds(name: str, counts: Counted) -> float:
    return counts.billed_ms.get(name, 0) / 1000 / max(1, counts.invocations.get(name, 0))
