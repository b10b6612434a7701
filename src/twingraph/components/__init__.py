"""Components that come with this library: files, databases, language models, vectors and frames.

    from twingraph.components import FileReader

Each is imported when it is first used, and the libraries that it stands on with its first call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twingraph.components.database import DatabaseQuery
    from twingraph.components.files import FileReader, FileWriter
    from twingraph.components.llm import LLMPrompt
    from twingraph.components.transform import DataTransform
    from twingraph.components.vector_search import VectorSearch

_ROOMS: dict[str, tuple[str, ...]] = {
    "database": ("DatabaseQuery",),
    "files": ("FileReader", "FileWriter"),
    "llm": ("LLMPrompt",),
    "transform": ("DataTransform",),
    "vector_search": ("VectorSearch",),
}

__all__ = [
    "DataTransform",
    "DatabaseQuery",
    "FileReader",
    "FileWriter",
    "LLMPrompt",
    "VectorSearch",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    for room, names in _ROOMS.items():
        if name in names:
            return getattr(import_module(f"twingraph.components.{room}"), name)
    raise AttributeError(f"module 'twingraph.components' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, *globals()]
