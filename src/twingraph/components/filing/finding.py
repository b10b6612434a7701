"""A path, a glob or a folder -> the files in it, in order, with what the folders on the way say of each.

Folders called `year=2024` say that all below them has this value in a column `year`, as Hive, Spark and Polars write
them. Names that begin with a dot or an underscore are not data: `_SUCCESS`, `.crc`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any
from urllib.parse import unquote

from lokki.errors import nearest
from twingraph.components.filing.addresses import WEB, Address, address, below
from twingraph.components.filing.formats import compression_of, format_of
from twingraph.components.filing.systems import system
from twingraph.components.filing.web import refused
from twingraph.errors import FileError, MissingFileError

_LOOKED_AT = 1000  # names in a folder, for one that may be meant

NOTHING = "__HIVE_DEFAULT_PARTITION__"
"""The name of a folder for what has no value."""


@dataclass(frozen=True, slots=True)
class File:
    """One file.

    Attributes:
        system: the file system, of fsspec.
        path: its place there.
        shown: its name for people.
        local: whether it lies on this machine.
        keys: what the folders on the way say of it, by column.
    """

    system: Any
    path: str
    shown: str
    local: bool
    keys: tuple[tuple[str, str | None], ...] = ()

    @property
    def name(self) -> str:
        """Its own name, without folders and without the query of a web address."""
        return _name(self.path)

    @property
    def compression(self) -> str:
        return compression_of(self.name)

    @property
    def on_the_web(self) -> bool:
        return self.path.startswith(tuple(f"{each}://" for each in WEB))

    def open(self) -> Any:
        """Its bytes as they lie there, from the first to the last; of the web in one answer."""
        return self.system.open(self.path, "rb", **({"block_size": 0} if self.on_the_web else {}))


@dataclass(frozen=True, slots=True)
class Place:
    """Where files may lie, and with which rights they are reached.

    Attributes:
        root: what all of them lie below; None for anywhere.
        options: of the file system.
    """

    root: Address | None
    options: Mapping[str, Any]

    def address(self, path: str) -> Address:
        return address(path, self.root)

    def system(self, place: Address) -> Any:
        return system(place, self.options, self.root)


def named(several: list[File]) -> str:
    """What several files are called in errors."""
    return several[0].shown if len(several) == 1 else f"{several[0].shown} and {len(several) - 1} more"


def files(paths: str | Sequence[str], place: Place, wanted: str | None = None) -> list[File]:
    """All files that the paths lead to; of a folder those of the wanted format, where there are any."""
    given = [paths] if isinstance(paths, str) else list(paths)
    if not given:
        raise FileError("No path is given: name a file, a folder or a pattern such as data/*.csv.")
    return [each for path in given for each in _files(place.address(path), place, wanted)]


def _files(found: Address, place: Place, wanted: str | None) -> list[File]:
    spoken = place.system(found)
    if found.scheme in WEB:
        return [File(spoken, found.rest, found.shown, local=False)]
    try:
        names, base = _listed(spoken, found)
    except (OSError, ValueError) as error:
        raise _unreadable(found.shown, error) from error
    if place.root is not None and found.local:  # a link may lead out
        for name in names:
            if not below(name, place.root, found.scheme):
                raise FileError(f"{name} leads outside of {place.root.shown}, which this component is confined to.")
    if base is None:
        return [_file(spoken, found, name, "") for name in names]
    chosen = _data(names, base, wanted, found.fixed != found.rest)
    if not chosen:
        what = f"a {wanted} file" if wanted else "a file of data"
        raise MissingFileError(f"There is not {what} in {found.shown}: it holds {len(names) or 'no'} other files.")
    return [_file(spoken, found, name, base) for name in chosen]


def _listed(spoken: Any, found: Address) -> tuple[list[str], str | None]:
    """The files of an address, and the folder that their partitions begin at: None for a file that is named itself."""
    try:
        kind = spoken.info(found.rest)["type"]
    except FileNotFoundError:
        kind = ""
    if kind == "directory":
        return sorted(spoken.find(found.rest)), found.rest
    if kind and not (kind == "file" and found.rest.endswith("/")):
        if kind != "file":
            raise FileError(f"{found.shown} is not a file that can be read, but a device or a pipe.")
        return [found.rest], None
    if found.fixed != found.rest:
        matched = spoken.glob(found.rest, detail=True)
        within = [inner for name, each in matched.items() if each["type"] == "directory" for inner in spoken.find(name)]
        names = {name for name, each in matched.items() if each["type"] == "file"} | set(within)
        if names:
            return sorted(names), found.fixed
        raise MissingFileError(f"No file matches {found.shown}.")
    raise MissingFileError(f"There is no file {found.shown}{_near(found)}")


def _near(found: Address) -> str:
    """The end of the sentence, with the name beside it that may be meant; elsewhere looking around costs requests."""
    folder, _, name = found.rest.rstrip("/").rpartition("/")
    if not found.local or not os.path.isdir(folder):
        return "."
    try:
        with os.scandir(folder) as beside:
            return nearest(name, [each.name for each in islice(beside, _LOOKED_AT)]) or "."
    except PermissionError:
        return "."


def _data(names: list[str], base: str, wanted: str | None, matched: bool) -> list[str]:
    """The files of data: those of the wanted format; without any, those that match a pattern or have a name of none."""
    parts = {name: _below(name, base).split("/") for name in names}
    seen = [name for name in names if not any(part.startswith((".", "_")) for part in parts[name] if "=" not in part)]
    told = [name for name in seen if (format_of(name) == wanted if wanted else format_of(name))]
    return told or [name for name in seen if wanted and (matched or not format_of(name))]


def _below(name: str, base: str) -> str:
    return name.strip("/")[len(base.strip("/")) :].lstrip("/")


def _name(path: str) -> str:
    return os.path.basename(path.partition("?")[0].rstrip("/")) if "://" in path else os.path.basename(path)


def _file(spoken: Any, found: Address, name: str, base: str) -> File:
    steps = [each.partition("=") for each in _below(name, base).split("/")[:-1]] if base else []
    keys = tuple((unquote(key), _value(text)) for key, equals, text in steps if equals)
    if not base:
        shown = found.shown
    elif found.local:
        shown = os.path.relpath(name, os.path.abspath(".")) if not os.path.isabs(found.shown) else name
    else:
        shown = f"{found.scheme}://{name.lstrip('/')}"
    return File(spoken, name, shown, found.local, keys)


def _value(text: str) -> str | None:
    return None if text == NOTHING else unquote(text)


def _unreadable(shown: str, error: BaseException) -> FileError:
    if isinstance(error, FileError):
        return error
    return refused(error) or FileError(f"{shown} cannot be read: {error}.")
