"""`show`: the executions of the deployed flow, or one of them in detail."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from lokki.commands.invoke import Commands, as_json, failure_lines
from lokki.commands.shared import Command, at_least_one, configuration, logging_options, made
from lokki.decorators import Flow
from lokki.errors import LokkiError, ParameterError, ShowError
from lokki.outcome import complain, print_result

if TYPE_CHECKING:
    from lokki.aws.client import Aws
    from lokki.aws.executions import Execution
    from lokki.aws.machines import Machine
    from lokki.aws.show import Detail, StepRow
    from lokki.builder.costs import Bill
    from lokki.config import LokkiConfig
    from lokki.graph import FlowGraph

_SHORTEST = 60  # seconds from which on fractions do not matter


def _show_options(parser: argparse.ArgumentParser, flow: Flow) -> None:
    parser.add_argument("--n", type=at_least_one, default=10, metavar="N", help="how many runs; default: 10")
    parser.add_argument("--run", metavar="ID", help="this run in detail: its name, run id or ARN")
    parser.add_argument("--result", action="store_true", help="with --run: print the value that it returned")
    parser.add_argument("--json", action="store_true", help="one JSON object per run")
    parser.add_argument("--stack-name", metavar="NAME", help=f"the stack of the flow; default: {flow.name}-stack")
    parser.add_argument("--region", metavar="REGION", help="the region; default: aws.region")
    logging_options(parser, None, default=argparse.SUPPRESS)


def _show(flow: Flow, spelling: str, options: argparse.Namespace, rest: list[str]) -> None:
    from lokki.aws.client import Aws
    from lokki.aws.executions import find_execution
    from lokki.aws.machines import find_machine

    if rest:
        raise ParameterError(f"Unexpected argument: {rest[0]!r}; what a run was given is not asked again.", rest[0])
    if options.result and options.run is None:
        raise ParameterError("Which result? Name a run: --run ID --result", "run")
    config = configuration(flow, options)
    commands = Commands(spelling, options)
    aws = Aws(config, options.region)
    machine = find_machine(aws, flow.name, options.stack_name, kind=ShowError, deploy=commands("deploy"))
    if options.run is None:
        _show_runs(aws, machine, options.n, commands, in_json=options.json)
        return
    shown = _Run(flow, config, aws, machine, find_execution(aws, machine, options.run, ShowError))
    if options.result:
        shown.print_value()
    else:
        shown.print_detail(commands, in_json=options.json)


def _show_runs(aws: Aws, machine: Machine, number: int, commands: Commands, *, in_json: bool) -> None:
    from lokki.aws.show import newest

    runs = newest(aws, machine, number)
    if in_json:
        for each in runs:
            print(as_json(each.as_dict()))
        return
    if not runs:
        complain(f"{machine.name} has not run yet. Start it with: {commands('invoke')}")
        return
    print("\n".join(table(list(_rows(runs)))))


def _rows(runs: Sequence[Execution]) -> Iterator[tuple[str, ...]]:
    """Under which run id a run kept its results is told when somebody gave it one."""
    kept = any(each.run_id != each.name for each in runs)
    yield ("Run ID", "Status", "Start Time", "Duration", *(["--run-id"] if kept else []))
    for each in runs:
        own = (each.run_id if each.run_id != each.name else "",) if kept else ()
        yield (each.name, each.status, f"{each.started.astimezone():%Y-%m-%d %H:%M:%S}", took(each.seconds), *own)


class _Run:
    """One run."""

    def __init__(self, flow: Flow, config: LokkiConfig, aws: Aws, machine: Machine, run: Execution) -> None:
        from lokki.aws.machines import definition_of
        from lokki.aws.results import store_of

        self._flow = flow
        self._config = config
        self._aws = aws
        self._machine = machine
        self._run = run
        self._store = store_of(aws, machine, config)
        self._definition = definition_of(aws, run.arn, ShowError)

    def print_value(self) -> None:
        """Print the value that it returned."""
        from lokki.aws.results import value_of

        if self._run.status != "SUCCEEDED":
            raise ShowError(f"Run {self._run.name!r} has no result: it is {self._run.status}.")
        print_result(value_of(self._graph(), self._store, self._machine, self._run))

    def print_detail(self, commands: Commands, *, in_json: bool) -> None:
        """Print what is known of it."""
        from lokki.aws.show import detail

        found = detail(self._aws, self._machine, self._run, self._definition, self._store)
        bill = self._cost(found)
        if in_json:
            print(as_json(self._as_dict(found, bill)))
            return
        print("\n".join(_detail_lines(found, commands)))
        if bill is not None:
            print("\n" + "\n".join(bill))

    def _cost(self, found: Detail) -> Bill | None:
        """What it cost, where the flow can be described as it is configured here."""
        from lokki.aws.show import cost
        from lokki.builder.resources import describe

        try:
            return cost(found, describe(self._graph(), self._config))
        except (LokkiError, KeyError) as error:
            complain(f"Its cost cannot be estimated: {error}")
            return None

    def _graph(self) -> FlowGraph:
        """The flow with the parameters of this run."""
        from lokki.aws.start import parameters_of

        flow = self._flow
        return made(flow, parameters_of(flow.parameters, self._definition, self._run.parameters, flow.fn.__name__))

    @staticmethod
    def _as_dict(found: Detail, bill: Bill | None) -> dict[str, object]:
        told = found.execution.as_dict() | {"input": found.execution.given, "output": found.execution.output}
        told |= {"error": found.execution.error, "cause": found.execution.cause}
        told |= {"steps": [each.as_dict() for each in found.steps], "errors": [each.as_dict() for each in found.errors]}
        return told | {"estimated_cost_usd": None if bill is None else bill.cost.total}


def _detail_lines(found: Detail, commands: Commands) -> Iterator[str]:
    run = found.execution
    yield f"Run       {run.name}" + (f" (run id {run.run_id})" if run.run_id != run.name else "")
    yield f"Status    {run.status}"
    how_long = f"{'took' if run.over else 'running for'} {took(run.seconds)}"
    yield f"Started   {run.started.astimezone():%Y-%m-%d %H:%M:%S}, {how_long}"
    yield f"Input     {as_json(run.given or {})}"
    yield ""
    yield from table([("Step", "Status", "Duration", "Items", "Retries"), *map(_step_row, found.steps)])
    if run.over and run.status != "SUCCEEDED":
        yield from failure_lines(run, found.errors, "--json")
        yield f"What is finished is kept. Go on with: {commands('redrive', run.name)}"


def _step_row(row: StepRow) -> tuple[str, ...]:
    name = f"{row.body[0] if row.body else row.node} (map)" if row.kind == "map" else row.node
    if not row.status:
        return name, "not reached", "", "", ""
    if row.kind != "map":
        return name, row.status, took(row.seconds), "", str(row.retries or "")
    failed = f", {row.failed:,} failed" if row.failed else ""
    return name, row.status, took(row.seconds), f"{row.done:,} of {row.total:,}{failed}", ""


def table(rows: Sequence[tuple[str, ...]]) -> Iterable[str]:
    """Rows with their columns under each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def took(seconds: float) -> str:
    """How long something took."""
    return f"{seconds:.1f}s" if seconds < _SHORTEST else str(timedelta(seconds=round(seconds)))


COMMAND = Command(
    "show the runs of the deployed flow, or one in detail",
    "Without --run, the newest runs. With --run ID, its steps, how long they took, how many items were done, what\n"
    "failed and what it cost, about.",
    ("", "--n 100", "--run 20260501-093000-1a2b", "--run nightly --result"),
    _show_options,
    _show,
    needs=False,
    takes=False,
)
