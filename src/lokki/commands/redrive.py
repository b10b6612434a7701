"""`redrive`: a run in AWS, mended."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from typing import Any

from lokki.commands.invoke import Commands, Waiting, stack_options
from lokki.commands.shared import Command, configuration, given, logging_options
from lokki.decorators import Flow
from lokki.errors import InvokeError
from lokki.outcome import complain


def _redrive_options(parser: argparse.ArgumentParser, flow: Flow) -> None:
    parser.add_argument("--run", metavar="ID", required=True, help="the run: as show lists it, or its run id")
    parser.add_argument("--failed", action="store_true", help="what failed or is missing; this is the default")
    parser.add_argument("--items", metavar="3,9", type=items_of, default=(), help="run these items again although done")
    parser.add_argument("--step", metavar="NAME", help="a step of the map whose items are meant, if there are several")
    parser.add_argument("--no-wait", action="store_true", help="print the name of the new run and do not wait for it")
    stack_options(parser, None, flow.name)
    logging_options(parser, None, default=argparse.SUPPRESS)


def _redrive(flow: Flow, spelling: str, options: argparse.Namespace, rest: list[str]) -> None:
    from lokki.aws.client import Aws
    from lokki.aws.machines import find_machine, read_definition
    from lokki.aws.redrive import redrive
    from lokki.aws.start import parameters_of
    from lokki.builder.samples import sampled

    if given(flow, rest, options):
        raise InvokeError("A run is mended with the parameters that it had; to change them, invoke the flow.")
    config = configuration(flow, options)
    commands = Commands(spelling, options)
    aws = Aws(config, options.region)
    machine = find_machine(aws, flow.name, options.stack_name, kind=InvokeError, deploy=commands("deploy"))
    definition = read_definition(aws, machine, InvokeError)
    graph = sampled(flow, {})

    def fits(params: Mapping[str, Any]) -> object:
        return parameters_of(flow.parameters, definition, params, flow.fn.__name__)

    execution = redrive(aws, config, machine, graph, options.run, fits, items=options.items, step=options.step)
    if config.logging.format == "human":
        complain(f"Mending run {execution.run_id!r} of {machine.name} in {aws.region}: {execution.arn}")
    if options.no_wait:
        print(execution.name)
        return
    Waiting(aws, config, machine, definition, commands).wait(execution, graph)


def items_of(text: str) -> tuple[range, ...]:
    """`3,9,20-25` as ranges, which may be far larger than any map."""
    items = [_span(part.strip()) for part in text.split(",")]
    if not all(items):
        raise argparse.ArgumentTypeError(f"it takes places of items, as in 3,9 or 20-25, not {text!r}")
    return tuple(items)


def _span(text: str) -> range:
    """What one part names; nothing where that makes no sense."""
    span = re.fullmatch(r"(\d{1,18})(?:-(\d{1,18}))?", text, re.ASCII)
    return range(int(span[1]), int(span[2] or span[1]) + 1) if span else range(0)


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
