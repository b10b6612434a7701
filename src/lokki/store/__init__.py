"""Where the values of a run lie: parts by key, in memory, in a folder or in an S3 bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lokki.store.local import LocalStore
    from lokki.store.memory import MemoryStore
    from lokki.store.protocol import TransientStore
    from lokki.store.s3 import S3Store

__all__ = ["LocalStore", "MemoryStore", "S3Store", "TransientStore", "open_store"]

_HOME = {"LocalStore": "local", "MemoryStore": "memory", "S3Store": "s3", "TransientStore": "protocol"}
_KIND = {"local": "LocalStore", "memory": "MemoryStore", "s3": "S3Store"}


def open_store(kind: str, **options: Any) -> TransientStore:
    """The store of this kind, "local", "memory" or "s3"; only its own module is loaded."""
    store: TransientStore = __getattr__(_KIND[kind])(**options)
    return store


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
