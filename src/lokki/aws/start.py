"""Starting a deployed flow: its parameters as the input of an execution, and a run id that nobody else is using."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from lokki.aws.client import REMOVED, Aws, code_of, refusals
from lokki.aws.executions import RUNNING, Execution, arn_of, listed, opened, read
from lokki.aws.machines import Definition, Machine
from lokki.errors import InvokeError, ParameterError
from lokki.kinds import json_of
from lokki.params import Parameter, bind, coerce_each
from lokki.runs import new_id

_LARGEST_INPUT = 262_144
_LONGEST_NAME = 80
_RUN_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,79}")
_ASKED = 200  # executions under way whose run ids are looked at


def parameters_of(
    parameters: Sequence[Parameter], definition: Definition, given: Mapping[str, Any], flow: str
) -> dict[str, Any]:
    """The values with which an execution will run: those given, else the defaults of the build, else of the flow."""
    known = coerce_each(parameters, {**definition.defaults, **given})
    return bind(parameters, known, flow=flow)


def execution_input(given: Mapping[str, Any], run_id: str | None = None) -> dict[str, Any]:
    """The input of an execution; a date or the like becomes text, which the flow's signature makes a date again."""
    made: dict[str, Any] = {}
    for name, value in given.items():
        try:
            made[name] = json_of(value)
        except TypeError as error:
            flag = f"--{name.replace('_', '-')}"
            raise ParameterError(
                f"The value of {flag!r} cannot be sent to an execution: {error} Give it as text, or give the place "
                "where it lies.",
                name,
            ) from error
    made |= {} if run_id is None else {"run_id": run_id}
    size = len(json.dumps(made, ensure_ascii=False).encode())
    if size > _LARGEST_INPUT:
        raise InvokeError(
            f"The parameters take {size:,} bytes, and Step Functions takes {_LARGEST_INPUT:,}: put what is large into "
            "S3 and give its place."
        )
    return made


def start(aws: Aws, machine: Machine, given: Mapping[str, Any], run_id: str | None = None) -> Execution:
    """Start an execution.

    Args:
        aws: the account and region.
        machine: what to execute.
        given: the parameters of the flow that are given.
        run_id: under which results are kept and used again; refused while another execution uses it.
    """
    if run_id is not None:
        _check(aws, machine, run_id)
    made, name = execution_input(given, run_id), name_for(run_id)
    try:
        return _started(aws, machine, made, name)
    except InvokeError as error:
        if not error.unsure:
            raise
        raise InvokeError(f"{error} It may have been started all the same, as run {name!r}: look with show.") from error


def _started(aws: Aws, machine: Machine, made: dict[str, Any], name: str) -> Execution:
    from botocore.exceptions import ClientError

    sent = json.dumps(made, ensure_ascii=False)
    with refusals(f"start {machine.name!r}", InvokeError):
        try:
            answer = aws.client("stepfunctions").start_execution(stateMachineArn=machine.arn, name=name, input=sent)
        except ClientError as error:
            if code_of(error) == "ExecutionAlreadyExists":  # nobody else makes this name up: an answer was lost
                return read(aws, arn_of(machine, name), InvokeError)
            if code_of(error) != "StateMachineDoesNotExist":
                raise
            raise InvokeError(
                f"Could not start {machine.name!r}: its state machine was removed by somebody else. {REMOVED}"
            ) from error
    return Execution(answer["executionArn"], name, RUNNING, answer["startDate"], given=made, opened=True)


def name_for(run_id: str | None) -> str:
    """A name for a new execution; it begins with the run id."""
    stamp = new_id()
    return stamp if run_id is None else f"{run_id[: _LONGEST_NAME - len(stamp) - 1]}-{stamp}"


def users_of(aws: Aws, machine: Machine, run_id: str) -> list[Execution]:
    """The executions under way that keep their results under this run id."""
    running = list(listed(aws, machine, most=_ASKED, status=RUNNING, kind=InvokeError))
    return [each for each in opened(aws, running, InvokeError) if each.run_id == run_id and not each.over]


def _check(aws: Aws, machine: Machine, run_id: str) -> None:
    if not _RUN_ID.fullmatch(run_id):
        raise InvokeError(
            f"{run_id!r} cannot be a run id: "
            "it has up to 80 letters, digits, '-', '_' and '.', and starts with neither '.' nor '-'."
        )
    for each in users_of(aws, machine, run_id):
        raise InvokeError(
            f"Run {run_id!r} is running already, as execution {each.name!r}, and two at once would write the same "
            "results. Wait for it, stop it, or give this run another --run-id."
        )
