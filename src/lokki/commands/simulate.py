"""`simulate`: what a build would deploy, executed on this machine."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lokki.commands.shared import Command, at_least_one, configuration, given, logging_options, made, option
from lokki.decorators import Flow
from lokki.outcome import complain, print_result

if TYPE_CHECKING:
    from lokki.config import LokkiConfig
    from lokki.graph import FlowGraph
    from lokki.simulate import Execution, Outcome

_LARGEST_STATE = 262_144
_RARELY = 10  # seconds between two lines of progress, at most
_LOGGED = 20  # lines of a failed execution's log that are shown


def _simulate_options(parser: argparse.ArgumentParser, flow: Flow) -> None:
    option(parser, flow, "--items-limit", type=at_least_one, metavar="N", help="run at most N items of each map")
    option(parser, flow, "--compare", action="store_true", help="also run locally, and fail when the results differ")
    option(parser, flow, "--json", action="store_true", help="print the result and all figures as one JSON object")
    logging_options(parser, flow, default=argparse.SUPPRESS)


def _simulate(flow: Flow, _spelling: str, options: argparse.Namespace, rest: list[str]) -> None:
    from lokki.simulate import same, simulation
    from lokki.simulate.simulating import input_of

    config = configuration(flow, options)
    params = given(flow, rest, options)
    graph = made(flow, params)
    limit = getattr(options, "items_limit", None) or 0
    as_input, defaults = input_of(params)
    _say(options, f"Building {graph.name} and starting the engine ...")
    with simulation(graph, config, defaults=defaults, items_limit=limit) as simulated:
        _say(options, "Executing what was built ...")
        outcome = simulated.execute(as_input, watch=None if getattr(options, "json", False) else _Progress())
    for warning in outcome.bundle.warnings:
        complain(f"[WARNING] {warning}")
    compared = _compared(outcome, graph, config, limit) if getattr(options, "compare", False) else None
    agrees = compared is None or same(outcome.value, compared[0])
    if getattr(options, "json", False):
        _print_json(outcome, None if compared is None else agrees)
    else:
        _print_report(outcome)
    if not outcome.succeeded:
        sys.exit(1)
    if not agrees and compared is not None:
        complain(f"error: The local run gives another result: {compared[0]!r:.500}")
        sys.exit(1)
    if compared is not None:
        _say(options, "The local run gives the same result.")


class _Progress:
    """Says now and then what an execution is at: each time it has got further, and ever less often."""

    def __init__(self) -> None:
        self._told: Mapping[str, int] = {}
        self._glances = self._next = 0

    def __call__(self, states: Mapping[str, int]) -> None:
        self._glances += 1
        if self._glances < self._next or states == self._told or not states:
            return
        self._next = max(self._glances + 1, min(2 * self._glances, self._glances + _RARELY))
        self._told = states
        complain("  entered so far: " + ", ".join(f"{name} {number:,}" for name, number in states.items()))


def _compared(outcome: Outcome, graph: FlowGraph, config: LokkiConfig, limit: int) -> tuple[Any] | None:
    """The result of a local run, where there is one to compare with."""
    if not outcome.succeeded:
        return None
    from lokki.events import silent
    from lokki.runner import LocalRunner

    with _environment({**config.batch.env, **config.lambda_.env}):
        return (LocalRunner(config=config, store_type="local", listen=silent, items_limit=limit).run(graph),)


@contextmanager
def _environment(more: Mapping[str, str]) -> Iterator[None]:
    """The variables that the functions have, for a while."""
    before = {name: os.environ.get(name) for name in more}
    os.environ.update(more)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _say(options: argparse.Namespace, text: str) -> None:
    if not getattr(options, "json", False):
        complain(text)


def _print_report(outcome: Outcome) -> None:
    complain("\n".join(report(outcome)))
    if outcome.succeeded:
        print_result(outcome.value)
        return
    for each in outcome.errors:
        where = f" on item {'.'.join(map(str, each.index))}: {each.item}" if each.index else ""
        complain(f"\n{each.traceback.rstrip()}\n\nStep {each.step!r} failed{where}.")
    if not outcome.errors:
        _explain(outcome.execution)


def _explain(execution: Execution) -> None:
    """A failure that is no step's own: the end of the logs, the children that failed, and the error."""
    for function, line in execution.logs[-_LOGGED:]:
        complain(f"  {function}: {line}")
    for each in execution.failures:
        complain(f"{each.state}, child {each.index}: {each.error}: {_message(each.cause)}")
    complain(f"error: {execution.error}: {_message(execution.cause)}")


def _message(cause: str) -> str:
    """What a cause says: that of a function is JSON, with the message in it."""
    import json

    try:
        return str(json.loads(cause)["errorMessage"])
    except (ValueError, KeyError, TypeError):
        return cause


def report(outcome: Outcome) -> Iterator[str]:
    """What the execution did, in lines."""
    from lokki.builder.costs import measured

    counts, deployment = outcome.execution.counts, outcome.bundle.deployment
    yield f"{deployment.graph.name}: {outcome.execution.status}"
    yield ""
    yield from _table("states entered", counts.states)
    yield from _table("Lambda invocations", counts.invocations)
    yield from _table("Batch jobs", counts.jobs)
    yield from _table("S3 requests", _requests(outcome))
    yield f"largest state: {counts.payload:,} bytes of the {_LARGEST_STATE:,} that AWS allows"
    yield ""
    yield from measured(deployment, counts)
    yield ""
    yield "Where this differs from AWS:"
    yield from (f"  - {each}" for each in outcome.substitutions)


def _table(title: str, numbers: Mapping[str, int]) -> Iterator[str]:
    if numbers:
        yield f"{title}:"
        width = max(map(len, numbers))
        yield from (f"  {name:<{width}}  {number:>9,}" for name, number in numbers.items())
        yield ""


def _requests(outcome: Outcome) -> dict[str, int]:
    """S3 requests by kind, whoever made them."""
    total: dict[str, int] = {}
    for kinds in outcome.execution.counts.requests.values():
        for kind, number in kinds.items():
            total[kind] = total.get(kind, 0) + number
    return dict(sorted(total.items()))


def _print_json(outcome: Outcome, agrees: bool | None) -> None:
    import json

    from lokki.builder.costs import ASSUMED, measured
    from lokki.jsonable import plain

    bill = measured(outcome.bundle.deployment, outcome.execution.counts)
    counts, execution = outcome.execution.counts, outcome.execution
    told = {
        "flow": outcome.bundle.deployment.graph.name,
        "status": execution.status,
        "result": plain(outcome.value, repr),
        "same_as_local": agrees,
        "error": execution.error,
        "cause": execution.cause,
        "failures": [
            {"step": each.step, "index": list(each.index), "item": each.item, "error": each.error}
            for each in outcome.errors
        ],
        "states": dict(counts.states),
        "transitions": counts.transitions,
        "retries": counts.retries,
        "child_executions": counts.children,
        "lambda_invocations": dict(counts.invocations),
        "batch_jobs": dict(counts.jobs),
        "s3_requests": {caller: dict(kinds) for caller, kinds in counts.requests.items()},
        "largest_state_bytes": counts.payload,
        "cost_usd": bill.cost.total,
        "cost_usd_with_child_starts": bill.more.total,
        "prices": ASSUMED,
        "substitutions": list(outcome.substitutions),
    }
    print(json.dumps({name: each for name, each in told.items() if each not in (None, "")}))


COMMAND = Command(
    "execute what a build would deploy, on this machine",
    "Builds the flow and runs the state machine that was built: every function and job as a process of its packaged\n"
    "code, S3 and Step Functions by moto. Needs no account: pip install 'lokki-twingraph[simulate]'.\n"
    "The result is printed on stdout; how often each state was entered, what AWS would be asked for and what it would\n"
    "cost, on stderr.",
    ("", "--compare", "--items-limit 5 --json"),
    _simulate_options,
    _simulate,
)
