"""Answers that conform to a JSON schema: what a provider can be told of it, and whether the answer does.

A provider's own structured output takes a part of JSON schema only. What is beyond that is left out of what it is told,
and holds all the same: every answer is validated against the whole schema here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from twingraph.components.chat.failures import LLMError, short

_INNER = ("properties", "$defs", "definitions", "patternProperties")
_LISTS = ("anyOf", "allOf", "oneOf", "prefixItems")
_SINGLE = ("items", "additionalProperties", "not")
_LIMITS = {
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "pattern",
    "minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties", "default", "examples", "$schema",
}  # fmt: skip
_FENCED = re.compile(r"^\s*```(?:json)?\s*\n(.*?)\n\s*```\s*$", re.DOTALL)
_SHOWN = 200
_MOST = 3

Json = dict[str, Any]


class Mismatch(Exception):
    """An answer does not conform to the schema."""


def checked(schema: Any) -> Json:
    """A schema that can be used; what is wrong with one is said before anything is asked."""
    import jsonschema

    if not isinstance(schema, Mapping):
        raise LLMError(f"A schema is a JSON schema as a dict, not {type(schema).__name__}.")
    told = dict(schema)
    try:
        jsonschema.validators.validator_for(told, jsonschema.Draft202012Validator).check_schema(told)
    except jsonschema.SchemaError as error:
        raise LLMError(f"The schema is no JSON schema: at {error.json_path}, {short(error.message)}.") from None
    return told


def conforming(text: str, schema: Json) -> Any:
    """The value in an answer; a `Mismatch` says where it is not as the schema wants it."""
    import jsonschema

    fenced = _FENCED.match(text)
    try:
        value = json.loads(fenced[1] if fenced else text)
    except ValueError as error:
        raise Mismatch(f"it is no JSON ({error}): {_cut(text)}") from None
    validator = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)(schema)
    wrong = sorted(validator.iter_errors(value), key=lambda each: (len(each.absolute_path), each.json_path))
    if wrong:
        told = "; ".join(f"at {each.json_path}, {_cut(each.message)}" for each in wrong[:_MOST])
        more = f"; and {len(wrong) - _MOST} more" if len(wrong) > _MOST else ""
        raise Mismatch(f"{told}{more}: {_cut(text)}")
    return value


def instructions(schema: Json) -> str:
    """A schema for a model whose provider takes none."""
    return f"Answer with JSON only, and no other text. It conforms to this JSON schema:\n{json.dumps(schema)}"


def is_strict(schema: Json) -> bool:
    """Whether a schema is one that OpenAI keeps to strictly: objects list all that they have, and require it."""
    return schema.get("type") == "object" and all(
        each.get("additionalProperties") is False and set(each.get("required", ())) == set(each.get("properties", ()))
        for each in _within(schema)
        if _is_object(each)
    )


def without_limits(schema: Json) -> Json:
    """A schema as Anthropic takes it: no limits on numbers, texts and lists, and objects have what is listed only."""

    def plain(each: Json) -> Json:
        told = {key: value for key, value in each.items() if key not in _LIMITS}
        if _is_object(each):
            told.setdefault("additionalProperties", False)
        return told

    changed: Json = _changed(schema, plain)
    return changed


def _is_object(schema: Json) -> bool:
    return schema.get("type") == "object" or "properties" in schema


def _within(schema: Any) -> Iterator[Json]:
    """A schema and all that are in it."""
    found: list[Json] = []

    def seen(each: Json) -> Json:
        found.append(each)
        return each

    _changed(schema, seen)
    return iter(found)


def _changed(schema: Any, change: Callable[[Json], Json]) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    told = change(dict(schema))
    for key in _INNER:
        if isinstance(told.get(key), Mapping):
            told[key] = {name: _changed(each, change) for name, each in told[key].items()}
    for key in _LISTS:
        if isinstance(told.get(key), list):
            told[key] = [_changed(each, change) for each in told[key]]
    for key in _SINGLE:
        if key in told:
            told[key] = _changed(told[key], change)
    return told


def _cut(text: str) -> str:
    told = " ".join(text.split())
    return told if len(told) <= _SHOWN else told[: _SHOWN - 1] + "…"
