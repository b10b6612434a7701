"""What the status of a pod means for its call, as sentences. Pure: a pod is what the API server said of it."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from typing import Any, NamedTuple

from twingraph.platforms.kubernetes.manifests import CONTAINER

_NO_PYTHON = ("executable file not found", "no such file or directory")
_STARTLESS = ("StartError", "ContainerCannotRun")
_LONGEST = 600  # characters of a message that are told


class Trouble(NamedTuple):
    """Why a pod has not started: the reason in Kubernetes' word, what to say, and whether waiting may help."""

    reason: str
    words: str
    lasts: bool


def state(pod: dict[str, Any] | None, kind: str) -> dict[str, Any] | None:
    """How the container is: `waiting`, `running` or `terminated`; None where it is not so."""
    for each in ((pod or {}).get("status") or {}).get("containerStatuses") or ():
        if each["name"] == CONTAINER:
            found: dict[str, Any] | None = (each.get("state") or {}).get(kind)
            return found
    return None


def begun(pod: dict[str, Any] | None) -> bool:
    """Whether the container runs, or ran: there is a log."""
    return state(pod, "running") is not None or state(pod, "terminated") is not None


def over(pod: dict[str, Any] | None) -> bool:
    """Whether there will be no more of the pod."""
    return state(pod, "terminated") is not None or _phase(pod) in ("Failed", "Succeeded")


def deleted(pod: dict[str, Any]) -> bool:
    """Whether the pod was to go before it ended, other than for what it did itself."""
    status = pod.get("status") or {}
    return "deletionTimestamp" in pod["metadata"] and not status.get("reason") and not _killed(pod)


def _killed(pod: dict[str, Any]) -> bool:
    return (state(pod, "terminated") or {}).get("reason") == "OOMKilled"


def trouble(pod: dict[str, Any] | None, image: str) -> Trouble | None:
    """What keeps the pod from starting, as far as its status says it."""
    if waiting := state(pod, "waiting"):
        return _waiting(str(waiting.get("reason", "")), _short(waiting.get("message", "")), image)
    for each in ((pod or {}).get("status") or {}).get("conditions") or ():
        if each["type"] == "PodScheduled" and each["status"] == "False":
            said, reason = _short(each.get("message", "")), str(each.get("reason", "Unschedulable"))
            advice = "ask for less in resources, or look at node_selector and tolerations"
            return Trouble(reason, f"no node takes its pod ({reason}: {said}): {advice}", False)
    return None


def _waiting(reason: str, said: str, image: str) -> Trouble | None:
    told = f"({reason}: {said})" if said else f"({reason})"
    match reason:
        case "ErrImagePull" | "ImagePullBackOff" | "RegistryUnavailable" | "ImageInspectError":
            words = f"the image {image!r} cannot be pulled {told}: check its name, and that the cluster may pull it"
            return Trouble(reason, f"{words} (image_pull_secrets)", reason == "ImagePullBackOff")
        case "ErrImageNeverPull":
            words = f"the image {image!r} is not on the node, and pull_policy is 'Never' {told}"
            return Trouble(reason, f"{words}: bring it there, or let it be pulled with 'IfNotPresent'", True)
        case "InvalidImageName":
            return Trouble(reason, f"{image!r} is no name of an image {told}: correct docker_image", True)
        case "CreateContainerConfigError":
            words = f"its container cannot be configured {told}"
            return Trouble(reason, f"{words}: see to it that what the pod refers to is in its namespace", True)
        case "CreateContainerError" | "RunContainerError":
            return Trouble(reason, f"its container cannot be made {told}: {_python(said, image)}", True)
    return None


def ending(pod: dict[str, Any], image: str) -> str:
    """How a pod ended that gave no answer, and what to do."""
    ended, status = state(pod, "terminated"), pod.get("status") or {}
    reason, said = str(status.get("reason") or ""), _short(status.get("message") or "")
    if reason == "DeadlineExceeded":
        return "its pod was ended at the deadline of its job (DeadlineExceeded): give it a longer timeout"
    if reason and ended is None:
        return f"its pod was ended by the cluster ({reason}: {said}): run it again"
    if ended is None:
        return "its pod ended before its container began"
    code, why, words = ended["exitCode"], str(ended.get("reason") or ""), _short(ended.get("message") or "")
    if why == "OOMKilled":
        limit = _limit(pod)
        held = f"its limit of {limit}" if limit else "its node has"
        return f"its pod took more memory than {held} and was killed (OOMKilled): ask for more with resources"
    if why in _STARTLESS:
        return f"its container cannot be started ({why}: {words}): {_python(words, image)}"
    if reason:
        return f"its pod was ended by the cluster ({reason}: {said}), with exit code {code}: run it again"
    return f"its pod ended with {_code(code)} before it returned; its log may say why"


def _python(words: str, image: str) -> str:
    if any(each in words.lower() for each in _NO_PYTHON):
        return f"the image {image!r} needs a python3 of version 3.8 or newer"
    return "look at the image and at what its container is told"


def _code(code: int) -> str:
    if code > 128:
        try:
            return f"exit code {code} ({signal.Signals(code - 128).name})"
        except ValueError:
            pass
    return f"exit code {code}"


def _limit(pod: dict[str, Any]) -> str:
    for each in pod["spec"]["containers"]:
        if each["name"] == CONTAINER:
            return str(((each.get("resources") or {}).get("limits") or {}).get("memory", ""))
    return ""


def warnings(events: Iterable[dict[str, Any]]) -> list[tuple[str, str]]:
    """The reasons and messages of the warnings among events, the oldest first."""
    found = [each for each in events if each.get("type") == "Warning"]
    found.sort(key=lambda each: each.get("lastTimestamp") or each.get("eventTime") or "")
    return [(str(each.get("reason", "")), _short(each.get("message", ""))) for each in found]


def _phase(pod: dict[str, Any] | None) -> str:
    return str(((pod or {}).get("status") or {}).get("phase") or "")


def _short(text: str) -> str:
    text = " ".join(str(text).split()).rstrip(".")
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
