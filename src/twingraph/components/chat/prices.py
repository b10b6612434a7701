"""What well-known models cost, in US dollars per million tokens, as their providers listed it in November 2026.

`LLMPrompt(prices=...)` goes before this table. A model that neither knows has no cost, rather than a wrong one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lokki.errors import nearest
from lokki.frozen import frozen
from twingraph.components.chat.conversation import Usage
from twingraph.components.chat.failures import LLMError

_MILLION = 1_000_000
_KEYS = ("input", "output", "cached", "written")
_DATED = re.compile(r"-(\d{4}-\d\d-\d\d|\d{8}|\d{4}|latest)$")


@frozen
class Price:
    """What a million tokens cost.

    `cached` is of input that came from the provider's cache, `written` of input that went into it; None: as any input.
    `longer` is what happens with more input than so many tokens: input, and output, cost so many times that.
    """

    input: float
    output: float
    cached: float | None = None
    written: float | None = None
    longer: tuple[int, float, float] | None = None

    def of(self, usage: Usage) -> float:
        """What these tokens cost."""
        cached = self.input if self.cached is None else self.cached
        written = self.input if self.written is None else self.written
        fresh = usage.input_tokens - usage.cached_tokens - usage.written_tokens
        into = fresh * self.input + usage.cached_tokens * cached + usage.written_tokens * written
        out = usage.output_tokens * self.output
        if self.longer is not None and usage.input_tokens > self.longer[0]:
            into, out = into * self.longer[1], out * self.longer[2]
        return (into + out) / _MILLION


_LONG = (272_000, 2.0, 1.5)

PRICES: Mapping[str, Price] = {
    "gpt-5.6-sol": Price(5, 30, 0.5, 6.25, _LONG),
    "gpt-5.6-terra": Price(2, 12, 0.2, 2.5, _LONG),
    "gpt-5.6-luna": Price(0.2, 1.2, 0.02, 0.25, (200_000, 2.0, 1.5)),
    "gpt-5.5": Price(5, 30, 0.5, longer=_LONG),
    "gpt-5.4": Price(2.5, 15, 0.25, longer=_LONG),
    "gpt-5.4-mini": Price(0.75, 4.5, 0.075),
    "gpt-5.4-nano": Price(0.2, 1.25, 0.02),
    "gpt-5.2": Price(1.75, 14, 0.175),
    "gpt-5.1": Price(1.25, 10, 0.125),
    "gpt-5": Price(1.25, 10, 0.125),
    "gpt-5-mini": Price(0.25, 2, 0.025),
    "gpt-5-nano": Price(0.05, 0.4, 0.005),
    "gpt-4.1": Price(2, 8, 0.5),
    "gpt-4.1-mini": Price(0.4, 1.6, 0.1),
    "gpt-4.1-nano": Price(0.1, 0.4, 0.025),
    "gpt-4o": Price(2.5, 10, 1.25),
    "gpt-4o-mini": Price(0.15, 0.6, 0.075),
    "gpt-4-turbo": Price(10, 30),
    "gpt-4": Price(30, 60),
    "gpt-3.5-turbo": Price(0.5, 1.5),
    "o3": Price(2, 8, 0.5),
    "o4-mini": Price(1.1, 4.4, 0.275),
    "claude-fable-5-1": Price(10, 50, 0.25, 12.5),
    "claude-opus-5-5": Price(4, 20, 0.2, 5),
    "claude-sonnet-5-5": Price(2, 10, 0.1, 2.5),
    "claude-haiku-5-5": Price(0.1, 0.5, 0.01, 0.125, (100_000, 5.0, 5.0)),
    "claude-opus-5": Price(5, 25, 0.5, 6.25),
    "claude-sonnet-5": Price(2, 10, 0.2, 2.5),
    "claude-opus-4-8": Price(5, 25, 0.5, 6.25),
    "claude-opus-4-7": Price(5, 25, 0.5, 6.25),
    "claude-opus-4-6": Price(5, 25, 0.5, 6.25),
    "claude-opus-4-5": Price(5, 25, 0.5, 6.25),
    "claude-sonnet-4-6": Price(3, 15, 0.3, 3.75),
    "claude-sonnet-4-5": Price(3, 15, 0.3, 3.75),
    "claude-haiku-4-5": Price(1, 5, 0.1, 1.25),
    "claude-3-5-haiku": Price(0.8, 4, 0.08, 1),
}


def price_of(prices: Mapping[str, Any] | None, *models: str) -> Price | None:
    """The price of the first of these names that has one; a date behind a name does not matter."""
    known = {**PRICES, **{name: _price(name, told) for name, told in (prices or {}).items()}}
    for each in models:
        for name in (each, _DATED.sub("", each)):
            if name in known:
                return known[name]
    return None


def _price(model: str, told: Any) -> Price:
    where = f"prices[{model!r}]"
    if not isinstance(told, Mapping) or not {"input", "output"} <= set(told):
        raise LLMError(f"{where} takes {{'input': dollars, 'output': dollars}} per million tokens, not {told!r}.")
    for name, each in told.items():
        if name not in _KEYS:
            raise LLMError(f"{where} has no {name!r}{nearest(str(name), _KEYS) or '.'} It takes {', '.join(_KEYS)}.")
        if isinstance(each, bool) or not isinstance(each, int | float) or each < 0:
            raise LLMError(f"{where}[{name!r}] is dollars per million tokens, not {each!r}.")
    return Price(**told)
