"""Where a component runs, and with what: the part of `@component(...)` that is not about its code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lokki.frozen import field, frozen
from twingraph.errors import ComponentError, ComponentTypeError

DEFAULT_TIMEOUT = 300.0
"""Seconds that an attempt may take where nothing else is said."""


@frozen
class Placement:
    """Where a component runs.

    Attributes:
        platform: the name of the platform.
        image: the container image, where the platform has such; None for the platform's own choice.
        config: what else the platform is told, in its own words.
        timeout: seconds that an attempt may take; 0 for no limit.
        resources: `cpu`, `memory` and `gpu`, for every platform alike; `config` wins.
        environment: environment variables that the component sees.
        labels: what people find its calls by.
    """

    platform: str = "local"
    image: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = DEFAULT_TIMEOUT
    resources: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


def placement(
    component: str,
    *,
    platform: str,
    image: str | None,
    config: Mapping[str, Any] | None,
    timeout: float | None,
    resources: Mapping[str, Any] | None,
    environment: Mapping[str, Any] | None,
    labels: Mapping[str, Any] | None,
) -> Placement:
    """The placement that the arguments of `@component` describe."""
    if image is not None and (not isinstance(image, str) or not image):
        raise ComponentTypeError(f"Component {component!r}: docker_image takes the name of an image, not {image!r}.")
    told = _mapping(component, "config", config)
    variables = {**_mapping(component, "config['environment']", told.get("environment"))}
    variables.update(_mapping(component, "environment", environment))
    return Placement(
        platform,
        image,
        told,
        _seconds(component, _limit(platform, told) if timeout is None else timeout),
        _mapping(component, "resources", resources),
        _variables(component, variables),
        {str(key): str(value) for key, value in _mapping(component, "labels", labels).items()},
    )


def _variables(component: str, told: Mapping[str, Any]) -> dict[str, str]:
    for name, value in told.items():
        where = f"Component {component!r}: environment variable {name!r}"
        if value is None:
            raise ComponentTypeError(f"{where} takes a text, not None.")
        if not name or "=" in str(name) or "\0" in f"{name}{value}":
            raise ComponentError(f"{where} cannot be set: a name has no = in it, and neither it nor its value a NUL.")
    return {str(name): str(value) for name, value in told.items()}


def _limit(platform: str, config: Mapping[str, Any]) -> Any:
    """What the config says of time: the limit itself, or for Lambda the function's own, after which it answers."""
    told = config.get("timeout", DEFAULT_TIMEOUT)
    return told + 30 if platform == "lambda" and "timeout" in config and isinstance(told, int | float) else told


def _mapping(component: str, name: str, value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ComponentTypeError(f"Component {component!r}: {name} takes a dict, not {type(value).__name__}.")
    return dict(value)


def _seconds(component: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ComponentTypeError(f"Component {component!r}: timeout takes seconds, not {value!r}.")
    if not 0 <= value < float("inf"):
        raise ComponentError(f"Component {component!r}: timeout is 0 seconds (no limit) or more, not {value}.")
    return float(value)
