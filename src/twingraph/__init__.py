"""TwinGraph: components placed on platforms, composed into pipelines, and recorded in an execution graph.

    from twingraph import component, pipeline

Names are loaded when they are first used, so that importing twingraph costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twingraph.decorators import Component, component
    from twingraph.errors import (
        ComponentError,
        ComponentTimeoutError,
        PipelineTimeoutError,
        PlatformError,
        PlatformUnavailableError,
        RemoteError,
        TransientError,
        TravelError,
        TwinGraphError,
        UpstreamFailedError,
    )
    from twingraph.handling import Failure, register_error_handler
    from twingraph.pipelines import Pipeline, pipeline
    from twingraph.results import Outputs, Result
    from twingraph.runs import Execution

__all__ = [
    "Component",
    "ComponentError",
    "ComponentTimeoutError",
    "Execution",
    "Failure",
    "Outputs",
    "Pipeline",
    "PipelineTimeoutError",
    "PlatformError",
    "PlatformUnavailableError",
    "RemoteError",
    "Result",
    "TransientError",
    "TravelError",
    "TwinGraphError",
    "UpstreamFailedError",
    "component",
    "pipeline",
    "register_error_handler",
]

_ROOMS = {
    "decorators": ("Component", "component"),
    "errors": (
        "ComponentError",
        "ComponentTimeoutError",
        "PipelineTimeoutError",
        "PlatformError",
        "PlatformUnavailableError",
        "RemoteError",
        "TransientError",
        "TravelError",
        "TwinGraphError",
        "UpstreamFailedError",
    ),
    "handling": ("Failure", "register_error_handler"),
    "pipelines": ("Pipeline", "pipeline"),
    "results": ("Outputs", "Result"),
    "runs": ("Execution",),
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    for room, names in _ROOMS.items():
        if name in names:
            return getattr(import_module(f"twingraph.{room}"), name)
    raise AttributeError(f"module 'twingraph' has no attribute {name!r}")
