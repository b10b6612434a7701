"""An execution's graph as the text of its JSON, made of what the database gives: what `document` says, for less.

A graph may have ten thousand nodes. What they were given and gave is recorded as JSON, so most of it can stay as it is,
and nothing has to be built only to be written out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from json.encoder import encode_basestring_ascii as quoted
from typing import Any

from twingraph.executions.records import parsed
from twingraph.executions.repository import Repository
from twingraph.executions.snapshot import readable
from twingraph.graphs.run import instant

_HASH = 7  # where the hash is in a row


def written(graph: Repository, execution: str) -> str:
    """The nodes of an execution, with what each was given and gave, and the edges between them."""
    rows, edges = graph.drawn(execution)
    parents: dict[str, list[str]] = {}
    for child, parent in edges:
        parents.setdefault(child, []).append(parent)
    place = {row[_HASH]: at for at, row in enumerate(rows)}
    nodes = [_node_text(row, [each for each in parents.get(row[_HASH], ()) if each not in place]) for row in rows]
    ids = [quoted(row[0]) for row in rows]
    arrows = [
        f'{{"from": {ids[parent]}, "to": {id_}, "label": "data_flow"}}'
        for id_, row in zip(ids, rows, strict=True)
        for parent in sorted(place[each] for each in parents.get(row[_HASH], ()) if each in place)
    ]
    return f'{{"nodes": [{", ".join(nodes)}], "edges": [{", ".join(arrows)}]}}'


def _node_text(row: Sequence[Any], outside: list[str]) -> str:
    (
        node_id, component, status, platform, started_at, finished_at, duration, hash_, content_hash, kind, within,
        attempts, labels, usage, resources, error, error_type, inputs, outputs,
    ) = row  # fmt: skip
    properties = [
        *_texts((("hash", hash_), ("content_hash", content_hash), ("kind", kind), ("within", within))),
        f'"attempts": {attempts}',
        *_values((("labels", labels), ("usage", usage), ("resources", resources))),
        *([f'"parents_outside": {json.dumps(outside)}'] if outside else ()),
        *_texts((("error", error), ("error_type", error_type))),
        f'"inputs": {_readable(inputs)}, "outputs": {_readable(outputs)}',
    ]
    return (
        f'{{"id": {quoted(node_id)}, "label": {quoted(component)}, "status": {quoted(status)}, '
        f'"platform": {quoted(platform)}, "started_at": {_time(started_at)}, "completed_at": {_time(finished_at)}, '
        f'"duration": {"null" if duration is None else repr(duration)}, "properties": {{{", ".join(properties)}}}}}'
    )


def _texts(told: Iterable[tuple[str, str]]) -> Iterable[str]:
    return [f'"{name}": {quoted(text)}' for name, text in told if text]


def _values(told: Iterable[tuple[str, str]]) -> Iterable[str]:
    return [f'"{name}": {json.dumps(value)}' for name, text in told if text and (value := parsed(text))]


def _readable(text: str) -> str:
    """What is recorded, as it is shown: mostly it is that already."""
    if '"$' in text or "\\ud" in text:
        return json.dumps(readable(text))
    return text or "{}"


def _time(seconds: float | None) -> str:
    return "null" if seconds is None else f'"{instant(seconds)}"'
