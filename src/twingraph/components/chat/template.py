"""Templates: a text in which `{name}` stands for a field, and `{{` and `}}` for braces.

Names are all that a template can hold: no attributes, no indices, no conversions. So a template that somebody else
wrote reaches nothing but the fields, and what a field holds is never read as a template.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from lokki.errors import nearest
from twingraph.components.chat.failures import LLMError

_PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_AROUND = 20
_TAKEN = ("prompt", "system", "messages", "schema", "tools", "parent_hash", "parent_hashes")


def filled(template: str, fields: Mapping[str, Any], what: str = "prompt") -> str:
    """The template with its fields filled in; `what` is what messages call it."""
    if "{" not in template and "}" not in template:
        return template
    return _PART.sub(lambda found: _part(found, template, fields, what), template)


def _part(found: re.Match[str], template: str, fields: Mapping[str, Any], what: str) -> str:
    text, name = found[0], found[1]
    if text in ("{{", "}}"):
        return text[0]
    if name is None or not name.isidentifier():
        start = max(found.start() - _AROUND, 0)
        around = template[start : found.end() + _AROUND]
        raise LLMError(
            f"The {what} has {text!r}, which is no field, in {around!r}: a field is a name in braces, as {{text}} is, "
            "and braces that are meant are written twice, {{ and }}."
        )
    if name not in fields and name in _TAKEN:
        raise LLMError(f"The {what} has a field {{{name}}}, a name that LLMPrompt needs for itself: name it otherwise.")
    if name not in fields:
        near = nearest(name, fields) or f"; it was given {', '.join(fields) or 'none'}."
        raise LLMError(f"The {what} has a field {{{name}}} that the call was not given{near}")
    return _shown(name, fields[name], what)


def _shown(name: str, value: Any, what: str) -> str:
    """A value as the model reads it: texts as they are, other data as JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        raise LLMError(f"The {what} has a field {{{name}}}, which is None: give it a value.")
    if isinstance(value, Mapping | list | tuple | bool):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)
