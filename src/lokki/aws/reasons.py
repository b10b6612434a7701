"""What CloudFormation does and why it stops, in sentences: events as they come, failures with what to do about them."""

from __future__ import annotations

import re
from datetime import datetime

from lokki.aws.client import Aws
from lokki.aws.stacks import End, Event, State
from lokki.aws.templates import Template

_STACK = "AWS::CloudFormation::Stack"
_DOING = {"CREATE": ("creating", "created"), "UPDATE": ("updating", "updated"), "DELETE": ("removing", "removed")}
_WORK = {
    "CREATE": "The creation of stack {name!r}",
    "UPDATE": "An update of stack {name!r}",
    "DELETE": "The removal of stack {name!r}",
    "ROLLBACK": "Putting back what a failed creation of stack {name!r} changed",
    "UPDATE_ROLLBACK": "Putting back what a failed update of stack {name!r} changed",
}
_ADVICE = (
    (r"already exists", "Something else has this name. Remove that, or rename the flow."),
    (
        r"not authorized|AccessDenied|UnauthorizedTaggingOperation",
        "The credentials may not do this: docs/deploying.md lists what a deployer needs.",
    ),
    (r"explicit deny", "A policy of your organisation forbids it: ask those who keep it."),
    (
        r"image .*does not exist|Source image .*is not valid|manifest",
        "Deploy again with --force, which builds and pushes the image again.",
    ),
    (r"image_uri.*ECR|ECR permissions|ECR access", "Let Lambda pull from the repository, or use one of this account."),
    (r"S3 Error Code: NoSuchKey|NoSuchKey", "The package has gone from the bucket: deploy again with --force."),
    (r"cannot be assumed|not authorized to assume", "The configured role has to trust the service that uses it."),
    (r"LimitExceeded|limit exceeded|quota", "Ask AWS for a higher quota, or remove what is not needed any more."),
    (r"[Rr]ate exceeded|Throttl|TooManyRequests", "AWS was busy: deploy again."),
    (r"runtime parameter|InvalidParameterValue.*untime", "Set lambda.python_version to one that this region has."),
    (r"MemorySize", "This account allows functions less memory: lower memory_mb, or ask AWS for more."),
    (r"INVALID_DEFINITION|Invalid State Machine Definition", "This is a fault of lokki: please report it."),
    (r"[Jj]ob ?[Qq]ueue", "Check batch.job_queue: it has to exist in this account and region."),
    (r"[Ss]ecret", "Check secrets.secret_arns: each has to exist in this account and region."),
)


def told(event: Event, names: Template) -> str:
    """An event as a line, or nothing for one that says nothing new."""
    doing, _, how = event.status.partition("_")
    if event.kind == _STACK or doing not in _DOING:
        return ""
    what = f"{event.at.astimezone():%H:%M:%S}  {names.called(event.logical)}"
    if how == "FAILED":
        return f"{what}: failed{f' ({event.reason})' if event.reason else ''}"
    if how == "IN_PROGRESS" and event.reason:  # a second time, now that the resource has a name
        return ""
    return f"{what}: {_DOING[doing][how == 'COMPLETE']}" if how in ("IN_PROGRESS", "COMPLETE") else ""


def under_way(state: State, begun: Event | None, aws: Aws) -> str:
    """That CloudFormation is at work on the stack, since when, and how to watch it."""
    kind = state.status.removesuffix("_IN_PROGRESS").removesuffix("_CLEANUP").removesuffix("_COMPLETE")
    work = _WORK.get(kind, "Work on stack {name!r}").format(name=state.name)
    since = _clock(begun.at if begun is not None else state.since)
    return (
        f"{work} is under way since {since} ({state.status}): wait for its end, then try again. "
        f"Watch it: {aws_command(aws, 'describe-stack-events', state.name)}"
    )


def remains(state: State) -> str:
    """What is left of a stack that was never created, or not wholly removed."""
    since = _clock(state.since)
    match state.status:
        case "ROLLBACK_COMPLETE":
            return f"Stack {state.name!r} is empty: its creation failed ({since}), and AWS removed what was made."
        case "DELETE_FAILED":
            return (
                f"Stack {state.name!r} was not wholly removed ({since}): {state.reason or 'some resources are left'}."
            )
        case status:
            return (
                f"Stack {state.name!r} was never wholly created ({status}, {since}), and some resources are left of it."
            )


def planned(state: State) -> str:
    """That a stack is there in which nothing is."""
    return (
        f"Stack {state.name!r} is empty: a plan was made for it ({_clock(state.since)}) and never carried out, or "
        "another deployment is just asking whether to go on."
    )


def blocked(state: State, aws: Aws) -> str:
    """Why the stack cannot be updated, and the command that helps; nothing if it can."""
    if state.status != "UPDATE_ROLLBACK_FAILED":
        return ""
    return (
        f"Stack {state.name!r} is stuck: an update failed, and so did putting back what it had changed "
        f"({state.reason or state.status}). Remove the cause, then: "
        f"{aws_command(aws, 'continue-update-rollback', state.name)}"
    )


def failed(end: End, name: str, names: Template) -> str:
    """Why a deployment failed: the first failure, AWS's reason, what to do, and what there is now."""
    first = end.failure
    if first is None:
        cause = f"CloudFormation stopped with {end.status}"
    elif first.kind == _STACK:
        cause = first.reason.rstrip(".") or first.status
    else:
        cause = f"{names.called(first.logical)}: {first.reason.rstrip('.') or first.status}"
    hint = advice(first.reason) if first is not None else ""
    return " ".join(each for each in (f"Stack {name!r} failed: {cause}.", hint, _now(end)) if each)


def gone(name: str) -> str:
    """That the stack is not there any more."""
    return (
        f"Stack {name!r} was removed by somebody else while it was being deployed. What had been uploaded is still in "
        "the bucket: deploy again."
    )


def advice(reason: str) -> str:
    """What to do about a reason that AWS gives, if that is known."""
    return next((what for pattern, what in _ADVICE if re.search(pattern, reason)), "")


def aws_command(aws: Aws, command: str, stack: str) -> str:
    """A command of the AWS CLI about a stack, to be typed."""
    import shlex

    endpoint = f" --endpoint-url {aws.endpoint}" if aws.endpoint else ""
    return f"aws cloudformation {command} --stack-name {shlex.quote(stack)} --region {aws.region}{endpoint}"


def _now(end: End) -> str:
    match end.status:
        case "ROLLBACK_COMPLETE":
            return "Nothing of it is left; deploying again offers to remove the empty stack."
        case "CREATE_FAILED" | "ROLLBACK_FAILED":
            return "What was made before is still there; deploying again offers to remove it."
        case "UPDATE_ROLLBACK_COMPLETE":
            return "AWS has put back what was deployed before."
        case "UPDATE_ROLLBACK_FAILED":
            return "What was deployed before could not be put back either."
        case "UPDATE_FAILED":
            return "What was changed before stays changed; deploying again continues."
        case _:
            return ""


def _clock(at: datetime) -> str:
    return f"{at.astimezone():%Y-%m-%d %H:%M:%S}"
