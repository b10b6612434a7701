"""The objects of a call as Kubernetes takes them: its Secrets and its Job. Pure: what is made is data."""

from __future__ import annotations

import math
import re
import sys
from base64 import b64encode
from typing import Any

from twingraph.placed import Placed
from twingraph.platforms import owners
from twingraph.platforms.kubernetes.wishes import Wishes, label

FOLDER = "/twingraph"
CONTAINER = "main"
CALL, PROCESS = "twingraph/call", "twingraph/process"
OWNER, MACHINE, RUN, LAUNCH = "twingraph/owner", "twingraph/machine", "twingraph/run", "twingraph/launch"
_GRACE = 1  # seconds; Python as the first process of a container does not hear that it is asked to end
_LONG_GRACE = 30  # seconds; a program of its own does, and has something to see to
_SAFETY = 60  # seconds after the timeout: the job ends also where nobody is left to end it
_KEPT = 600  # seconds for which a finished job stays where nobody is left to remove it
_VARIABLE = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]{0,240}")


def names(call: Placed, count: int) -> list[str]:
    """The names of the Secrets; the first is also the job's."""
    return [call.id, *(f"{call.id}-{index}" for index in range(1, count))]


def secrets(call: Placed, wishes: Wishes, process: str, contents: list[dict[str, str]]) -> list[dict[str, Any]]:
    """The Secrets of a call; the first has the environment, too, so that it is not to be read in the job."""
    variables = {f"env.{name}": b64encode(value.encode()).decode() for name, value in _variables(call).items()}
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "labels": labels(call, wishes, process), "annotations": _annotations(call)},
            "data": {**data, **(variables if index == 0 else {})},
            "immutable": True,
        }
        for index, (name, data) in enumerate(zip(names(call, len(contents)), contents, strict=True))
    ]


def owned(job: dict[str, Any]) -> dict[str, Any]:
    """A change of a Secret: it goes when the job does."""
    head = {"apiVersion": "batch/v1", "kind": "Job", "name": job["metadata"]["name"], "uid": job["metadata"]["uid"]}
    return {"metadata": {"ownerReferences": [head]}}


def job(call: Placed, wishes: Wishes, process: str, contents: list[dict[str, str]]) -> dict[str, Any]:
    """The Job of a call, which runs one pod once."""
    head = {"labels": labels(call, wishes, process), "annotations": _annotations(call)}
    spec: dict[str, Any] = {
        "backoffLimit": 0,
        "ttlSecondsAfterFinished": _KEPT,
        "template": {"metadata": head, "spec": _pod(call, wishes, contents)},
    }
    if call.placement.timeout:
        spec["activeDeadlineSeconds"] = math.ceil(call.placement.timeout) + _SAFETY
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": call.id, **head}, "spec": spec}


def labels(call: Placed, wishes: Wishes, process: str) -> dict[str, str]:
    """What a call's objects are found by."""
    return {
        **wishes.labels,
        "app.kubernetes.io/managed-by": "twingraph",
        RUN: label(call.run),
        "twingraph/node": label(call.node),
        "twingraph/component": label(call.component),
        CALL: call.id,
        PROCESS: process,
        OWNER: owners.owner(),
        MACHINE: owners.machine_label(),
        **({LAUNCH: "true"} if call.command else {}),
    }


def _annotations(call: Placed) -> dict[str, str]:
    """What labels cannot hold as it is."""
    return {RUN: call.run, "twingraph/node": call.node, "twingraph/component": call.component}


def _pod(call: Placed, wishes: Wishes, contents: list[dict[str, str]]) -> dict[str, Any]:
    sources = [
        {"secret": {"name": name, "items": [{"key": key, "path": key} for key in sorted(data)]}}
        for name, data in zip(names(call, len(contents)), contents, strict=True)
    ]
    volume = {"name": "twingraph", "projected": {"sources": sources, "defaultMode": 0o444}}
    container = {
        "name": CONTAINER,
        "image": image(call),
        "command": list(call.command) or ["python3", f"{FOLDER}/entry.py"],
        "env": [
            {"name": name, "valueFrom": {"secretKeyRef": {"name": call.id, "key": f"env.{name}"}}}
            for name in _variables(call)
        ],
        **({} if call.command else {"volumeMounts": [{"name": "twingraph", "mountPath": FOLDER, "readOnly": True}]}),
        **wishes.container,
    }
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": _LONG_GRACE if call.command else _GRACE,
        "enableServiceLinks": False,
        "containers": [container],
        **({} if call.command else {"volumes": [volume]}),
        **wishes.pod,
    }


def image(call: Placed) -> str:
    """The image that a call runs in: where none is named, this Python's own."""
    return call.placement.image or f"python:{sys.version_info[0]}.{sys.version_info[1]}-slim"


def _variables(call: Placed) -> dict[str, str]:
    """The environment, as far as Kubernetes takes such names; the worker sees to the rest."""
    return {name: value for name, value in call.placement.environment.items() if _VARIABLE.fullmatch(name)}
