"""lokki: write a pipeline as plain decorated Python functions and run it: typed, fast, resumable.

    from lokki import flow, main, step

Names are loaded when they are first used, so that importing lokki costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lokki.config import LokkiConfig, load_config
    from lokki.decorators import Flow, MapBlock, StepNode, flow, step
    from lokki.errors import (
        ConfigurationError,
        GraphTypeError,
        GraphValidationError,
        LokkiError,
        ParameterError,
        RunError,
        StoreError,
    )
    from lokki.graph import FlowGraph
    from lokki.policy import RetryConfig
    from lokki.runner import LocalRunner
    from lokki.start import main
    from lokki.store import LocalStore, MemoryStore

__all__ = [
    "ConfigurationError",
    "Flow",
    "FlowGraph",
    "GraphTypeError",
    "GraphValidationError",
    "LocalRunner",
    "LocalStore",
    "LokkiConfig",
    "LokkiError",
    "MapBlock",
    "MemoryStore",
    "ParameterError",
    "RetryConfig",
    "RunError",
    "StepNode",
    "StoreError",
    "flow",
    "load_config",
    "main",
    "step",
]

_ROOMS = {
    "config": ("LokkiConfig", "load_config"),
    "decorators": ("Flow", "MapBlock", "StepNode", "flow", "step"),
    "errors": (
        "ConfigurationError",
        "GraphTypeError",
        "GraphValidationError",
        "LokkiError",
        "ParameterError",
        "RunError",
        "StoreError",
    ),
    "graph": ("FlowGraph",),
    "policy": ("RetryConfig",),
    "runner": ("LocalRunner",),
    "start": ("main",),
    "store": ("LocalStore", "MemoryStore"),
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    for room, names in _ROOMS.items():
        if name in names:
            return getattr(import_module(f"lokki.{room}"), name)
    raise AttributeError(f"module 'lokki' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, *globals()]
