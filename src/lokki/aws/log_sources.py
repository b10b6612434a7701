"""Where a deployed flow writes its log: one group for each of its functions, one for all of its Batch jobs.

Names are asked for, not put together: those of functions are shortened where they are long. A stack knows what belongs
to it; of a flow whose stack has another name the state machine tells, because it names all that it calls.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from lokki.aws.client import Aws, code_of, refusals
from lokki.aws.flows import find_flow
from lokki.errors import LogsError, nearest
from lokki.frozen import frozen

_SHORTENED = re.compile(r"-[0-9a-f]{8}(-\d+)?")
_FUNCTION_ARN = re.compile(r"arn:[a-z-]+:lambda:[a-z0-9-]+:\d{12}:function:([\w-]+)", re.ASCII)
_JOB_ARN = re.compile(r"arn:[a-z-]+:batch:[a-z0-9-]+:\d{12}:job-definition/[\w-]+(?::\d+)?", re.ASCII)


@frozen
class Source:
    """A place that lines come from.

    Attributes:
        group: the log group.
        step: the step that writes there.
        prefix: how the names of its streams begin, in a group that several steps share.
    """

    group: str
    step: str
    prefix: str = ""


def log_sources(
    aws: Aws, flow: str, *, stack_name: str | None = None, step: str | None = None
) -> tuple[Source, ...]:
    """Where a flow logs.

    Args:
        aws: the account and region.
        flow: the flow's name.
        stack_name: its stack, when that is not `<flow>-stack`.
        step: only the source of this step.
    """
    with refusals(f"find the log groups of {flow!r}", LogsError):
        functions, jobs = _parts(aws, flow, stack_name)
        found = (*_of_functions(aws, flow, functions), *_of_jobs(aws, flow, jobs))
    if not found:
        raise LogsError(f"Flow {flow!r} has neither functions nor jobs in {aws.region}: deploy it again.")
    return found if step is None else _of_step(found, step, flow)


def _of_step(found: Sequence[Source], step: str, flow: str) -> tuple[Source, ...]:
    chosen = tuple(each for each in found if each.step == step)
    if not chosen:
        known = [each.step for each in found]
        hint = nearest(step, known)
        raise LogsError(f"Nothing of flow {flow!r} is named {step!r}{hint}. What it runs: {', '.join(known)}.")
    return chosen


def _parts(aws: Aws, flow: str, stack_name: str | None) -> tuple[list[str], list[str]]:
    """The names of the functions, and the ARNs of the job definitions."""
    resources = _resources(aws, stack_name or f"{flow}-stack")
    if resources is not None:
        return resources["AWS::Lambda::Function"], resources["AWS::Batch::JobDefinition"]
    if stack_name is not None:
        raise LogsError(
            f"There is no stack {stack_name!r} in {aws.region}. Without --stack-name the flow is found by its tags."
        )
    machine = find_flow(aws, flow, LogsError).arn
    text = aws.client("stepfunctions").describe_state_machine(stateMachineArn=machine)["definition"]
    return _once(_FUNCTION_ARN.findall(text)), _once(_JOB_ARN.findall(text))


def _once(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _resources(aws: Aws, stack: str) -> dict[str, list[str]] | None:
    """The names in AWS of what a stack holds, by type; None where there is no such stack."""
    from botocore.exceptions import ClientError

    found: dict[str, list[str]] = {"AWS::Lambda::Function": [], "AWS::Batch::JobDefinition": []}
    try:
        for page in aws.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=stack):
            for each in page["StackResourceSummaries"]:
                if each["ResourceType"] in found and each.get("PhysicalResourceId"):
                    found[each["ResourceType"]].append(each["PhysicalResourceId"])
    except ClientError as error:
        if code_of(error) == "ValidationError" and "does not exist" in str(error):
            return None
        raise
    return found


def _of_functions(aws: Aws, flow: str, names: Iterable[str]) -> Iterator[Source]:
    for name in names:
        yield Source(f"/aws/lambda/{name}", _step_of(aws, flow, name))


def _step_of(aws: Aws, flow: str, function: str) -> str:
    """The step that a function runs; its name tells, unless it is shortened or begins with another name."""
    from botocore.exceptions import ClientError

    start, found, step = function.partition(f"{flow}-")
    if found and not start and not _SHORTENED.search(function):
        return step
    try:
        settings = aws.client("lambda").get_function_configuration(FunctionName=function)
    except ClientError:  # a name to show is not worth a failure
        return function
    named: str = settings.get("Environment", {}).get("Variables", {}).get("LOKKI_STEP_NAME") or function
    return named


def _of_jobs(aws: Aws, flow: str, definitions: Sequence[str]) -> Iterator[Source]:
    """Each job definition says in which group and under which prefix its jobs log."""
    for at in range(0, len(definitions), 100):
        answer = aws.client("batch").describe_job_definitions(jobDefinitions=list(definitions[at : at + 100]))
        yield from (_of_job(flow, each) for each in answer["jobDefinitions"])


def _of_job(flow: str, definition: dict[str, Any]) -> Source:
    options = definition.get("containerProperties", {}).get("logConfiguration", {}).get("options", {})
    step = options.get("awslogs-stream-prefix", definition["jobDefinitionName"])
    return Source(options.get("awslogs-group", f"/aws/batch/{flow}"), step, f"{step}/")
