"""What a component's placement asks of Docker, in the words of its engine."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from lokki.errors import nearest
from lokki.frozen import field, frozen
from twingraph.errors import ComponentError
from twingraph.placed import Placed
from twingraph.placement import Placement
from twingraph.platforms.sizes import memory_bytes, processors

OPTIONS = frozenset(
    {
        "memory", "cpu", "gpu", "volumes", "network", "user", "pull_policy", "timeout", "environment", "warm", "pickle",
        "python",
    }
)  # fmt: skip
POLICIES = ("Always", "IfNotPresent", "Never")
OWNER = "twingraph.owner"
HOST = "twingraph.host"


@frozen
class Wanted:
    """A container as a call wants it.

    Attributes:
        image: its image.
        pythons: what its Python may be called, in order.
        pull: when the image is pulled.
        host: the keyword arguments of `create_host_config`.
        user: who it runs as, or None.
        environment: its variables.
        warm: whether it serves later calls too.
    """

    image: str
    pythons: tuple[str, ...]
    pull: str
    host: Mapping[str, Any] = field(default_factory=dict)
    user: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    warm: bool = False

    def key(self, component: str) -> str:
        """The same for calls that can take turns in one container."""
        return repr((component, self.image, self.pythons, sorted(self.host.items(), key=repr), self.user))


def wanted(call: Placed) -> Wanted:
    """The container for a call; what cannot be understood is a `ComponentError`."""
    place = call.placement
    for key in place.config:
        if key not in OPTIONS:
            near = nearest(str(key), OPTIONS) or "."
            known = ", ".join(sorted(OPTIONS))
            raise ComponentError(f"Component {call.component!r}: Docker has no option {key!r}{near} It has {known}.")
    try:
        return _wanted(place)
    except (ValueError, TypeError) as error:
        raise ComponentError(f"Component {call.component!r}: {error}") from None


def _wanted(place: Placement) -> Wanted:
    config = place.config
    warm = bool(config.get("warm", False))
    return Wanted(
        image=place.image or f"python:{sys.version_info[0]}.{sys.version_info[1]}-slim",
        pythons=(str(config["python"]),) if "python" in config else ("python3", "python"),
        pull=_policy(config.get("pull_policy", "IfNotPresent")),
        host=_host(config, place.resources),
        user=str(config["user"]) if "user" in config else None,
        environment={} if warm else dict(place.environment),  # each call brings its own
        warm=warm,
    )


def _host(config: Mapping[str, Any], resources: Mapping[str, Any]) -> dict[str, Any]:
    told = {key: config.get(key, resources.get(key)) for key in ("memory", "cpu", "gpu")}
    found: dict[str, Any] = {}
    if told["memory"]:
        found["mem_limit"] = found["memswap_limit"] = memory_bytes(told["memory"])
    if told["cpu"]:
        found["nano_cpus"] = int(processors(told["cpu"]) * 1e9)
    if told["gpu"]:
        found["device_requests"] = [{"Count": _gpus(told["gpu"]), "Capabilities": [["gpu"]]}]
    if config.get("volumes"):
        found["binds"] = _binds(config["volumes"])
    if config.get("network"):
        found["network_mode"] = str(config["network"])
    return found


def _gpus(told: Any) -> int:
    if told is True:
        return -1  # all of them
    if isinstance(told, int | str) and str(told).isdigit():
        return int(told)
    raise ValueError(f"gpu takes True or a number, not {told!r}.")


def _binds(volumes: Any) -> list[str]:
    if not isinstance(volumes, Mapping):
        raise ValueError(f"volumes takes a dict such as {{'/host': '/container'}}, not {volumes!r}.")
    return [f"{_source(str(source))}:{_target(target)}" for source, target in volumes.items()]


def _source(told: str) -> str:
    """A folder of this machine by its whole path; anything else is the name of a volume."""
    return os.path.abspath(os.path.expanduser(told)) if told[:1] in "~./" else told


def _target(told: Any) -> str:
    if isinstance(told, str) and told.startswith("/"):
        return told
    if isinstance(told, Mapping) and str(told.get("bind", "")).startswith("/"):
        return f"{told['bind']}:{told.get('mode', 'rw')}"
    raise ValueError(f"a volume goes to '/path' or {{'bind': '/path', 'mode': 'ro'}}, not to {told!r}.")


def _policy(told: Any) -> str:
    for each in POLICIES:
        if str(told).lower() == each.lower():
            return each
    raise ValueError(f"pull_policy is one of {', '.join(POLICIES)}, not {told!r}.")
