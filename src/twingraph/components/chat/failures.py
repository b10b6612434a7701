"""What goes wrong with language models, one sentence each, with what the provider said and never with a key.

Whether trying again may help is the type: an `LLMUnavailableError` is also a `TransientError`, so a `retry_policy` can
name that.
"""

from __future__ import annotations

import json
import re
from typing import Any

from lokki.frozen import frozen
from twingraph.errors import ComponentError, TransientError

_LONGEST = 500
_TOO_LONG = re.compile(r"context.?(length|window)|maximum context|prompt is too long|too many tokens", re.IGNORECASE)
_QUOTA = ("insufficient_quota", "billing_hard_limit_reached", "credit balance")


class LLMError(ComponentError):
    """A language model could not be asked, refused, or answered what was not asked for."""


class LLMUnavailableError(LLMError, TransientError):
    """A language model did not answer, although it was tried again; it may do so later."""


@frozen
class Said:
    """What a provider said of an error: its message, and its word for programs."""

    message: str
    code: str = ""


def said(body: str) -> Said:
    """What the body of an error says; both protocols put it into `error`."""
    try:
        told = json.loads(body)
    except ValueError:
        return Said(short(body))
    inner: Any = told.get("error", told) if isinstance(told, dict) else told
    if not isinstance(inner, dict):
        return Said(short(str(inner)))
    code = inner.get("code") or inner.get("type") or ""
    return Said(short(str(inner.get("message") or inner.get("detail") or inner)), str(code))


def refused(label: str, model: str, base: str, status: int, told: Said, key_from: str) -> LLMError:
    """The error of an answer that asking again does not mend."""
    message = f"({status}): {told.message}." if told.message else f"({status})."
    too_long = told.code == "context_length_exceeded" or (status == 400 and _TOO_LONG.search(told.message))
    if too_long or status == 413:
        return LLMError(f"The prompt is too long for model {model!r} of {label} {message} Shorten it, or ask another.")
    match status:
        case 401:
            return LLMError(f"{label} refuses the key from {key_from} {message}")
        case 403:
            return LLMError(f"{label} does not let the key from {key_from} do this {message}")
        case 404:
            return LLMError(f"{label} has no model {model!r} at {base} {message}")
        case 402 | 429:
            return LLMError(f"What the key from {key_from} may use of {label} is used up {message}")
        case 400 | 422:
            return LLMError(f"{label} refuses what model {model!r} was asked {message}")
        case _:
            return LLMError(f"{label} did not answer at {base} {message}")


def used_up(told: Said) -> bool:
    """Whether a 429 means that there is nothing left to wait for."""
    return any(each in told.code or each in told.message for each in _QUOTA)


def short(text: str) -> str:
    """A text as it stands in a sentence."""
    told = " ".join(text.split()).rstrip(".")
    return told if len(told) <= _LONGEST else told[: _LONGEST - 1] + "…"
