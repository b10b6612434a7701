"""Which of the names that a deployment needs are taken: an account has each of them once in a region.

State machine, functions and log groups are named after the flow, not after the stack. So a flow that is deployed under
one stack's name cannot be created under another's, and whoever tried would find out in the middle of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

from lokki.aws.client import Aws, code_of, refusals
from lokki.aws.flows import deployed_flows
from lokki.aws.machines import DENIED
from lokki.aws.stacks import Stack
from lokki.aws.templates import FUNCTION, LOG, MACHINE, Template
from lokki.errors import AwsError, DeployError

_AT_ONCE = 8
_MISSING = ("ResourceNotFoundException", "StateMachineDoesNotExist", "InvalidArn")
_NAMED = {MACHINE: "StateMachineName", FUNCTION: "FunctionName", LOG: "LogGroupName"}
_CALLED = {MACHINE: "State machine", FUNCTION: "Function", LOG: "Log group"}
Name = tuple[str, str]
"""A type of resource, and what one of them is called."""


def names_in(template: Template) -> dict[Name, str]:
    """The names in a template that can be there once, and the resources that have them."""
    named = ((kind, key, logical, each) for kind, key in _NAMED.items() for logical, each in template.of(kind).items())
    return {(kind, str(each.properties[key])): logical for kind, key, logical, each in named if key in each.properties}


def check_names(
    aws: Aws, stack: str, flow: str, names: Mapping[Name, str], own: Callable[[], Collection[str]] = tuple
) -> None:
    """Refuse names that are taken: by the same flow in another stack, or by something else.

    Args:
        stack: the stack that wants them.
        flow: the flow that is deployed.
        names: the names, and the resources that shall have them.
        own: the resources that the stack has made already, all the same, when its creation failed.
    """
    taken = sorted(_taken(aws, names), key=lambda each: [*_NAMED].index(each[0]))
    made = own() if taken else ()
    taken = [each for each in taken if names[each] not in made]
    if not taken:
        return
    kind, name = taken[0]
    owner = _owner(aws, flow)
    if owner and owner != stack:
        raise DeployError(
            f"Flow {flow!r} is deployed in {aws.region} already, as stack {owner!r}, and an account has its functions "
            f"and its state machine once in a region: deploy with --stack-name {owner}, to another --region, or rename "
            "the flow. Nothing was changed."
        )
    others = f" (and {len(taken) - 1} more of its names are taken)" if len(taken) > 1 else ""
    raise DeployError(
        f"{_CALLED[kind]} {name!r} exists in {aws.region} already and does not belong to stack {stack!r}{others}: "
        "remove it if nobody needs it, or rename the flow. Nothing was changed."
    )


def _taken(aws: Aws, names: Iterable[Name]) -> Iterator[Name]:
    """Those that are there. What may not be looked at counts as free: CloudFormation will say if it is not."""
    groups = sorted(name for kind, name in names if kind == LOG)
    yield from ((LOG, name) for name in sorted(_groups(aws, groups)))
    rest = sorted(each for each in names if each[0] != LOG)
    with ThreadPoolExecutor(_AT_ONCE, "lokki-names") as pool:
        found = pool.map(lambda each: _exists(aws, *each), rest)
        yield from (each for each, there in zip(rest, found, strict=True) if there)


def _exists(aws: Aws, kind: str, name: str) -> bool:
    if kind == FUNCTION:
        client = aws.client("lambda")
        return _answers(f"look for function {name!r}", lambda: client.get_function_configuration(FunctionName=name))
    arn = f"arn:{aws.partition}:states:{aws.region}:{aws.account}:stateMachine:{name}"
    client = aws.client("stepfunctions")
    return _answers(f"look for state machine {name!r}", lambda: client.describe_state_machine(stateMachineArn=arn))


def _answers(doing: str, ask: Callable[[], Any]) -> bool:
    from botocore.exceptions import ClientError

    with refusals(doing, DeployError):
        try:
            ask()
        except ClientError as error:
            if code_of(error) in (*_MISSING, *DENIED):
                return False
            raise
    return True


def _groups(aws: Aws, names: list[str]) -> set[str]:
    """Those of the log groups that are there, found by how the names of each folder begin."""
    folders = {name.rpartition("/")[0] for name in names}
    wanted = [_common([name for name in names if name.rpartition("/")[0] == each]) for each in sorted(folders)]
    try:
        return set(names) & set(chain.from_iterable(_groups_below(aws, each) for each in wanted))
    except AwsError as error:
        if error.code in DENIED:
            return set()
        raise


def _groups_below(aws: Aws, prefix: str) -> Iterator[str]:
    with refusals("look for log groups", DeployError):
        for page in aws.client("logs").get_paginator("describe_log_groups").paginate(logGroupNamePrefix=prefix):
            yield from (each["logGroupName"] for each in page["logGroups"])


def _common(names: list[str]) -> str:
    """How all of the names begin."""
    from os.path import commonprefix

    return commonprefix(names)  # noqa: RUF071 - letter by letter is what is meant


def _owner(aws: Aws, flow: str) -> str:
    """The stack that the flow is deployed as; nothing where that cannot be found out."""
    usual = f"{flow}-stack"
    try:
        if Stack(aws, usual, DeployError).state() is not None:
            return usual
        return next((each.stack for each in deployed_flows(aws) if each.name == flow and each.stack), "")
    except AwsError:
        return ""
