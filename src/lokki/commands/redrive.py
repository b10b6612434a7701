"""`redrive`: a run in AWS, mended."""

from __future__ import annotations

import argparse

from lokki.commands.invoke import Commands, Waiting, stack_options
from lokki.commands.shared import Command, configuration, given, logging_options, option
from lokki.decorators import Flow
from lokki.errors import InvokeError
from lokki.outcome import complain


def _redrive_options(parser: argparse.ArgumentParser, flow: Flow) -> None:
    option(parser, flow, "--run", metavar="ID", required=True, help="the run: as show lists it, or its run id")
    option(parser, flow, "--failed", action="store_true", help="what failed or is missing; this is the default")
    option(parser, flow, "--items", metavar="3,9", type=_items, default=(), help="run these items again although done")
    option(parser, flow, "--step", metavar="NAME", help="a step of the map whose items are meant, if there are several")
    option(parser, flow, "--no-wait", action="store_true", help="print the name of the new run and do not wait for it")
    stack_options(parser, flow)
    logging_options(parser, flow, default=argparse.SUPPRESS)


def _redrive(flow: Flow, spelling: str, options: argparse.Namespace, rest: list[str]) -> None:
    from lokki.aws.client import Aws
    from lokki.aws.machines import find_machine, read_definition
    from lokki.aws.redrive import redrive
    from lokki.builder.samples import sampled

    if given(flow, rest):
        raise InvokeError("A run is mended with the parameters that it had; to change them, invoke the flow.")
    config = configuration(flow, options)
    commands = Commands(spelling, options)
    aws = Aws(config, getattr(options, "region", None))
    machine = find_machine(
        aws, flow.name, getattr(options, "stack_name", None), kind=InvokeError, deploy=commands("deploy")
    )
    graph = sampled(flow, {})
    execution = redrive(
        aws, config, machine, graph, options.run, items=options.items, step=getattr(options, "step", None)
    )
    if config.logging.format == "human":
        complain(f"Mending run {execution.run_id!r} of {machine.name} in {aws.region}: {execution.arn}")
    if getattr(options, "no_wait", False):
        print(execution.name)
        return
    Waiting(aws, config, machine, read_definition(aws, machine, InvokeError), commands).wait(execution, graph)


def _items(text: str) -> tuple[int, ...]:
    """`3,9,20-25` as numbers."""
    items: list[int] = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if not first.isdecimal() or (last and not last.isdecimal()):
            raise argparse.ArgumentTypeError(f"it takes places of items, as in 3,9 or 20-25, not {text!r}")
        items += range(int(first), int(last or first) + 1)
    return tuple(items)


COMMAND = Command(
    "mend a run in AWS: run what failed or is missing, keep the rest",
    "Starts a new execution with the parameters of the run and the code that is deployed now. Every result that is\n"
    "there is kept, whatever code made it; the results are then under the run id of the run that was mended.",
    ("--run ID", "--run ID --items 3,9"),
    _redrive_options,
    _redrive,
    needs=False,
    takes=False,
)
