"""Chat completions, as OpenAI defined them and many others serve them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from twingraph.components.chat.conversation import Answer, Json, Question, ToolCall, Usage
from twingraph.components.chat.schemas import instructions, is_strict

_OWN = "api.openai.com"


class OpenAI:
    """How they are spoken to."""

    label = "OpenAI"
    key_variable = "OPENAI_API_KEY"
    base_variable = "OPENAI_BASE_URL"
    base_url = f"https://{_OWN}/v1"

    def url(self, base: str) -> str:
        """Where questions go to."""
        return f"{base.rstrip('/')}/chat/completions"

    def headers(self, key: str) -> dict[str, str]:
        """Who asks."""
        return {"Authorization": f"Bearer {key}"} if key else {}

    def body(self, question: Question, base: str) -> Json:
        """The question as it is sent."""
        told: Json = {"model": question.model, "messages": _messages(question)}
        if question.temperature is not None:
            told["temperature"] = question.temperature
        if question.max_tokens is not None:  # the older word is the one that other servers know
            told["max_completion_tokens" if _OWN in base else "max_tokens"] = question.max_tokens
        if question.tools:
            told["tools"] = [_tool(each) for each in question.tools]
        if question.schema is not None and question.native:
            inner = {"name": "answer", "schema": question.schema, "strict": is_strict(dict(question.schema))}
            told["response_format"] = {"type": "json_schema", "json_schema": inner}
        if question.stream:
            told |= {"stream": True, "stream_options": {"include_usage": True}}
        return {key: value for key, value in {**told, **question.options}.items() if value is not None}

    def answer(self, told: Json) -> Answer:
        """The answer in a body."""
        choice = told["choices"][0]
        message = choice["message"]
        text, refusal = message.get("content") or "", message.get("refusal") or ""
        calls = tuple(
            ToolCall(each.get("id") or "", each["function"]["name"], each["function"].get("arguments") or "")
            for each in message.get("tool_calls") or ()
        )
        reason = "refusal" if refusal else choice.get("finish_reason") or "stop"
        return Answer(text or refusal, told.get("model") or "", reason, _usage(told.get("usage")), calls)

    def folding(self) -> _Folding:
        """What puts a stream together."""
        return _Folding()


class _Folding:
    def __init__(self) -> None:
        self.over = False
        self._model = ""
        self._texts: list[str] = []
        self._refused = False
        self._reason = ""
        self._usage: Any = None
        self._calls: dict[int, dict[str, str]] = {}

    def take(self, event: Json) -> str:
        self._model = event.get("model") or self._model
        self._usage = event.get("usage") or self._usage
        choices = event.get("choices")
        if not choices:
            return ""
        delta = choices[0].get("delta") or {}
        self._reason = choices[0].get("finish_reason") or self._reason
        self.over = bool(self._reason)
        self._refused = self._refused or bool(delta.get("refusal"))
        for each in delta.get("tool_calls") or ():
            self._call(each)
        text = str(delta.get("content") or delta.get("refusal") or "")
        self._texts.append(text)
        return text

    def _call(self, piece: Json) -> None:
        call = self._calls.setdefault(piece.get("index", len(self._calls)), {"id": "", "name": "", "arguments": ""})
        function = piece.get("function") or {}
        call["id"] = piece.get("id") or call["id"]
        call["name"] = function.get("name") or call["name"]
        call["arguments"] += function.get("arguments") or ""

    def answer(self) -> Answer:
        calls = tuple(ToolCall(**self._calls[index]) for index in sorted(self._calls))
        reason = "refusal" if self._refused else self._reason
        return Answer("".join(self._texts), self._model, reason, _usage(self._usage), calls)


def takes_no_schema(model: str) -> bool:
    """Whether a model is older than schemas: GPT-4 before `gpt-4o`, GPT-3.5, and the first of the o-series."""
    return re.match(r"gpt-4(-|$)|gpt-3\.5|o1-(mini|preview)", model) is not None


def _messages(question: Question) -> list[Json]:
    system = question.system
    if question.schema is not None and not question.native:
        system = f"{system}\n\n{instructions(dict(question.schema))}".strip()
    told: list[Json] = [{"role": "system", "content": system}] if system else []
    return told + [_message(each) for each in question.messages]


def _message(message: Mapping[str, Any]) -> Json:
    told = {key: value for key, value in message.items() if key != "blocks"}
    if told.get("tool_calls"):
        told["tool_calls"] = [each if "function" in each else _call(each) for each in told["tool_calls"]]
    return told


def _call(call: Mapping[str, Any]) -> Json:
    arguments = call["arguments"]
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"id": call["id"], "type": "function", "function": {"name": call["name"], "arguments": text}}


def _tool(tool: Mapping[str, Any]) -> Json:
    """A tool as it is told here; one that is told in Anthropic's way has the same in it."""
    if "input_schema" not in tool:
        return dict(tool)
    told = {key: value for key, value in tool.items() if key != "input_schema"}
    return {"type": "function", "function": {**told, "parameters": tool["input_schema"]}}


def _usage(told: Json | None) -> Usage:
    told = told or {}
    details = told.get("prompt_tokens_details") or {}
    return Usage(
        told.get("prompt_tokens") or 0,
        told.get("completion_tokens") or 0,
        details.get("cached_tokens") or 0,
        details.get("cache_write_tokens") or 0,
    )
