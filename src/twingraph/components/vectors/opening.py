"""Which index is meant: one in a folder, of a Qdrant server, or of a PostgreSQL with pgvector."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from twingraph.components.vectors.kept import Kept
from twingraph.components.vectors.values import Metric, index_name
from twingraph.errors import ComponentError
from twingraph.settings import load_settings

if TYPE_CHECKING:
    from twingraph.components.vectors.index import Index
    from twingraph.components.vectors.view import Views

_POSTGRES = ("postgres", "postgresql", "postgresql+psycopg")
_QDRANT = {"http": "http", "https": "https", "qdrant": "http", "qdrant+http": "http", "qdrant+https": "https"}

_known: Kept[Views] = Kept(lambda views: views.shelf.close())


def opened(
    name: str, location: str | None, metric: Metric | None, api_key: str | None, approximate: bool | None
) -> Index:
    """The index of this name at a location: a folder (without one, that of this machine's indexes) or a URL."""
    index_name(name)
    scheme, mark, rest = (location or "").partition("://")
    if not mark:
        from twingraph.components.vectors.embedded import Embedded

        return Embedded(_views(name, location), metric, approximate)
    if scheme in _QDRANT:
        from twingraph.components.vectors.qdrant import Qdrant

        return Qdrant(f"{_QDRANT[scheme]}://{rest}", name, metric, api_key, approximate)
    if scheme in _POSTGRES:
        from twingraph.components.vectors.pgvector import PgVector

        return PgVector(f"postgresql+psycopg://{rest}", name, metric, approximate)
    raise ComponentError(
        f"An index is in a folder, or at http://, https:// or qdrant:// (Qdrant) or postgresql:// (pgvector), "
        f"not at {scheme}://."
    )


def _views(name: str, location: str | None) -> Views:
    """What this process knows of a folder; anew if somebody put another in its place."""
    from twingraph.components.vectors.shelf import Shelf
    from twingraph.components.vectors.view import Views

    parent = os.path.expanduser(location) if location else os.path.join(load_settings().home, "vectors")
    shelf = Shelf(os.path.join(os.path.abspath(parent), name))
    mark = _mark(shelf.database)
    if mark is None:  # what was there, if anything was, is gone
        _known.drop(shelf.folder)
    return _known.get(shelf.folder, lambda: Views(shelf), mark)


def _mark(path: str) -> tuple[int, int] | None:
    """What tells a file from another of its name."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        folder = os.path.dirname(path)
        raise ComponentError(f"There can be no index in {folder}: a part of that path is a file.") from None
    return found.st_dev, found.st_ino
