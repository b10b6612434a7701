"""Job definitions for components that name an image and none of their own: registered once for each content."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from twingraph.platforms.aws.account import Account, refusals, tags

_LONGEST_NAME = 128


class Definitions:
    """The job definitions that calls of this process have asked for."""

    def __init__(self) -> None:
        self._known: dict[tuple[Account, str], str] = {}
        self._lock = threading.Lock()

    def of(self, account: Account, component: str, content: Mapping[str, Any], labels: Mapping[str, str]) -> str:
        """The ARN of a job definition with this content, which may have been registered by another process before."""
        name = _name(component, content)
        with self._lock:
            if (account, name) not in self._known:
                with refusals(f"register a job definition for component {component!r}"):
                    self._known[account, name] = _found(account, name) or _registered(
                        account, name, content, tags(labels, component=component)
                    )
            return self._known[account, name]

    def forget(self, account: Account, arn: str) -> None:
        """It is not there any more, so that the next call registers it again."""
        with self._lock:
            self._known = {key: known for key, known in self._known.items() if key[0] is not account or known != arn}


def content(image: str, vcpus: float, memory: int, job_role: str, execution_role: str, fargate: bool) -> dict[str, Any]:
    """What a job definition says of how an image is run; a job may ask for more or less than it does."""
    roles = {"jobRoleArn": job_role, "executionRoleArn": execution_role}
    properties: dict[str, Any] = {
        "image": image,
        "resourceRequirements": requirements(vcpus, memory, 0),
        **{name: arn for name, arn in roles.items() if arn},
    }
    if fargate:  # where the image is to be had from the internet only, its network needs an address
        properties["networkConfiguration"] = {"assignPublicIp": "ENABLED"}
    return {
        "type": "container",
        "platformCapabilities": ["FARGATE" if fargate else "EC2"],
        "containerProperties": properties,
        "propagateTags": True,
    }


def requirements(vcpus: float | None, memory: int | None, gpus: int) -> list[dict[str, str]]:
    """What a job needs, in Batch's words."""
    asked = {"VCPU": vcpus, "MEMORY": memory, "GPU": gpus or None}
    return [{"type": kind, "value": f"{value:g}"} for kind, value in asked.items() if value is not None]


def _name(component: str, content: Mapping[str, Any]) -> str:
    digest = sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
    plain = re.sub(r"[^\w-]", "-", component, flags=re.ASCII)
    return f"twingraph-{plain[: _LONGEST_NAME - 24]}-{digest}"


def _found(account: Account, name: str) -> str:
    answer = account.client("batch").describe_job_definitions(jobDefinitionName=name, status="ACTIVE")
    newest = max(answer["jobDefinitions"], key=lambda each: each["revision"], default=None)
    return str(newest["jobDefinitionArn"]) if newest else ""


def _registered(account: Account, name: str, content: Mapping[str, Any], tagged: Mapping[str, str]) -> str:
    answer = account.client("batch").register_job_definition(jobDefinitionName=name, tags=tagged, **content)
    return str(answer["jobDefinitionArn"])
