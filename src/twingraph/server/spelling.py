"""Words of a stored workflow that are hardly meant as they stand.

Nodes, edges and metadata keep what else is said in them, such as where a node lies in a picture. So a word that nothing
knows is no mistake; one that is nearly a known one is told as a warning, because what it should do is not done.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

_NODE = ("id", "type", "component", "config", "inputs", "code", "language", "concurrency_limit")
_EDGE = ("source", "target", "sourceHandle", "targetHandle")
_DEFINITION = ("nodes", "edges", "metadata")
_METADATA = (
    "description", "tags", "schedule", "timezone", "misfire", "inputs", "resume", "max_parallel", "timeout",
    "error_handler", "error_config", "notifications", "parameters",
)  # fmt: skip
_NEAR = 0.8  # of 1.0, which is the same word


def misspelt(definition: Mapping[str, Any], metadata: Mapping[str, Any]) -> list[str]:
    """A sentence for each word that is nearly a known one."""
    told = [*_near("definition", definition, _DEFINITION), *_near("metadata", metadata, _METADATA)]
    for node in definition.get("nodes", ()):
        told += _near(f"Node {node['id']!r}", node, _NODE)
    for edge in definition.get("edges", ()):
        told += _near(f"The connection {edge['source']!r} to {edge['target']!r}", edge, _EDGE)
    return told


def _near(where: str, told: Mapping[str, Any], known: tuple[str, ...]) -> Iterator[str]:
    for word in told:
        near = None if word in known else _meant(word, known)
        if near:
            yield f"{where} has {word!r}, which nothing reads; did you mean {near!r}?"


@lru_cache(maxsize=1_000)
def _meant(word: str, known: tuple[str, ...]) -> str | None:
    """The known word that is near; many nodes have the same words."""
    import difflib

    return next(iter(difflib.get_close_matches(word, known, 1, _NEAR)), None)
