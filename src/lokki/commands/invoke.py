"""`invoke`: the deployed flow, executed in AWS."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lokki.commands.shared import Command, configuration, given, logging_options, made, option, quoted
from lokki.decorators import Flow
from lokki.errors import AwsError, InvokeError, StoreError
from lokki.outcome import INTERRUPTED, complain, print_result

if TYPE_CHECKING:
    from lokki.aws.client import Aws
    from lokki.aws.executions import Execution
    from lokki.aws.machines import Definition, Machine
    from lokki.aws.results import StepError
    from lokki.config import LokkiConfig
    from lokki.graph import FlowGraph

_TOLD = 3  # failures that are told in full


def _invoke_options(parser: argparse.ArgumentParser, flow: Flow) -> None:
    option(parser, flow, "--run-id", metavar="K", help="keep the results under this name, and use those that are there")
    if "wait" not in {each.name for each in flow.parameters}:  # whose --no-wait would be the same word
        option(parser, flow, "--no-wait", action="store_true", help="print the name of the run and do not wait for it")
    stack_options(parser, flow, flow.name)
    logging_options(parser, flow, default=argparse.SUPPRESS)


def stack_options(parser: argparse.ArgumentParser, flow: Flow | None, name: str) -> None:
    """Add the options that say which deployment of the flow, which has this name, is meant."""
    option(parser, flow, "--stack-name", metavar="NAME", help=f"the stack of the flow; default: {name}-stack")
    option(parser, flow, "--region", metavar="REGION", help="the region; default: aws.region")


def _invoke(flow: Flow, spelling: str, options: argparse.Namespace, rest: list[str]) -> None:
    from lokki.aws.client import Aws
    from lokki.aws.machines import find_machine, read_definition
    from lokki.aws.start import parameters_of, start

    params = given(flow, rest, options)
    config = configuration(flow, options)
    commands = Commands(spelling, options)
    aws = Aws(config, getattr(options, "region", None))
    stack = getattr(options, "stack_name", None)
    machine = find_machine(aws, flow.name, stack, kind=InvokeError, deploy=commands("deploy"))
    definition = read_definition(aws, machine, InvokeError)
    graph = made(flow, parameters_of(flow.parameters, definition, params, flow.fn.__name__))
    execution = start(aws, machine, params, getattr(options, "run_id", None))
    if config.logging.format == "human":
        complain(f"Started {machine.name} in {aws.region}: {execution.arn}")
    if getattr(options, "no_wait", False):
        print(execution.name)
        return
    Waiting(aws, config, machine, definition, commands).wait(execution, graph)


class Commands:
    """How commands about the same deployment are typed."""

    def __init__(self, spelling: str, options: argparse.Namespace) -> None:
        self._spelling = spelling
        named = {"--stack-name": getattr(options, "stack_name", None), "--region": getattr(options, "region", None)}
        self._flags = "".join(f" {flag} {quoted(value)}" for flag, value in named.items() if value)

    def __call__(self, command: str, run: str = "") -> str:
        """The command, about a run."""
        about = f" --run {quoted(run)}" if run else ""
        return f"{self._spelling.replace('COMMAND', command)}{about}{self._flags}"


class Waiting:
    """Waits for an execution, and tells how it ended."""

    def __init__(
        self, aws: Aws, config: LokkiConfig, machine: Machine, definition: Definition, commands: Commands
    ) -> None:
        from lokki.aws.results import store_of
        from lokki.logging import listener

        self._aws = aws
        self._machine = machine
        self._definition = definition
        self._commands = commands
        self._json = config.logging.format == "json"
        self._log = listener(config.logging, flow=machine.name)
        self._store = store_of(aws, machine, config)

    def wait(self, execution: Execution, graph: FlowGraph) -> None:
        """Wait; prints the value, or says what went wrong and ends this process."""
        from lokki.aws.client import REMOVED
        from lokki.aws.executions import GONE
        from lokki.aws.results import value_of
        from lokki.aws.watching import watch

        try:
            ended = watch(self._aws, execution, self._definition, self._log, flow=self._machine.name, store=self._store)
        except KeyboardInterrupt:
            complain(f"\nInterrupted. {self._goes_on(execution)}")
            sys.exit(INTERRUPTED)
        except AwsError as error:
            if error.code in GONE:
                raise InvokeError(
                    f"Run {execution.name!r} was removed while it ran, together with its state machine ({error.code}). "
                    f"{REMOVED}"
                ) from error
            raise InvokeError(f"{error} {self._goes_on(execution)}") from error
        if ended.status != "SUCCEEDED":
            self._explain(ended)
            sys.exit(1)
        try:
            value = value_of(graph, self._store, self._machine, ended)
        except StoreError as error:
            again = f"{self._commands('show', ended.name)} --result"
            raise InvokeError(
                f"{error} Run {ended.name!r} succeeded all the same; once that is mended, its value comes with: {again}"
            ) from error
        print_result(value)

    def _goes_on(self, execution: Execution) -> str:
        endpoint = f" --endpoint-url {quoted(self._aws.endpoint)}" if self._aws.endpoint else ""
        return (
            f"Run {execution.name!r} goes on in AWS.\n"
            f"  See it:  {self._commands('show', execution.name)}\n"
            f"  Stop it: aws stepfunctions stop-execution --region {self._aws.region}{endpoint} "
            f"--execution-arn {execution.arn}"
        )

    def _explain(self, ended: Execution) -> None:
        from lokki.aws.failures import failures_of

        errors = failures_of(self._aws, ended, self._definition, self._machine.name, self._store)
        if self._json:
            self._log_failures(ended, errors)
            return
        complain("\n".join(failure_lines(ended, errors, self._commands("show", ended.name))))
        complain(f"What is finished is kept. Go on with: {self._commands('redrive', ended.name)}")

    def _log_failures(self, ended: Execution, errors: Sequence[StepError]) -> None:
        from lokki.events import StepFailed

        for each in errors:
            error = f"{each.error} {each.hint}".strip()
            self._log(StepFailed(ended.name, each.step, 0, 0.0, error, each.traceback, each.index, each.item))


def failure_lines(ended: Execution, errors: Sequence[StepError], more: str) -> list[str]:
    """What went wrong in an execution, in lines; `more` is the command that tells of further failures."""
    if not errors:
        return [_own_error(ended)]
    lines: list[str] = []
    for each in errors[:_TOLD]:
        lines += ["", *failure(each)]
    if len(errors) > _TOLD:
        lines += ["", f"{len(errors) - _TOLD} more failed; {more} tells which."]
    return lines


def failure(each: StepError) -> list[str]:
    """One failure: the traceback where there is one, then step and item."""
    where = f" on item {'.'.join(map(str, each.index))}" if each.index else ""
    where += f": {each.item}" if each.item else ""
    step = f"Step {each.step!r} failed{where}." if each.step else "The execution failed."
    if each.traceback:
        return [each.traceback.rstrip(), "", step, *([each.hint] if each.hint else [])]
    return [f"error: {step.removesuffix('.')}: {each.error}", *([each.hint] if each.hint else [])]


def _own_error(ended: Execution) -> str:
    from lokki.aws.history import message_in

    what = {"TIMED_OUT": "took too long and was ended", "ABORTED": "was stopped"}.get(ended.status, "failed")
    said = ": ".join(filter(None, (ended.error, message_in(ended.cause))))
    return f"error: Run {ended.name!r} {what}{f': {said}' if said else '.'}"


def as_json(told: Mapping[str, Any]) -> str:
    """A line of JSON."""
    import json

    return json.dumps(told, default=str)


COMMAND = Command(
    "execute the deployed flow in AWS and print its result",
    "Starts the state machine, tells what happens on stderr, and prints the result on stdout.\n"
    "Ctrl-C ends the waiting, not the execution.",
    ("", "--run-id nightly", "--no-wait"),
    _invoke_options,
    _invoke,
    needs=True,
)
