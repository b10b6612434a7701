"""TwinGraph: components placed on platforms, composed into pipelines, and recorded in an execution graph.

    from twingraph import component, pipeline

Names are loaded when they are first used, so that importing twingraph costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twingraph.base import BaseComponent
    from twingraph.decorators import Component, component
    from twingraph.errors import (
        ComponentError,
        ComponentTimeoutError,
        ComponentTypeError,
        GraphError,
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
    from twingraph.questions import ExecutionGraph, open_graph
    from twingraph.registry import register_component
    from twingraph.results import Outputs, Result
    from twingraph.runs import Execution
    from twingraph.workflows import Workflow

__all__ = [
    "BaseComponent",
    "Component",
    "ComponentError",
    "ComponentTimeoutError",
    "ComponentTypeError",
    "Execution",
    "ExecutionGraph",
    "Failure",
    "GraphError",
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
    "Workflow",
    "component",
    "open_graph",
    "pipeline",
    "register_component",
    "register_error_handler",
]

_ROOMS = {
    "base": ("BaseComponent",),
    "decorators": ("Component", "component"),
    "errors": (
        "ComponentError",
        "ComponentTimeoutError",
        "ComponentTypeError",
        "GraphError",
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
    "questions": ("ExecutionGraph", "open_graph"),
    "registry": ("register_component",),
    "results": ("Outputs", "Result"),
    "runs": ("Execution",),
    "workflows": ("Workflow",),
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    for room, names in _ROOMS.items():
        if name in names:
            return getattr(import_module(f"twingraph.{room}"), name)
    raise AttributeError(f"module 'twingraph' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, *globals()]
