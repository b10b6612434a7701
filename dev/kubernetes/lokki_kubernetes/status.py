"""Parts of a pod's status."""

from __future__ import annotations

from datetime import datetime

from docker.models.containers import Container

from lokki_kubernetes.errors import Object
from lokki_kubernetes.resources import now


def waiting_status(container: Object, reason: str) -> Object:
    return {
        "name": container["name"],
        "image": container["image"],
        "imageID": "",
        "ready": False,
        "started": False,
        "restartCount": 0,
        "state": {"waiting": {"reason": reason}},
        "lastState": {},
    }


def terminated(code: int, reason: str, message: str, container: Container) -> Object:
    state = container.attrs.get("State", {})
    ended: Object = {
        "exitCode": code,
        "reason": reason,
        "startedAt": _docker_time(state.get("StartedAt")),
        "finishedAt": _docker_time(state.get("FinishedAt")),
        "containerID": f"docker://{container.id}",
    }
    if message:
        ended["message"] = message
    return ended


def _docker_time(text: str | None) -> str:
    if not text or text.startswith("0001"):
        return now()
    return datetime.strptime(text[:19], "%Y-%m-%dT%H:%M:%S").strftime("%Y-%m-%dT%H:%M:%SZ")


def condition(kind: str, is_true: bool, reason: str = "", message: str = "") -> Object:
    condition = {
        "type": kind,
        "status": "True" if is_true else "False",
        "lastProbeTime": None,
        "lastTransitionTime": now(),
    }
    if reason:
        condition["reason"] = reason
    if message:
        condition["message"] = message
    return condition


def waiting_reason(pod: Object, name: str) -> str:
    for status in pod["status"].get("initContainerStatuses", []) + pod["status"].get("containerStatuses", []):
        if status["name"] == name and "waiting" in status["state"]:
            return str(status["state"]["waiting"]["reason"])
    return "ContainerCreating"
