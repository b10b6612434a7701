"""Workflows as they are told to who may not store them: without the secrets that their authors wrote into them.

A secret belongs into `secret://NAME`. What is written out all the same, in a setting of a node or in the metadata, is
needed by authors, who would otherwise store the stars; whoever only reads or runs gets the stars.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from twingraph import wire
from twingraph.executions.secrets import HIDDEN, is_secret, veiled

_PATH = re.compile(r"^(https?://[^/?#]+).+$", re.DOTALL)
_SCHEMA = "parameters"  # names of parameters, not values of them


def masked(told: wire.Workflow) -> wire.Workflow:
    """The workflow without its secrets."""
    definition = _masked(told.definition.model_dump(exclude_none=True))
    about = told.definition.metadata
    for name, mask in (("notifications", _addresses), (_SCHEMA, lambda schema: schema)):
        if name in about:
            definition["metadata"][name] = mask(about[name])
    return told.model_copy(update={"definition": wire.Definition(**definition)})


def _masked(value: Any) -> Any:
    match value:
        case str():
            return veiled(value)
        case Mapping():
            return {key: HIDDEN if each and is_secret(key) else _masked(each) for key, each in value.items()}
        case list():
            return [_masked(each) for each in value]
        case _:
            return value


def _addresses(value: Any) -> Any:
    """What is told where; the path of such an address is as good as a password, and so may headers be."""
    match value:
        case str():
            return _PATH.sub(rf"\1/{HIDDEN}", veiled(value))
        case {"headers": Mapping() as headers, **others}:
            return {**_addresses(others), "headers": dict.fromkeys(headers, HIDDEN)}
        case Mapping():
            return {key: HIDDEN if each and is_secret(key) else _addresses(each) for key, each in value.items()}
        case list():
            return [_addresses(each) for each in value]
        case _:
            return value
