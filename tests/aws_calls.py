"""What commands ask of AWS, and whether the policy that docs/deploying.md gives a deployer allows it.

No stand-in for AWS enforces permissions. So the commands that tests run note each call, with what it is about, and the
calls are held against the policy as it is printed.
"""

from __future__ import annotations

import json
import os
import re
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.builder.projects import write

PAGE = Path(__file__).parents[1] / "docs" / "deploying.md"
VARIABLE = "CALLS_OF_AWS"
RECORDER = f"""
    import json, os
    from botocore import handlers

    def note(params, model, **_):
        told = {{"service": model.service_model.service_name, "call": model.name, "about": params}}
        with open(os.environ[{VARIABLE!r}], "a") as file:
            file.write(json.dumps(told, default=lambda value: f"<{{type(value).__name__}}>") + chr(10))

    handlers.BUILTIN_HANDLERS.append(("before-parameter-build", note))
"""
FLOW = r"(?P<flow>birds-[0-9a-f]{10}|lokki-test-[0-9a-f]{12})"  # names of flows in tests
PREFIXES = {"stepfunctions": "states", "resourcegroupstaggingapi": "tag"}
S3 = {
    "HeadBucket": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "HeadObject": "GetObject",
    "DeleteObjects": "DeleteObject",
    "ListMultipartUploads": "ListBucketMultipartUploads",
    "ListParts": "ListMultipartUploadParts",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "CompleteMultipartUpload": "PutObject",
}
FREE = {"sts:GetCallerIdentity"}  # needs no permission
# What the page tells below the policy: the tagging API of stand-ins knows no state machines.
BESIDE = {"cloudformation:DescribeStacks on *"}


def recording() -> dict[str, str]:
    """What a command has to find in its environment to note its calls; nothing unless the test wants that."""
    noted = os.environ.get(VARIABLE)
    if not noted:
        return {}
    recorder = Path(noted).parent / "recorder"
    write(recorder, {"sitecustomize.py": RECORDER})
    return {"PYTHONPATH": str(recorder)}


@contextmanager
def noting() -> Iterator[None]:
    """Note the calls of a command that runs in this process; not those of clients that the test made before."""
    from botocore.handlers import BUILTIN_HANDLERS

    if not os.environ.get(VARIABLE):
        yield
        return
    before = list(BUILTIN_HANDLERS)
    exec(textwrap.dedent(RECORDER), {})
    try:
        yield
    finally:
        BUILTIN_HANDLERS[:] = before


def calls(noted: Path) -> Iterator[dict[str, Any]]:
    """The calls that commands have noted in a file."""
    yield from map(json.loads, noted.read_text().splitlines() if noted.exists() else [])


def needed(call: Mapping[str, Any], account: str, region: str) -> Iterator[str]:
    """The permissions that a call takes, as in `s3:GetObject on arn:aws:s3:::bucket/key`."""
    service, name, about = call["service"], call["call"], call["about"]
    action = f"{PREFIXES.get(service, service)}:{S3.get(name, name) if service == 's3' else name}"
    if action in FREE:
        return
    here = f"{region}:{account}"
    yield from (f"{action} on {each}" for each in _resources(service, action, about, here))
    if name == "CreateChangeSet" and about.get("Tags"):
        yield from (f"cloudformation:TagResource on {each}" for each in _resources(service, action, about, here))


def _resources(service: str, action: str, about: Mapping[str, Any], here: str) -> Iterator[str]:
    match service:
        case "s3" if "Delete" in about:
            yield from (f"arn:aws:s3:::{about['Bucket']}/{each['Key']}" for each in about["Delete"]["Objects"])
        case "s3":
            yield f"arn:aws:s3:::{about['Bucket']}" + (f"/{about['Key']}" if "Key" in about else "")
        case "cloudformation" if "StackName" in about:
            name = about["StackName"]
            yield name if name.startswith("arn:") else f"arn:aws:cloudformation:{here}:stack/{name}/id"
        case "lambda" if "FunctionName" in about:
            yield f"arn:aws:lambda:{here}:function:{about['FunctionName']}"
        case "logs" if "logGroupName" in about:
            yield f"arn:aws:logs:{here}:log-group:{about['logGroupName']}"
        case "ecr" if "repositoryName" in about:
            yield f"arn:aws:ecr:{here}:repository/{about['repositoryName']}"
        case "stepfunctions":
            names = ("mapRunArn", "executionArn", "stateMachineArn", "resourceArn")
            yield next((about[each] for each in names if each in about), "*")
        case _:
            yield "*"


def policy() -> dict[str, Any]:
    """The policy, as the page prints it."""
    text = PAGE.read_text("utf-8").partition("## What a deployer may do")[2]
    found: dict[str, Any] = json.loads(text.partition("```json\n")[2].partition("```")[0])
    return found


class Policy:
    """What a policy allows, for an account, a region and any flow of a test."""

    def __init__(self, account: str, region: str) -> None:
        self._allowed: list[tuple[str, re.Pattern[str]]] = []
        for statement in policy()["Statement"]:
            actions, resources = (_many(statement[each]) for each in ("Action", "Resource"))
            patterns = [
                _pattern(each.replace("123456789012", account).replace("us-east-1", region)) for each in resources
            ]
            self._allowed += [(action, pattern) for action in actions for pattern in patterns]

    def allows(self, permission: str) -> bool:
        """Whether it allows an action on a resource."""
        action, _, resource = permission.partition(" on ")
        return any(action == each and pattern.fullmatch(resource) for each, pattern in self._allowed)


def refused(noted: Path, account: str, region: str) -> list[str]:
    """The permissions that commands took and the policy does not give."""
    wanted = {each for call in calls(noted) for each in needed(call, account, region)}
    allowed = Policy(account, region)
    return sorted(each for each in wanted - BESIDE if not allowed.allows(each))


def _pattern(resource: str) -> re.Pattern[str]:
    """A resource of the policy, with the names of tests in place of those on the page."""
    stack = resource.replace("birds-flow-stack/", "*/").replace("ornithology-flows", "*-data")
    text = re.escape(stack).replace(r"\*", ".*")
    return re.compile(text.replace(r"birds\-flow", FLOW, 1).replace(r"birds\-flow", "(?P=flow)"))


def _many(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
