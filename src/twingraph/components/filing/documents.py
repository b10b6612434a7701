"""Files that hold records as people and programs write them: JSON, JSON lines, YAML, text, Avro.

What is read is what was written: a record has the fields that it has, and each value its own type. A document that is
no record is one with the field `value`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, TypeAlias

from twingraph.components.filing.asked import Asked, Manner, predicate, used
from twingraph.components.filing.contents import lines, opened, text, told
from twingraph.components.filing.finding import File
from twingraph.components.filing.formats import Format
from twingraph.components.filing.partitions import values_of
from twingraph.errors import FileError

Record: TypeAlias = dict[str, Any]

_SHOWN = 40
_MOST = 10_000_000  # values in a document of YAML that has aliases


def records(files: list[File], kind: Format, manner: Manner, asked: Asked) -> list[Record]:
    """The records of files, those that are wanted."""
    enough = None if asked.where else asked.limit
    keys = values_of(files) if manner.partitions else {}
    found: list[Record] = []
    for index, file in enumerate(files):
        if enough is not None and len(found) >= enough:
            break
        told_by_folders = {name: values[index] for name, values in keys.items()}
        missing = None if enough is None else enough - len(found)
        found += ({**each, **told_by_folders} for each in islice(READERS[kind](file, manner), missing))
    if asked.where:
        found = _where(found, asked, files)
    return found[: asked.limit]


def of_json(file: File, manner: Manner) -> Iterator[Record]:
    """A list of records, or one document."""
    document = text(file, manner.encoding)
    try:
        made = json.loads(document)
    except json.JSONDecodeError as error:
        raise FileError(_broken(file, document, error)) from None
    except RecursionError:
        raise FileError(f"{file.shown} is nested too deep to be read.") from None
    yield from map(_record, made) if isinstance(made, list) else [_record(made)]


def of_lines(file: File, manner: Manner) -> Iterator[Record]:
    """A record in every line that is not empty."""
    for number, line in enumerate(lines(file, manner.encoding), 1):
        if line and not line.isspace():
            try:
                yield _record(json.loads(line))
            except json.JSONDecodeError as error:
                raise FileError(
                    f"{file.shown}, line {number}, column {error.colno}: this is not JSON: {error.msg} "
                    f"({_around(line, error.pos)})."
                ) from None
            except RecursionError:
                raise FileError(f"{file.shown}, line {number} is nested too deep to be read.") from None


def of_text(file: File, manner: Manner) -> Iterator[Record]:
    """A record for each line, or one for the file."""
    if manner.whole:
        yield {"text": text(file, manner.encoding)}
        return
    for line in lines(file, manner.encoding):
        yield {"text": line}


def of_yaml(file: File, manner: Manner) -> Iterator[Record]:
    """The records of all documents of a file."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        content = text(file, manner.encoding)
        for document in yaml.load_all(content, loader):
            if "*" in content and _size(document, {}) > _MOST:
                raise FileError(f"{file.shown} repeats itself so often that it would be more than {_MOST:,} values.")
            if document is not None:
                yield from map(_record, document) if isinstance(document, list) else [_record(document)]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise FileError(f"{file.shown}{place}: this is not YAML: {error.problem or error.context}.") from None
    except (yaml.YAMLError, ValueError) as error:  # a date such as 2024-13-45 is a ValueError
        raise FileError(f"{file.shown} is not YAML: {' '.join(str(error).split())}.") from None
    except RecursionError:
        raise FileError(f"{file.shown} is nested too deep to be read.") from None


def _size(value: Any, known: dict[int, int]) -> int:
    """How many values there are when all that an alias stands for is written out."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        known[id(value)] = _MOST  # what holds itself has no end
        inner = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_size(each, known) for each in inner)
    return known[id(value)]


def of_avro(file: File, _manner: Manner) -> Iterator[Record]:
    """The records of a container file."""
    import fastavro

    number = 0
    with told(file), opened(file) as stream:
        try:
            for each in fastavro.reader(stream):
                number += 1
                yield _record(each)
        except FileError:
            raise
        except (EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError, ImportError) as error:
            raise FileError(_no_avro(file, number, error)) from error


READERS: dict[str, Callable[[File, Manner], Iterator[Record]]] = {
    "json": of_json, "jsonl": of_lines, "text": of_text, "yaml": of_yaml, "avro": of_avro,
}  # fmt: skip


def _record(value: Any) -> Record:
    if isinstance(value, dict):
        return value if all(type(each) is str for each in value) else {str(name): each for name, each in value.items()}
    return {"value": value}


def _where(found: list[Record], asked: Asked, files: list[File]) -> list[Record]:
    import polars as pl

    from twingraph.components.frames import frame_of

    assert asked.where is not None
    if not found:
        return found
    known = dict.fromkeys(name for each in found for name in each)
    needed = [name for name in used(asked.where) if name in known]
    where = files[0].shown if len(files) == 1 else "what is read"
    rows = [{name: each.get(name) for name in needed} for each in found]
    looked_at = frame_of(rows, where, "files") if needed else pl.DataFrame({"": range(len(found))})
    schema = pl.Schema({name: looked_at.schema.get(name, pl.Null()) for name in known})
    held = looked_at.with_columns(predicate(asked.where, schema).alias("held"))["held"]
    return [each for each, one in zip(found, held.to_list(), strict=True) if one]


def _broken(file: File, document: str, error: json.JSONDecodeError) -> str:
    if not document.strip():
        return f"{file.shown} is empty: a JSON file holds a list of records, at least []."
    place = f"{file.shown}, line {error.lineno}, column {error.colno}"
    return f"{place}: this is not JSON: {error.msg} ({_around(document, error.pos)})."


def _around(document: str, place: int) -> str:
    """What stands where something is wrong."""
    begin = max(document.rfind("\n", 0, place) + 1, place - _SHOWN // 2)
    shown = document[begin : place + _SHOWN // 2].splitlines() or [""]
    return f"at {shown[0]!r}" if shown[0] else "at the end"


def _no_avro(file: File, read: int, error: Exception) -> str:
    if read:
        return f"{file.shown} is damaged or cut off after record {read}: {error or type(error).__name__}."
    if isinstance(error, ImportError):
        return f"{file.shown} cannot be read here: {error}."
    return f"{file.shown} is not an Avro file, or damaged: {error or type(error).__name__}."
