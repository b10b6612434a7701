"""What is asked of a language model and what it answers, whoever provides it.

Messages have the form that chat completions made common: `role` is "user", "assistant", "system" or "tool"; `content`
is a text; an assistant's `tool_calls` are `{"id", "name", "arguments"}`, and a tool's result names its `tool_call_id`.
An assistant's `blocks` are the same message as Anthropic wrote it, which wants it back as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from lokki.frozen import field, frozen

Json = dict[str, Any]


@frozen
class Usage:
    """Tokens that were used. Of those that went in, some may have come from the provider's cache or gone into it."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    written_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
            self.written_tokens + other.written_tokens,
        )

    def told(self) -> dict[str, int]:
        """As the output `usage`."""
        return {
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "total_tokens": self.input_tokens + self.output_tokens,
            "cached_tokens": self.cached_tokens,
        }


@frozen
class ToolCall:
    """A tool that the model wants called; `arguments` is JSON as the model wrote it."""

    id: str
    name: str
    arguments: str


@frozen
class Question:
    """What is asked, once.

    Attributes:
        schema: what the answer has to conform to; with `native`, the provider is told in its own way.
        options: what else goes into the body of the request, in the provider's own words.
    """

    model: str
    messages: tuple[Mapping[str, Any], ...]
    system: str = ""
    temperature: float | None = None
    max_tokens: int | None = None
    schema: Mapping[str, Any] | None = None
    native: bool = True
    tools: tuple[Mapping[str, Any], ...] = ()
    stream: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)


@frozen
class Answer:
    """What the model answered; `finish_reason` is "stop", "length", "tool_calls", "refusal", or the provider's word."""

    text: str
    model: str
    finish_reason: str
    usage: Usage
    tool_calls: tuple[ToolCall, ...] = ()
    blocks: tuple[Json, ...] = ()


class Folding(Protocol):
    """Puts the events of a stream together to an answer."""

    over: bool
    """Whether the answer is whole; a stream that ends before that was cut."""

    def take(self, event: Json) -> str:
        """Take an event; returns the text that it adds."""

    def answer(self) -> Answer:
        """The answer."""


class Provider(Protocol):
    """How a provider is spoken to. It neither sends nor receives."""

    label: str
    key_variable: str
    base_variable: str
    base_url: str

    def url(self, base: str) -> str:
        """Where questions go to."""

    def headers(self, key: str) -> dict[str, str]:
        """Who asks."""

    def body(self, question: Question, base: str) -> Json:
        """The question as the provider takes it."""

    def answer(self, told: Json) -> Answer:
        """The answer in a body."""

    def folding(self) -> Folding:
        """What puts a stream together."""
