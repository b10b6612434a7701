"""A container of a pod as the Docker engine is asked for it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import Any

from docker.errors import DockerException, NotFound
from docker.models.containers import Container

from lokki_kubernetes.causes import quantity
from lokki_kubernetes.errors import Object

STAND_IN_LABEL, INSTANCE_LABEL = "lokki.stand-in", "lokki.kubernetes"
NODE = "lokki-node"
IMAGE = re.compile(r"[a-z0-9._:-]+(/[a-z0-9._-]+)*(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(@sha256:[0-9a-f]{64})?")


class Waiting(Exception):
    """A container that cannot start yet: the reason that its status shows."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


def ensure_image(engine: Any, container: Object, pulling: Callable[[str], None], waiting: str | None) -> None:
    """See to it that the engine has the image; `waiting` is what the container waits for already."""
    image, policy = container["image"], container["imagePullPolicy"]
    if not IMAGE.fullmatch(image):
        raise Waiting("InvalidImageName", f'Failed to apply default image tag "{image}": invalid reference format')
    if policy != "Always":
        with contextlib.suppress(NotFound):
            engine.images.get(image)
            return
        if policy == "Never":
            raise Waiting("ErrImageNeverPull", f'Container image "{image}" is not present with pull policy of Never')
    try:
        pulling(f'Pulling image "{image}"')
        engine.images.pull(image if ":" in image or "@" in image else f"{image}:latest")
    except DockerException as error:
        reason = "ImagePullBackOff" if waiting in ("ErrImagePull", "ImagePullBackOff") else "ErrImagePull"
        raise Waiting(reason, f'Failed to pull image "{image}": {error}') from None


def options(pod: Object, container: Object, owner: Container | None) -> dict[str, Any]:
    """What the engine is told beside image, command, environment and volumes; `owner` has the pod's network."""
    spec = pod["spec"]
    told = {**_amounts(container.get("resources") or {}), **_security(spec, container)}
    if owner is not None:
        told["network_mode"] = f"container:{owner.id}"
    else:
        told["hostname"] = (spec.get("hostname") or pod["metadata"]["name"])[:63]
        told["network_mode"] = "host" if spec.get("hostNetwork") else "bridge"
    told["tty"], told["stdin_open"] = bool(container.get("tty")), bool(container.get("stdin"))
    return told


def _amounts(resources: Object) -> dict[str, Any]:
    told: dict[str, Any] = {}
    limits, requested = resources.get("limits") or {}, resources.get("requests") or {}
    if "memory" in limits:
        told["mem_limit"] = told["memswap_limit"] = max(int(quantity(limits["memory"])), 6 * 2**20)
    if "cpu" in limits:
        told["nano_cpus"] = int(quantity(limits["cpu"]) * 1e9)
    if "cpu" in requested:
        told["cpu_shares"] = max(2, int(quantity(requested["cpu"]) * 1024))
    return told


def _security(spec: Object, container: Object) -> dict[str, Any]:
    context = {**spec.get("securityContext", {}), **(container.get("securityContext") or {})}
    capabilities = context.get("capabilities") or {}
    told: dict[str, Any] = {
        "group_add": [str(context["fsGroup"])] if "fsGroup" in context else [],
        "read_only": bool(context.get("readOnlyRootFilesystem")),
        "privileged": bool(context.get("privileged")),
        "cap_add": capabilities.get("add"),
        "cap_drop": capabilities.get("drop"),
    }
    if "runAsUser" in context:
        group = f":{context['runAsGroup']}" if "runAsGroup" in context else ""
        told["user"] = f"{context['runAsUser']}{group}"
    if context.get("allowPrivilegeEscalation") is False:
        told["security_opt"] = ["no-new-privileges"]
    return told
