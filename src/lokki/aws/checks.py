"""What a deployment refuses to go on with: a stack that is somebody else's, or one that something was taken out of.

A queue of Batch jobs that is missing is told of only: it may come later, and what is deployed finds it then.
"""

from __future__ import annotations

import re

from lokki.aws.client import Aws, code_of
from lokki.aws.stacks import Stack, State
from lokki.aws.templates import Template
from lokki.errors import DeployError


def check_name(stack: str) -> None:
    """Refuse a name that no stack can have."""
    if not re.fullmatch("[a-zA-Z][a-zA-Z0-9-]{0,127}", stack):
        raise DeployError(
            f"{stack!r} cannot be the name of a stack: CloudFormation takes up to 128 letters, digits and hyphens, "
            "with a letter first. Nothing was changed."
        )


def check_ours(stack: Stack, state: State, flow: str) -> None:
    """Refuse a stack that was not made by lokki, or for another flow."""
    ours = state.ours or Template(stack.template()).ours
    others = state.tags.get("lokki:flow-name") or state.parameters.get("FlowName", "")
    if not ours:
        raise DeployError(
            f"Stack {stack.name!r} was not made by lokki, and deploying would replace all that is in it: choose "
            "another name with --stack-name."
        )
    if others and others != flow:
        raise DeployError(
            f"Stack {stack.name!r} is that of the flow {others!r}, and deploying would replace it: choose another "
            "name with --stack-name."
        )


def check_machine(aws: Aws, state: State | None) -> None:
    """Refuse a stack whose state machine was removed by hand: as far as CloudFormation knows, it is there still."""
    from botocore.exceptions import BotoCoreError, ClientError

    arn = state.outputs.get("StateMachineArn", "") if state is not None else ""
    if state is None or not arn:
        return
    try:
        aws.client("stepfunctions").describe_state_machine(stateMachineArn=arn)
    except (BotoCoreError, ClientError) as error:
        if isinstance(error, ClientError) and code_of(error) == "StateMachineDoesNotExist":
            raise DeployError(
                f"Stack {state.name!r} is as it was, but its state machine was removed by somebody else, and "
                "CloudFormation does not know: remove the stack with destroy, then deploy again."
            ) from error


def missing_queue(aws: Aws, queue: str) -> str:
    """That there is no such queue of Batch jobs; nothing where there is one, or where it may not be looked for."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        found = aws.client("batch").describe_job_queues(jobQueues=[queue])["jobQueues"]
    except (BotoCoreError, ClientError):
        return ""
    if found:
        return ""
    return (
        f"There is no Batch job queue {queue!r} in {aws.region}: runs fail at their first job until there is one. "
        "Create it, or name another in batch.job_queue and deploy again."
    )
