"""`FileReader` and `FileWriter`: tables and documents in files, wherever they lie.

    FileReader(format="parquet")(path="s3://bucket/birds/year=2024", columns=["name", "mass"], where="mass > 3")["data"]

A path is a file, a folder, or a pattern; it may be on this machine, in S3 or Google's storage, or on the web.
"""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

from twingraph.components.built_in import BuiltIn, needed
from twingraph.components.filing.addresses import address
from twingraph.components.filing.asked import Asked, Manner
from twingraph.components.filing.finding import Place, files
from twingraph.components.filing.formats import Format, separator_of, the_format
from twingraph.errors import ComponentError

Files = str | Path | list[str | Path]


class FileReader(BuiltIn):
    """Reads files.

    Args:
        format: how the files are written; `auto` tells it by their names, and so does `frame`, which gives a frame.
        output: the form of the data: records (a list of dicts), a frame of Polars, or a table of Arrow.
        root: the folder, prefix or site that all paths must lie below; needed for addresses in private networks.
        options: of the file system: of S3 key, secret, token, profile, region, endpoint_url and anon.
        types: types of columns by name, such as {"price": "decimal", "day": "date"}.
        encoding: of text.
        separator: between the fields of csv; by default a comma, and a tab in files called .tsv.
        header: whether the first row of csv holds the names of the columns.
        nulls: what stands for no value in csv, besides nothing.
        whole: whether a text file is one record, and not one for each line.
        partitions: whether folders called year=2024 are columns.
    """

    extra = "files"

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        format: Literal["auto", "frame", Format] = "auto",  # noqa: A002 - the documented name
        output: Literal["records", "frame", "arrow"] | None = None,
        root: str | None = None,
        options: dict[str, Any] | None = None,
        types: dict[str, str] | None = None,
        encoding: str = "utf-8",
        separator: str | None = None,
        header: bool = True,
        nulls: list[str] | None = None,
        whole: bool = False,
        partitions: bool = True,
    ) -> None:
        super().__init__(config)
        self.format = format
        self.output = output
        self.root = root
        self.options = options
        self.types = types
        self.encoding = _encoding(encoding)
        self.separator = _separator(separator)
        self.header = header
        self.nulls = nulls
        self.whole = whole
        self.partitions = partitions
        _known_types(types)

    def execute(
        self,
        path: Files,
        columns: list[str] | None = None,
        limit: int | None = None,
        where: str | list[list[Any]] | None = None,
    ) -> dict[str, Any]:
        """Read files.

        Args:
            path: a file, a folder, a pattern such as data/*.csv, or a list of them.
            columns: the names of the columns to read, in this order; all by default.
            limit: how many rows to read at most.
            where: which rows to read: an expression such as "mass > 3 and kind == 'owl'".

        Returns:
            `data`, `count` (its rows) and `columns` (their names).
        """
        if limit is not None and limit < 0:
            raise ComponentError(f"FileReader: a limit of {limit} rows makes no sense: give 0 or more.")
        if columns is not None and not columns:
            raise ComponentError("FileReader: columns is an empty list: name some, or leave it out for all.")
        with needed(self.extra, "FileReader"):
            from twingraph.components.filing.reading import read

            wanted = None if self.format in ("auto", "frame") else cast("Format", self.format)
            paths = [str(each) for each in path] if isinstance(path, list) else str(path)
            found = files(paths, _place(self.root, self.revealed(self.options)), wanted)
            kind = wanted or the_format(
                [each.name for each in found],
                found[0].shown if len(found) == 1 else " and ".join([paths] if isinstance(paths, str) else paths),
            )
            output = self.output or ("frame" if self.format == "frame" else "records")
            return read(found, kind, self._manner(), Asked(columns, limit, where), output)

    def _manner(self) -> Manner:
        return Manner(
            encoding=self.encoding,
            separator=self.separator or "",
            header=self.header,
            nulls=tuple(self.nulls or ()),
            types=self.types or {},
            whole=self.whole,
            partitions=self.partitions,
        )


class FileWriter(BuiltIn):
    """Writes a file: whole or not at all.

    Args:
        format: how it is written; `auto` tells it by the name.
        mode: what happens to a file that is there: it is replaced, added to (csv, jsonl and text), or an error.
        root: the folder or prefix that all paths must lie below.
        options: of the file system: of S3 key, secret, token, profile, region, endpoint_url and anon.
        separator: between the fields of csv; by default a comma, and a tab in files called .tsv.
        header: whether csv begins with the names of the columns.
        partition_by: columns whose values become folders called year=2024, below the path.
    """

    extra = "files"

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        format: Literal["auto", Format] = "auto",  # noqa: A002 - the documented name
        mode: Literal["overwrite", "append", "error"] = "overwrite",
        root: str | None = None,
        options: dict[str, Any] | None = None,
        separator: str | None = None,
        header: bool = True,
        partition_by: list[str] | None = None,
    ) -> None:
        super().__init__(config)
        self.format = format
        self.mode = mode
        self.root = root
        self.options = options
        self.separator = _separator(separator)
        self.header = header
        self.partition_by = partition_by

    def execute(self, data: Any, path: str | Path) -> dict[str, Any]:
        """Write a file.

        Args:
            data: records, columns, or a frame of Polars, pandas or Arrow; for text also a text or a list of texts.
            path: where it is written to; with partition_by a folder.

        Returns:
            `path`, `count` (the rows that were written) and `bytes` (the size of the file, or of all of them).
        """
        with needed(self.extra, "FileWriter"):
            from twingraph.components.filing.delivering import Wish, deliver

            place = _place(self.root, self.revealed(self.options))
            to = place.address(str(path))
            kind = the_format([to.rest], to.shown) if self.format == "auto" else self.format
            folders = tuple(self.partition_by or ())
            wish = Wish(kind, self.mode, self.separator or separator_of(to.rest), self.header, folders)
            return deliver(data, to, place, wish)


def _place(root: str | None, options: Mapping[str, Any] | None) -> Place:
    """Where files may lie; a root opens the kind of file system that it names."""
    return Place(None if root is None else address(root, None, author=True), options or {})


def _encoding(name: str) -> str:
    try:
        return codecs.lookup(name).name
    except LookupError:
        raise ComponentError(f"There is no encoding {name!r}: text is mostly 'utf-8', 'latin-1' or 'utf-16'.") from None


def _separator(text: str | None) -> str | None:
    if text is not None and (len(text) != 1 or not text.isascii()):
        raise ComponentError(f"The fields of csv are separated by one character, not by {text!r}.")
    return text


def _known_types(types: Mapping[str, str] | None) -> None:
    from lokki.errors import nearest
    from twingraph.components.expressions.datatypes import TYPES

    for column, name in (types or {}).items():
        if name not in TYPES:
            near = nearest(name, TYPES) or f"; there are {', '.join(TYPES)}."
            raise ComponentError(f"types: column {column!r}: there is no type {name!r}{near}")
