"""Where the values of a run lie: parts by key, in memory or in a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lokki.store.local import LocalStore
    from lokki.store.memory import MemoryStore
    from lokki.store.protocol import TransientStore

__all__ = ["LocalStore", "MemoryStore", "TransientStore", "open_store"]

_HOME = {"LocalStore": "local", "MemoryStore": "memory", "TransientStore": "protocol"}


def open_store(kind: str, **options: Any) -> TransientStore:
    """The store of this kind, "local" or "memory"; only its own module is loaded."""
    store: TransientStore = __getattr__({"local": "LocalStore", "memory": "MemoryStore"}[kind])(**options)
    return store


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
